"""What scanners and people do on a share: one result for each file, none of a part of one.

A real daemon with its real engine serves an inbox into which real clients deliver by SMB,
FTP, SFTP and rsync, all at once. Each file is large for its content, so that it takes time
to arrive but none to read.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import smb_resume
from share_servers import lftp, missing, samba, slow_line, smbclient, vsftpd

from mineru_daemon.bench import cases
from mineru_daemon.bench.process import Served, files_of

pytestmark = [
    pytest.mark.shares,
    pytest.mark.skipif(os.geteuid() != 0, reason="servers that let guests in need root"),
]

SETTLE_SECONDS = 1.0

PAUSE = 2.5
"""Longer than a file has to be still, as a network that hangs makes them."""

WEIGHT = 600_000
"""Bytes of a file that has to be slow."""

RATE = 300_000
"""Bytes per second of a slow client."""

PATIENCE_SECONDS = 300.0

SFTP_SERVER = next(
    (path for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server")
     if os.path.exists(path)), "",
)  # fmt: skip
"""What sshd starts for scp and sftp; both speak to it without sshd, too."""


@dataclass
class House:
    """A share, the servers before it and the daemon behind it."""

    base: Path
    served: Served
    smb: int = 0
    ftp: int = 0
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def inbox(self) -> Path:
        return self.served.inbox

    def source(self, content: bytes, suffix: str = "") -> Path:
        """The file as its client has it."""
        path = self.base / "clients" / f"{next(self.numbers)}{suffix}"
        path.write_bytes(content)
        return path

    def wait(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            assert self.served.alive(), self.served.journal.read_text()
            assert time.monotonic() < deadline, "it did not come to that"
            time.sleep(0.05)

    def wait_until_half_is_there(self, name: str, content: bytes) -> None:
        path = self.inbox / name
        self.wait(lambda: path.exists() and path.stat().st_size > len(content) // 2)

    def wait_until_looked_at(self, name: str) -> None:
        """Return when the daemon found a file still, looked into it, and left it."""
        path = str(self.inbox / name)
        self.wait(lambda: any(is_left(event, path) for event in self.served.events()))
        assert (self.inbox / name).stat().st_size > 0

    def wait_until_taken(self, name: str) -> None:
        self.wait(lambda: not (self.inbox / name).exists())


def is_left(event: dict[str, str], path: str) -> bool:
    return event["event"] == "incomplete" and event["file"] == path


def run(command: list[str], content: bytes | None = None) -> None:
    done = subprocess.run(command, input=content, capture_output=True)
    assert done.returncode == 0, (command, done.stdout, done.stderr)


@contextlib.contextmanager
def client(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A client that is killed when the block ends, with whatever it had begun."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def heavy(text: str) -> bytes:
    return cases.pdf([text], WEIGHT)


# --- SMB: each way returns what was delivered ---------------------------------


def smb_whole(house: House) -> list[bytes]:
    contents = {
        "whole.png": cases.png("smb whole", WEIGHT),
        "whole.tif": cases.tiff(["smb whole", "and more"], WEIGHT),
        "whole.pdf": heavy("smb whole"),
    }
    for name, content in contents.items():
        run(smbclient(house.smb, f"put {house.source(content)} {name}"))
    return list(contents.values())


def smb_slow(house: House) -> list[bytes]:
    content = cases.png("smb slow", WEIGHT)
    with slow_line(house.smb, RATE) as port:
        run(smbclient(port, f"put {house.source(content)} smb-slow.png"))
    return [content]


def smb_paused(house: House) -> list[bytes]:
    content = heavy("smb paused")
    with slow_line(house.smb, RATE, (WEIGHT // 3, WEIGHT * 2 // 3), PAUSE) as port:
        run(smbclient(port, f"put {house.source(content)} smb-paused.pdf"))
    return [content]


def smb_temporary_name_then_renamed(house: House) -> list[bytes]:
    content = heavy("smb renamed")
    put = f"put {house.source(content)} renamed.tmp"
    with slow_line(house.smb, RATE, (WEIGHT // 2,), PAUSE) as port:
        run(smbclient(port, f"{put}; rename renamed.tmp renamed.pdf"))
    return [content]


def smb_aborted(house: House, name: str, content: bytes) -> Path:
    """The scanner dies in the middle; what arrived stays, and is looked at."""
    source = house.source(content)
    with slow_line(house.smb, RATE) as port, client(smbclient(port, f"put {source} {name}")):
        house.wait_until_half_is_there(name, content)
    house.wait_until_looked_at(name)
    return source


def smb_aborted_then_resumed(house: House) -> list[bytes]:
    contents = {
        "smb-resumed.pdf": heavy("smb resumed"),
        "smb-resumed.png": cases.png("smb resumed", WEIGHT),
        "smb-resumed.tif": cases.tiff(["smb resumed", "and more"], WEIGHT),
    }
    for name, content in contents.items():
        source = smb_aborted(house, name, content)
        run([sys.executable, smb_resume.__file__, str(house.smb), name, str(source)])
    return list(contents.values())


def smb_aborted_then_sent_anew(house: House) -> list[bytes]:
    content = heavy("smb anew")
    source = smb_aborted(house, "smb-anew.pdf", content)
    run(smbclient(house.smb, f"put {source} smb-anew.pdf"))
    return [content]


def smb_the_same_name_again(house: House) -> list[bytes]:
    contents = [cases.png(f"smb again {number}", WEIGHT) for number in range(4)]
    for content in contents:
        run(smbclient(house.smb, f"put {house.source(content)} SCAN0001.PNG"))
        house.wait_until_taken("SCAN0001.PNG")
    return contents


# --- FTP -----------------------------------------------------------------------


def ftp_slow(house: House) -> list[bytes]:
    content = cases.png("ftp slow", WEIGHT)
    run(lftp(house.ftp, f"cd inbox; put {house.source(content)} -o ftp-slow.png", RATE))
    return [content]


def ftp_temporary_name_then_renamed(house: House) -> list[bytes]:
    content = heavy("ftp renamed")
    put = f"put {house.source(content)} -o ftp-renamed.part"
    run(lftp(house.ftp, f"cd inbox; {put}; mv ftp-renamed.part ftp-renamed.pdf", RATE))
    return [content]


def ftp_aborted(house: House, name: str, content: bytes) -> Path:
    source = house.source(content)
    with client(lftp(house.ftp, f"cd inbox; put {source} -o {name}", RATE)):
        house.wait_until_half_is_there(name, content)
    house.wait_until_looked_at(name)
    return source


def ftp_aborted_then_resumed(house: House) -> list[bytes]:
    content = cases.tiff(["ftp resumed", "and more"], WEIGHT)
    source = ftp_aborted(house, "ftp-resumed.tif", content)
    run(lftp(house.ftp, f"cd inbox; put -c {source} -o ftp-resumed.tif", RATE))
    return [content]


def ftp_aborted_then_sent_anew(house: House) -> list[bytes]:
    content = heavy("ftp anew")
    source = ftp_aborted(house, "ftp-anew.pdf", content)
    run(lftp(house.ftp, f"cd inbox; put {source} -o ftp-anew.pdf"))
    return [content]


def ftp_the_same_name_again(house: House) -> list[bytes]:
    contents = [heavy(f"ftp again {number}") for number in range(3)]
    for content in contents:
        run(lftp(house.ftp, f"cd inbox; put {house.source(content)} -o DOC1.PDF"))
        house.wait_until_taken("DOC1.PDF")
    return contents


# --- rsync ---------------------------------------------------------------------


def rsync(house: House, content: bytes, name: str, *options: str) -> list[str]:
    """The command line of an rsync as slow as the others; `name` is a new one."""
    source = house.source(content)
    limit = f"--bwlimit={RATE // 1024}"
    return ["rsync", "--times", limit, *options, str(source), str(house.inbox / name)]


def rsync_with_its_temporary_name(house: House) -> list[bytes]:
    content = heavy("rsync temporary")
    command = rsync(house, content, "rsync.pdf")
    with client(command):
        house.wait(lambda: any(house.inbox.glob(".rsync.pdf.*")))
    # What a killed one leaves has a hidden name, and is nobody's document.
    run(command)
    return [content]


def rsync_in_place(house: House) -> list[bytes]:
    content = cases.png("rsync in place", WEIGHT)
    run(rsync(house, content, "rsync-inplace.png", "--inplace"))
    return [content]


def rsync_in_place_killed_then_resumed(house: House) -> list[bytes]:
    contents = []
    for option in ("--inplace", "--append"):
        content = heavy(f"rsync {option}")
        name = f"rsync{option}.pdf"
        command = rsync(house, content, name, option)
        with client(command):
            house.wait_until_half_is_there(name, content)
        house.wait_until_looked_at(name)
        run(command)
        contents.append(content)
    return contents


# --- scp, and writers that write as scp does ------------------------------------


def scp(house: House) -> list[bytes]:
    content = heavy("scp")
    target = f"here:{house.inbox}/scp.pdf"
    limit = str(RATE * 8 // 1000)
    run(["scp", "-l", limit, "-D", SFTP_SERVER, str(house.source(content)), target])
    return [content]


def sftp_killed_then_resumed(house: House) -> list[bytes]:
    content = cases.png("sftp", WEIGHT)
    source, target = house.source(content), house.inbox / "sftp.png"
    orders = house.source(f"put {source} {target}\n".encode())
    limit = str(RATE * 8 // 1000)
    with client(["sftp", "-l", limit, "-b", str(orders), "-D", SFTP_SERVER]):
        house.wait_until_half_is_there("sftp.png", content)
    house.wait_until_looked_at("sftp.png")
    run(["sftp", "-b", "-", "-D", SFTP_SERVER], f"reput {source} {target}\n".encode())
    return [content]


def bursts_through_one_handle(house: House) -> list[bytes]:
    content = cases.tiff(["bursts", "and more"], WEIGHT)
    with (house.inbox / "bursts.tif").open("wb", buffering=0) as stream:
        for start in range(0, len(content), len(content) // 3 + 1):
            stream.write(content[start : start + len(content) // 3 + 1])
            time.sleep(PAUSE)
    return [content]


def bursts_reopened_each_time(house: House) -> list[bytes]:
    content = heavy("reopened")
    for start in range(0, len(content), len(content) // 3 + 1):
        with (house.inbox / "reopened.pdf").open("ab") as stream:
            stream.write(content[start : start + len(content) // 3 + 1])
        time.sleep(PAUSE)
    return [content]


SMB, FTP, RSYNC, SCP = ("smbd", "smbclient"), ("vsftpd", "lftp"), ("rsync",), ("scp", "sftp")

WAYS: dict[str, tuple[Callable[[House], list[bytes]], tuple[str, ...]]] = {
    way.__name__.replace("_", " "): (way, programs)
    for way, programs in (
        (smb_whole, SMB),
        (smb_slow, SMB),
        (smb_paused, SMB),
        (smb_temporary_name_then_renamed, SMB),
        (smb_aborted_then_resumed, SMB),
        (smb_aborted_then_sent_anew, SMB),
        (smb_the_same_name_again, SMB),
        (ftp_slow, FTP),
        (ftp_temporary_name_then_renamed, FTP),
        (ftp_aborted_then_resumed, FTP),
        (ftp_aborted_then_sent_anew, FTP),
        (ftp_the_same_name_again, FTP),
        (rsync_with_its_temporary_name, RSYNC),
        (rsync_in_place, RSYNC),
        (rsync_in_place_killed_then_resumed, RSYNC),
        (scp, SCP),
        (sftp_killed_then_resumed, SCP),
        (bursts_through_one_handle, ()),
        (bursts_reopened_each_time, ()),
    )
}

ABORTED: dict[str, tuple[Callable[[House, str, bytes], object], tuple[str, ...]]] = {
    "smb-cut.pdf": (smb_aborted, SMB),
    "ftp-cut.pdf": (ftp_aborted, FTP),
}
"""Aborted for good, and under which name."""

OVERWRITTEN = 12
"""Versions that a scanner writes over each other, without looking."""


def smb_overwritten(house: House) -> list[bytes]:
    contents = [cases.png(f"version {number}", WEIGHT // 4) for number in range(OVERWRITTEN)]
    for number, content in enumerate(contents):
        run(smbclient(house.smb, f"put {house.source(content)} over.png"))
        time.sleep(number * 0.15)
    return contents


def why_not(programs: tuple[str, ...]) -> str:
    if programs == SCP and not SFTP_SERVER:
        return "not installed: sftp-server"
    return missing(*programs)


@dataclass
class Outcome:
    """What was delivered by each way, and what came out of it: status, hash of the original
    that lies under the result's name."""

    delivered: dict[str, list[bytes]]
    results: Counter[tuple[str, str]]
    early: Counter[tuple[str, str]]
    """The same before the aborted ones were given up."""
    strangers: list[str]
    """Files that were left over, and results that are not of the file under their name."""


