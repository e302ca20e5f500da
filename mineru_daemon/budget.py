"""How much CPU time was spent, and how long to rest so that the mean stays within a budget.

Says how long; who rests, and when, is `pacing`'s business. What the unit grants is `cpu`'s.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

CREDIT_SECONDS = 10.0
"""What was not spent is kept for so long: after a quiet time a screenshot is read at once, and
the mean over ten minutes is above the budget by a sixtieth of it at most."""

DEBT_SECONDS = 3600.0
"""The longest rest that is owed. A page of MinerU2.5 takes 157 CPU seconds, which at a
twentieth of one CPU is 52 minutes; what is longer comes from a clock or a wrong number."""


class CpuBudget:
    """An account of CPU seconds: filled as time goes by, emptied by what is spent.

    It may be overdrawn by whatever a model run costs, and is then filled before more is spent.
    """

    def __init__(self, now: float, spent: float) -> None:
        """`now` in monotonic seconds, `spent` in CPU seconds since some moment before."""
        self._now = now
        self._spent = spent
        self._balance = 0.0

    def rest(self, rate: float, now: float, spent: float) -> float:
        """Seconds to rest until all that was spent is within `rate` CPU seconds a second."""
        filled = rate * max(0.0, now - self._now)
        balance = self._balance + filled - max(0.0, spent - self._spent)
        self._now, self._spent = now, spent
        self._balance = min(max(balance, -DEBT_SECONDS * rate), CREDIT_SECONDS * rate)
        return max(0.0, -self._balance / rate)


def cpu_seconds() -> float:
    """CPU time of this process, its threads and its children, those that have ended included.

    A child that ends while this is asked may be missing once; it is in the next answer.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = sum(map(process_seconds, descendants(os.getpid())))
    return time.process_time() + ended.ru_utime + ended.ru_stime + living


def descendants(pid: int, proc: Path = Path("/proc")) -> list[int]:
    """Living children of a process and their children; those of each thread, as /proc has them."""
    found: list[int] = []
    try:
        threads = list((proc / str(pid) / "task").iterdir())
    except OSError:
        return found
    for thread in threads:
        try:
            children = [int(one) for one in (thread / "children").read_text().split()]
        except OSError:
            continue  # the thread has ended, or the kernel keeps no such list
        for child in children:
            found += [child, *descendants(child, proc)]
    return found


def process_seconds(pid: int) -> float:
    """CPU time of a living process and its threads; 0 if it is gone.

    Its clock is named as clock_getcpuclockid(3) does it on Linux.
    """
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0
