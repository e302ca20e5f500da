"""A day at the office in minutes: a stream of files through the real daemon, tuned and untuned.

Files arrive at random (Poisson: exponential gaps, the same for the same seed) in the inbox of a
daemon with real folders and default settings. The same stream is put to the daemon as users
have it, and to one whose sessions have ONNX Runtime's own pools (`bench.untuned`): a thread for
each core, spinning, no bound. The two take turns, `--rounds` times.

Told are, per run: mean CPU use (CPU seconds of the process and its children, from the first
arrival until all is served, over the stream's length), the busiest five seconds, peak memory,
the queue (files delivered and not yet answered), and the time from 'the file is finished' to
'its JSON is there', of which `settle_seconds` are waiting for the file to be still.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mineru_daemon.bench import machine, printed
from mineru_daemon.bench.process import Served
from mineru_daemon.errors import ConfigError, MineruError

GOAL_SAVING = 0.40
"""Mean CPU use of the tuned daemon is to be lower by this share of the untuned one's."""

GOAL_SPREAD = 2.0
"""P95 of single-page files is to be within so many times their P50."""

PATIENCE_SECONDS = 300.0
"""After the last arrival."""

PEAK_SECONDS = 5.0

PROGRAMS = {"tuned": "mineru_daemon", "untuned": "mineru_daemon.bench.untuned"}


@dataclass(frozen=True)
class Arrival:
    """A file of the stream."""

    at: float
    """Seconds after the stream's begin."""
    name: str
    content: bytes
    single: bool
    """Whether it has one page."""


@dataclass(frozen=True)
class Kind:
    """A kind of file, and how often it comes beside others."""

    weight: int
    suffix: str
    single: bool
    """Whether it has one page."""
    make: Callable[[int], bytes]


KINDS = (
    Kind(4, "png", True,
         lambda n: printed.saved(printed.page(printed.SCREEN, 20, n, lines=10).image)),
    Kind(3, "jpg", True, lambda n: printed.saved(printed.scan(n, lines=12).image, "JPEG")),
    Kind(2, "pdf", True, lambda n: printed.pdf(n, 1)),
    Kind(1, "pdf", False, lambda n: printed.pdf(n, 40)),
)  # fmt: skip
"""Screenshots, scans and PDFs as offices have them."""


@dataclass
class Run:
    """What one daemon made of one stream."""

    variant: str
    files: int
    served: int
    cpu_seconds: float
    mean_cpus: float
    """CPU seconds per second of the stream."""
    peak_cpus: float
    """In the busiest five seconds."""
    peak_mib: float
    queue_mean: float
    queue_most: int
    single: list[float]
    """Seconds from finished file to visible JSON of each single-page file."""
    several: list[float] = field(default_factory=list)
    """The same of files with several pages."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--seconds", type=float, default=120.0, metavar="N", help="default 120")
    parser.add_argument("--per-minute", type=float, default=8.0, metavar="N", help="default 8")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="of both; default 1")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of files and moments")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="--NAME=VALUE",
        help="a setting for both daemons; may be given again",
    )
    parser.add_argument(
        "--tuned-option",
        action="append",
        default=[],
        metavar="--NAME=VALUE",
        help="a setting for the tuned one alone; may be given again",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 0 when every file was served and both goals are met."""
    if options.seconds <= 0 or options.per_minute <= 0 or options.rounds < 1:
        raise ConfigError("--seconds, --per-minute and --rounds are numbers above 0.")
    found = machine.told()
    arrivals = stream(options.seconds, options.per_minute, options.seed)
    print(
        f"{len(arrivals)} files in {options.seconds:g} s, {sum(one.single for one in arrivals)} of "
        "one page; untuned: ONNX Runtime's own pools, a thread for each core, spinning, no bound",
        flush=True,
    )
    runs: list[Run] = []
    for number in range(options.rounds):
        order = list(PROGRAMS) if number % 2 == 0 else list(reversed(PROGRAMS))
        for variant in order:
            base = Path(tempfile.mkdtemp(prefix="mineru-service-"))
            chosen = [*options.option, *(options.tuned_option if variant == "tuned" else [])]
            runs.append(measure(base, variant, arrivals, options.seconds, chosen))
            shutil.rmtree(base)
            print(line(runs[-1]), flush=True)
    lines, good = verdict(runs)
    print("\n".join(lines))
    if options.json:
        said = {
            "machine": found,
            "stream": {"files": len(arrivals), "seconds": options.seconds, "seed": options.seed},
            "runs": [asdict(one) for one in runs],
        }
        options.json.write_text(json.dumps(said, indent=1) + "\n")
    return 0 if good else 1


def stream(
    seconds: float, per_minute: float, seed: int, kinds: Sequence[Kind] = KINDS
) -> list[Arrival]:
    """What comes when; each file is made from a number of its own."""
    chosen = random.Random(seed)  # noqa: S311 - has to be repeatable, not secret
    weights = [kind.weight for kind in kinds]
    found: list[Arrival] = []
    at = chosen.expovariate(per_minute / 60)
    while at < seconds:
        number = len(found)
        kind = chosen.choices(kinds, weights)[0]
        name = f"{number:04d}.{kind.suffix}"
        found.append(Arrival(at, name, kind.make(seed * 100_000 + number), kind.single))
        at += chosen.expovariate(per_minute / 60)
    return found