@pytest.fixture(scope="module")
def outcome() -> Iterator[Outcome]:
    base = Path(tempfile.mkdtemp(prefix="mineru-shares-"))
    # The guests of the servers have to reach the share, which pytest's own folders hide.
    base.chmod(0o755)
    (base / "clients").mkdir()
    (base / "house").mkdir()
    served = Served(
        base / "house",
        f"--settle-seconds={SETTLE_SECONDS}",
        "--append-seconds=3",
        "--rescan-seconds=2",
        "--log-level=debug",
    )
    served.configure("incomplete_seconds = 3600")
    served.inbox.chmod(0o777)
    house = House(base, served)
    with contextlib.ExitStack() as stack:
        if not missing(*SMB):
            house.smb = stack.enter_context(samba(base / "samba", served.inbox))
        if not missing(*FTP):
            house.ftp = stack.enter_context(vsftpd(base / "vsftpd", base / "house"))
        served.start()
        stack.callback(end, served)
        served.wait_until_ready()
        yield deliver_all(house)
    shutil.rmtree(base)


def end(served: Served) -> None:
    if served.alive():
        served.kill()


def deliver_all(house: House) -> Outcome:
    with ThreadPoolExecutor(len(WAYS) + len(ABORTED) + 1) as pool:
        futures = {
            name: pool.submit(way, house)
            for name, (way, programs) in WAYS.items()
            if not why_not(programs)
        }
        if house.smb:
            futures["overwritten"] = pool.submit(smb_overwritten, house)
        aborted = {
            name: pool.submit(way, house, name, heavy(name))
            for name, (way, programs) in ABORTED.items()
            if not why_not(programs)
        }
        delivered = {name: future.result() for name, future in futures.items()}
        left = {house.inbox / name for name, future in aborted.items() if future.result() or True}
    house.wait(lambda: visible(house.served.inbox) == left and not at_work(house.served))
    early = Counter(results_of(house.served))
    for path in left:
        delivered[path.name] = [path.read_bytes()]
    house.served.configure("incomplete_seconds = 1")
    house.served.reload()
    house.wait(lambda: not visible(house.served.inbox) and not at_work(house.served))
    assert house.served.stop() == 0
    return Outcome(delivered, Counter(results_of(house.served)), early, list(strange(house.served)))


