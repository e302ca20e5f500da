"""Which files the inbox offers, in which order, and which it never does.

The real watcher, spool and file system; only the clock is given.
"""

from __future__ import annotations

import os
import shutil
import time

import pytest
from PIL import Image

from mineru_daemon import inbox as module
from mineru_daemon.documents import may_be_continued
from mineru_daemon.inbox import Inbox
from mineru_daemon.jobs import Job
from mineru_daemon.listing import ignore_pattern
from mineru_daemon.samples import paths
from mineru_daemon.spool import Spool
from mineru_daemon.status import Status
from mineru_daemon.storage import identity
from mineru_daemon.suspects import CheckJournal

PDF, PNG = paths()


class Desk:
    """An inbox with a spool, and what it offered."""

    def __init__(self, settings, spool, room=1000):
        self.settings, self.spool, self.status = settings, spool, Status()
        self.jobs: list[Job] = []
        self.room = room
        self.inbox = Inbox(
            settings, spool, self.status, self.jobs.append, lambda: len(self.jobs) < self.room
        )
        self.now = 1000.0

    def after(self, seconds):
        """Look now and again when this time has passed; names that were offered in all."""
        self.now += 0.2  # no listing follows another one at once
        self.inbox.hint(None)
        self.inbox.step(self.now)
        self.now += seconds
        self.inbox.hint(None)
        self.inbox.step(self.now)
        return [job.name for job in self.jobs]


@pytest.fixture
def desk(make_settings):
    opened = []

    def make(room=1000, **changes):
        settings = make_settings(watch="poll", poll_seconds=3600, **changes)
        context = Spool.opened(settings)
        one = Desk(settings, context.__enter__(), room)
        opened.append((one, context))
        return one

    yield make
    for one, context in opened:
        one.inbox._watcher.stop()
        context.__exit__(None, None, None)


def known(path):
    found = identity(path)
    assert found is not None
    return found


def deliver(desk, name, source=PNG, mtime=None):
    path = desk.settings.inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)
    if mtime:
        os.utime(path, (mtime, mtime))
    return path


def test_a_settled_file_is_offered_once(desk):
    one = desk()
    deliver(one, "a.png")
    assert one.after(1.9) == []
    assert one.after(0.2) == ["a.png"]
    assert one.after(60) == ["a.png"]


def test_what_lay_there_before_is_served_oldest_first(desk):
    one = desk()
    for name, mtime in (("new.png", 3000), ("old.png", 1000), ("mid.pdf", 2000)):
        deliver(one, name, PDF if name.endswith("pdf") else PNG, mtime)
    assert one.after(3) == ["old.png", "mid.pdf", "new.png"]


def test_without_room_files_stay_in_the_inbox(desk):
    one = desk(room=2)
    for number in range(4):
        deliver(one, f"{number}.png", mtime=1000 + number)
    assert one.after(3) == ["0.png", "1.png"]
    assert len(list(one.settings.inbox.iterdir())) == 2
    one.room = 10
    assert one.after(3) == ["0.png", "1.png", "2.png", "3.png"]


@pytest.mark.parametrize(
    "name",
    [".hidden.png", "~$doc.png", "~lock", "a.tmp", "A.TMP", "a.png.part", "a.crdownload",
     "a.filepart", "Thumbs.db", "THUMBS.DB", "desktop.ini", "@eaDir", "a.lock", ".~lock.a.png#",
     "draft-1.png"],
)  # fmt: skip
def test_names_that_are_no_documents_are_passed_over(desk, name):
    one = desk(ignore=["draft-*"])
    path = deliver(one, name)
    assert one.after(1000) == []
    assert path.exists()


def test_names_that_only_look_a_little_like_them_are_served(desk):
    one = desk()
    for name in ("tmp", "atmp", "a~b.png", "part.png", "my.tmp.png"):
        deliver(one, name)
    assert sorted(one.after(3)) == ["atmp", "a~b.png", "my.tmp.png", "part.png", "tmp"]


def test_ignored_patterns_are_matched_as_a_whole():
    assert ignore_pattern(["x?"]).match("X1")
    assert not ignore_pattern(["x?"]).match("x12")
    assert ignore_pattern([]).match("a\nb.tmp")


def test_subfolders_are_served_only_on_request(desk):
    flat = desk()
    deliver(flat, "sub/a.png")
    assert flat.after(3) == []
    flat.inbox._watcher.stop()
    deep = Desk(flat.settings.model_copy(update={"recursive": True}), flat.spool)
    deliver(deep, "@eaDir/thumb.png")
    deliver(deep, ".git/b.png")
    assert deep.after(3) == ["a.png"]
    assert deep.jobs[0].subfolder == "sub"
    deep.inbox._watcher.stop()


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


