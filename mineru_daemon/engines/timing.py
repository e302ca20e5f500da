"""Wall seconds per stage of reading a page."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Timings = defaultdict[str, float]

clock: Callable[[], float] = time.perf_counter
"""Seconds. Benchmarks put that of the CPU in its place."""


@contextmanager
def timed(timings: Timings, stage: str) -> Iterator[None]:
    """Add the seconds spent inside to `timings[stage]`."""
    begin = clock()
    try:
        yield
    finally:
        timings[stage] += clock() - begin
