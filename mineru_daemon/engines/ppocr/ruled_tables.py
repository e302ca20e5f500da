"""Tables of digital pages, from rulings and from words that stand in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mineru_daemon.engines.ppocr.pdf_objects import Drawing
from mineru_daemon.engines.ppocr.pdf_text import Box, PrintedLine


@dataclass(frozen=True)
class Table:
    """A table: its box in points of the upright page, and its HTML."""

    box: Box
    html: str


def find(
    lines: Sequence[PrintedLine], drawing: Drawing, width: float, height: float
) -> list[Table]:
    """Tables of a page of `width` by `height` points."""
    del lines, drawing, width, height
    return []


def lines_outside(lines: Sequence[PrintedLine], tables: Sequence[Table]) -> list[PrintedLine]:
    """Lines whose middle lies in no table."""
    return [line for line in lines if not any(_holds(table.box, line.box) for table in tables)]


def _holds(outer: Box, inner: Box) -> bool:
    x, y = (inner[0] + inner[2]) / 2, (inner[1] + inner[3]) / 2
    return outer[0] <= x <= outer[2] and outer[1] <= y <= outer[3]