def measure(
    base: Path, variant: str, arrivals: Sequence[Arrival], seconds: float, options: Sequence[str]
) -> Run:
    """Put the stream to one daemon; raises MineruError when it ends or stands still."""
    served = Served(base, *options, module=PROGRAMS[variant])
    served.start()
    served.wait_until_ready()
    watch = _Watch(served)
    try:
        finished = _deliver(base, served, arrivals)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(_results(served)) < len(arrivals) and time.monotonic() < deadline:
            if not served.alive():
                raise MineruError(f"The daemon ended; see {served.journal}.")
            time.sleep(0.2)
    finally:
        watch.end()
    served.stop()
    there = {path.name.removesuffix(".json"): path.stat().st_ctime for path in _results(served)}
    took = {name: there[name] - moment for name, moment in finished.items() if name in there}
    single = {one.name for one in arrivals if one.single}
    return Run(
        variant=variant,
        files=len(arrivals),
        served=len(took),
        cpu_seconds=watch.cpu_seconds,
        mean_cpus=watch.cpu_seconds / seconds,
        peak_cpus=watch.peak_cpus,
        peak_mib=watch.peak_mib,
        queue_mean=statistics.fmean(watch.queue or [0]),
        queue_most=max(watch.queue, default=0),
        single=sorted(spent for name, spent in took.items() if name in single),
        several=sorted(spent for name, spent in took.items() if name not in single),
    )


def _deliver(base: Path, served: Served, arrivals: Sequence[Arrival]) -> dict[str, float]:
    """Put each file into the inbox at its time, whole; wall clock of each delivery."""
    finished = {}
    outside = base / "delivery"
    outside.mkdir()
    began = time.monotonic()
    for one in arrivals:
        path = outside / one.name
        path.write_bytes(one.content)
        time.sleep(max(0.0, began + one.at - time.monotonic()))
        # Of the write, not of a rename: that is when a scanner would have ended.
        os.utime(path)
        path.rename(served.inbox / one.name)
        finished[one.name] = time.time()
    return finished


def _results(served: Served) -> list[Path]:
    return list(served.outbox.glob("*.json"))


class _Watch(threading.Thread):
    """Looks at the daemon every half second until `end`."""

    def __init__(self, served: Served) -> None:
        super().__init__(name="watch")
        self._served = served
        self._over = threading.Event()
        self._began = served.cpu_seconds()
        self.cpu_seconds = 0.0
        self.peak_mib = 0.0
        self.queue: list[int] = []
        self._moments: list[tuple[float, float]] = []
        self.start()

    @property
    def peak_cpus(self) -> float:
        """CPU seconds a second in the busiest stretch of `PEAK_SECONDS`."""
        most, first = 0.0, 0
        for moment, spent in self._moments:
            while moment - self._moments[first][0] > PEAK_SECONDS:
                first += 1
            since, before = self._moments[first]
            if moment - since > PEAK_SECONDS / 2:
                most = max(most, (spent - before) / (moment - since))
        return most

    def run(self) -> None:
        """Until `end`, or until the daemon is gone."""
        while not self._over.wait(0.5):
            try:
                self._look()
            except OSError:
                return

    def end(self) -> None:
        """Look once more, and no more."""
        self._over.set()
        self.join()
        if self._served.alive():
            self._look()

    def _look(self) -> None:
        self.cpu_seconds = self._served.cpu_seconds() - self._began
        self._moments.append((time.monotonic(), self.cpu_seconds))
        self.peak_mib = max(self.peak_mib, self._served.resident_mib())
        waiting = sum(1 for path in self._served.inbox.iterdir())
        jobs = self._served.spool / "jobs"
        self.queue.append(waiting + sum(1 for path in jobs.iterdir() if not path.suffix))


# --- what is told ------------------------------------------------------------


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of sorted `values` that so many of them do not exceed; 0 of none."""
    if not values:
        return 0.0
    return values[max(0, math.ceil(share * len(values)) - 1)]


def line(one: Run) -> str:
    """A run for people."""
    p50, p95, p99 = (percentile(one.single, share) for share in (0.50, 0.95, 0.99))
    slow = f"; of several pages P50 {percentile(one.several, 0.5):.1f} s" if one.several else ""
    return (
        f"{one.variant:8} {one.served} of {one.files} served; CPU {one.cpu_seconds:.1f} s, mean "
        f"{one.mean_cpus:.3f} CPUs, busiest 5 s {one.peak_cpus:.2f}; peak {one.peak_mib:.0f} MiB; "
        f"queue mean {one.queue_mean:.1f}, most {one.queue_most}; one page: "
        f"P50 {p50:.2f} s, P95 {p95:.2f} s, P99 {p99:.2f} s{slow}"
    )


def verdict(runs: Sequence[Run]) -> tuple[list[str], bool]:
    """Medians against the goals, and whether all were met."""
    of = {variant: [one for one in runs if one.variant == variant] for variant in PROGRAMS}
    mean = {
        variant: statistics.median(one.mean_cpus for one in these) for variant, these in of.items()
    }
    saving = 1 - mean["tuned"] / mean["untuned"]
    p50, p95 = (
        statistics.median(percentile(one.single, share) for one in of["tuned"])
        for share in (0.50, 0.95)
    )
    spread = p95 / p50 if p50 else 0.0
    lost = sum(one.files - one.served for one in runs)
    lines = [
        f"mean CPU use of the tuned daemon is {saving:.0%} below the untuned one's "
        f"(goal {GOAL_SAVING:.0%})",
        f"P95 of single-page files is {spread:.2f} times their P50 (goal {GOAL_SPREAD:g})",
        f"{lost} files were not served" if lost else "every file was served",
    ]
    return lines, saving >= GOAL_SAVING and spread <= GOAL_SPREAD and not lost
