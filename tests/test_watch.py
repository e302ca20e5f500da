"""Hints about the inbox, and that they come back after the folder was replaced."""

from __future__ import annotations

import os
import queue
import shutil
import time
from pathlib import Path

import pytest

from mineru_daemon.mounts import file_system_type, is_network
from mineru_daemon.watch import Watcher


class Hints(queue.Queue[str | None]):
    def __call__(self, path):
        self.put(path)

    def seen(self, path, seconds=5.0):
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                if self.get(timeout=left) in (str(path), None):
                    return True
            except queue.Empty:
                break
        return False


@pytest.fixture
def watched(tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    hints = Hints()
    watcher = Watcher(inbox, hints, recursive=True, mode="inotify")
    assert watcher.ensure()
    assert watcher.kind == "inotify"
    yield inbox, hints, watcher
    watcher.stop()


def test_new_moved_and_changed_files_are_hinted_at(watched, tmp_path):
    inbox, hints, _ = watched
    (inbox / "a").write_text("1")
    assert hints.seen(inbox / "a")
    (inbox / "a.tmp").write_text("1")
    assert hints.seen(inbox / "a.tmp")
    (inbox / "a.tmp").rename(inbox / "b")
    assert hints.seen(inbox / "b")
    (tmp_path / "c").write_text("1")
    (tmp_path / "c").rename(inbox / "c")
    assert hints.seen(inbox / "c")


def test_looking_at_a_file_gives_no_hint_of_its_own(watched):
    inbox, hints, _ = watched
    (inbox / "a").write_text("1")
    assert hints.seen(inbox / "a")
    time.sleep(0.5)
    while not hints.empty():
        hints.get()
    (inbox / "a").read_text()
    time.sleep(0.5)
    assert hints.empty()


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_replaced_folder_is_noticed_and_watched_again(watched, tmp_path, how):
    inbox, hints, watcher = watched
    assert not watcher.ensure()
    if how == "removed":
        shutil.rmtree(inbox)
    else:
        inbox.rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="inbox"):
        watcher.ensure()
    assert watcher.kind == ""
    inbox.mkdir()
    assert watcher.ensure()
    (inbox / "a").write_text("1")
    assert hints.seen(inbox / "a")


def test_a_polled_folder_that_is_replaced_is_noticed(tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    watcher = Watcher(inbox, Hints(), mode="poll")
    assert watcher.ensure()
    assert not watcher.ensure()
    inbox.rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="inbox"):
        watcher.ensure()
    inbox.mkdir()
    assert watcher.ensure()


def test_the_type_of_a_file_system_is_that_of_the_innermost_mount(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /srv rw - cifs //server/share rw\n"
        "31 30 0:41 / /srv/a\\040b rw shared:5 master:1 - fuse.sshfs host: rw\n"
        "32 22 0:42 / /srv rw - nfs4 server:/x rw\n"
    )
    assert file_system_type(tmp_path, table) == "ext4"
    assert file_system_type(Path("/srv/x"), table) == "nfs4"
    assert file_system_type(Path("/srv/a b/c"), table) == "fuse.sshfs"
    assert file_system_type(Path("/srvx"), table) == "ext4"
    assert file_system_type(Path("/"), tmp_path / "none") == ""


def test_shares_are_polled_and_disks_are_not():
    assert all(is_network(k) for k in ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "fuse"))
    assert not any(is_network(k) for k in ("ext4", "xfs", "btrfs", "tmpfs", "fuseblk", "overlay"))


def test_auto_chooses_by_the_file_system(tmp_path, monkeypatch):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for kind, expected in (("cifs", "poll"), ("ext4", "inotify")):
        monkeypatch.setattr("mineru_daemon.watch.file_system_type", lambda _path, k=kind: k)
        watcher = Watcher(inbox, lambda _path: None)
        watcher.ensure()
        assert watcher.kind == expected
        watcher.stop()


def test_a_kernel_without_room_for_watches_is_polled(tmp_path, monkeypatch):
    inbox = tmp_path / "inbox"
    inbox.mkdir()

    class Refusing:
        def schedule(self, *_, **__):
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr("mineru_daemon.watch.Observer", Refusing)
    hints = Hints()
    watcher = Watcher(inbox, hints, mode="inotify")
    assert watcher.ensure()
    assert watcher.kind == "poll"
    assert not watcher.ensure()
    watcher.stop()
