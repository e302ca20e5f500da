"""A document survives a kill, and a disk that refuses, at every single file operation.

Children are forked; an audit hook counts what they are about to do to files and ends
them, or makes the operation fail, before the n-th. The next child goes on from what lies
on disk, as the daemon does after its restart.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import pytest
from fault_injection import through_open_folder
from small_process import in_small_process

from mineru_daemon import claim, commit, marks, storage
from mineru_daemon.jobs import Outcome
from mineru_daemon.ledger import Ledger
from mineru_daemon.results import PageResult
from mineru_daemon.settings import FOLDER_NAMES, Settings
from mineru_daemon.spool import Spool

CONTENT = b"the delivered document" * 100
OLDER = '{"older": "result of another file of this name"}'
NAME = "scan.png"
PAGE = PageResult(
    index=0, width_px=1, height_px=1, width_pt=None, height_pt=None, dpi=None, blocks=[]
)

DONE, KILLED, MET = 0, 77, 78
OPERATIONS = frozenset(
    {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link"}
)
"""Python's audit events that come before something happens to a file."""

UNSEEN = (
    (os, "fsync"), (claim, "rename_noreplace"), (commit, "rename_noreplace"), (Ledger, "record"),
)  # fmt: skip
"""What happens to files without an audit event."""

MORE_THAN_ENOUGH = 500
"""No way of a document takes as many operations."""

Mishap = Literal["kill", "refuse"]


@dataclass(frozen=True)
class House:
    """A delivery and the folders around it, some of them on another file system."""

    settings: Settings
    outcome: Outcome

    def deliver(self) -> None:
        for name in FOLDER_NAMES:
            folder = getattr(self.settings, name)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        (self.settings.inbox / NAME).write_bytes(CONTENT)
        (self.settings.outbox / f"{NAME}.json").write_text(OLDER)

    def serve(self, started: Callable[[], None] = lambda: None) -> None:
        """What a daemon does from its start to an empty inbox, on one document."""
        with Spool.opened(self.settings) as spool:
            jobs = spool.recover()
            started()
            for path in self.settings.inbox.glob("[!.]*"):
                file = storage.identity(path)
                assert file
                if not spool.was_claimed(file):
                    job = patiently(spool.claim, path, file)
                    jobs += [job] if job else []
            for job in jobs:
                patiently(self._process, spool, job)

    def _process(self, spool, job) -> None:
        """As the worker does, with an engine that reads nothing."""
        if job.commit is not None:
            spool.finish(job)
            return
        if not spool.complete(job):
            return
        job.begin("open")
        sha256 = storage.digest(job.document)
        job.end("open")
        if job.pages.load(0) is None:
            job.begin("0")
            job.pages.save(PAGE)
        result = json.dumps({"job": job.id, "sha256": sha256})

        def write(stream) -> None:
            stream.write(result[:20])
            stream.flush()
            sys.audit("os.truncate", job.folder)
            stream.write(result[20:])

        outputs: dict[str, Callable[[IO[str]], object]] = {".json": write}
        if self.outcome != "failed":
            beside = dict.fromkeys((".md", ".mineru/_list"), lambda stream: stream.write("text"))
            outputs = {**beside, **outputs}
        spool.commit(job, self.outcome, outputs, sha256)

    # --- what must be true ---------------------------------------------------

    def results(self) -> list[Path]:
        folders = (self.settings.outbox, self.settings.failed)
        found = [path for folder in folders for path in folder.rglob("*.json")]
        return [path for path in found if path.name[0] != "." and path.read_text() != OLDER]

    def copies(self) -> list[str]:
        """Names of the folders in which the document lies, whole."""
        return [
            name
            for name in FOLDER_NAMES
            for path in getattr(self.settings, name).rglob("*")
            if path.is_file() and path.read_bytes() == CONTENT
        ]

    def check_meanwhile(self) -> None:
        """After a kill: nothing is lost, nothing that can be seen is half done."""
        results = self.results()
        assert len(results) <= 1
        for path in results:
            assert json.loads(path.read_text())["sha256"]
        assert self.copies() or (results and self.settings.on_success == "delete")

    def check_end(self) -> None:
        """After the last restart: one document, one result, and nothing else."""
        place = {"move": ["done"], "delete": [], "keep": ["inbox"]}[self.settings.on_success]
        if self.outcome == "failed" and self.settings.on_success != "keep":
            place = ["failed"]
        assert self.copies() == place
        (result,) = self.results()
        assert result.parent.name == ("failed" if self.outcome == "failed" else "outbox")
        assert json.loads(result.read_text())["sha256"] == hashlib.sha256(CONTENT).hexdigest()
        assert (self.settings.outbox / f"{NAME}.json").read_text() == OLDER
        left = [
            path
            for name in FOLDER_NAMES
            for path in getattr(self.settings, name).rglob(".*")
            if path not in (self.settings.spool, self.settings.inbox / marks.FOLDER)
        ]
        assert left == []
        marked = list((self.settings.inbox / marks.FOLDER).glob("*"))
        assert len(marked) == (self.settings.on_success == "keep")
        assert list((self.settings.spool / "jobs").iterdir()) == []


