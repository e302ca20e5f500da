"""Lines that were read -> the order they are read in -> blocks.

Pure functions. Regions, tables and columns are left to layout and reading order;
without them, every line is a block of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from mineru_daemon.results import BBox, Block, Line

ROW_OVERLAP = 0.5
"""Share of the lower line's height by which lines of one row overlap at least."""


@dataclass(frozen=True)
class TextLine:
    """A line on the page: corners in pixels, clockwise from the top left; text; score."""

    corners: tuple[tuple[float, float], ...]
    text: str
    score: float


def in_rows(lines: Sequence[TextLine]) -> list[list[TextLine]]:
    """Rows from top to bottom, each from left to right.

    Rows follow the common slope of the lines, so that a page that was photographed
    at an angle keeps its rows.
    """
    turn = slope(lines)
    placed = sorted(((*_span(line, turn), line) for line in lines), key=lambda one: one[0])
    rows: list[tuple[float, float, list[tuple[float, TextLine]]]] = []
    for top, bottom, left, line in placed:
        for number in range(len(rows) - 1, max(-1, len(rows) - 4), -1):
            row_top, row_bottom, members = rows[number]
            overlap = min(bottom, row_bottom) - max(top, row_top)
            if overlap >= ROW_OVERLAP * min(bottom - top, row_bottom - row_top):
                members.append((left, line))
                break
        else:
            rows.append((top, bottom, [(left, line)]))
    rows.sort(key=lambda row: row[0] + row[1])
    return [[line for _, line in sorted(members, key=lambda one: one[0])] for *_, members in rows]


def slope(lines: Sequence[TextLine]) -> float:
    """Median angle of the wide lines in radians, clockwise; 0 if there are none."""
    angles = []
    for line in lines:
        (x0, y0), (x1, y1), _, (x3, y3) = line.corners
        if math.hypot(x1 - x0, y1 - y0) >= 3 * math.hypot(x3 - x0, y3 - y0):
            angles.append(math.atan2(y1 - y0, x1 - x0))
    return median(angles) if angles else 0.0


def _span(line: TextLine, turn: float) -> tuple[float, float, float]:
    """Top, bottom and left of a line on the page turned back by `turn`."""
    cosine, sine = math.cos(turn), math.sin(turn)
    heights = sorted(y * cosine - x * sine for x, y in line.corners)
    left = min(x * cosine + y * sine for x, y in line.corners)
    # A line that leans is higher than its letters: take the mean of each pair of corners.
    return (heights[0] + heights[1]) / 2, (heights[2] + heights[3]) / 2, left


def to_blocks(lines: Sequence[TextLine], width: int, height: int) -> list[Block]:
    """Every line as a block of text; `width` and `height` of the page in pixels."""
    return [_block(line, width, height) for row in in_rows(lines) for line in row]


def _block(line: TextLine, width: int, height: int) -> Block:
    polygon = [
        (min(max(x / width, 0.0), 1.0), min(max(y / height, 0.0), 1.0)) for x, y in line.corners
    ]
    across, down = zip(*polygon, strict=True)
    bbox: BBox = (min(across), min(down), max(across), max(down))
    score = min(max(line.score, 0.0), 1.0)
    return Block(
        type="text",
        bbox=bbox,
        content=line.text,
        score=score,
        lines=[Line(text=line.text, polygon=polygon, score=score)],
    )
