"""What an engine is: something that reads one page and returns its blocks.

The worker drives engines through this protocol alone; it knows no model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from mineru_daemon.documents import Page
from mineru_daemon.results import Angle, Block, Confidence, EngineInfo

Progress = Callable[[str], None]
"""Called by an engine with the name of the stage it is about to begin, at least once
before every model run. It feeds the watchdog, and raises `CancelledError` when the
daemon must stop; an engine lets that pass."""


@dataclass
class PageReading:
    """What an engine made of a page. Boxes are fractions of the upright page."""

    blocks: list[Block]
    width_px: int | None
    height_px: int | None
    dpi: float | None
    rotation: Angle = 0
    origin: Literal["ocr", "text-layer", "mixed"] = "ocr"
    origin_reason: str | None = None
    """One sentence: why the text of a PDF page comes from there."""
    confidence: Confidence | None = None
    warnings: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    """Wall seconds per stage: render, preprocess, inference.<model>, postprocess."""


class Engine(Protocol):
    """One engine serves one thread; it is loaded by its constructor."""

    @property
    def info(self) -> EngineInfo:
        """Name, model, precision and effective settings, for the result document."""
        ...

    def warm_up(self) -> None:
        """Run every model once on a small input; raises `EngineError` if one fails."""
        ...

    def read(self, page: Page, progress: Progress) -> PageReading:
        """Read one page. Raises `DocumentError`, `EngineError` or `CancelledError`."""
        ...

    def close(self) -> None:
        """Give sessions and memory back."""
        ...


def size_warning(width: int, height: int, least: int) -> list[str]:
    """What is to be said of a page of `width` x `height` pixels below `min_image_size`."""
    if max(width, height) >= least:
        return []
    return [
        f"The page is only {width} x {height} pixels: text may be missing or misread below "
        f"{least} pixels on the longer side."
    ]
