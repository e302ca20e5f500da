"""Mounts that come and go, disks that are full or read-only, rights that are taken away.

Real mounts, in a mount namespace of this module's own, under a real daemon; needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from share_servers import missing, samba, smbclient

from mineru_daemon.bench import cases
from mineru_daemon.settings import FOLDER_NAMES

CLONE_NEWNS = 0x00020000
NOBODY = 65534

WAITING_SECONDS = 4.0
CPU_SHARE = 0.25
"""Of a core, at most, while a disk refuses: the main thread's look once a second and a few
attempts. Whatever spins takes all of one."""


@pytest.fixture(scope="module", autouse=True)
def own_mounts() -> Iterator[None]:
    """What is mounted here is seen by nobody else, and gone with the tests."""
    if os.geteuid() != 0:
        pytest.skip("needs root: file systems are mounted")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNS):
        pytest.skip(f"no mount namespace to be had: {os.strerror(ctypes.get_errno())}")
    try:
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        yield
    finally:
        assert libc.setns(before, CLONE_NEWNS) == 0
        os.close(before)


def run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def said(daemon, *words: str) -> Callable[[], bool]:
    """Whether the last STATUS= holds all these words."""

    def look() -> bool:
        lines = [line for line in daemon.told if line.startswith("STATUS=")]
        return bool(lines) and all(word in lines[-1] for word in words)

    return look


def deliver(daemon, name: str, content: bytes) -> None:
    outside = daemon.base / name
    outside.write_bytes(content)
    shutil.move(outside, daemon.folders["inbox"] / f".{name}")
    (daemon.folders["inbox"] / f".{name}").rename(daemon.folders["inbox"] / name)


def count(folder: Path, name: str) -> int:
    return sum(1 for path in folder.glob(f"{name}*.json"))


def check_once(daemon, name: str) -> None:
    """One result, one original, nothing left in between."""
    daemon.until(lambda: not list((daemon.folders["spool"] / "jobs").iterdir()))
    assert count(daemon.folders["outbox"], name) + count(daemon.folders["failed"], name) == 1
    places = [
        folder
        for folder in FOLDER_NAMES
        for path in daemon.folders[folder].rglob(name)
        if path.is_file()
    ]
    assert len(places) == 1
    assert places[0] in ("done", "failed")


FOLDERS = {"outbox": "a.png", "done": "b.png", "failed": "c.txt", "spool": "d.png"}
"""Each folder, and a file whose way leads through it."""


def content_of(name: str) -> bytes:
    return cases.unsupported(name) if name.endswith("txt") else cases.png(name)


def cpu_seconds(pid: int) -> float:
    return time.clock_gettime(~pid << 3 | 2)


def go_through(daemon, break_it, mend_it, *words: str) -> None:
    """Break one folder after the other, deliver, see it told of, mend it, have the result."""
    for folder, name in FOLDERS.items():
        path = daemon.folders[folder]
        break_it(path)
        deliver(daemon, name, content_of(name))
        daemon.until(said(daemon, f"the {folder} {path}", *words))
        began, cpu = time.monotonic(), cpu_seconds(daemon.process.pid)
        time.sleep(WAITING_SECONDS)
        cpu = cpu_seconds(daemon.process.pid) - cpu
        assert cpu < CPU_SHARE * (time.monotonic() - began)
        assert count(daemon.folders["outbox"], name) == count(daemon.folders["failed"], name) == 0
        mend_it(path)
        daemon.result(name, "failed" if folder == "failed" else "outbox")
        daemon.until(lambda: not said(daemon, "TROUBLE")())
        check_once(daemon, name)
        print(f"{folder}: {cpu:.3f} s of CPU in {WAITING_SECONDS:.0f} s of waiting")


@pytest.mark.slow
def test_folders_that_are_unmounted_are_waited_for(start, tmp_path):
    behind = {}
    for folder in FOLDER_NAMES:
        behind[tmp_path / folder] = tmp_path / f"disk-of-{folder}"
        behind[tmp_path / folder].mkdir()
        (tmp_path / folder).mkdir()
        run("mount", "--bind", behind[tmp_path / folder], tmp_path / folder)

    def unmount(path: Path) -> None:
        run("umount", "-l", path)

    def mount(path: Path) -> None:
        hidden = {one.name for one in path.iterdir()} - {"status.json"}
        assert not hidden, "nothing is put where the mount will hide it"
        run("mount", "--bind", behind[path], path)

    go_through(start().ready(), unmount, mount)


def write(path: Path, content: bytes) -> None:
    """Raises OSError where the disk is full."""
    with path.open("wb", buffering=0) as file:
        for at in range(0, len(content), 4096):
            file.write(content[at : at + 4096])


def fill(path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        write(path / ".ballast", bytes(1 << 20))
    assert os.statvfs(path).f_bavail == 0


@pytest.mark.slow
def test_full_disks_are_waited_for(start, tmp_path):
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", tmp_path / folder)

    go_through(
        start().ready(),
        fill,
        lambda path: (path / ".ballast").unlink(),
        "No space left on device; make room there",
    )


@pytest.mark.slow
@pytest.mark.parametrize("on_success", ["move", "keep"])
def test_a_full_inbox_is_waited_for_where_room_is_needed(start, tmp_path, on_success):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", inbox)
    daemon = start(f"--on-success={on_success}", "--incomplete-seconds=3600").ready()
    content = cases.png("cut", 200_000)
    write(inbox / ".room", bytes(400_000))
    write(inbox / ".a.png", cases.png("a"))
    # Who delivers runs out of space, as any share's writer does.
    with pytest.raises(OSError, match="No space left"):
        write(inbox / "cut.png", content)
    assert 0 < (inbox / "cut.png").stat().st_size < len(content)
    (inbox / ".a.png").rename(inbox / "a.png")
    if on_success == "move":
        # A claim is a rename, which needs no room.
        daemon.result("a.png")
        check_once(daemon, "a.png")
    else:
        daemon.until(said(daemon, "a.png waits", f"the inbox {inbox}", "make room there"))
        cpu = cpu_seconds(daemon.process.pid)
        time.sleep(WAITING_SECONDS)
        assert cpu_seconds(daemon.process.pid) - cpu < CPU_SHARE * WAITING_SECONDS
        assert count(tmp_path / "outbox", "a.png") == 0
    (inbox / ".room").unlink()
    write(inbox / "cut.png", content)
    for name in ("a.png", "cut.png"):
        daemon.result(name)
    daemon.until(lambda: not said(daemon, "TROUBLE")())
    assert daemon.stop() == 0
    assert [count(tmp_path / "outbox", name) for name in ("a.png", "cut.png")] == [1, 1]
    assert count(tmp_path / "failed", "") == 0


@contextlib.contextmanager
def seen_by_guests(folder: Path) -> Iterator[Path]:
    """The folder where everybody can get at it, which tests' folders are not."""
    share = Path(tempfile.mkdtemp(prefix="mineru-share-"))
    run("mount", "--bind", folder, share)
    yield share
    run("umount", "-l", share)
    share.rmdir()


