"""This project as `serve` runs it for `bench accuracy`: a file -> the Markdown of its result.

What is measured is what `mineru-daemon parse` does with a file once the engine is loaded.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from mineru_daemon import __version__, markdown
from mineru_daemon.documents import open_document
from mineru_daemon.engines import select
from mineru_daemon.furniture import across_pages
from mineru_daemon.reading import limits_of, read_page
from mineru_daemon.settings import Settings


def load(settings: dict[str, str], threads: int) -> Reader:
    """Load the embedded engine; `settings` has `pdf_mode` and the number of `threads`."""
    del threads
    chosen: dict[str, Any] = {
        "engine": settings.get("engine", "ppocr"),
        "pdf_mode": settings["pdf_mode"],
        "intra_op_num_threads": int(settings["threads"]),
    }
    return Reader(Settings(**chosen))


class Reader:
    """The loaded engine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = select.load(settings)
        self._engine.warm_up()
        info = self._engine.info
        self.facts = {
            "mineru-daemon": __version__,
            "engine": info.name,
            "model": info.model,
            "pdf_mode": settings.pdf_mode,
        }

    def read(self, meter: Any, file: str, lang: str | None) -> dict[str, Any]:
        """Markdown and number of pages; it is told nothing of the language."""
        del lang
        meter.start()
        settings = self._settings
        with open_document(Path(file), limits_of(settings), settings.pdf_dpi) as document:
            pages = [
                read_page(self._engine, document, index, lambda _stage: None)
                for index in range(document.page_count)
            ]
        stream = io.StringIO()
        markdown.write(stream, across_pages(lambda: pages)())
        meter.stop()
        errors = [page.error.message for page in pages if page.error]
        return {
            "text": stream.getvalue(),
            "pages": len(pages),
            **({"page_errors": errors} if errors else {}),
        }
