"""A line of text on a page: what all stages after recognition work on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class TextLine:
    """A line on the page: corners in pixels, clockwise from the top left; text; score."""

    corners: tuple[tuple[float, float], ...]
    text: str
    score: float
    places: tuple[float, ...] = ()
    """Middle of each character along the line, 0 at its left end, 1 at its right; empty
    where that is not known."""


def slope(lines: Sequence[TextLine]) -> float:
    """Median angle of the wide lines in radians, clockwise; 0 if there are none."""
    angles = []
    for line in lines:
        (x0, y0), (x1, y1), _, (x3, y3) = line.corners
        if math.hypot(x1 - x0, y1 - y0) >= 3 * math.hypot(x3 - x0, y3 - y0):
            angles.append(math.atan2(y1 - y0, x1 - x0))
    return median(angles) if angles else 0.0
