"""A long run over files of every kind, with everything that goes wrong in an office.

Clients deliver at once, slowly, broken off and resumed; the daemon is killed at random
moments; its disk is full for a while; the inbox drops out, renamed away or covered by
another mount, and comes back with what was delivered meanwhile. At the end each file has
exactly one result, by hashes, and the last life of the daemon, which no kill cuts short,
shows whether memory, descriptors and threads stay as they are.

Where no small disk can be had that could be filled, this and the covered inbox are left
out, and the table says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from mineru_daemon.bench import cases, steady, uploads
from mineru_daemon.bench.accounts import check_end, check_meanwhile
from mineru_daemon.bench.cases import Case
from mineru_daemon.bench.faults import TICK_SECONDS, Faults, small_disk
from mineru_daemon.bench.process import Served, files_of
from mineru_daemon.bench.soak_report import Soaked, as_json, table
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

SAMPLE_SECONDS = 0.5
PATIENCE_SECONDS = 300.0
"""Without any progress for this long the daemon has lost its way."""


def run(minutes: float, files: int, seed: int, report: Path | None) -> int:
    """Do it, print a table, write `report` as JSON; 0 when all is well."""
    base = Path(tempfile.mkdtemp(prefix="mineru-soak-"))
    disk = base / "disk"
    disk.mkdir()
    why_not = small_disk(disk, files)
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
        self._faults = Faults(
            served, disk, self._inbox, files, self._choice, self.soaked, self._restart
        )
        self._life = -1
        self._finished = 0

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
            self._faults.go_on(now, self._finished)
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

    def _restart(self) -> None:
        """After a kill: see that nothing was lost, and start again."""
        check_meanwhile(self.served, self.soaked.findings, self._inbox)
        self._start()

    def _over(self) -> bool:
        busy = self._begun < self._files or self._uploads or self._faults.left
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

    def undo(self) -> None:
        """End what lasts, whatever became of the run."""
        self._faults.undo()
        os.close(self._handle)

    def _count(self) -> None:
        """What the log and the results tell."""
        with self.served.journal.open("rb") as journal:
            self.soaked.refused_writes = sum(b'"event": "storage"' in line for line in journal)
        for folder in (self.served.outbox, self.served.failed):
            for path in folder.glob("*.json"):
                with contextlib.suppress(ValueError):
                    self.soaked.statuses[json.loads(path.read_bytes())["status"]] += 1
