"""Drop many files at once, on a stopped and on a running daemon.

The files are of no supported kind: they take the whole way through inbox, spool and
worker, to `failed` with a result each, but not the engine's time. What is watched is what
must not grow with the backlog: memory, and the cost of a listing; and that the oldest
come first.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mineru_daemon.bench import cases
from mineru_daemon.bench.process import Served
from mineru_daemon.errors import MineruError

OPTIONS = ("--settle-seconds=0.3", "--rescan-seconds=5")

PATIENCE_SECONDS = 60.0
SAMPLE_SECONDS = 0.25


@dataclass
class Load:
    """What serving one backlog took."""

    files: int
    seconds: float
    cpu_seconds: float
    resident_mib: list[float]
    """Sampled over the run."""
    results: int
    late: int
    """Files that were claimed after a younger one."""
    scan_seconds: float
    """The longest listing that was seen, wall time."""

    @property
    def growth_mib(self) -> float:
        """How much more memory the last quarter of the run took than the second."""
        quarter = max(1, len(self.resident_mib) // 4)
        second = self.resident_mib[quarter : 2 * quarter] or self.resident_mib
        return max(self.resident_mib[-quarter:]) - max(second)


def run(files: int) -> int:
    """Both ways, with a line for each; 0 when every file got its result."""
    good = True
    for running in (False, True):
        base = Path(tempfile.mkdtemp(prefix="mineru-backlog-"))
        load = measure(base, files, running)
        print(
            f"{files} files dropped on a {'running' if running else 'stopped'} daemon: "
            f"{load.results} results in {load.seconds:.1f} s, {load.cpu_seconds:.1f} s of CPU; "
            f"memory {load.resident_mib[0]:.0f} to {max(load.resident_mib):.0f} MiB, "
            f"{load.growth_mib:+.1f} MiB in the second half; "
            f"longest listing {load.scan_seconds * 1000:.0f} ms; {load.late} out of order",
            flush=True,
        )
        # On a running daemon the first are taken before the oldest have arrived.
        good = good and load.results == files and (running or not load.late)
        shutil.rmtree(base)
    return 0 if good else 1


def measure(base: Path, files: int, running: bool) -> Load:
    """Serve a backlog below `base`; raises MineruError when the daemon stands still."""
    served = Served(base, *OPTIONS)
    if running:
        served.start()
        served.wait_until_ready()
    drop(base, served.inbox, files)
    if not running:
        served.start()
        served.wait_until_ready()
    began, began_cpu = time.monotonic(), served.cpu_seconds()
    resident, longest = [], 0.0
    before, since = -1, began
    while (count := served.count("failed")) < files:
        resident.append(served.resident_mib())
        longest = max(longest, _scan_seconds(served))
        if count != before:
            before, since = count, time.monotonic()
        if not served.alive() or time.monotonic() - since > PATIENCE_SECONDS:
            raise MineruError(f"{count} of {files} files were served; see {served.journal}.")
        time.sleep(SAMPLE_SECONDS)
    seconds, cpu = time.monotonic() - began, served.cpu_seconds() - began_cpu
    order = [int(event["file"][:6]) for event in served.events() if event["event"] == "claimed"]
    served.stop()
    results = sum(1 for path in served.failed.glob("*.json") if _is_result(path))
    return Load(files, seconds, cpu, resident, results, out_of_order(order), longest)


def drop(base: Path, inbox: Path, files: int) -> None:
    """Deliver tiny files by rename, each a second older than the next, in no order of names
    that a listing could follow by chance."""
    outside = base / "delivery"
    outside.mkdir()
    now = time.time() - files - 60
    for number in range(files):
        path = outside / f"{number:06d}.txt"
        path.write_bytes(cases.unsupported(str(number)))
        os.utime(path, (now + number, now + number))
    for number in sorted(range(files), key=lambda n: n * 7919 % files):
        name = f"{number:06d}.txt"
        (outside / name).rename(inbox / name)


def out_of_order(order: list[int]) -> int:
    """How often a file was claimed after a younger one."""
    return sum(1 for before, after in pairwise(order) if after < before)


def _scan_seconds(served: Served) -> float:
    try:
        status = json.loads((served.spool / "status.json").read_text())
    except (OSError, ValueError):
        return 0.0
    return float(status["scan_seconds"])


def _is_result(path: Path) -> bool:
    return bool(json.loads(path.read_bytes())["status"] == "failed")
