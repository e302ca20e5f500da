"""What a document and a page are to everyone else, and the limits they are held to.

How bytes become pages is the business of `images` and `pdf`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from PIL import Image

from mineru_daemon.log import printable
from mineru_daemon.results import Angle


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

    max_draw_seconds: float = 60.0
    """Wall seconds for drawing one PDF page. A heavy map takes a few seconds; what takes
    longer than this was most likely made to. Half of the time after which the daemon
    counts an engine without progress as hung."""


@dataclass(frozen=True)
class Rendering:
    """A page as an upright image of mode RGB."""

    image: Image.Image
    dpi: float | None
    """Pixels per inch of `image`, None when the page's real size is not known."""


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


class Document(ABC):
    """An open file. Serves one thread at a time, one page after another."""

    media_type: str
    page_count: int

    @abstractmethod
    def page(self, index: int) -> Page:
        """Page `index`, from 0. Raises `DocumentError` for this page alone."""

    @abstractmethod
    def close(self) -> None:
        """Close the file; its pages must not be used any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def label(path: Path, index: int, count: int) -> str:
    """How a page is called in a sentence: "page 3 of scan.pdf", or just "photo.png"."""
    name = printable(path.name)
    return name if count == 1 else f"page {index + 1} of {name}"
