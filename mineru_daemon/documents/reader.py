"""Opens documents in a process of their own, which is ended when it crashes, hangs or swells.

To its users a document of a `Reader` is like one of `open_document`. What happens to the file
in there is `child`'s business; how the child is started and talked to, that of `pipes`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mineru_daemon import errors
from mineru_daemon.closing import Closing
from mineru_daemon.documents.page import (
    Answer,
    Document,
    Limits,
    Page,
    Rendering,
    TextPage,
    label,
)
from mineru_daemon.documents.pipes import Child
from mineru_daemon.errors import CrashedError, HungError, MemoryLimitError, MineruError, StartError
from mineru_daemon.printable import printable
from mineru_daemon.results import Angle

START_SECONDS = 60.0
"""For the child to import what it needs; half a second, but machines may be busy."""

GRACE_SECONDS = 2.0
"""Beyond `render_seconds`, for drawing that notices by itself that it takes too long."""

SPARE_BYTES = 256 * 1024 * 1024
"""A child that is larger when its document is closed is replaced, and what a huge file left in
its memory goes with it."""


PIXELS_ROUNDED = 1.001
"""Sides are whole pixels: a page may have so many times what it was bounded to."""


class ReaderFault(Exception):
    """A programming error in the child; its traceback is a note."""


class Reader(Closing):
    """Opens documents for one thread, which may read several in turns.

    The child is started by the thread that first needs it, and ends with it at the latest.
    """

    def __init__(self) -> None:
        self._child: Child | None = None
        self._ready = False
        self._memory = 0
        self.holds: set[_Document] = set()
        """The documents that the child has open, and its page."""
        self.shows: _Page | None = None

    def open(
        self,
        path: Path,
        limits: Limits,
        pdf_dpi: float = 200.0,
        progress: Callable[[str], None] = lambda _stage: None,
    ) -> Document:
        """As `open_document`; `progress` becomes `Document.progress`.

        Whatever is then asked of the document may also raise `CrashedError` when the child died
        of it, `HungError` when it took longer than `limits.render_seconds`, `MemoryLimitError`
        when it took more than `limits.max_memory_bytes`, and what `Document.progress` raises
        while the child is waited for. The child is ended then, and the next question asks a
        new one.
        """
        return _Document(self, path, limits, pdf_dpi, progress)

    def start(self, limits: Limits) -> None:
        """Have a child at hand, within `limits`, without waiting for it. Raises `StartError`."""
        if self._child is not None and self._memory != limits.max_memory_bytes:
            self.close()
        if self._child is None:
            self._memory = limits.max_memory_bytes
            try:
                self._child = Child(self._memory)
            except OSError as error:
                raise StartError(
                    f"The process that opens documents cannot be started: {error.strerror}."
                ) from error
            self._ready = False

    def close(self) -> None:
        """End the child, if there is one."""
        child, self._child = self._child, None
        self.holds.clear()
        self.shows = None
        if child is not None:
            child.end()

    def ask(self, what: str, limits: Limits, progress: Callable[[str], None], *request: Any) -> Any:
        """The child's answer about `what`, a label for sentences."""
        self.start(limits)
        child = self._child
        assert child is not None
        try:
            self._await(child, progress)
            child.look = _look(child, what, limits, progress)
            child.send(request)
            verdict, *details = child.receive()
            if verdict == "memory":
                raise _too_large(what, limits)
            if verdict == "pixels":
                width, height = details[:2]
                if not 0 < width * height <= PIXELS_ROUNDED * limits.max_page_pixels:
                    raise EOFError
                details = [(child.pixels(width, height), *details[2:])]
        except EOFError:
            ending = child.ending()
            self.close()
            raise CrashedError(
                f"{what} ended the process that reads documents ({ending}); it is damaged, or an "
                "attack."
            ) from None
        except BaseException:
            # What it answers later would be taken for the answer to the next question.
            self.close()
            raise
        if verdict == "error":
            name, message = details
            raise getattr(errors, name)(message)
        if verdict == "fault":
            text, trace = details
            fault = ReaderFault(text)
            fault.add_note(trace)
            raise fault
        return details[0]

    def _await(self, child: Child, progress: Callable[[str], None]) -> None:
        """Wait for the first word of a child, which says that it is ready."""
        if self._ready:
            return
        deadline = time.monotonic() + START_SECONDS

        def look() -> None:
            nonlocal deadline
            now = time.monotonic()
            if now > deadline:
                raise StartError("The process that opens documents does not start; see the log.")
            progress("waiting")
            deadline += time.monotonic() - now

        child.look = look
        try:
            child.receive()
        except EOFError:
            raise StartError(
                f"The process that opens documents ended at its start ({child.ending()}); see "
                "the log."
            ) from None
        self._ready = True

    def spare(self) -> None:
        """After a document: part with a child that has grown."""
        if self._child is not None and not self.holds and self._child.resident() > SPARE_BYTES:
            self.close()


