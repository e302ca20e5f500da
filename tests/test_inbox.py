"""Which files the inbox offers, in which order, and which it never does.

The real watcher, spool and file system; only the clock is given.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import time

import pytest
from PIL import Image

from mineru_daemon import check, lookout, storage
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
        settings = make_settings(**{"watch": "poll", "poll_seconds": 3600, **changes})
        context = Spool.opened(settings)
        one = Desk(settings, context.__enter__(), room)
        opened.append((one, context))
        return one

    yield make
    for one, context in opened:
        one.inbox._lookout.stop()
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
    flat.inbox._lookout.stop()
    deep = Desk(flat.settings.model_copy(update={"recursive": True}), flat.spool)
    deliver(deep, "@eaDir/thumb.png")
    deliver(deep, ".git/b.png")
    assert deep.after(3) == ["a.png"]
    assert deep.jobs[0].subfolder == "sub"
    deep.inbox._lookout.stop()


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


def special_files(inbox, outside):
    """Everything that a neighbour can put into a folder besides files."""
    (outside / "secret.png").write_bytes(PNG.read_bytes())
    (inbox / "to-a-file.png").symlink_to(outside / "secret.png")
    (inbox / "to-a-folder").symlink_to(outside)
    (inbox / "to-itself.png").symlink_to("to-itself.png")
    (inbox / "to-nothing.png").symlink_to(outside / "nothing")
    (inbox / "to-its-parent.pdf").symlink_to("..")
    os.mkfifo(inbox / "pipe.png")
    with socket.socket(socket.AF_UNIX) as one:
        before = os.getcwd()
        os.chdir(inbox)  # a socket's name is short, a test's folder is not
        one.bind("socket.png")
        os.chdir(before)
    if os.geteuid() == 0:
        os.mknod(inbox / "zero.png", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        os.mknod(inbox / "disk.png", stat.S_IFBLK | 0o666, os.makedev(7, 99))


@pytest.mark.parametrize("recursive", [False, True])
def test_links_pipes_sockets_and_devices_are_never_offered(desk, tmp_path, recursive):
    one = desk(recursive=recursive)
    outside = tmp_path / "outside"
    outside.mkdir()
    special_files(one.settings.inbox, outside)
    before = sorted(os.listdir(one.settings.inbox))
    deliver(one, "folder.pdf/inside.png")
    deliver(one, "file.png")
    expected = ["file.png", "inside.png"] if recursive else ["file.png"]
    assert sorted(one.after(3)) == expected
    for name in before:
        one.inbox.hint(str(one.settings.inbox / name))
        one.inbox.hint(str(one.settings.inbox / name / "secret.png"))
        one.inbox.step(one.now)
    assert sorted(one.after(1000)) == expected
    assert sorted({*os.listdir(one.settings.inbox)} - {"folder.pdf"}) == before
    assert (outside / "secret.png").exists()
    assert one.status.troubles() == {}


def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(desk, tmp_path):
    one = desk(recursive=True)
    deliver(one, "sub/a.png")
    one.after(0.1)
    other = tmp_path / "other"
    (one.settings.inbox / "sub").rename(other)  # the very file, so that only the way differs
    (one.settings.inbox / "sub").symlink_to(other)
    assert one.after(10) == []
    assert (other / "a.png").exists()


@pytest.mark.parametrize("watch", ["poll", "inotify"])
@pytest.mark.parametrize("levels", [40, 1500])
def test_folders_without_end_are_passed_over(desk, levels, watch):
    one = desk(recursive=True, watch=watch)
    deliver(one, "a.png")
    folder = os.open(one.settings.inbox, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("x", dir_fd=folder)
        deeper = os.open("x", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(os.open("deep.png", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    assert one.after(3) == ["a.png"]
    # Python's own ways to remove it end in a RecursionError.
    subprocess.run(["rm", "-r", one.settings.inbox / "x"], check=True)


def test_a_file_from_the_future_does_not_wait_until_then(desk):
    one = desk()
    deliver(one, "a.png", mtime=time.time() + 1e9)
    time.sleep(0.01)
    deliver(one, "b.png")
    assert one.after(3) == ["a.png", "b.png"]


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


def test_a_spool_that_is_renamed_away_is_waited_for(desk, tmp_path):
    one = desk()
    away = tmp_path / "away"
    deliver(one, "a.png")
    assert one.after(3) == ["a.png"]
    one.settings.spool.rename(away)
    one.settings.spool.write_text("something else lies there")
    deliver(one, "b.png")
    assert one.after(10) == ["a.png"]
    assert "spool" in one.status.troubles()["spool"]
    one.settings.spool.unlink()
    away.rename(one.settings.spool)
    assert one.after(10) == ["a.png", "b.png"]
    assert one.status.troubles() == {}


def test_a_spool_that_is_removed_is_made_anew_and_old_jobs_come_back_with_the_old_one(
    desk, tmp_path
):
    one = desk()
    away = tmp_path / "away"
    deliver(one, "a.png")
    assert one.after(3) == ["a.png"]
    one.settings.spool.rename(away)
    deliver(one, "b.png")
    assert one.after(10) == ["a.png", "b.png"]
    assert not one.spool.complete(one.jobs[0]), "given up by the worker"
    one.spool.commit(one.jobs[1], "success", {".json": lambda s: s.write("{}")}, "0")
    one.settings.spool.rename(tmp_path / "other")
    away.rename(one.settings.spool)
    assert one.after(10) == ["a.png", "b.png", "a.png"]
    assert one.jobs[2].document.exists()


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
    monkeypatch.setattr(lookout, "WINDOW", 5)
    one = desk()
    for number in range(23):
        deliver(one, f"{number:02}.png", mtime=1000 + number)
    for _ in range(8):
        one.after(3)
    assert [job.name for job in one.jobs] == [f"{n:02}.png" for n in range(23)]


def test_a_flood_of_events_does_not_make_listings_follow_each_other(desk, monkeypatch):
    one = desk()
    listings = []
    monkeypatch.setattr(one.inbox._lookout.listing, "files", lambda _tick: iter(slow_listing()))

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
    monkeypatch.setattr(lookout, "WINDOW", 3)
    one = desk()
    for number in range(6):
        cut = one.settings.inbox / f"cut{number}.png"
        cut.write_bytes(PNG.read_bytes()[:-100])
        os.utime(cut, (1000, 1000))
    deliver(one, "whole.png", mtime=2000)
    for _ in range(5):
        one.after(3)
    assert [job.name for job in one.jobs] == ["whole.png"]


def test_where_no_hints_come_the_folder_is_listed_as_often_as_is_set(desk):
    one = desk(watch="poll", poll_seconds=2)
    one.inbox.step(one.now)
    deliver(one, "a.png")
    one.inbox.step(one.now + 1)
    assert one.status.snapshot()["inbox_files"] == 0
    assert one.inbox.step(one.now + 2.5) <= 2
    assert one.status.snapshot()["inbox_files"] == 1


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
