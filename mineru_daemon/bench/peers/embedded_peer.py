"""The embedded engine with settings of its own, as `serve` runs it: a file -> text and timings.

Threads are those of `settings`, however many CPUs the process may use: what it costs to have
more of them than CPUs is a thing to be measured.
"""

from __future__ import annotations

import io
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mineru_daemon import __version__, cpu, markdown
from mineru_daemon.documents import open_document
from mineru_daemon.engines import select, timing
from mineru_daemon.furniture import across_pages
from mineru_daemon.reading import limits_of, read_page
from mineru_daemon.settings import Settings

if TYPE_CHECKING:
    from mineru_daemon.bench.peers.serve import Meter

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""That of the CPU adds up all threads."""


def load(settings: dict[str, Any], threads: int) -> Reader:
    """`settings` has `intra`, `inter`, `spin` and `max_image_size`; each may be missing."""
    intra, inter = settings.get("intra", threads), settings.get("inter", 1)
    spin = settings.get("spin", cpu.SPIN_MICROSECONDS)
    plan = cpu.ThreadPlan(intra, inter, mask=threads, quota=None, spin_microseconds=spin)
    chosen = Settings(
        engine="ppocr",
        max_image_size=settings.get("max_image_size", 0),
    )
    return Reader(chosen, plan)


class Reader:
    """The loaded engine."""

    def __init__(self, settings: Settings, plan: cpu.ThreadPlan) -> None:
        self._settings = settings
        self._engine = select.load(settings, plan)
        self._engine.warm_up()
        self.facts = {"mineru-daemon": __version__, **self._engine.info.settings}

    def read(self, meter: Meter, file: str, clock: str = "wall") -> dict[str, Any]:
        """Text, and seconds by stage: of the wall, or of the CPU with `clock` = cpu."""
        timing.clock = CLOCKS[clock]
        settings = self._settings
        meter.start()
        with open_document(Path(file), limits_of(settings), settings.pdf_dpi) as document:
            pages = [
                read_page(self._engine, document, index, lambda _stage: None)
                for index in range(document.page_count)
            ]
        meter.stop()
        stages: defaultdict[str, float] = defaultdict(float)
        for page in pages:
            if page.error:
                raise RuntimeError(page.error.message)
            for stage, seconds in page.timings.items():
                if stage != "total":
                    stages[stage] += seconds
        stream = io.StringIO()
        markdown.write(stream, across_pages(lambda: pages)())
        return {"text": stream.getvalue(), "pages": len(pages), "stages": dict(stages)}