def visible(folder: Path) -> set[Path]:
    return {path for path in files_of(folder) if path.name[0] != "."}


def at_work(served: Served) -> bool:
    return bool(files_of(served.spool / "jobs"))


def pairs(served: Served) -> Iterator[tuple[Path, Path]]:
    """Each result, and the original that lies under its name."""
    for results, originals in ((served.outbox, served.done), (served.failed, served.failed)):
        for path in results.glob("*.json"):
            yield path, originals / path.name.removesuffix(".json")


def results_of(served: Served) -> list[tuple[str, str]]:
    return [
        (json.loads(path.read_bytes())["status"], sha256(original.read_bytes()))
        for path, original in pairs(served)
    ]


def strange(served: Served) -> Iterator[str]:
    for path, original in pairs(served):
        found = json.loads(path.read_bytes())["source"]["sha256"]
        if found not in (None, sha256(original.read_bytes())):
            yield f"{path.name} is not of {original.name}"
    for folder in (served.outbox, served.done, served.failed):
        yield from (str(path) for path in files_of(folder) if path.name[0] == ".")
    yield from map(str, files_of(served.inbox))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("way", WAYS)
def test_each_file_that_a_client_delivers_gives_one_result_of_all_of_it(outcome, way):
    if reason := why_not(WAYS[way][1]):
        pytest.skip(reason)
    assert outcome.delivered[way]
    for content in outcome.delivered[way]:
        assert outcome.results["success", sha256(content)] == 1


