"""The process's place behind others when the CPU is short: nice value and policy.

Which share it is granted at all is the unit's business (`CPUWeight=`, `CPUQuota=`).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Literal

Priority = Literal["normal", "low", "idle"]

LOW_NICE = 10
"""About a tenth of the share of a process that is not nice; sched(7)."""

POLICIES: dict[Priority, int] = {"low": os.SCHED_BATCH, "idle": os.SCHED_IDLE}


def apply(priority: Priority) -> str | None:
    """Put all threads of this process, and those that they will start, at `priority`.

    `normal` leaves everything as it is, `low` is SCHED_BATCH at a nice value of 10 or more,
    `idle` is SCHED_IDLE: they then run when nobody else wants to. Returns a sentence where the
    system refuses, as the sandbox of the unit does.
    """
    if priority == "normal":
        return None
    try:
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                _apply_to(int(thread.name), priority)
    except OSError as error:
        return (
            f"The priority {priority} was refused ({error.strerror}); in a unit, set Nice= and "
            f"CPUSchedulingPolicy={'batch' if priority == 'low' else 'idle'} instead."
        )
    return None


def _apply_to(thread: int, priority: Priority) -> None:
    if priority == "low":
        nice = max(LOW_NICE, os.getpriority(os.PRIO_PROCESS, thread))
        os.setpriority(os.PRIO_PROCESS, thread, nice)
    os.sched_setscheduler(thread, POLICIES[priority], os.sched_param(0))
