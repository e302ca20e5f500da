"""Where things of a PDF page lie when it is seen upright.

User space (ISO 32000-1, 8.3) -> points of the upright page, and the frames in which text
turned by some angle runs from left to right. Pure arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.results import Angle

UPRIGHT_TOLERANCE = 3.0
"""Degrees by which text may lean and still count as set at a right angle."""


@dataclass(frozen=True, slots=True)
class Frame:
    """From a page's user space to points of the upright page."""

    left: float
    bottom: float
    right: float
    top: float
    rotation: Angle
    unit: float
    """Points per unit of user space."""

    @property
    def width(self) -> float:
        """Width of the upright page in points."""
        turned = self.rotation in (90, 270)
        return (self.top - self.bottom if turned else self.right - self.left) * self.unit

    @property
    def height(self) -> float:
        """Height of the upright page in points."""
        turned = self.rotation in (90, 270)
        return (self.right - self.left if turned else self.top - self.bottom) * self.unit

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point of user space on the upright page."""
        match self.rotation:
            case 0:
                across, down = x - self.left, self.top - y
            case 90:
                across, down = y - self.bottom, x - self.left
            case 180:
                across, down = self.right - x, y - self.bottom
            case _:
                across, down = self.top - y, self.right - x
        return across * self.unit, down * self.unit

    def box(self, left: float, bottom: float, right: float, top: float) -> Box:
        """A rectangle of user space on the upright page."""
        x0, y0 = self.point(left, bottom)
        x1, y1 = self.point(right, top)
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def direction(across: float, up: float, rotation: int) -> int:
    """Degrees clockwise on the upright page of a direction in user space."""
    degrees = (rotation - math.degrees(math.atan2(up, across))) % 360
    nearest = round(degrees / 90) * 90
    if abs(degrees - nearest) <= UPRIGHT_TOLERANCE:
        return nearest % 360
    return round(degrees) % 360


def along(angle: int, box: Box, width: float, height: float) -> Box:
    """A box of the upright page, in the frame in which text turned by `angle` runs right."""
    x0, y0, x1, y1 = box
    match angle:
        case 0:
            return box
        case 90:
            return y0, width - x1, y1, width - x0
        case 180:
            return width - x1, height - y1, width - x0, height - y0
        case _:
            return height - y1, x0, height - y0, x1


def onto_page(angle: int, box: Box, width: float, height: float) -> tuple[tuple[float, float], ...]:
    """Corners on the upright page, clockwise from where reading begins at the top."""
    u0, v0, u1, v1 = box
    corners = ((u0, v0), (u1, v0), (u1, v1), (u0, v1))
    match angle:
        case 0:
            return corners
        case 90:
            return tuple((width - v, u) for u, v in corners)
        case 180:
            return tuple((width - u, height - v) for u, v in corners)
        case 270:
            return tuple((v, height - u) for u, v in corners)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return tuple((u * cosine - v * sine, u * sine + v * cosine) for u, v in corners)
