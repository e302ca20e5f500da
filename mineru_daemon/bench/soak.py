"""A long run over files of every kind, with everything that goes wrong in an office.

Clients deliver at once, slowly, broken off and resumed; the daemon is killed at random
moments; its disk is full for a while; the inbox drops out, renamed away or covered by
another mount, and comes back with what was delivered meanwhile. At the end each file has
exactly one result, by hashes, and the last life of the daemon, which no kill cuts short,
shows whether memory, descriptors and threads stay as they are.

The disk that is full is a small tmpfs in a mount namespace of this process, so that nothing
is mounted for others and nothing stays. Where none can be had, this and the covered inbox
are left out, and the table says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import heapq
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mineru_daemon.bench import cases, machine, steady, uploads
from mineru_daemon.bench.accounts import Findings, check_end, check_meanwhile
from mineru_daemon.bench.cases import Case
from mineru_daemon.bench.process import Served, files_of
from mineru_daemon.settings import FOLDER_NAMES

OPTIONS = (
    "--settle-seconds=0.5",
    "--append-seconds=1.5",
    "--incomplete-seconds=30",
    "--rescan-seconds=2",
    # The kills come from outside; with the default of 3 a page that is met by three of them
    # would be given up, rightly, and this is not what is to be shown here.
    "--max-attempts=100",
)

DELIVERY_SHARE = 0.85
"""Of the time that was asked for; the rest is for what is slow or damaged."""

KILLS_UNTIL = 0.6
"""Of all files: what follows is one life, long enough to be judged."""

FAULTS_UNTIL = 0.9

FULL_SECONDS = (4.0, 8.0)
AWAY_SECONDS = (3.0, 6.0)
UP_AGAIN_SECONDS = (0.0, 2.0)
"""After every fourth kill the daemon is killed once more, so soon after its start."""

SAMPLE_SECONDS = 0.5
TICK_SECONDS = 0.02
PATIENCE_SECONDS = 300.0
"""Without any progress for this long the daemon has lost its way."""

_CLONE_NEWNS = 0x00020000
"""linux/sched.h."""


@dataclass
class Soaked:
    """What was done and what came of it."""

    findings: Findings = field(default_factory=Findings)
    ways: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    left_out: str = ""
    """Why some faults could not be made here."""
    refused_writes: int = 0
    """Times that the daemon reported a disk that refused."""
    samples: list[steady.Sample] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing is wrong, and what could be judged is steady."""
        return not self.findings.wrong and all(life.steady for life in steady.lives(self.samples))


def run(minutes: float, files: int, seed: int, report: Path | None) -> int:
    """Do it, print a table, write `report` as JSON; 0 when all is well."""
    base = Path(tempfile.mkdtemp(prefix="mineru-soak-"))
    disk = base / "disk"
    disk.mkdir()
    why_not = _small_disk(disk, files)
    soaked = soak(base, disk, minutes * 60, files, seed, why_not)
    print(table(soaked), flush=True)
    if report is not None:
        report.write_text(json.dumps(as_json(soaked), indent=1) + "\n", "utf-8")
    if not soaked.good:
        # The mount goes with this process.
        shutil.copytree(disk, base / "left", symlinks=True)
        print(f"All is left as it was in {base}; the folders in {base / 'left'}.")
        return 1
    if not why_not:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    shutil.rmtree(base)
    return 0


def soak(
    base: Path, disk: Path, seconds: float, files: int, seed: int, why_not: str = ""
) -> Soaked:
    """Serve `files` files whose folders lie on `disk`, delivered in `seconds` seconds.

    `why_not` tells why `disk` may not be filled and nothing can be mounted.
    """
    folders = {name: disk / name for name in FOLDER_NAMES}
    run = _Run(Served(base, *OPTIONS, elsewhere=folders), disk, seconds, files, seed, why_not)
    try:
        run.through()
    finally:
        if run.served.alive():
            run.served.kill()
        run.undo()
    return run.soaked


