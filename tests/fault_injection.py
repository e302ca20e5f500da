"""A document is served by the real inbox, spool and worker while its disks fail.

For tests: in a forked child every file operation on the daemon's folders is counted, and
some are made to fail. Time is given, so that pauses cost nothing and can be added up.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import structlog

from mineru_daemon import claim, commit, marks
from mineru_daemon.bench import cases
from mineru_daemon.documents import Document, Limits, open_document
from mineru_daemon.documents.reader import Reader
from mineru_daemon.engines.base import PageReading
from mineru_daemon.inbox import Inbox
from mineru_daemon.jobs import Job
from mineru_daemon.ledger import Ledger
from mineru_daemon.results import EngineInfo
from mineru_daemon.serving import Serving
from mineru_daemon.settings import FOLDER_NAMES, Settings
from mineru_daemon.spool import Spool
from mineru_daemon.status import Status
from mineru_daemon.worker import Worker

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES)
NAME = "scan.png"
OLDER = '{"older": "result of another file of this name"}'

READS, WRITES = "reads", "writes"
_EVENTS = {
    "os.rename": WRITES, "os.remove": WRITES, "os.rmdir": WRITES, "os.mkdir": WRITES,
    "os.link": WRITES, "os.truncate": WRITES, "os.chmod": WRITES, "os.utime": WRITES,
    "os.scandir": READS, "os.listdir": READS,
}  # fmt: skip
"""Python's audit events that come before something happens to a file; `open` is either."""

_WRITES_ONLY = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""What a disk says only to those who write."""


class BlindEngine:
    """Reads nothing."""

    info = EngineInfo(name="blind", model="none", precision="none", settings={})

    def warm_up(self):
        pass

    def read(self, page, progress):
        return PageReading(blocks=[], width_px=1, height_px=1, dpi=None)

    def close(self):
        pass


@dataclass(frozen=True)
class House:
    """A delivery, and the folders around it."""

    settings: Settings
    content: bytes
    outcome: str

    def deliver(self) -> None:
        for name in FOLDER_NAMES:
            folder = getattr(self.settings, name)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        (self.settings.inbox / NAME).write_bytes(self.content)
        (self.settings.outbox / f"{NAME}.json").write_text(OLDER)

    def wrong(self) -> list[str]:
        """What is not as it has to be when all is over: one document, one result."""
        place = {"move": ["done"], "delete": [], "keep": ["inbox"]}[self.settings.on_success]
        if self.outcome == "failed" and self.settings.on_success != "keep":
            place = ["failed"]
        copies = [
            name
            for name in FOLDER_NAMES
            for path in getattr(self.settings, name).rglob("*")
            if path.is_file() and path.read_bytes() == self.content
        ]
        found = [] if copies == place else [f"the document lies in {copies}"]
        results = [
            path
            for folder in (self.settings.outbox, self.settings.failed)
            for path in folder.rglob("*.json")
            if path.name[0] != "." and path.read_text() != OLDER
        ]
        if len(results) != 1:
            found.append(f"{len(results)} results")
        for path in results:
            result = json.loads(path.read_text())
            if result["source"]["sha256"] != hashlib.sha256(self.content).hexdigest():
                found.append("the result is of something else")
            if result["status"] != self.outcome:
                found.append(f"{result['status']}: {result['error']}")
        if (self.settings.outbox / f"{NAME}.json").read_text() != OLDER:
            found.append("an older result was overwritten")
        left = [
            path
            for name in FOLDER_NAMES
            for path in getattr(self.settings, name).rglob(".*")
            if path not in (self.settings.spool, self.settings.inbox / marks.FOLDER)
            # A mark that could not be finished is removed before the next one is made.
            and path.parent.name != marks.FOLDER
        ]
        left += [p for p in (self.settings.spool / "jobs").iterdir() if p.suffix != ".finished"]
        return found + [f"{path} is left over" for path in left]


@dataclass
class Fault:
    """Which operations fail: from number `at` on, once or until the daemon has rested so
    often; all folders, or one."""

    number: int
    at: int
    rests: int = 0
    """0: one operation only."""
    folder: str | None = None


@dataclass
class Report:
    """What a child met."""

    operations: int = 0
    refused: int = 0
    """Operations that failed."""
    waited: float = 0.0
    """Seconds that the daemon wanted to wait while they did."""
    troubles: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class _Disk:
    """Counts operations on the folders and refuses some."""

    def __init__(self, settings: Settings, fault: Fault | None) -> None:
        self._folders = {name: f"{getattr(settings, name)}" for name in FOLDER_NAMES}
        self._fault = fault
        self._thread = threading.get_ident()
        self.on = False
        self.healed = fault is None
        self.rests = 0
        self.report = Report()
        self.status: Status | None = None

    def meet(self, path: Any, kind: str) -> None:
        if not self.on or threading.get_ident() != self._thread:
            return
        folder = self._folder(path)
        if folder is None:
            return
        self.report.operations += 1
        fault = self._fault
        if fault is None or self.healed or self.report.operations <= fault.at:
            return
        if fault.folder not in (None, folder):
            return
        if kind == READS and fault.number in _WRITES_ONLY:
            return
        self.report.refused += 1
        if not fault.rests:
            self.healed = True
        where = os.fspath(path) if not isinstance(path, int) else None
        raise OSError(fault.number, os.strerror(fault.number), where)

    def rest(self, seconds: float) -> None:
        """The daemon waits."""
        said = "; ".join(self.status.troubles().values()) if self.status else ""
        if said and said not in self.report.troubles:
            self.report.troubles.append(said)
        if self.report.refused and not self.healed:
            self.rests += 1
            self.report.waited += seconds
            assert self._fault
            self.healed = self.rests >= self._fault.rests

    def _folder(self, path: Any) -> str | None:
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return None
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        name = through_open_folder(os.fsdecode(path))
        if not name.startswith("/"):
            return "spool"  # rmtree names files relative to an open folder
        for folder, base in self._folders.items():
            if name == base or name.startswith(f"{base}/"):
                return folder
        return None

    def install(self) -> None:
        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open":
                flags = arguments[2]
                writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
                self.meet(arguments[0], WRITES if writes else READS)
            elif event in _EVENTS:
                self.meet(arguments[0], _EVENTS[event])

        sys.addaudithook(audit)
        for owner, name, kind in (
            (os, "stat", READS),
            (os, "fsync", WRITES),
            (claim, "rename_noreplace", WRITES),
            (commit, "rename_noreplace", WRITES),
        ):
            setattr(owner, name, self._met(getattr(owner, name), kind))
        for name in ("record", "has"):
            self._meet_in_ledger(name)

    def _met(self, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            self.meet(path, kind)
            return function(path, *arguments, **options)

        return call

    def _meet_in_ledger(self, name: str) -> None:
        function = getattr(Ledger, name)

        def call(ledger: Ledger, *arguments: Any) -> Any:
            self.meet(ledger._path, WRITES if name == "record" else READS)
            return function(ledger, *arguments)

        setattr(Ledger, name, call)


def through_open_folder(name: str) -> str:
    """Where a path through an open folder leads, as `storage.beneath` gives; any other as it is."""
    found = re.fullmatch(r"(/proc/self/fd/\d+)(/.*)?", name)
    if found is None:
        return name
    try:
        return f"{os.readlink(found[1])}{found[2] or ''}"
    except OSError:
        return name


class ReadingHere(Reader):
    """Opens documents in this process, where faults are met; thousands of children of their
    own would take half an hour."""

    def open(self, path: Path, limits: Limits, pdf_dpi: float = 200.0, *_: object) -> Document:
        return open_document(path, limits, pdf_dpi)


class _GivenTime(threading.Event):
    """Nobody waits; whoever would is counted."""

    def __init__(self, disk: _Disk) -> None:
        super().__init__()
        self._disk = disk

    def wait(self, timeout: float | None = None) -> bool:
        self._disk.rest(timeout or 0.0)
        return self.is_set()


def serve(house: House, fault: Fault | None) -> Report:
    """Serve the delivery to its end under a fault, in a child; what it met."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGIO, signal.SIG_IGN)
            structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
            report = _serve(house, fault)
            os.write(writer, json.dumps(asdict(report)).encode())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        told = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        return Report(wrong=[f"the daemon ended with {code}"])
    return Report(**json.loads(told))


