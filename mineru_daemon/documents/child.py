"""The process that opens documents: serves requests of `reader` over two pipes.

It holds the documents that are read in turns, by number, and one page at a time. Native
libraries that crash, hang or eat memory on a hostile file do so here; who starts, watches and
ends this process is `reader`.

A message is its length in 8 bytes and a pickle. Requests are a name and arguments; answers
are `("ok", value)`, `("error", class of errors.py, sentence)`, `("memory",)`, or
`("fault", text, traceback)`. Pixels follow behind `("pixels", width, height, …)`.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import pickle
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from mineru_daemon.documents import open_document
from mineru_daemon.documents.page import Document, Limits, Page, Rendering, TextPage
from mineru_daemon.errors import MineruError
from mineru_daemon.parent import die_with_parent

LENGTH_BYTES = 8

_DATA_FACTOR = 2
"""The kernel's bound is so many times the one that `reader` watches: an image library that is
refused memory may leave out a picture without a word, so it comes second."""

_CPU_SPARE = 10.0
"""Seconds of processor time for one answer beyond `render_seconds`: the second net here too."""


def main(requests: int, answers: int, parent: int, memory: int) -> None:
    """Serve until the pipe `requests` ends. `parent` is the process that has the other ends."""
    # What libraries find odd in a file is told in its result; the daemon's log has its own form.
    logging.getLogger().addHandler(logging.NullHandler())
    _bound(parent, memory)
    with os.fdopen(requests, "rb") as source, os.fdopen(answers, "wb") as sink:
        served = _Served()
        sink.write(framed(("ok", None)))
        sink.flush()
        while request := _next(source):
            _allow_cpu(served.limits.render_seconds + _CPU_SPARE)
            name, *arguments = request
            try:
                value = getattr(served, name)(*arguments)
            except MineruError as error:
                sink.write(framed(("error", type(error).__name__, str(error))))
            except MemoryError:
                sink.write(framed(("memory",)))
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                sink.write(framed(("fault", text, traceback.format_exc())))
            else:
                _answer(sink, value)
            sink.flush()


def _answer(sink: BinaryIO, value: Any) -> None:
    if not isinstance(value, tuple) or not value or not isinstance(value[0], Rendering):
        sink.write(framed(("ok", value)))
        return
    rendering, warnings = value
    sink.write(framed(("pixels", *rendering.size, rendering.dpi, warnings)))
    for band in rendering.bands():
        sink.write(memoryview(band).cast("B"))


class _Served:
    """The document and the page that are open. Its methods are the requests."""

    limits = Limits()

    def __init__(self) -> None:
        self._documents: dict[int, Document] = {}
        self._page: Page | None = None

    def open(self, number: int, path: bytes, limits: Limits, pdf_dpi: float) -> tuple[str, int]:
        """Media type and number of pages."""
        self.limits = limits
        document = open_document(Path(os.fsdecode(path)), limits, pdf_dpi)
        self._documents[number] = document
        return document.media_type, document.page_count

    def page(self, number: int, index: int) -> tuple[Any, ...]:
        """Width and height in points, rotation, warnings, and whether it is a `TextPage`."""
        self.close_page()
        page = self._page = self._documents[number].page(index)
        is_text = isinstance(page, TextPage)
        return page.width_pt, page.height_pt, page.rotation, page.warnings, is_text

    def render(self, longest_side: int) -> tuple[Rendering, list[str]]:
        """The page as pixels, and its warnings by now."""
        assert self._page
        return self._page.render(longest_side), self._page.warnings

    def ask(self, module: str, name: str, arguments: tuple[Any, ...]) -> Any:
        """What the function `name` of `module` says of the page."""
        assert isinstance(self._page, TextPage)
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return function(self._page, *arguments)

    def close_page(self) -> None:
        """Give the page's memory back."""
        page, self._page = self._page, None
        if page is not None:
            page.close()

    def close(self, number: int) -> None:
        """Close a document; a page of it must not be open any more."""
        self._documents.pop(number).close()


def _bound(parent: int, memory: int) -> None:
    """Die with the parent, whatever goes on here; take no more than is granted."""
    die_with_parent()
    if os.getppid() != parent:
        sys.exit()
    with contextlib.suppress(OSError):
        # If memory runs out for both, it is this one's doing.
        Path("/proc/self/oom_score_adj").write_text("1000")
    # Whoever stops the daemon on a terminal means the parent, which then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, _DATA_FACTOR * memory),
    ):
        _, hard = resource.getrlimit(kind)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))


def _allow_cpu(more: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    seconds = math.ceil(used.ru_utime + used.ru_stime + more)
    if hard == resource.RLIM_INFINITY or seconds < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))


def framed(content: object) -> bytes:
    """A message, with its length before it."""
    body = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def _next(source: BinaryIO) -> tuple[Any, ...] | None:
    header = source.read(LENGTH_BYTES)
    if len(header) < LENGTH_BYTES:
        return None
    body = source.read(int.from_bytes(header, "big"))
    request: tuple[Any, ...] = pickle.loads(body)  # noqa: S301 - the parent's
    return request