class _Run:
    """One soak as it goes on. One thread does all of it, a little at each tick."""

    def __init__(
        self, served: Served, disk: Path, seconds: float, files: int, seed: int, why_not: str
    ) -> None:
        self.served = served
        self.soaked = Soaked(left_out=why_not)
        self._disk = disk
        self._seconds = seconds
        self._files = files
        self._choice = random.Random(seed)  # noqa: S311 - has to be repeatable, not secret
        reused = [f"SCAN{number:04d}.PNG" for number in range(max(1, files // 50))]
        self._waiting = cases.stream(files, seed, cases.EVERY_KIND, reused)
        self._begun = 0
        self._uploads: list[tuple[float, int, Case, uploads.Steps]] = []
        self._handle = os.open(served.inbox, os.O_RDONLY | os.O_DIRECTORY)
        self._inbox = Path(f"/proc/self/fd/{self._handle}")
        """The inbox itself, wherever it is."""
        self._faults = self._plan()
        self._phase: Iterator[float] | None = None
        self._phase_due = 0.0
        self._again = -1.0
        self._life = -1
        self._finished = 0

    def _plan(self) -> list[tuple[float, str]]:
        """Faults, and after which part of all files they come; the last one first."""
        kills, phases = max(2, self._files // 100), max(1, self._files // 300)
        kinds = ["renamed away", *(["full disk", "covered"] if not self.soaked.left_out else [])]
        plan = [(self._choice.uniform(0, KILLS_UNTIL), "kill") for _ in range(kills)]
        for kind in kinds:
            plan += [(self._choice.uniform(0, FAULTS_UNTIL), kind) for _ in range(phases)]
        return sorted(plan, reverse=True)

    def through(self) -> None:
        """From the first file to the last result."""
        began = time.monotonic()
        self._start()
        next_sample, changed = 0.0, began
        while True:
            now = time.monotonic() - began
            self._deliver(now)
            if now >= next_sample:
                next_sample = now + SAMPLE_SECONDS
                if self._look(now):
                    changed = time.monotonic()
            self._harm(now)
            if not self.served.alive():
                self.soaked.findings.blame("the daemon ended by itself; see daemon.log")
                break
            if self._over():
                break
            if time.monotonic() - changed > PATIENCE_SECONDS:
                self.soaked.findings.blame("the daemon stood still with files left")
                break
            time.sleep(TICK_SECONDS)
        self.soaked.seconds = time.monotonic() - began
        if self.served.alive() and self.served.stop() != 0:
            self.soaked.findings.blame("the daemon did not stop in order")
        check_meanwhile(self.served, self.soaked.findings)
        check_end(self.served, self.soaked.findings)
        self._count()

    def _start(self) -> None:
        self._life += 1
        self.served.start()

    def _over(self) -> bool:
        busy = self._begun < self._files or self._uploads or self._faults or self._phase
        folders = (self._inbox, self.served.spool / "jobs")
        return not busy and not any(files_of(folder) for folder in folders)

    # --- clients -------------------------------------------------------------

    def _deliver(self, now: float) -> None:
        """Begin the uploads that are due, and go on with the others."""
        share = now / (self._seconds * DELIVERY_SHARE)
        while self._begun < min(self._files, int(self._files * share) + 1):
            case = next(self._waiting)
            way = uploads.way_for(case, self._choice)
            self.soaked.ways[way.__name__.replace("_", " ")] += 1
            heapq.heappush(
                self._uploads, (now, self._begun, case, way(self._inbox, case, self._choice))
            )
            self._begun += 1
        while self._uploads and self._uploads[0][0] <= now:
            _, number, case, steps = heapq.heappop(self._uploads)
            pause = next(steps, None)
            if pause is None:
                self.soaked.findings.delivered[hashlib.sha256(case.content).hexdigest()] = case
            else:
                heapq.heappush(self._uploads, (now + pause, number, case, steps))

    def _look(self, now: float) -> bool:
        """Take a sample; whether another file was finished since the last one."""
        before, self._finished = self._finished, self._results()
        if sample := steady.look(self.served, self._life, now, self._finished):
            self.soaked.samples.append(sample)
        return self._finished != before

    def _results(self) -> int:
        count = 0
        for folder in (self.served.outbox, self.served.failed):
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                count += sum(e.name.endswith(".json") and e.name[0] != "." for e in entries)
        return count

    # --- faults --------------------------------------------------------------

    def _harm(self, now: float) -> None:
        """Go on with the fault that lasts; begin the one that is due."""
        if self._again >= 0 and now >= self._again:
            self._again = -1.0
            self._kill("kill soon after a start")
        if self._phase is not None and now >= self._phase_due:
            pause = next(self._phase, None)
            self._phase_due = now + (pause or 0.0)
            self._phase = self._phase if pause is not None else None
        due = bool(self._faults) and self._finished >= self._faults[-1][0] * self._files
        if not due:
            return
        kind = self._faults[-1][1]
        if kind == "kill":
            self._faults.pop()
            self._kill(kind)
            if self.soaked.faults[kind] % 4 == 0 and self._again < 0:
                self._again = now + self._choice.uniform(*UP_AGAIN_SECONDS)
        elif self._phase is None:
            self._faults.pop()
            self.soaked.faults[kind] += 1
            self._phase = {
                "full disk": self._full_disk,
                "renamed away": self._renamed_away,
                "covered": self._covered,
            }[kind]()
            self._phase_due = now

    def _kill(self, kind: str) -> None:
        self.served.kill()
        self.soaked.faults[kind] += 1
        check_meanwhile(self.served, self.soaked.findings, self._inbox)
        self._start()

    def _full_disk(self) -> Iterator[float]:
        """Everything that is free is taken, and what becomes free meanwhile too."""
        ballast = self._disk / "ballast"
        until = time.monotonic() + self._choice.uniform(*FULL_SECONDS)
        with ballast.open("wb") as stream:
            while time.monotonic() < until:
                place = os.statvfs(self._disk)
                if place.f_bavail:
                    with contextlib.suppress(OSError):
                        os.posix_fallocate(
                            stream.fileno(),
                            os.fstat(stream.fileno()).st_size,
                            place.f_bavail * place.f_frsize,
                        )
                yield TICK_SECONDS
        ballast.unlink()

    def _renamed_away(self) -> Iterator[float]:
        away = self.served.inbox.with_name("away")
        self.served.inbox.rename(away)
        yield self._choice.uniform(*AWAY_SECONDS)
        # A daemon that was started meanwhile has made itself an empty one.
        with contextlib.suppress(FileNotFoundError):
            self.served.inbox.rmdir()
        away.rename(self.served.inbox)

    def _covered(self) -> Iterator[float]:
        inbox = str(self.served.inbox)
        subprocess.run(["mount", "-t", "tmpfs", "mineru-soak", inbox], check=True)
        yield self._choice.uniform(*AWAY_SECONDS)
        if found := files_of(self.served.inbox):
            self.soaked.findings.blame(f"{found[0]} was put into the wrong folder")
        # Somebody may be looking into it just now.
        while subprocess.run(["umount", inbox], capture_output=True, check=False).returncode:
            yield TICK_SECONDS

    def undo(self) -> None:
        """End what lasts, whatever became of the run."""
        while self._phase is not None and next(self._phase, None) is not None:
            time.sleep(TICK_SECONDS)
        os.close(self._handle)

    def _count(self) -> None:
        """What the log and the results tell."""
        with self.served.journal.open("rb") as journal:
            self.soaked.refused_writes = sum(b'"event": "storage"' in line for line in journal)
        for folder in (self.served.outbox, self.served.failed):
            for path in folder.glob("*.json"):
                with contextlib.suppress(ValueError):
                    self.soaked.statuses[json.loads(path.read_bytes())["status"]] += 1


# --- what is told --------------------------------------------------------------


def table(soaked: Soaked) -> str:
    """The outcome for a person."""
    findings = soaked.findings
    said = [
        ("delivered", f"{len(findings.delivered)} ({_listed(soaked.ways)})"),
        ("faults", _listed(soaked.faults)),
        ("refusals", f"{soaked.refused_writes} times the daemon met a disk that refused"),
        ("results", f"{findings.results} ({_listed(soaked.statuses)})"),
        ("lost", str(len(findings.lost))),
        ("doubled", str(len(findings.doubled))),
        ("seconds", f"{soaked.seconds:.0f}"),
    ]
    if soaked.left_out:
        said.insert(2, ("left out", f"full disk, covered: {soaked.left_out}"))
    judged = steady.lives(soaked.samples)
    for life in judged:
        said.append(
            (
                f"life {life.life + 1}",
                f"{life.seconds:.0f} s, {life.files} files, in its last two thirds: "
                f"{life.resident_mib[0]:.0f} to {life.resident_mib[1]:.0f} MiB "
                f"({life.gained['resident_mib']:+.1f} by the fitted line), "
                f"{life.descriptors[0]} to {life.descriptors[1]} descriptors "
                f"({life.gained['descriptors']:+.2f}), "
                f"{life.threads[0]} to {life.threads[1]} threads "
                f"({life.gained['threads']:+.2f}): {'steady' if life.steady else 'NOT STEADY'}",
            )
        )
    if not judged:
        least = f"{steady.JUDGED_SECONDS:.0f} s and {steady.JUDGED_FILES} files"
        said.append(("steady", f"not judged: no life of the daemon had {least}"))
    said += [("WRONG", what) for what in findings.wrong]
    return "\n".join(f"{name:10} {what}" for name, what in said)


def as_json(soaked: Soaked) -> dict[str, Any]:
    """The outcome for a program, with every sample and the machine."""
    return {
        "machine": machine.facts(),
        "seconds": soaked.seconds,
        "delivered": len(soaked.findings.delivered),
        "ways": dict(soaked.ways),
        "faults": dict(soaked.faults),
        "left_out": soaked.left_out,
        "refused_writes": soaked.refused_writes,
        "results": soaked.findings.results,
        "statuses": dict(soaked.statuses),
        "lost": sorted(soaked.findings.lost),
        "doubled": sorted(soaked.findings.doubled),
        "wrong": soaked.findings.wrong,
        "lives": [life.as_json() for life in steady.lives(soaked.samples)],
        "samples": [vars(sample) for sample in soaked.samples],
    }


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


# --- a disk of one's own -------------------------------------------------------


def _small_disk(folder: Path, files: int) -> str:
    """Mount a tmpfs on `folder`, seen by this process and its children only.

    Returns why it cannot be, or ''.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        return f"mounting needs root ({os.strerror(ctypes.get_errno())})"
    size = max(64, files // 4)
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", f"size={size}m", "mineru-soak", str(folder)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"mounting is refused ({done.stderr.strip()})"
    return ""
