"""When the worker rests: to keep to `cpu_budget`, and to let others have the CPU.

It rests between pages, and within one before a model is run. A rest ends when the daemon is
to stop, takes a changed setting over within a second, and counts as progress.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

import structlog

from mineru_daemon import cpu, pressure
from mineru_daemon.budget import CpuBudget, cpu_seconds
from mineru_daemon.settings import Settings
from mineru_daemon.status import Status

SHORTEST_REST = 0.2
"""Seconds. Within a page there may be a hundred model runs a second; a rest after each would
be all waking up."""

STEP_SECONDS = 1.0
"""A rest is made of such steps. The shortest `stall_seconds` is five of them."""

GRANT_SECONDS = 5.0
"""For so long what the unit grants is taken as known: reading it takes some dozens of files."""

YIELD_SECONDS = 30.0
"""The longest rest before a page for the sake of others. On a machine that is never free the
work goes on all the same, page by page."""

_log = structlog.get_logger()


class Pacer:
    """Rests of one worker, in the worker's thread."""

    def __init__(
        self, settings: Callable[[], Settings], status: Status, stopping: threading.Event
    ) -> None:
        """`settings` gives those of the moment; `stopping` ends every rest."""
        self.rested = 0.0
        """Seconds of all rests so far."""
        self._settings = settings
        self._status = status
        self._stopping = stopping
        self._budget: CpuBudget | None = None
        self._looked = -math.inf
        self._granted = 0.0
        self._granted_at = -math.inf
        self._warned = False

    def before_page(self) -> None:
        """Rest as long as the budget and others ask for."""
        self._keep_budget(0.0)
        self._yield()

    def within_page(self) -> None:
        """Rest as long as the budget asks for, if it is worth it."""
        if time.monotonic() - self._looked > SHORTEST_REST:
            self._keep_budget(SHORTEST_REST)

    def _keep_budget(self, shortest: float) -> None:
        if (owed := self._owed()) > shortest:
            # Looking whether it is over costs CPU time too: that is left for the next rest, or
            # with a small budget this one might never end.
            end = time.monotonic() + owed
            while (rest := min(owed, end - time.monotonic())) > 0 and not self._stopping.is_set():
                self._rest("cpu_budget", min(rest, STEP_SECONDS))
                owed = self._owed()
        self._status.set(resting=None)

    def _owed(self) -> float:
        share, now = self._settings().cpu_budget, time.monotonic()
        self._looked = now
        if not 0 < share < 1:
            self._budget = None
            return 0.0
        spent = cpu_seconds()
        if self._budget is None:
            self._budget = CpuBudget(now, spent)
        if now - self._granted_at > GRANT_SECONDS:
            self._granted, self._granted_at = granted_cpus(self._settings()), now
        return self._budget.rest(share * self._granted, now, spent)

    def _yield(self) -> None:
        limit = self._settings().pressure_limit
        if not limit:
            return
        before = pressure.read()
        if before is None:
            if not self._warned:
                _log.warning(
                    "pressure-unknown",
                    file=str(pressure.CPU),
                    advice="start the kernel with psi=1, or set pressure_limit = 0",
                )
            self._warned = True
            return
        if before.recent <= limit:
            return
        # That may have been the pages before. While this process rests, it is the others.
        began = at = time.monotonic()
        while at - began < YIELD_SECONDS and not self._stopping.is_set():
            self._rest("pressure_limit", STEP_SECONDS)
            now, after = time.monotonic(), pressure.read()
            if after is None or after.since(before, now - at) <= limit:
                break
            before, at = after, now
        self._status.set(resting=None)

    def _rest(self, why: str, seconds: float) -> None:
        self._status.beat("worker")
        self._status.set(resting=why)
        began = time.monotonic()
        self._stopping.wait(seconds)
        self.rested += time.monotonic() - began
        self._status.beat("worker")


def granted_cpus(settings: Settings) -> float:
    """CPUs that this process may use at once: the least of threads, affinity and quota."""
    plan = cpu.granted_threads(settings.intra_op_num_threads, settings.inter_op_num_threads)
    return min(plan.intra, plan.quota or math.inf)