@pytest.mark.slow
@pytest.mark.skipif(bool(missing("smbd", "smbclient")), reason=missing("smbd", "smbclient"))
def test_a_scanner_that_met_a_full_share_delivers_again(start, tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=512k,mode=777", "tmpfs", inbox)
    daemon = start("--incomplete-seconds=3600").ready()
    write(inbox / ".room", bytes(400_000))
    source = tmp_path / "scan.png"
    source.write_bytes(cases.png("scan", 200_000))
    with seen_by_guests(inbox) as share, samba(tmp_path / "samba", share) as port:
        put = smbclient(port, f"put {source} scan.png")
        refused = subprocess.run(put, capture_output=True, text=True)
        assert "DISK_FULL" in refused.stdout + refused.stderr
        (inbox / ".room").unlink()
        run(*put)
        daemon.result("scan.png")
        check_once(daemon, "scan.png")
    assert count(tmp_path / "failed", "") == 0


@pytest.mark.slow
def test_disks_that_become_read_only_are_waited_for(start, tmp_path):
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path / folder)
    go_through(
        start().ready(),
        lambda path: run("mount", "-o", "remount,ro", path),
        lambda path: run("mount", "-o", "remount,rw", path),
        "Read-only file system; mount it for writing",
    )


@pytest.mark.slow
def test_rights_that_are_taken_away_are_waited_for(start):
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is needed")
    # Root without the right to pass over modes.
    prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    daemon = start("--recursive", prefix=prefix).ready()
    go_through(
        daemon,
        lambda path: path.chmod(0o500),
        lambda path: path.chmod(0o700),
        "Permission denied; give the daemon's user the right to it",
    )
    inbox = daemon.folders["inbox"]
    # A neighbour's own folder holds nobody up, and neither does a file that is not for us.
    (inbox / "private").mkdir(mode=0o700)
    (inbox / "private.png").touch(mode=0o600)
    for name in ("private", "private.png"):
        os.chown(inbox / name, NOBODY, NOBODY)
    (inbox / "private.png").write_bytes(cases.png("private"))
    deliver(daemon, "e.png", cases.png("e"))
    daemon.result("e.png")
    daemon.until(said(daemon, "private", "others are served"))
    shutil.rmtree(inbox / "private")
    (inbox / "private.png").chmod(0o644)
    daemon.result("private.png")
    inbox.chmod(0o000)
    daemon.until(said(daemon, f"the inbox {inbox}", "Permission denied"))
    inbox.chmod(0o700)
    deliver(daemon, "f.png", cases.png("f"))
    daemon.result("f.png")
    daemon.until(lambda: not said(daemon, "TROUBLE")())


@pytest.mark.slow
def test_an_inbox_that_goes_and_comes_in_any_way_is_served_again(start, tmp_path):
    inbox, away = tmp_path / "inbox", tmp_path / "away"
    inbox.mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", inbox)
    daemon = start().ready()

    def serve(name: str) -> None:
        deliver(daemon, name, cases.png(name))
        daemon.result(name)
        check_once(daemon, name)
        daemon.until(lambda: not said(daemon, "TROUBLE")())

    serve("mounted.png")
    run("umount", "-l", inbox)
    daemon.until(said(daemon, f"the inbox {inbox} is not mounted any more"))
    deliver(daemon, "below.png", cases.png("below"))  # into the folder below the mount
    daemon.result("below.png")
    run("mount", "-t", "tmpfs", "tmpfs", inbox)
    serve("again.png")
    run("mount", "-t", "tmpfs", "tmpfs", inbox)
    serve("over.png")
    run("umount", inbox)
    daemon.until(said(daemon, "not mounted"))
    run("umount", inbox)
    inbox.rename(away)
    daemon.until(said(daemon, f"the inbox {inbox} is not there; mount it, or make it again"))
    (away / "meanwhile.png").write_bytes(cases.png("meanwhile"))
    away.rename(inbox)
    daemon.result("meanwhile.png")
