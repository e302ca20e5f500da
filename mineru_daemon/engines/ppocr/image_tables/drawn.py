"""Tables that rules, or figures in columns, show on an image: what a layout model may miss.

Rules are found on the image, words are cut from the lines that were read on it, and both are
given to `digital_tables`, which knows nothing of images. All is measured in points as there, as
if the page's type were of 10 points. What the network makes of tables is left to `reader`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.ppocr import boxes, digital_tables, reading_order
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.lines import TextLine, slope
from mineru_daemon.engines.ppocr.pdf_objects import Drawing, Ruling
from mineru_daemon.engines.ppocr.pdf_text import PrintedLine, Word

TYPE_SIZE = 10.0
"""Points that the type of the page is taken for."""

SIZE_OF_LINE = 0.72
"""Type size over the height of a line's box, as the detector draws it."""

SHORTEST = 3.0
"""Type sizes of a rule at least: longer than dashes and the strokes of letters."""

THICKEST = 0.5
"""Type sizes of a rule at most: what is thicker is a bar, or white letters on a ground."""

PAPER = 31
DARKER = 12
"""Pixels around of which the mean is the paper, and the grey by which ink is darker."""

LEANING = 0.002
"""Radians from which on the image is turned back before rules are looked for."""

MOST_RULES = 1500
"""On a page; more are hatchings or pictures."""


@dataclass(frozen=True)
class DrawnTable:
    """A table on an image: its box in pixels, its HTML, and whether its cells are drawn."""

    box: Box
    html: str
    rows: int
    columns: int
    ruled: bool


def find(image: Pixels, lines: Sequence[TextLine]) -> list[DrawnTable]:
    """Tables on an upright RGB page (H, W, 3) with these lines, corners in its pixels."""
    if len(lines) < 2:
        return []
    height, width = image.shape[:2]
    turn = slope(lines)
    em = SIZE_OF_LINE * median(_height(line) for line in lines)
    if em < 2:
        return []
    scale = TYPE_SIZE / em
    printed = [_printed(line, turn, scale) for line in lines]
    drawing = Drawing(rulings=[_scaled(rule, scale) for rule in rules(image, turn, em)])
    found = digital_tables.find(printed, drawing, width * scale, height * scale)
    return [
        DrawnTable(
            _turned_back(table.box, turn, scale, width, height),
            table.html,
            table.rows,
            table.columns,
            table.ruled,
        )
        for table in found
    ]


def rules(image: Pixels, turn: float, em: float) -> list[Ruling]:
    """Level and plumb rules in pixels, on the page turned back by `turn` radians around its
    corner; `em` is the size of its type in pixels."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if abs(turn) >= LEANING:
        cosine, sine = math.cos(turn), math.sin(turn)
        matrix = np.array([[cosine, sine, 0], [-sine, cosine, 0]])
        grey = np.asarray(
            cv2.warpAffine(
                grey, matrix, (grey.shape[1], grey.shape[0]), borderMode=cv2.BORDER_REPLICATE
            ),
            np.uint8,
        )
    ink = np.asarray(
        cv2.adaptiveThreshold(
            grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, PAPER, DARKER
        ),
        np.uint8,
    )
    least = max(8, round(SHORTEST * em))
    level = [
        Ruling(left, top + thick / 2, left + length, top + thick / 2, thick)
        for left, top, length, thick in _strokes(ink, least, em)
    ]
    plumb = [
        Ruling(left + thick / 2, top, left + thick / 2, top + length, thick)
        for top, left, length, thick in _strokes(np.ascontiguousarray(ink.T), least, em)
    ]
    return [*level, *plumb] if len(level) + len(plumb) <= MOST_RULES else []


def _strokes(ink: npt.NDArray[np.uint8], least: int, em: float) -> list[tuple[float, ...]]:
    """Left, top, length and thickness of what runs level for `least` pixels and more.

    A gap of a pixel, and a step of one, do not end a rule: scanners leave both.
    """
    joined = cv2.morphologyEx(ink, cv2.MORPH_CLOSE, np.ones((1, 3), np.uint8))
    runs = cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones((1, least), np.uint8))
    runs = cv2.dilate(runs, np.ones((3, 3), np.uint8))
    _, _, found, _ = cv2.connectedComponentsWithStats(runs, connectivity=8)
    return [
        (float(x + 1), float(y + 1), float(w - 2), float(h - 2))
        for x, y, w, h, _ in found[1:].tolist()
        if h - 2 <= max(3.0, THICKEST * em)
    ]


def _printed(line: TextLine, turn: float, scale: float) -> PrintedLine:
    """The line as that of a text layer, with its words; in points."""
    left, top, right, bottom = (edge * scale for edge in reading_order.upright(line.corners, turn))
    size = SIZE_OF_LINE * (bottom - top)
    inset = (bottom - top - size) / 2
    top, bottom = top + inset, bottom - inset
    words = [
        Word(text, (left + start * (right - left), top, left + end * (right - left), bottom), size,
             bold=False)
        for text, start, end in words_of(line)
    ]  # fmt: skip
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return PrintedLine(corners, line.text, line.score, words=tuple(words), size=size)


def words_of(line: TextLine) -> list[tuple[str, float, float]]:
    """Words of a line, and where they begin and end in shares of its length."""
    count = len(line.text)
    known = len(line.places) == count
    middles = line.places if known else [(number + 0.5) / count for number in range(count)]
    found = []
    for word in re.finditer(r"\S+", line.text):
        first, last = word.start(), word.end() - 1
        half = (middles[last] - middles[first]) / max(1, last - first) / 2 if last > first else 0.0
        if not half:
            half = 0.4 / count
        start = 0.0 if first == 0 else max(0.0, middles[first] - half)
        end = 1.0 if last == count - 1 else min(1.0, middles[last] + half)
        found.append((word[0], start, end))
    return found


def _scaled(rule: Ruling, scale: float) -> Ruling:
    return Ruling(
        rule.x0 * scale, rule.y0 * scale, rule.x1 * scale, rule.y1 * scale, rule.width * scale
    )


def _turned_back(box: Box, turn: float, scale: float, width: float, height: float) -> Box:
    """From points on the page that was turned back to pixels of the page as it is."""
    left, top, right, bottom = (edge / scale for edge in box)
    cosine, sine = math.cos(turn), math.sin(turn)
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    around = boxes.around([(x * cosine - y * sine, x * sine + y * cosine) for x, y in corners])
    return max(0.0, around[0]), max(0.0, around[1]), min(width, around[2]), min(height, around[3])


def _height(line: TextLine) -> float:
    corner, _, _, across = line.corners
    return math.dist(corner, across)
