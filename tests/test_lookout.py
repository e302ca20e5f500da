"""What of an inbox is seen, watched and listed, by a real one whose clock is given."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import time

import pytest
from inbox_desk import PNG, Desk, deliver

from mineru_daemon import lookout
from mineru_daemon.listing import ignore_pattern


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
