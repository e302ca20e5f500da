"""Wall seconds per stage of reading a page."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

Timings = defaultdict[str, float]


@contextmanager
def timed(timings: Timings, stage: str) -> Iterator[None]:
    """Add the wall seconds spent inside to `timings[stage]`."""
    begin = time.perf_counter()
    try:
        yield
    finally:
        timings[stage] += time.perf_counter() - begin