def _look(
    child: Child, what: str, limits: Limits, progress: Callable[[str], None]
) -> Callable[[], None]:
    """What is done from time to time while the child works on an answer about `what`."""
    deadline = time.monotonic() + limits.render_seconds + GRACE_SECONDS

    def look() -> None:
        nonlocal deadline
        if child.resident() > limits.max_memory_bytes:
            raise _too_large(what, limits)
        now = time.monotonic()
        if now > deadline:
            raise HungError(
                f"{what} was not done with after {limits.render_seconds:g} s and was given up; it "
                "is damaged, or an attack, or render_seconds is too low for it."
            )
        progress("waiting")
        # Whoever rests in there does not hold that against the file.
        deadline += time.monotonic() - now

    return look


def _too_large(what: str, limits: Limits) -> MemoryLimitError:
    return MemoryLimitError(
        f"{what} takes more than the {limits.max_memory_bytes:,} bytes of memory allowed; deliver "
        "it at a lower resolution or raise max_memory_bytes."
    )


class _Document(Document):
    """A document in the child; opened again if the child had to be replaced."""

    def __init__(
        self,
        reader: Reader,
        path: Path,
        limits: Limits,
        pdf_dpi: float,
        progress: Callable[[str], None],
    ) -> None:
        self.progress = progress
        self._reader = reader
        self._path = path
        self.limits = limits
        self._pdf_dpi = pdf_dpi
        self.media_type, self.page_count = self._open()

    def page(self, index: int) -> Page:
        """Page `index`, loaded and measured."""
        what = label(self._path, index, self.page_count)
        values = self._load(index, what)
        page = (_TextPage if values[-1] else _Page)(self, index, what, values)
        self._reader.shows = page
        return page

    def close(self) -> None:
        """Close the document, and the child's memory of it."""
        if self not in self._reader.holds:
            return
        name = printable(self._path.name)
        try:
            if self._reader.shows is not None:
                self._reader.shows = None
                self.ask(name, "close_page")
            self._reader.holds.discard(self)
            self.ask(name, "close", id(self))
            self._reader.spare()
        except MineruError:
            # A child that does not get over closing a file is gone by now.
            self._reader.close()

    def ask(self, what: str, *request: Any) -> Any:
        """The child's answer; see `Reader.ask`."""
        return self._reader.ask(what, self.limits, self.progress, *request)

    def show(self, page: _Page) -> None:
        """Have the child open at `page`."""
        if self._reader.shows is not page:
            self._load(page.index, page.what)
            self._reader.shows = page

    def hide(self, page: _Page) -> None:
        """Give the page's memory back."""
        if self._reader.shows is page:
            self._reader.shows = None
            self.ask(page.what, "close_page")

    def _open(self) -> tuple[str, int]:
        request = "open", id(self), os.fsencode(self._path), self.limits, self._pdf_dpi
        media_type, page_count = self.ask(printable(self._path.name), *request)
        self._reader.holds.add(self)
        return media_type, page_count

    def _load(self, index: int, what: str) -> tuple[Any, ...]:
        if self not in self._reader.holds:
            self._open()
        self._reader.shows = None
        values: tuple[Any, ...] = self.ask(what, "page", id(self), index)
        return values


class _Page(Page):
    """A page in the child."""

    def __init__(self, document: _Document, index: int, what: str, values: tuple[Any, ...]) -> None:
        self.index = index
        self.what = what
        self._document = document
        turns: dict[int, Angle] = {0: 0, 90: 90, 180: 180, 270: 270}
        self.width_pt, self.height_pt, rotation, self.warnings, _ = values
        self.rotation = turns[rotation]

    def render(self, longest_side: int = 0) -> Rendering:
        """See `Page.render`."""
        self._document.show(self)
        found = self._document.ask(self.what, "render", longest_side)
        pixels, dpi, self.warnings = found
        return Rendering(pixels, dpi)

    def close(self) -> None:
        """Give the page's memory back."""
        self._document.hide(self)


class _TextPage(_Page, TextPage):
    """A page of a PDF in the child."""

    width_pt: float
    height_pt: float

    def ask(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """What `function(page, *arguments)` returns in the child."""
        self._document.show(self)
        request = "ask", function.__module__, function.__qualname__, arguments
        answer: Answer = self._document.ask(self.what, *request)
        return answer