def patiently(work, *arguments):
    """As inbox and worker do when a disk refuses: again, until it works."""
    for _ in range(3):
        try:
            return work(*arguments)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    raise AssertionError("it never worked")


def in_child(work: Callable[[], None]) -> int:
    """Run in a forked child, which ends without any clean-up; its exit code."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(DONE)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def with_mishap(house: House, at: int, mishap: Mishap) -> int:
    """Serve in a child that meets a mishap before its operation number `at`, from 0."""

    def work() -> None:
        count = 0
        bases = {str(Path(getattr(house.settings, name)).parent) for name in FOLDER_NAMES}

        def step(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if event not in OPERATIONS or not concerns(arguments, bases):
                return
            count += 1
            if count == at + 1:
                if mishap == "kill":
                    os._exit(KILLED)
                raise OSError(errno.ENOSPC, "no space left (made up)")

        def counted(function):
            def call(*arguments, **options):
                step("os.truncate", (house.settings.spool,))
                return function(*arguments, **options)

            return call

        # A kill is no power cut: what the kernel has is safe, so flushing can be left out.
        os.fsync = lambda fd: None
        for owner, name in UNSEEN:
            setattr(owner, name, counted(getattr(owner, name)))
        if mishap == "kill":
            sys.addaudithook(step)
            house.serve()
        else:
            # A daemon whose disk refuses at its start does not start.
            house.serve(started=lambda: sys.addaudithook(step))
            if count > at:
                os._exit(MET)

    return in_child(work)


def concerns(arguments: tuple[Any, ...], bases: set[str]) -> bool:
    """Whether an operation is on one of our files; rmtree names them relative to a folder."""
    path = arguments[0]
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    name = through_open_folder(os.fsdecode(path))
    return not name.startswith("/") or any(name.startswith(base) for base in bases)


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder in memory: thousands of small steps on a disk would take minutes."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="mineru-test-", dir="/dev/shm"))
    except OSError as error:
        pytest.skip(f"needs /dev/shm: {error}")
    yield folder
    shutil.rmtree(folder)


CASES = [
    # what lies on another file system, on_success, outcome
    ("nothing", "move", "success"),
    ("nothing", "move", "failed"),
    ("nothing", "delete", "success"),
    ("nothing", "delete", "failed"),
    ("nothing", "keep", "success"),
    ("nothing", "keep", "failed"),
    ("inbox", "move", "success"),
    ("inbox", "keep", "failed"),
    ("done", "move", "success"),
    ("failed", "move", "failed"),
    ("outbox", "delete", "success"),
    ("spool", "move", "success"),
    ("spool", "keep", "success"),
]


@pytest.fixture(params=CASES, ids="-".join)
def house(request, tmp_path, memory) -> House:
    elsewhere, on_success, outcome = request.param
    if elsewhere != "nothing" and memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    folders = {name: (tmp_path if name == elsewhere else memory) / name for name in FOLDER_NAMES}
    return House(Settings(**folders, on_success=on_success), outcome)


def test_a_kill_before_any_operation_loses_nothing_and_doubles_nothing(house):
    in_small_process(kill_before_any_operation, house)


def kill_before_any_operation(house: House) -> None:
    for at in range(MORE_THAN_ENOUGH):
        house.deliver()
        code = with_mishap(house, at, "kill")
        assert code in (DONE, KILLED)
        house.check_meanwhile()
        if code == DONE:
            break
        # The restart is killed too, each time at another place, and only then let through.
        assert with_mishap(house, at * 7 % 30, "kill") in (DONE, KILLED)
        house.check_meanwhile()
        assert with_mishap(house, MORE_THAN_ENOUGH, "kill") == DONE
        house.check_end()
    house.check_end()
    assert at > 20


def test_a_disk_that_refuses_any_operation_only_delays(house):
    in_small_process(refuse_any_operation, house)


def refuse_any_operation(house: House) -> None:
    for at in range(MORE_THAN_ENOUGH):
        house.deliver()
        code = with_mishap(house, at, "refuse")
        assert code in (DONE, MET)
        house.check_meanwhile()
        # Leftovers that could not be removed are, at the next start.
        assert with_mishap(house, MORE_THAN_ENOUGH, "kill") == DONE
        house.check_end()
        if code == DONE:
            break
    assert at > 20


def test_what_was_staged_for_a_success_is_gone_when_it_becomes_a_failure(settings):
    path = settings.inbox / NAME
    path.write_bytes(CONTENT)

    def refuse(stream):
        raise OSError(errno.EIO, "made up")

    with Spool.opened(settings) as spool:
        file = storage.identity(path)
        assert file
        job = spool.claim(path, file)
        assert job
        with pytest.raises(OSError, match="made up"):
            spool.commit(job, "success", {".md": lambda s: s.write("text"), ".json": refuse}, None)
        spool.commit(job, "failed", {".json": lambda s: s.write("{}")}, None)
    assert list(settings.outbox.iterdir()) == []
    assert {path.name for path in settings.failed.iterdir()} == {NAME, f"{NAME}.json"}