@pytest.mark.parametrize("name", ABORTED)
def test_an_upload_that_is_aborted_is_set_aside_when_nobody_resumes_it_and_no_sooner(outcome, name):
    if reason := why_not(ABORTED[name][1]):
        pytest.skip(reason)
    (part,) = outcome.delivered[name]
    assert 0 < len(part) < len(heavy(name))
    assert outcome.early["failed", sha256(part)] == 0
    assert outcome.results["failed", sha256(part)] == 1


@pytest.mark.skipif(bool(why_not(SMB)), reason=why_not(SMB))
def test_of_versions_written_over_each_other_the_last_is_read_and_none_twice(outcome):
    *before, last = outcome.delivered["overwritten"]
    assert outcome.results["success", sha256(last)] == 1
    for content in before:
        assert outcome.results["success", sha256(content)] <= 1


def test_no_result_is_of_a_part_of_a_file_and_nothing_is_left_over(outcome):
    whole = {sha256(content) for way in outcome.delivered.values() for content in way}
    assert {found for _, found in outcome.results} <= whole
    assert {found for status, found in outcome.results if status != "success"} == {
        sha256(outcome.delivered[name][0]) for name in ABORTED if name in outcome.delivered
    }
    # rsync that was killed leaves what it had begun.
    assert [name for name in outcome.strangers if "/.rsync.pdf." not in name] == []
