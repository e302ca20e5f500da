"""Ruled tables: rules that touch each other, and the words within, as a table or nothing.

The grid is `lattice`'s business, caption and notes within the frame that of `notes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.digital_tables.cells import Cell, compacted, filled_cells
from mineru_daemon.engines.ppocr.digital_tables.figures import is_figure
from mineru_daemon.engines.ppocr.digital_tables.lattice import lattice
from mineru_daemon.engines.ppocr.digital_tables.notes import without_notes
from mineru_daemon.engines.ppocr.digital_tables.rules import (
    SNAP,
    TOUCH,
    Rule,
    is_filled_only,
    places_of,
)
from mineru_daemon.engines.ppocr.digital_tables.table import Table, of_cells
from mineru_daemon.engines.ppocr.digital_tables.words import rows_of
from mineru_daemon.engines.ppocr.pdf_text import Word

EMPTY_ROW = 1.3
"""Height in em from which an empty drawn row is one to be filled in: a line of print and
some air."""
EMPTY_COLUMN = 1.6
"""The same for the width of columns."""
MAX_CELLS = 6_000
"""Cells of a grid; forms with more are drawings on graph paper."""


def ruled_table(rules: Sequence[Rule], words: Sequence[Word]) -> Table | None:
    """The table that rules which touch each other draw around words, if it is one."""
    level = [rule for rule in rules if rule.level]
    plumb = [rule for rule in rules if not rule.level]
    xs, ys = places_of(plumb), places_of(level)
    left = min(xs[0], *(rule.start for rule in level))
    right = max(xs[-1], *(rule.end for rule in level))
    top = min(ys[0], *(rule.start for rule in plumb))
    bottom = max(ys[-1], *(rule.end for rule in plumb))
    xs = _with_ends(xs, left, right)
    ys = _with_ends(ys, top, bottom)
    box = (xs[0], ys[0], xs[-1], ys[-1])
    inside = [word for word in words if boxes.centre_in(word.box, box)]
    if len(inside) < 2 or len(xs) * len(ys) > MAX_CELLS or len(xs) < 2 or len(ys) < 2:
        return None
    em = median(word.size for word in inside)
    xs = _without_slivers(xs, 0.5 * em)
    ys = _without_slivers(ys, 0.5 * em)
    drawn_columns = len(xs) - 1
    drawn_rows = len(ys) - 1
    if drawn_columns == 1 and drawn_rows == 1:
        return None
    grid = lattice(xs, ys, level, plumb, inside, em)
    cells = filled_cells(grid, inside)
    filled_only = is_filled_only(rules)
    cells, rows, columns = compacted(
        cells,
        grid,
        _to_fill_in(grid.ys, [rule.at for rule in level if not rule.edge], EMPTY_ROW * em),
        _to_fill_in(grid.xs, [rule.at for rule in plumb if not rule.edge], EMPTY_COLUMN * em),
    )
    if filled_only and any(_holds_rows(cell) for cell in cells):
        # Stripes and heat maps: fills that show some rows, not all of them.
        return None
    cells, rows = without_notes(cells, rows, columns)
    filled = [cell for cell in cells if cell.words]
    inside = [word for cell in filled for word in cell.words]
    if rows < grid.rows and inside:
        _, top, _, bottom = boxes.union(word.box for word in inside)
        box = (box[0], top, box[2], bottom)
    if rows * columns < 2 or len(filled) < 2 or columns < 2 or (rows < 2 and columns < 3):
        return None
    if len(filled) < 0.25 * len(cells):
        return None
    # Frames around columns of print are no tables: cells of tables hold little text.
    lengths = [sum(len(word.text) + 1 for word in cell.words) for cell in filled]
    if median(lengths) > 350 or (len(filled) < 4 and max(lengths) > 400):
        return None
    return of_cells(cells, box, rows, columns, ruled=True)


def _to_fill_in(bounds: Sequence[float], drawn: Sequence[float], least: float) -> set[int]:
    """Numbers of intervals that stay when empty: drawn on both sides, at least `least` wide."""
    near = [any(abs(bound - at) <= SNAP for at in drawn) for bound in bounds]
    return {
        number
        for number in range(len(bounds) - 1)
        if near[number] and near[number + 1] and bounds[number + 1] - bounds[number] >= least
    }


def _holds_rows(cell: Cell) -> bool:
    """Whether a cell holds several rows of figures, or of what stands beside figures."""
    rows = rows_of(cell.words)
    if len(rows) < 2:
        return False
    return cell.row_span > 1 or all(is_figure(word.text) for row in rows for word in row)


def _with_ends(places: list[float], low: float, high: float) -> list[float]:
    """With the outer borders, where they are not drawn."""
    result = list(places)
    if low < result[0] - TOUCH:
        result.insert(0, low)
    if high > result[-1] + TOUCH:
        result.append(high)
    return result


def _without_slivers(places: list[float], least: float) -> list[float]:
    result = [places[0]]
    for place in places[1:]:
        if place - result[-1] >= least:
            result.append(place)
    return result