def _serve(house: House, fault: Fault | None) -> Report:
    settings = house.settings
    disk = _Disk(settings, fault)
    report = disk.report
    disk.status = status = Status()
    with Spool.opened(settings) as spool:
        worker = Worker(settings, spool, status, BlindEngine())
        worker._means = replace(worker._means, reader=ReadingHere())
        worker._stopping = _GivenTime(disk)
        jobs: list[Job] = []
        inbox = Inbox(settings, spool, status, jobs.append, lambda: True)
        disk.install()
        now = 1000.0
        for _ in range(100):
            disk.on = True
            wait = inbox.step(now)
            while jobs:
                job = jobs.pop(0)
                serving = Serving(job, worker._means)
                while not worker._serve(serving):
                    pass
                disk.on = True
            disk.on = False
            if not house.wrong() and not spool._to_give_back:
                return report
            disk.rest(wait)
            now += max(wait, 0.5)
            inbox.hint(None)
        report.wrong = house.wrong()
        report.wrong += [f"said: {said}" for said in status.troubles().values()]
        return report


def houses(base: Path, elsewhere: Path) -> Iterator[tuple[str, House]]:
    """Deliveries of different ways: what becomes of them, and what lies on another disk."""
    good, bad = cases.png("the delivered document"), cases.unsupported("the delivered document")
    ways: tuple[tuple[str, Literal["move", "delete", "keep"], str], ...] = (
        ("nothing", "move", "success"),
        ("nothing", "move", "failed"),
        ("nothing", "delete", "success"),
        ("nothing", "keep", "success"),
        ("inbox", "move", "success"),
        ("done", "move", "success"),
        ("failed", "move", "failed"),
    )
    for apart, on_success, outcome in ways:
        folders: dict[str, Any] = {
            name: (elsewhere if name == apart else base) / f"{apart}-{on_success}-{outcome}" / name
            for name in FOLDER_NAMES
        }
        settings = Settings(
            **folders,
            on_success=on_success,
            settle_seconds=0,
            append_seconds=0,
            watch="poll",
            poll_seconds=3600,
            rescan_seconds=1,
        )
        yield (
            f"{apart}-{on_success}-{outcome}",
            House(settings, good if outcome == "success" else bad, outcome),
        )
