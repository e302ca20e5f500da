"""Keeps an engine loaded that fits what the unit grants, also when that changes.

An administrator may change quota and CPUs while the daemon runs (`systemctl set-property`,
`taskset`). ONNX Runtime's pools cannot change their size, so the engine is then loaded anew;
its owner says when, which is between two pages. How many threads a grant allows is `cpu`'s
to say, which engine is loaded `select`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from mineru_daemon import cpu, memory
from mineru_daemon.documents import Page
from mineru_daemon.engines import select
from mineru_daemon.engines.base import Engine, PageReading, Progress
from mineru_daemon.errors import EngineError
from mineru_daemon.results import EngineInfo
from mineru_daemon.settings import Settings

_log = structlog.get_logger()


class EngineKeeper:
    """An engine itself, for one thread. `plan` is what it was loaded for."""

    def __init__(
        self, settings: Settings, look: Callable[[Settings], cpu.ThreadPlan] = select.granted
    ) -> None:
        """Load the engine for the grant that `look` finds. Raises what `select.load` does."""
        self._settings = settings
        self._look = look
        self.plan = look(settings)
        self._engine: Engine | None = select.load(settings, self.plan)
        self._info = self._engine.info

    @property
    def info(self) -> EngineInfo:
        """Of the engine as it was last loaded."""
        return self._info

    def follow(self) -> bool:
        """Load the engine anew if more or fewer threads are granted than it has; whether it was.

        The old one is given back first: two large models do not fit into the unit's memory.
        Where loading fails this raises what `select.load` does, and tries again when called
        again; until then nothing can be read.
        """
        cpu.share_affinity()
        plan = self._look(self._settings)
        if self._engine is not None and _pools(plan) == _pools(self.plan):
            return False
        before, began, unloaded = self.plan, time.perf_counter(), self._engine is None
        self.close()
        self._engine = select.load(self._settings, plan)
        self._info = self._engine.info
        self.plan = plan
        _log.info(
            "engine-loaded" if unloaded else "threads-changed",
            threads=plan.intra,
            before=before.intra,
            cpus=plan.mask,
            quota=plan.quota,
            seconds=round(time.perf_counter() - began, 3),
        )
        return True

    def unload(self) -> None:
        """Give the engine's memory back to the system; `follow` loads it again."""
        self.close()
        memory.give_back()

    def warm_up(self) -> None:
        """Run every model once on a small input."""
        self._loaded().warm_up()

    def read(self, page: Page, progress: Progress) -> PageReading:
        """Read one page."""
        return self._loaded().read(page, progress)

    def close(self) -> None:
        """Give sessions and memory back."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise EngineError("The engine is not loaded; the log says why.")
        return self._engine


def _pools(plan: cpu.ThreadPlan) -> tuple[int, int]:
    """What a session is made with; a quota of 1.5 CPUs or of 2 is the same to it."""
    return plan.intra, plan.inter
