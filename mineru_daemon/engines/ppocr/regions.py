"""What a region of a page is, whoever finds it: the layout model, or the file itself.

Apart from `layout` on purpose: pages with a text layer are put in order without any model.
"""

from __future__ import annotations

from dataclasses import dataclass

from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.results import BlockType


@dataclass(frozen=True)
class Region:
    """Part of a page that holds one thing."""

    type: BlockType
    box: Box
    """In pixels of the page."""
    score: float
    """From 0 to 1."""
