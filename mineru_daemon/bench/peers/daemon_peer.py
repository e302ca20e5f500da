"""This project as `serve` runs it for `bench accuracy`: a file -> the Markdown of its result.

What is measured is what the daemon and `mineru-daemon parse` do with a file once the engine is
loaded: it is opened in a child process, whose CPU time and memory count too. Of memory that
is the sum of both processes' largest, which they need not have had at the same time.
"""

from __future__ import annotations

import io
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mineru_daemon import __version__, budget, markdown
from mineru_daemon.bench.peers import serve
from mineru_daemon.documents.reader import Reader
from mineru_daemon.engines import select
from mineru_daemon.furniture import across_pages
from mineru_daemon.reading import limits_of, read_page
from mineru_daemon.settings import Settings

if TYPE_CHECKING:
    from mineru_daemon.bench.peers.serve import Meter, Moment


def load(settings: dict[str, str], threads: int) -> Ours:
    """Load the embedded engine; `settings` has `pdf_mode` and the number of `threads`."""
    del threads
    chosen: dict[str, Any] = {
        "engine": settings.get("engine", "ppocr"),
        "pdf_mode": settings["pdf_mode"],
        "intra_op_num_threads": int(settings["threads"]),
    }
    return Ours(Settings(**chosen))


class Ours:
    """The loaded engine, and the child that opens documents for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = select.load(settings)
        self._engine.warm_up()
        self._reader = Reader()
        info = self._engine.info
        self.facts = {
            "mineru-daemon": __version__,
            "engine": info.name,
            "model": info.model,
            "pdf_mode": settings.pdf_mode,
        }

    def read(self, meter: Meter, file: str, lang: str | None) -> dict[str, Any]:
        """Markdown and number of pages; it is told nothing of the language."""
        del lang
        for child in _children():
            serve.forget_peak(child)
        began = _now()
        settings = self._settings
        with self._reader.open(Path(file), limits_of(settings), settings.pdf_dpi) as document:
            pages = [
                read_page(self._engine, document, index, lambda _stage: None)
                for index in range(document.page_count)
            ]
        stream = io.StringIO()
        markdown.write(stream, across_pages(lambda: pages)())
        meter.add(began, _now())
        memory: Counter[str] = Counter()
        for process in ("self", *_children()):
            memory.update(serve.memory(process))
        errors = [page.error.message for page in pages if page.error]
        return {
            "text": stream.getvalue(),
            "pages": len(pages),
            **memory,
            **({"page_errors": errors} if errors else {}),
        }


def _now() -> Moment:
    """Wall clock, and CPU clock of this process and its children, the living too; seconds."""
    return time.perf_counter(), budget.cpu_seconds()


def _children() -> list[str]:
    return [str(pid) for pid in budget.descendants(os.getpid())]
