"""Made-up pages: lines of text at places, without any image."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.engines.ppocr.reading_order import Item, upright

EM = 20.0
"""Height of a line in pixels."""

LEADING = 28.0
"""From one line to the next, in pixels."""


def line(
    text: str, left: float, top: float, width: float | None = None, height: float = EM
) -> TextLine:
    """A line with its upper left corner at a place; by default half an em a character."""
    right = left + (width if width is not None else len(text) * height / 2)
    bottom = top + height
    return TextLine(((left, top), (right, top), (right, bottom), (left, bottom)), text, 0.99)


def column(
    name: str, left: float, top: float, count: int, width: float = 400, leading: float = LEADING
) -> list[TextLine]:
    """Full lines of running text: "name0 ...", "name1 ..." and so on."""
    filler = "words of a text that goes on and on"
    return [
        line(f"{name}{number} {filler}", left, top + number * leading, width)
        for number in range(count)
    ]


def turned(lines: Sequence[TextLine], degrees: float) -> list[TextLine]:
    """The page turned clockwise around its corner."""
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    return [
        TextLine(
            tuple((x * cosine - y * sine, x * sine + y * cosine) for x, y in one.corners),
            one.text,
            one.score,
        )
        for one in lines
    ]


def items(lines: Sequence[TextLine], turn: float = 0.0) -> list[Item]:
    """Lines as items outside all regions."""
    return [Item(upright(one.corners, turn), (one,)) for one in lines]
