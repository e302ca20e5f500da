"""Whether a daemon that is never without work keeps to `cpu_budget`.

Its inbox is kept full of screenshots. Measured is what the process and its children take, from
the first page on, against the share of the CPUs that they may use: all of it over the whole
time, and the widest that any minute was off.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from mineru_daemon.bench import machine, printed
from mineru_daemon.bench.process import Served
from mineru_daemon.errors import ConfigError, MineruError
from mineru_daemon.pacing import granted_cpus
from mineru_daemon.settings import Settings

ALLOWED = 0.05
"""Of the share over ten minutes."""

LOOK_SECONDS = 1.0
KEPT_WAITING = 4
"""Files in the inbox at least."""


@dataclass(frozen=True)
class Kept:
    """What was spent of what was allowed."""

    share: float
    """That was asked for, of `cpus`."""
    cpus: float
    seconds: float
    cpu_seconds: float
    pages: int
    minutes: list[float]
    """Share in each whole minute."""

    @property
    def measured(self) -> float:
        """Share over the whole time."""
        return self.cpu_seconds / self.seconds / self.cpus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--share", type=float, default=0.5, metavar="N", help="default 0.5")
    parser.add_argument("--threads", type=int, default=4, metavar="N", help="default 4")
    parser.add_argument("--seconds", type=float, default=600.0, metavar="N", help="default 600")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 0 when the share is within what is allowed."""
    if not 0 < options.share < 1 or options.threads < 1 or options.seconds <= 0:
        raise ConfigError("--share lies between 0 and 1; --threads and --seconds are above 0.")
    found = machine.told()
    base = Path(tempfile.mkdtemp(prefix="mineru-budget-"))
    kept = measure(base, options.share, options.threads, options.seconds)
    shutil.rmtree(base)
    minutes = [f"{one:.3f}" for one in kept.minutes]
    print(
        f"cpu_budget = {kept.share:g} of {kept.cpus:g} CPUs: {kept.cpu_seconds:.1f} CPU seconds in "
        f"{kept.seconds:.1f} s, a share of {kept.measured:.4f}; {kept.pages} pages; "
        f"by minute {' '.join(minutes) or 'none whole'}"
    )
    if options.json:
        said = {"machine": found, **asdict(kept), "measured": kept.measured}
        options.json.write_text(json.dumps(said, indent=1) + "\n")
    return 0 if abs(kept.measured - kept.share) <= ALLOWED else 1


def measure(base: Path, share: float, threads: int, seconds: float) -> Kept:
    """Keep a daemon below `base` busy; raises MineruError when it ends."""
    served = Served(
        base,
        f"--cpu-budget={share}",
        f"--intra-op-num-threads={threads}",
        "--settle-seconds=0",
        "--formats=json",
    )
    outside = base / "delivery"
    outside.mkdir()
    served.start()
    served.wait_until_ready()
    number = 0
    looks: list[tuple[float, float]] = []
    while not looks or looks[-1][0] - looks[0][0] < seconds:
        while len(list(served.inbox.iterdir())) < KEPT_WAITING:
            path = outside / f"{number:05d}.png"
            path.write_bytes(printed.saved(printed.page((900, 500), 18, number).image))
            path.rename(served.inbox / path.name)
            number += 1
        if looks or any(served.outbox.glob("*.json")):
            looks.append((time.monotonic(), served.cpu_seconds()))
        if not served.alive():
            raise MineruError(f"The daemon ended; see {served.journal}.")
        time.sleep(LOOK_SECONDS)
    served.stop()
    cpus = granted_cpus(Settings(intra_op_num_threads=threads))
    whole = [looks[0]]
    for look in looks:
        if look[0] - whole[-1][0] >= 60:
            whole.append(look)
    return Kept(
        share=share,
        cpus=cpus,
        seconds=looks[-1][0] - looks[0][0],
        cpu_seconds=looks[-1][1] - looks[0][1],
        pages=len(list(served.outbox.glob("*.json"))),
        minutes=[
            (after[1] - before[1]) / (after[0] - before[0]) / cpus
            for before, after in pairwise(whole)
        ],
    )
