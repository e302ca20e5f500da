"""A mount that changes behind the kernel's back: no event tells, and it may drop out.

bindfs shows a folder at another place, in a mount namespace of its own; what is written to
the folder itself raises no event at the mount, as on a network share.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from share_servers import missing

from mineru_daemon import status
from mineru_daemon.bench import cases
from mineru_daemon.bench.process import Served, files_of
from mineru_daemon.mounts import file_system_type

PATIENCE_SECONDS = 120.0
PAUSE = 2.0
"""Longer than a file has to be still."""

_REASON = (
    "mounting needs root"
    if os.geteuid() != 0
    else missing("bindfs", "unshare", "nsenter")
    or ("" if Path("/dev/fuse").exists() else "no /dev/fuse here")
)

pytestmark = [pytest.mark.shares, pytest.mark.skipif(bool(_REASON), reason=_REASON)]

NEVER = "3600"


@dataclass
class Mount:
    """`back` is seen at `point`, in the namespace of a process."""

    base: Path
    back: Path
    point: Path
    holder: subprocess.Popen[bytes]
    """Keeps the namespace."""
    bindfs: subprocess.Popen[bytes]

    def within(self) -> list[str]:
        """The command that goes into the namespace."""
        return ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--"]

    def mount(self) -> None:
        command = ["bindfs", "-f", str(self.back), str(self.point)]
        self.bindfs = subprocess.Popen([*self.within(), *command])
        table = Path(f"/proc/{self.holder.pid}/mountinfo")
        until(lambda: file_system_type(self.point, table).startswith("fuse"))

    def drop(self) -> None:
        """As when a server goes away: whoever looks is told that nobody answers."""
        self.bindfs.kill()
        self.bindfs.wait()

    def clear_away(self) -> None:
        subprocess.run([*self.within(), "umount", "--lazy", str(self.point)], check=True)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    back, point = tmp_path / "back", tmp_path / "share"
    back.mkdir()
    point.mkdir()
    before = Path("/proc/self/mountinfo").read_text()
    holder = subprocess.Popen(["unshare", "--mount", "--propagation=private", "cat"],
                              stdin=subprocess.PIPE)  # fmt: skip
    own = os.readlink("/proc/self/ns/mnt")
    until(lambda: os.readlink(f"/proc/{holder.pid}/ns/mnt") != own)
    mount = Mount(tmp_path, back, point, holder, holder)
    try:
        mount.mount()
        yield mount
    finally:
        for process in (mount.bindfs, holder):
            process.kill()
            process.wait()
    assert Path("/proc/self/mountinfo").read_text() == before


@contextlib.contextmanager
def serving(mount: Mount, *options: str) -> Iterator[Served]:
    quick = ("--settle-seconds=0.5", "--append-seconds=1", "--poll-seconds=0.5")
    house = mount.base / "house"
    house.mkdir()
    served = Served(
        house, *quick, *options, elsewhere={"inbox": mount.point}, within=mount.within()
    )
    served.start()
    try:
        served.wait_until_ready()
        yield served
    finally:
        served.kill()


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def wait_for(served: Served, contents: list[bytes]) -> None:
    """Return when each of these gave its result, and nothing else did."""
    until(lambda: len(list(served.outbox.glob("*.json"))) >= len(contents))
    until(lambda: not files_of(served.spool / "jobs"))
    found = sorted(
        json.loads(path.read_bytes())["source"]["sha256"] for path in served.outbox.glob("*.json")
    )
    assert found == sorted(hashlib.sha256(content).hexdigest() for content in contents)
    assert files_of(served.failed) == []


def in_bursts(path: Path, content: bytes) -> None:
    for start in range(0, len(content), len(content) // 3 + 1):
        with path.open("ab") as stream:
            stream.write(content[start : start + len(content) // 3 + 1])
        time.sleep(PAUSE)


def deliver_behind(back: Path) -> list[bytes]:
    """Files that are written, renamed and written slowly, all of them behind the mount."""
    contents = [cases.png("behind"), cases.pdf(["behind"]), cases.pdf(["in bursts"], 100_000)]
    (back / "whole.png").write_bytes(contents[0])
    (back / "renamed.tmp").write_bytes(contents[1])
    (back / "renamed.tmp").rename(back / "renamed.pdf")
    in_bursts(back / "bursts.pdf", contents[2])
    return contents


def test_on_a_fuse_mount_files_are_noticed_by_polling(mount):
    with serving(mount, f"--rescan-seconds={NEVER}") as served:
        (watching,) = [event for event in served.events() if event["event"] == "watching"]
        assert watching["by"] == "poll"
        assert watching["file_system"].startswith("fuse")
        wait_for(served, deliver_behind(mount.back))
        assert files_of(mount.back) == []


def test_where_no_event_comes_files_are_noticed_by_listing_the_folder(mount):
    with serving(mount, "--watch=inotify", "--rescan-seconds=1") as served:
        until(lambda: status_of(served)["watch"] == "inotify")
        wait_for(served, deliver_behind(mount.back))


def test_the_mount_raises_no_events_for_what_happens_behind_it(mount):
    """The ground of the two tests above: neither listing nor polling, and nothing is seen."""
    with serving(mount, "--watch=inotify", f"--rescan-seconds={NEVER}") as served:
        (mount.back / "unseen.png").write_bytes(cases.png("unseen"))
        time.sleep(5)
        assert served.count("claimed") == 0
        assert files_of(mount.back) != []


def test_a_share_that_drops_out_is_told_of_and_served_again_when_it_is_back(mount):
    with serving(mount, "--rescan-seconds=2") as served:
        contents = deliver_behind(mount.back)
        wait_for(served, contents)
        mount.drop()
        until(lambda: "inbox" in status_of(served)["troubles"])
        assert str(mount.point) in status_of(served)["troubles"]["inbox"]
        late = cases.png("delivered meanwhile")
        (mount.back / "late.png").write_bytes(late)
        mount.clear_away()
        mount.mount()
        wait_for(served, [*contents, late])
        until(lambda: status_of(served)["troubles"] == {})
        until(lambda: status_of(served)["watch"] == "poll")
        assert served.alive()


def status_of(served: Served) -> dict[str, Any]:

    until(lambda: status.read(served.spool) is not None)
    found = status.read(served.spool)
    assert found is not None
    return found
