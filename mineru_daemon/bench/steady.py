"""Does a process stay as it is? Memory, descriptors and threads over its lifetime.

Takes samples from outside, by /proc, and fits a line through those of the last two thirds
of each life, when what is loaded is loaded. Who lives and what it works at is not known.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mineru_daemon.bench.process import Served

JUDGED_SECONDS = 60.0
JUDGED_FILES = 200
LEAST_SAMPLES = 30
"""A shorter life says nothing: it is over while buffers still find their sizes."""

MEMORY_SHARE = 0.05
"""So much of its memory a process may gain, by the line, in the time that is looked at."""

COUNT_GAIN = 1.0
"""The same for descriptors and threads, in pieces."""


@dataclass(frozen=True)
class Sample:
    """One look at a process."""

    life: int
    """Which start of the daemon, from 0."""
    seconds: float
    """Since the first start."""
    files: int
    """Finished since the first start."""
    resident_mib: float
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Life:
    """What became of a process from its first third to its end."""

    life: int
    seconds: float
    files: int
    resident_mib: tuple[float, float]
    """Least and most of the last two thirds, as the next three."""
    descriptors: tuple[int, int]
    threads: tuple[int, int]
    gained: dict[str, float]
    """By the fitted line, over the last two thirds."""
    steady: bool

    def as_json(self) -> dict[str, Any]:
        """As a JSON-ready value."""
        return asdict(self)


def look(served: Served, life: int, seconds: float, files: int) -> Sample | None:
    """A sample of a running daemon; None when it dies in the midst of it."""
    process = Path(f"/proc/{served.pid}")
    try:
        return Sample(
            life,
            seconds,
            files,
            served.resident_mib(),
            len(os.listdir(process / "fd")),  # noqa: PTH208 - only their number
            len(os.listdir(process / "task")),  # noqa: PTH208
        )
    except OSError:
        return None


def lives(samples: Sequence[Sample]) -> list[Life]:
    """Each life that was long enough to be judged."""
    found = []
    for number in sorted({sample.life for sample in samples}):
        own = [sample for sample in samples if sample.life == number]
        seconds = own[-1].seconds - own[0].seconds
        files = own[-1].files - own[0].files
        if seconds >= JUDGED_SECONDS and files >= JUDGED_FILES and len(own) >= LEAST_SAMPLES:
            found.append(_judge(number, own))
    return found


def _judge(number: int, own: list[Sample]) -> Life:
    seconds = own[-1].seconds - own[0].seconds
    later = [sample for sample in own if sample.seconds - own[0].seconds >= seconds / 3]
    gained = {
        name: _gain([(sample.seconds, getattr(sample, name)) for sample in later])
        for name in ("resident_mib", "descriptors", "threads")
    }
    mean = float(np.mean([sample.resident_mib for sample in later]))
    return Life(
        number,
        seconds,
        own[-1].files - own[0].files,
        (min(s.resident_mib for s in later), max(s.resident_mib for s in later)),
        (min(s.descriptors for s in later), max(s.descriptors for s in later)),
        (min(s.threads for s in later), max(s.threads for s in later)),
        gained,
        gained["resident_mib"] <= MEMORY_SHARE * mean
        and gained["descriptors"] <= COUNT_GAIN
        and gained["threads"] <= COUNT_GAIN,
    )


def _gain(points: list[tuple[float, float]]) -> float:
    """How much the least-squares line through the points rises from the first to the last."""
    moments, values = np.array(points).T
    slope = float(np.polyfit(moments - moments[0], values, 1)[0])
    return slope * float(moments[-1] - moments[0])
