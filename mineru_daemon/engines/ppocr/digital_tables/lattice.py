"""Drawn lines and words -> the grid of a ruled table.

Lines that are missing join cells, words that stand apart add columns and rows that are
not drawn. Whether the grid is a table is decided by `ruled`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.digital_tables.columns import rivers_of
from mineru_daemon.engines.ppocr.digital_tables.grid import Grid, interval, is_crossed, words_by_row
from mineru_daemon.engines.ppocr.digital_tables.rows import row_starts
from mineru_daemon.engines.ppocr.digital_tables.rules import COVERED, Rule, cover
from mineru_daemon.engines.ppocr.digital_tables.words import between, middle_of, rows_of
from mineru_daemon.engines.ppocr.pdf_text import Word


def lattice(
    xs: list[float],
    ys: list[float],
    level: Sequence[Rule],
    plumb: Sequence[Rule],
    words: Sequence[Word],
    em: float,
) -> Grid:
    """The grid of drawn lines, with undrawn columns and rows added where the words show them."""
    drawn_xs, drawn_ys = xs, ys
    xs = _add_columns(xs, ys, words, em)
    ys = _add_rows(xs, ys, words)
    grid = Grid(xs, ys)
    rows = words_by_row(grid, words)
    total = ys[-1] - ys[0]
    for column in range(1, grid.columns):
        at = xs[column]
        drawn = any(abs(at - one) < 0.01 for one in drawn_xs)
        mostly = drawn and cover(plumb, at, ys[0], ys[-1]) * total >= 0.45 * total
        for row in range(grid.rows):
            if drawn and cover(plumb, at, ys[row], ys[row + 1]) >= COVERED:
                continue
            if mostly or is_crossed(rows[row], at, em):
                grid.joined_across.add((row, column - 1))
    for row in range(1, grid.rows):
        at = ys[row]
        if not any(abs(at - one) < 0.01 for one in drawn_ys):
            continue
        for column in range(grid.columns):
            if cover(level, at, xs[column], xs[column + 1]) < COVERED:
                grid.joined_down.add((row - 1, column))
    return grid


def _add_columns(xs: list[float], ys: list[float], words: Sequence[Word], em: float) -> list[float]:
    """Split drawn columns at white space that runs through all their rows."""
    result = [xs[0]]
    for left, right in itertools.pairwise(xs):
        inside = [word for word in words if left <= boxes.middle_x(word.box) < right]
        if len(xs) == 2 or len(inside) >= 6:
            # Where some columns are drawn, the words must speak up for more.
            least = 1.2 if len(xs) > 2 else None
            rows = rows_of(inside)
            result += [
                (low + high) / 2
                for low, high in rivers_of(rows, em, least)
                if least is None or _parts_bands(rows, ys, (low + high) / 2)
            ]
        result.append(right)
    return result


def _parts_bands(rows: Sequence[Sequence[Word]], ys: Sequence[float], at: float) -> bool:
    """Whether words stand on both sides of `at` in half of the drawn rows that hold any."""
    used: set[int] = set()
    both: set[int] = set()
    for row in rows:
        band = interval(ys, middle_of(row))
        used.add(band)
        if row[0].box[2] <= at and row[-1].box[0] >= at:
            both.add(band)
    return len(both) >= 0.5 * len(used) and (len(both) > 1 or len(ys) == 2)


def _add_rows(xs: list[float], ys: list[float], words: Sequence[Word]) -> list[float]:
    """Split drawn rows that hold several rows of figures."""
    result = [ys[0]]
    for top, bottom in itertools.pairwise(ys):
        inside = [word for word in words if top <= boxes.middle_y(word.box) < bottom]
        result += _row_splits(inside, xs)
        result.append(bottom)
    return result


def _row_splits(words: Sequence[Word], xs: Sequence[float]) -> list[float]:
    """Heights between the rows of a band, if figures tell that it has several."""
    rows = rows_of(words)
    if len(rows) < 2:
        return []
    starts = row_starts(rows, xs)
    return [between(rows[number - 1], rows[number]) for number in starts[1:]]
