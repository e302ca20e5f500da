"""Which files an inbox finds finished, and what becomes of the others; its clock is given."""

from __future__ import annotations

import pytest
from inbox_desk import PDF, PNG, Desk, deliver
from job_building import known
from PIL import Image

from mineru_daemon import check, lookout, storage
from mineru_daemon.documents import may_be_continued
from mineru_daemon.suspects import CheckJournal


def test_an_empty_file_waits_and_then_is_set_aside_with_its_reason(desk):
    one = desk()
    (one.settings.inbox / "a.pdf").touch()
    assert one.after(299) == []
    assert one.after(2) == ["a.pdf"]
    assert one.jobs[0].reason["code"] == "empty"
    assert "a.pdf is empty" in one.jobs[0].reason["message"]


def test_a_cut_file_waits_for_its_rest(desk):
    one = desk()
    whole = PDF.read_bytes()
    path = one.settings.inbox / "a.pdf"
    path.write_bytes(whole[: len(whole) // 2])
    assert one.after(200) == []
    path.write_bytes(whole)
    assert one.after(2.1) == []
    assert one.after(7.1) == ["a.pdf"]
    assert one.jobs[0].reason is None


def test_a_cut_file_that_stays_cut_is_set_aside(desk):
    one = desk(incomplete_seconds=50)
    (one.settings.inbox / "a.png").write_bytes(PNG.read_bytes()[:-100])
    assert one.after(49) == []
    assert one.after(2) == ["a.png"]
    assert one.jobs[0].reason["code"] == "incomplete"


def test_a_file_that_is_open_for_writing_is_left_alone(desk):
    one = desk()
    path = deliver(one, "a.png")
    with path.open("ab"):
        assert one.after(60) == []
    assert one.after(60) == ["a.png"]


@pytest.mark.parametrize("name", ["a.tif", "a.pdf"])
def test_what_scanners_extend_is_given_the_time_they_take_between_pages(desk, name):
    one = desk()
    Image.new("L", (50, 50)).save(one.settings.inbox / name)
    assert one.after(6.9) == []
    assert one.after(0.2) == [name]


def test_a_pdf_with_fonts_was_made_by_a_program_and_is_taken_at_once(desk):
    one = desk()
    deliver(one, "a.pdf", PDF)
    assert one.after(2.1) == ["a.pdf"]


def test_a_font_is_found_wherever_it_stands(tmp_path, monkeypatch):
    monkeypatch.setattr("mineru_daemon.documents.completeness._CHUNK", 7)
    path = tmp_path / "a.pdf"
    for gap in range(9):
        path.write_bytes(b"%PDF-1.7\n" + b"." * (1024 + gap) + b"/Font ... %%EOF")
        assert not may_be_continued(path)
    path.write_bytes(b"%PDF-1.7\n" + b"." * 1024 + b"/Fo nt %%EOF")
    assert may_be_continued(path)


def test_other_content_is_offered_too_so_that_it_can_be_set_aside(desk):
    one = desk()
    (one.settings.inbox / "letter.docx").write_bytes(b"PK\3\4 no picture")
    assert one.after(3) == ["letter.docx"]


def test_a_writer_that_never_closes_is_told_of_and_others_are_served(desk):
    one = desk()
    path = deliver(one, "held\x1b.png")
    with path.open("ab"):
        deliver(one, "b.png")
        assert one.after(3) == ["b.png"]
        assert "writers" not in one.status.troubles()
        one.after(310)
        assert r"held\x1b.png" in one.status.troubles()["writers"]
    assert one.after(60) == ["b.png", "held\x1b.png"]
    assert one.status.troubles() == {}


def test_a_file_that_never_stops_growing_is_told_of(desk):
    one = desk(incomplete_seconds=20)
    path = deliver(one, "a.png")
    for _ in range(15):
        with path.open("ab") as stream:
            stream.write(b"more")
        assert one.after(1.5) == []
    assert "a.png" in one.status.troubles()["writers"]


def test_held_files_do_not_fill_the_window(desk, monkeypatch):
    monkeypatch.setattr(lookout, "WINDOW", 3)
    one = desk()
    held = [deliver(one, f"held{n}.png", mtime=1000).open("ab") for n in range(6)]
    deliver(one, "whole.png", mtime=2000)
    for _ in range(5):
        one.after(3)
    assert [job.name for job in one.jobs] == ["whole.png"]
    for stream in held:
        stream.close()


def test_a_file_that_a_disk_does_not_give_is_tried_again_and_others_are_served(desk, monkeypatch):
    one = desk()
    bad = deliver(one, "bad.png", mtime=1000)
    deliver(one, "good.png", mtime=2000)
    bad_inode = bad.stat().st_ino
    look = storage.open_itself

    def refuse(path):
        if path.stat().st_ino == bad_inode:
            raise OSError(5, "Input/output error", str(path))
        return look(path)

    monkeypatch.setattr(check, "open_itself", refuse)
    assert one.after(3) == ["good.png"]
    one.after(1000)
    assert "bad.png waits: the inbox" in one.status.troubles()["refused"]
    monkeypatch.undo()
    assert one.after(40) == ["good.png", "bad.png"]
    assert one.jobs[1].reason is None
    assert one.status.troubles() == {}


def test_a_file_that_ended_the_process_in_every_check_is_set_aside_unchecked(desk):
    one = desk()
    path = deliver(one, "a.png")
    for _ in range(3):
        journal = CheckJournal(one.settings.spool)
        journal.begin(known(path))  # and the process dies
    one.inbox._lookout.stop()
    again = Desk(one.settings, one.spool)
    assert again.after(3) == ["a.png"]
    assert again.jobs[0].reason is not None
    assert again.jobs[0].reason["code"] == "crashed"
    again.inbox._lookout.stop()


def test_a_check_that_was_survived_is_forgotten(settings, tmp_path):
    file = tmp_path / "a"
    file.touch()
    CheckJournal(settings.spool).begin(known(file))
    journal = CheckJournal(settings.spool)
    assert journal.deaths(known(file)) == 1
    journal.begin(known(file))
    journal.end(known(file))
    assert CheckJournal(settings.spool).deaths(known(file)) == 0
