"""Bytes -> pages. The only module that opens untrusted bytes.

Interface under construction: see `Page`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from mineru_daemon.results import Angle


@dataclass(frozen=True)
class Limits:
    """Bounds on what a document may ask of this machine."""

    max_file_bytes: int = 512 * 1024 * 1024
    max_pages: int = 2_000
    max_page_pixels: int = 100_000_000


@dataclass(frozen=True)
class Rendering:
    """A page as an upright RGB image."""

    image: Image.Image
    dpi: float | None


class Page(Protocol):
    """One page of an open document; nothing is decoded before `render`."""

    index: int
    width_pt: float | None
    height_pt: float | None
    rotation: Angle
    warnings: list[str]

    def render(self, longest_side: int = 0) -> Rendering:
        """Decode or draw the page, its longest side at most `longest_side` pixels (0: no bound)."""
        ...
