"""A grid and words -> cells with their words.

Joined neighbours become one cell; rows and columns that hold nothing are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.digital_tables.grid import Grid, interval
from mineru_daemon.engines.ppocr.digital_tables.words import text_of
from mineru_daemon.engines.ppocr.pdf_text import Word


@dataclass(slots=True)
class Cell:
    """A cell of a grid, with its words."""

    row: int
    column: int
    row_span: int
    column_span: int
    words: list[Word] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Its words as text."""
        return text_of(self.words)


def _joined(grid: Grid) -> list[Cell]:
    """Joined neighbours as cells; what is not a rectangle becomes the one around it."""
    rows, columns = grid.rows, grid.columns
    owner = [[-1] * columns for _ in range(rows)]
    cells: list[Cell] = []
    for row in range(rows):
        for column in range(columns):
            if owner[row][column] >= 0:
                continue
            right = column
            while (
                right + 1 < columns
                and (row, right) in grid.joined_across
                and owner[row][right + 1] < 0
            ):
                right += 1
            bottom = row
            while bottom + 1 < rows and all(
                (bottom, one) in grid.joined_down and owner[bottom + 1][one] < 0
                for one in range(column, right + 1)
            ):
                bottom += 1
            for down in range(row, bottom + 1):
                for across in range(column, right + 1):
                    owner[down][across] = len(cells)
            cells.append(Cell(row, column, bottom - row + 1, right - column + 1))
    return cells


def filled_cells(
    grid: Grid, words: Sequence[Word], home: Mapping[int, int] | None = None
) -> list[Cell]:
    """The cells of the grid, each word in the one where its middle lies.

    `home` tells the columns of words, by their `id`, that are not where they stand.
    """
    cells = _joined(grid)
    place = {
        (row, column): cell
        for cell in cells
        for row in range(cell.row, cell.row + cell.row_span)
        for column in range(cell.column, cell.column + cell.column_span)
    }
    homes = home or {}
    for word in words:
        row = interval(grid.ys, boxes.middle_y(word.box))
        column = homes.get(id(word), interval(grid.xs, boxes.middle_x(word.box)))
        place[row, column].words.append(word)
    return cells


def compacted(
    cells: list[Cell], grid: Grid, spare_rows: set[int], spare_columns: set[int]
) -> tuple[list[Cell], int, int]:
    """Without rows and columns that hold no words of their own, except for spare ones.

    They are what is left between double rules and around filled boxes.
    """
    keep_rows = [
        row
        for row in range(grid.rows)
        if row in spare_rows
        or any(cell.row == row and cell.row_span == 1 and cell.words for cell in cells)
    ]
    keep_columns = [
        column
        for column in range(grid.columns)
        if column in spare_columns
        or any(cell.column == column and cell.column_span == 1 and cell.words for cell in cells)
    ]
    # A cell whose rows are all thin keeps one of them, and so with columns.
    for cell in cells:
        if cell.words:
            if not any(cell.row <= row < cell.row + cell.row_span for row in keep_rows):
                keep_rows = sorted([*keep_rows, cell.row])
            if not any(
                cell.column <= column < cell.column + cell.column_span for column in keep_columns
            ):
                keep_columns = sorted([*keep_columns, cell.column])
    row_number = {row: number for number, row in enumerate(keep_rows)}
    column_number = {column: number for number, column in enumerate(keep_columns)}
    result = []
    for cell in cells:
        rows = [
            row_number[row]
            for row in range(cell.row, cell.row + cell.row_span)
            if row in row_number
        ]
        columns = [
            column_number[column]
            for column in range(cell.column, cell.column + cell.column_span)
            if column in column_number
        ]
        if rows and columns:
            result.append(Cell(rows[0], columns[0], len(rows), len(columns), cell.words))
    return result, len(keep_rows), len(keep_columns)
