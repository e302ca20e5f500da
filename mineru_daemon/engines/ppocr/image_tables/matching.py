"""Which text belongs to which cell, and whose structure is believed.

The network's cells come from `slanet`, those that the lines imply from `line_grid`.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.image_tables.cells import Cell, Structure, TableReading
from mineru_daemon.engines.ppocr.image_tables.line_grid import column_gaps, column_of, grid_of
from mineru_daemon.engines.ppocr.image_tables.pieces import (
    ROW_OVERLAP,
    Piece,
    in_runs,
    parted,
    text_of,
    text_rows,
)
from mineru_daemon.engines.ppocr.lines import TextLine

CLASH_SHARE = 0.15
"""Share of the text that must lie wrongly in the network's cells, by the alignment of
lines, before its structure is given up for the one that the lines imply."""

MANY_ROWS = 6
"""Rows of text, each filling most columns, in one row of the network from which on rows
are missing; headings and cells of several lines stay below."""

DENSE = 0.6
"""Share of cells with text from which on a grid made from lines is believed."""

WHOLE_ROW = 0.6
"""Share of a table's columns that a row of text fills to count as a row of its own."""


def filled(structure: Structure, lines: Sequence[TextLine], *, words: bool = False) -> TableReading:
    """The table with its text: every line, or part of one, in one cell.

    Where the alignment of the lines contradicts the network's structure too often, as
    on long dense tables, the lines' own rows and columns are the structure.
    """
    lines = [line for line in lines if line.text.strip()]
    if not lines:
        return TableReading(structure.cells, structure.score)
    runs = in_runs(lines) if words else lines
    gaps = column_gaps([Piece(run.text, boxes.around(run.corners)) for run in runs])
    by_lines = _assigned(*grid_of(runs, gaps))
    if not structure.cells:
        return TableReading(by_lines, structure.score)
    pieces = [piece for line in lines for piece in parted(line, _cuts(line, structure.cells))]
    owners = [_owner(piece.box, structure.cells) for piece in pieces]
    clash = clashes(pieces, owners, structure.cells, gaps)
    if clash > CLASH_SHARE and _is_plausible(by_lines, structure.cells):
        return TableReading(by_lines, structure.score)
    cells = _assigned(structure.cells, pieces, owners)
    return TableReading(cells, structure.score)


def _assigned(cells: Sequence[Cell], pieces: Sequence[Piece], owners: Sequence[int]) -> list[Cell]:
    """Cells with the text of the pieces; `owners` are the pieces' indices of cells."""
    texts: defaultdict[int, list[Piece]] = defaultdict(list)
    for piece, owner in zip(pieces, owners, strict=True):
        texts[owner].append(piece)
    return [replace(cell, text=text_of(texts[number])) for number, cell in enumerate(cells)]


def _is_plausible(by_lines: Sequence[Cell], cells: Sequence[Cell]) -> bool:
    """Whether the lines' grid is a table, not running text cut along chance gaps."""
    columns = max(cell.column + cell.column_span for cell in cells)
    implied = max(cell.column + cell.column_span for cell in by_lines)
    inked = sum(bool(cell.text) for cell in by_lines)
    return inked >= DENSE * len(by_lines) and implied <= 1.5 * columns + 4


def _owner(box: Box, cells: Sequence[Cell]) -> int:
    """Index of the cell that covers most of a box, of the nearest one if none does."""

    def misfit(cell: Cell) -> tuple[float, float]:
        across, down = boxes.common_width(box, cell.box), boxes.common_height(box, cell.box)
        # Rows are lower than columns are wide: a step to another row is the longer way.
        return -boxes.common_area(box, cell.box), max(0.0, -across) + 3 * max(0.0, -down)

    return min(range(len(cells)), key=lambda number: misfit(cells[number]))


def _cuts(line: TextLine, cells: Sequence[Cell]) -> list[float]:
    """Where a line is to be cut, in pixels across: between neighbouring cells it fills."""
    box = boxes.around(line.corners)
    crossed = sorted(
        (
            cell.box
            for cell in cells
            if boxes.common_height(box, cell.box)
            >= ROW_OVERLAP * min(box[3] - box[1], cell.box[3] - cell.box[1])
            and boxes.common_width(box, cell.box) >= ROW_OVERLAP * (cell.box[2] - cell.box[0])
        ),
        key=lambda one: one[0] + one[2],
    )
    return [
        (left[2] + right[0]) / 2
        for left, right in itertools.pairwise(crossed)
        # Cells above each other are no reason to cut.
        if right[0] >= (left[0] + left[2]) / 2 and left[2] <= (right[0] + right[2]) / 2
    ]


def clashes(
    pieces: Sequence[Piece], owners: Sequence[int], cells: Sequence[Cell], gaps: Sequence[float]
) -> float:
    """Share of the pieces that the network's cells put together although they stand apart.

    Apart are pieces of one row of text in different columns, and rows of text that
    each fill most of the columns.
    """
    rows = text_rows(pieces)
    columns = len(gaps) + 1
    if columns < 2 or len(rows) < 2:
        return 0.0
    apart = 0
    whole_rows: defaultdict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        seen: dict[int, int] = {}
        filled_columns: set[int] = set()
        for member in row:
            column = column_of(boxes.middle_x(pieces[member].box), gaps)
            filled_columns.add(column)
            cell = cells[owners[member]]
            if cell.column_span == 1 and seen.setdefault(owners[member], column) != column:
                apart += 1
        if columns >= 3 and len(filled_columns) >= max(3, WHOLE_ROW * columns):
            votes = [cells[owners[member]].row for member in row]
            whole_rows[max(set(votes), key=votes.count)].append(number)
    for shared in whole_rows.values():
        # Headings and cells of two or three lines fill rows of text that belong together.
        if len(shared) > MANY_ROWS:
            apart += sum(len(rows[number]) for number in shared[1:])
    return apart / len(pieces)
