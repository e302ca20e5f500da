"""Printed lines and rulings of pages that the tests lay out, and tables as rows of cells."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mineru_daemon.engines.ppocr import digital_tables
from mineru_daemon.engines.ppocr.digital_tables import Table
from mineru_daemon.engines.ppocr.pdf_objects import Drawing, Fill, Ruling
from mineru_daemon.engines.ppocr.pdf_text import PrintedLine, Word

WIDTH, HEIGHT = 600.0, 800.0
SIZE = 10.0


def words(text: str, x: float, y: float) -> list[Word]:
    """Words from (x, y) on, the top left corner, in type with letters of half an em."""
    found = []
    for part in text.split():
        end = x + len(part) * SIZE / 2
        found.append(Word(part, (x, y, end, y + SIZE), SIZE, False))
        x = end + 0.3 * SIZE
    return found


def line(text: str, x: float, y: float) -> PrintedLine:
    parts = words(text, x, y)
    x1 = parts[-1].box[2]
    corners = ((x, y), (x1, y), (x1, y + SIZE), (x, y + SIZE))
    return PrintedLine(corners, text, 1.0, words=tuple(parts), size=SIZE)


def level(y: float, x0: float, x1: float) -> Ruling:
    return Ruling(x0, y, x1, y, 0.5)


def plumb(x: float, y0: float, y1: float) -> Ruling:
    return Ruling(x, y0, x, y1, 0.5)


def lattice(xs: Sequence[float], ys: Sequence[float]) -> list[Ruling]:
    return [
        *(level(y, xs[0], xs[-1]) for y in ys),
        *(plumb(x, ys[0], ys[-1]) for x in xs),
    ]


def find(
    lines: list[PrintedLine], rulings: Sequence[Ruling] = (), fills: Sequence[Fill] = ()
) -> list[Table]:
    return digital_tables.find(
        lines, Drawing(rulings=list(rulings), fills=list(fills)), WIDTH, HEIGHT
    )


def rows(table: Table) -> list[list[str]]:
    """Cells by row; spans in front as r2 and c3."""
    result = []
    for row in re.findall(r"<tr>(.*?)</tr>", table.html):
        cells = []
        for attributes, text in re.findall(r"<td(.*?)>(.*?)</td>", row):
            spans = re.sub(r' (r)owspan="(\d+)"| (c)olspan="(\d+)"', r"\1\2\3\4 ", attributes)
            cells.append(spans + text)
        result.append(cells)
    return result


PROSE = [
    "the committee met again in the spring and found that",
    "little had changed since the last report on the state",
    "of the harbour and of the roads that lead to it from",
    "the north which were closed for most of the winter and",
    "would have to be repaired before the ships could be",
    "unloaded as fast as the merchants of the town wished",
]


def booktabs(y: float = 100.0, *, ruled: bool = True) -> tuple[list[PrintedLine], list[Ruling]]:
    rulings = [level(y, 50, 400), level(y + 20, 50, 400), level(y + 85, 50, 400)]
    found = [line("Method", 52, y + 5), line("Speed", 205, y + 5), line("Score", 305, y + 5)]
    for number, name in enumerate(("first", "second", "third one", "last")):
        top = y + 24 + 15 * number
        found += [
            line(name, 52, top),
            line(f"{number}.25", 207, top),
            line(f"{number}7.1", 307, top),
        ]
    return found, rulings if ruled else []


GRID = lattice([50, 200, 300], [100, 120, 140])
"""Two drawn rows of two columns."""


def in_grid(*entries: Sequence[str]) -> list[PrintedLine]:
    """Rows of texts as lines in the cells of `GRID`."""
    return [
        line(text, x, y)
        for row, y in zip(entries, (105, 125), strict=False)
        for text, x in zip(row, (55, 205), strict=True)
    ]