def test_links_pipes_and_folders_are_never_offered(desk, tmp_path):
    one = desk()
    inbox = one.settings.inbox
    (inbox / "link.png").symlink_to(PNG)
    os.mkfifo(inbox / "pipe.png")
    (inbox / "folder.pdf").mkdir()
    assert one.after(1000) == []
    assert sorted(os.listdir(inbox)) == ["folder.pdf", "link.png", "pipe.png"]


def test_the_rate_limit_delays_a_source_and_drops_nothing(desk):
    one = desk(rate_limit=2, recursive=True)
    for number in range(3):
        deliver(one, f"a/{number}.png", mtime=1000 + number)
    deliver(one, "b/9.png", mtime=5000)
    assert one.after(3) == ["0.png", "1.png", "9.png"]
    assert one.after(55) == ["0.png", "1.png", "9.png"]
    assert one.after(10) == ["0.png", "1.png", "9.png", "2.png"]


def test_an_owner_can_be_the_source(desk):
    one = desk(rate_source="owner")
    path = deliver(one, "a.png")
    assert one.inbox._source(path) in ("root", path.owner())


def test_a_backlog_beyond_the_window_is_served_in_order_to_its_end(desk, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 5)
    one = desk()
    for number in range(23):
        deliver(one, f"{number:02}.png", mtime=1000 + number)
    for _ in range(8):
        one.after(3)
    assert [job.name for job in one.jobs] == [f"{n:02}.png" for n in range(23)]


def test_a_flood_of_events_does_not_make_listings_follow_each_other(desk, monkeypatch):
    one = desk()
    listings = []
    monkeypatch.setattr(one.inbox._listing, "files", lambda _tick: iter(slow_listing()))

    def slow_listing():
        listings.append(1)
        time.sleep(0.05)
        return []

    for step in range(20):
        one.inbox.hint(None)
        wait = one.inbox.step(one.now + step * 0.02)
        assert wait > 0
    assert 1 <= len(listings) <= 2


def test_stuck_files_do_not_fill_the_window(desk, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 3)
    one = desk()
    for number in range(6):
        cut = one.settings.inbox / f"cut{number}.png"
        cut.write_bytes(PNG.read_bytes()[:-100])
        os.utime(cut, (1000, 1000))
    deliver(one, "whole.png", mtime=2000)
    for _ in range(5):
        one.after(3)
    assert [job.name for job in one.jobs] == ["whole.png"]


def test_a_missing_inbox_is_a_trouble_until_it_is_back(desk):
    one = desk()
    inbox = one.settings.inbox
    inbox.rmdir()
    one.after(1)
    assert "inbox" in one.status.troubles()
    inbox.mkdir()
    deliver(one, "a.png")
    assert one.after(3) == ["a.png"]
    assert one.status.troubles() == {}


def test_kept_files_are_not_offered_again(desk):
    one = desk(on_success="keep")
    path = deliver(one, "a.png")
    assert one.after(3) == ["a.png"]
    one.spool.commit(one.jobs[0], "success", {".json": lambda s: s.write("{}")}, "0")
    assert one.after(100) == ["a.png"]
    path.write_bytes(PDF.read_bytes())
    assert one.after(20) == ["a.png", "a.png"]


def test_a_kept_file_in_work_is_not_offered_twice(desk):
    one = desk(on_success="keep")
    deliver(one, "a.png")
    assert one.after(3) == ["a.png"]
    assert one.after(100) == ["a.png"]


def test_a_file_that_ended_the_process_in_every_check_is_set_aside_unchecked(desk):
    one = desk()
    path = deliver(one, "a.png")
    for _ in range(3):
        journal = CheckJournal(one.settings.spool)
        journal.begin(known(path))  # and the process dies
    one.inbox._watcher.stop()
    again = Desk(one.settings, one.spool)
    assert again.after(3) == ["a.png"]
    assert again.jobs[0].reason is not None
    assert again.jobs[0].reason["code"] == "crashed"
    again.inbox._watcher.stop()


def test_a_check_that_was_survived_is_forgotten(settings, tmp_path):
    file = tmp_path / "a"
    file.touch()
    CheckJournal(settings.spool).begin(known(file))
    journal = CheckJournal(settings.spool)
    assert journal.deaths(known(file)) == 1
    journal.begin(known(file))
    journal.end(known(file))
    assert CheckJournal(settings.spool).deaths(known(file)) == 0
