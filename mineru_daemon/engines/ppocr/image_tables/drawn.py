"""Tables that rules, or figures in columns, show on an image: what a layout model may miss.

Rules are found on the image, words are cut from the lines that were read on it, and both are
given to `digital_tables`, which knows nothing of images. All is measured in points as there, as
if the page's type were of 10 points. What the network makes of tables is left to `reader`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import cv2
import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.ppocr import boxes, digital_tables, reading_order
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.image_tables.line_grid import column_gaps
from mineru_daemon.engines.ppocr.image_tables.pieces import Piece, text_rows
from mineru_daemon.engines.ppocr.lines import TextLine, slope
from mineru_daemon.engines.ppocr.pdf_objects import Drawing, Ruling
from mineru_daemon.engines.ppocr.pdf_text import PrintedLine, Word
from mineru_daemon.engines.ppocr.regions import Region

TYPE_SIZE = 10.0
"""Points that the type of the page is taken for."""

SIZE_OF_LINE = 0.64
"""Type size over the height of a line's box, as PP-OCRv6 tiny with its margin draws it."""

MARGIN = 0.3
"""Heights of a line's box by which it is wider than its text, at either end: the detector's
boxes have a margin around the letters."""

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

MOST_PIXELS = 4_000_000
"""Of a page on which rules are looked for, which takes a dozen bytes for each: A4 at 200 dpi. On a
larger one they are looked for at this size."""

FEWEST = 3
"""Rows and columns of a table without drawn cells, at least; rows of a clipping."""

PROSE = 50
"""Characters of a line of running text; a receipt's paper has room for 40."""

FEWEST_DRAWN = 6
"""Fields of a table with drawn cells, at least: axes and frames make four."""

IN_ROWS = 0.8
"""Share of a clipping's rows of text that have two cells and more, if it is a table."""

INSIDE = 0.7
"""Share of an area from which on one thing lies in another."""

FULLER = 1.3
"""Fields of a drawn table over the network's cells from which on the network missed some."""


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
    smaller, shrunk = _bounded(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8))
    found_rules = rules(smaller, turn, em * shrunk)
    drawing = Drawing(rulings=[_scaled(rule, scale / shrunk) for rule in found_rules])
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


def missed(
    seen: Sequence[DrawnTable],
    regions: Sequence[Region],
    surest: float,
    lines: Sequence[TextLine],
) -> list[DrawnTable]:
    """Those that no region of a table (score from `surest` on) touches, and that are sure.

    Figures in two columns may be a list of prices or a table of contents, and a page without
    running text is a receipt or a form, which is read in rows.
    """
    tables = [one.box for one in regions if one.type == "table" and one.score >= surest]
    free = [
        table for table in seen if not any(boxes.common_area(table.box, box) > 0 for box in tables)
    ]
    prose = sum(len(line.text) >= PROSE for line in lines) >= FEWEST
    sure = [table for table in free if _is_sure(table, prose)]
    # What lies in a table belongs to it: its words stand in no other.
    return [
        table
        for table in free
        if table in sure or any(boxes.overlap(table.box, other.box) for other in sure)
    ]


def without_pieces(seen: Sequence[DrawnTable], regions: Sequence[Region]) -> list[Region]:
    """The regions, without tables that are pieces of one whose cells are drawn around them all."""
    pieces: set[int] = set()
    for table in seen:
        held = {
            id(one)
            for one in regions
            if one.type == "table" and boxes.share(one.box, table.box) >= INSIDE
        }
        if table.ruled and len(held) > 1:
            pieces |= held
    return [one for one in regions if id(one) not in pieces]


def _is_sure(table: DrawnTable, prose: bool) -> bool:
    if table.ruled:
        return table.rows * table.columns >= FEWEST_DRAWN
    return prose and min(table.rows, table.columns) >= FEWEST


def fuller(seen: Sequence[DrawnTable], box: Box, cells: int) -> str | None:
    """HTML of a table in `box` that has many more than `cells` cells; None if there is none.

    The network ends after some hundred cells, and joins narrow columns of figures.
    """
    inside = [table for table in seen if boxes.share(table.box, box) >= INSIDE]
    best = max(inside, key=lambda one: one.rows * one.columns, default=None)
    if best is None or best.rows * best.columns < FULLER * cells:
        return None
    if any(other is not best and boxes.overlap(other.box, best.box) for other in seen):
        # Words of a table within it would be missing.
        return None
    return best.html if boxes.area(best.box) >= INSIDE * boxes.area(box) else None


def clipped_table(regions: Sequence[Region], lines: Sequence[TextLine]) -> list[Region]:
    """The regions of a clipping, with what is taken for a picture of it all as a table if its
    lines stand in rows and columns, and the model sees no other table."""
    if any(region.type == "table" for region in regions):
        return list(regions)
    pieces = [Piece(line.text, boxes.around(line.corners)) for line in lines]
    rows = text_rows(pieces)
    filled = sum(len(row) >= 2 for row in rows)
    if len(rows) < FEWEST or filled < IN_ROWS * len(rows) or not column_gaps(pieces):
        return list(regions)
    around = boxes.union([piece.box for piece in pieces])
    return [
        replace(region, type="table", score=1.0)
        if region.type == "image" and boxes.share(around, region.box) >= INSIDE
        else region
        for region in regions
    ]


def rules(grey: Pixels, turn: float, em: float) -> list[Ruling]:
    """Level and plumb rules in pixels of a grey page (H, W) that is turned back by `turn` radians
    around its corner; `em` is the size of its type in pixels."""
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


def _bounded(image: Pixels) -> tuple[Pixels, float]:
    """The image with at most `MOST_PIXELS`, and its sides in shares of those it had."""
    height, width = image.shape[:2]
    scale = min(1.0, math.sqrt(MOST_PIXELS / (width * height)))
    if scale == 1.0:
        return image, scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Averaging keeps rules that are thinner than a pixel then.
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _strokes(ink: npt.NDArray[np.uint8], least: int, em: float) -> list[tuple[float, ...]]:
    """Left, top, length and thickness of what runs level for `least` pixels and more.

    A gap of a pixel, and a step of one, do not end a rule: scanners leave both.
    """
    joined = cv2.morphologyEx(ink, cv2.MORPH_CLOSE, np.ones((1, 3), np.uint8))
    runs = cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones((1, least), np.uint8))
    runs = cv2.dilate(runs, np.ones((3, 3), np.uint8))
    # Labelling every pixel of a page takes ten times as long as following a few outlines.
    outlines, nested = cv2.findContours(runs, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    found = [
        cv2.boundingRect(outline)
        for number, outline in enumerate(outlines)
        if nested[0][number][3] < 0
    ]
    return [
        (float(x + 1), float(y + 1), float(w - 2), float(h - 2))
        for x, y, w, h in sorted(found, key=lambda box: (box[1], box[0]))
        if h - 2 <= max(3.0, THICKEST * em)
    ]


def _printed(line: TextLine, turn: float, scale: float) -> PrintedLine:
    """The line as that of a text layer, with its words; in points."""
    left, top, right, bottom = (edge * scale for edge in reading_order.upright(line.corners, turn))
    size = SIZE_OF_LINE * (bottom - top)
    inset = (bottom - top - size) / 2
    margin = min(MARGIN * (bottom - top), (right - left) / 6)
    top, bottom = top + inset, bottom - inset
    left, right = left + margin, right - margin
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
