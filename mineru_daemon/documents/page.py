"""What a document and a page are to everyone else, and the limits they are held to.

How bytes become pages is the business of `images` and `pdf`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from PIL import Image

from mineru_daemon.closing import Closing
from mineru_daemon.printable import printable
from mineru_daemon.results import Angle

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
"""RGB, shape (height, width, 3)."""

Answer = TypeVar("Answer")

BAND_PIXELS = 1 << 22
"""Pixels handled at once where a whole page of them would be held twice."""


@dataclass(frozen=True)
class Limits:
    """Bounds on what one document may ask of this machine."""

    max_file_bytes: int = 512 * 1024 * 1024
    """Bytes of a file. Far above what scanners send (a page at 600 dpi in colour is about
    10 MB as JPEG), low enough to be read over a slow share in minutes."""

    max_pages: int = 2_000
    """Pages of a document. A thick book; at some seconds a page already hours of work."""

    max_page_pixels: int = 100_000_000
    """Pixels (width times height) decoded or drawn for one page. A3 at 600 dpi has 70
    million. Measured at 100 million: the process grows to 0.6 GB for RGB, 1 GB with
    transparency, and 1.6 GB for WebP, whose decoder keeps more than one copy."""

    render_seconds: float = 60.0
    """Wall seconds for opening a document, and for drawing or taking apart one page. A heavy
    map takes a few seconds; what takes longer than this was most likely made to."""

    max_memory_bytes: int = 2 * 1024 * 1024 * 1024
    """Resident memory of the process that opens documents. It needs 50 MB for itself; a page
    of `max_page_pixels` in WebP, the greediest kind, takes 1.6 GB."""


@dataclass(frozen=True)
class Rendering:
    """A page upright and in RGB; pixels and image are made of each other when asked for."""

    content: Image.Image | Pixels
    dpi: float | None
    """Pixels per inch, None when the page's real size is not known."""

    @cached_property
    def image(self) -> Image.Image:
        """The page as an image of mode RGB."""
        content = self.content
        return content if isinstance(content, Image.Image) else Image.fromarray(content)

    @cached_property
    def pixels(self) -> Pixels:
        """The page as an array, not to be written to."""
        return np.asarray(self.content)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        if isinstance(self.content, Image.Image):
            return self.content.size
        height, width, _ = self.content.shape
        return width, height

    def bands(self) -> Iterator[Pixels]:
        """The page from top to bottom, some rows at a time."""
        width, height = self.size
        rows = max(1, BAND_PIXELS // width)
        for top in range(0, height, rows):
            bottom = min(height, top + rows)
            if isinstance(self.content, Image.Image):
                yield np.asarray(self.content.crop((0, top, width, bottom)))
            else:
                yield self.content[top:bottom]


class Page(Protocol):
    """One page of an open document; nothing is decoded before `render`."""

    index: int
    """Counted from 0."""
    width_pt: float | None
    """Width in points (1/72 inch) of the upright page; None when the file does not tell."""
    height_pt: float | None
    rotation: Angle
    """Degrees clockwise by which the stored page is turned to be upright."""
    warnings: list[str]
    """What a reader of the result should know about this page; grows while rendering."""

    def render(self, longest_side: int = 0) -> Rendering:
        """Decode or draw the page, its longest side at most `longest_side` pixels (0: no bound).

        Never enlarges an image. Raises `DocumentError` for this page alone (`LimitError`
        when it has too many pixels), `StorageError` when the disk fails.
        """
        ...

    def close(self) -> None:
        """Give the page's memory back; harmless when repeated."""
        ...


class TextPage(Page):
    """A page of a kind that may hold its text as characters: of a PDF."""

    @abstractmethod
    def ask(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """What `function(page, *arguments)` returns, called where the document is open.

        That may be another process: a function of a module, arguments and an answer of plain
        values and dataclasses. Raises what `render` raises.
        """


class Document(Closing):
    """An open file. Serves one thread at a time, one page after another."""

    media_type: str
    page_count: int
    progress: Callable[[str], None] = staticmethod(lambda _stage: None)
    """Called while something takes time that another process does; what it raises passes
    through."""

    @abstractmethod
    def page(self, index: int) -> Page:
        """Page `index`, from 0. Raises `DocumentError` for this page alone."""

    @abstractmethod
    def close(self) -> None:
        """Close the file; its pages must not be used any more."""


def label(path: Path, index: int, count: int) -> str:
    """How a page is called in a sentence: "page 3 of scan.pdf", or just "photo.png"."""
    name = printable(path.name)
    return name if count == 1 else f"page {index + 1} of {name}"
