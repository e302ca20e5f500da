"""The grid of a table: its columns and rows, and in which of them words stand.

Where the columns and rows lie is found by `lattice` for drawn tables and by `heads` for
aligned ones; cells are made by `cells`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.digital_tables.words import rows_of
from mineru_daemon.engines.ppocr.pdf_text import Word


@dataclass
class Grid:
    """Rows and columns, and which neighbours are one cell."""

    xs: list[float]
    ys: list[float]
    joined_across: set[tuple[int, int]] = field(default_factory=set)
    """(row, column) whose cell goes on in the next column."""
    joined_down: set[tuple[int, int]] = field(default_factory=set)
    """(row, column) whose cell goes on in the next row."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.ys) - 1

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self.xs) - 1


def interval(bounds: Sequence[float], at: float) -> int:
    """Number of the interval that holds `at`; the nearest one outside."""
    for number in range(1, len(bounds) - 1):
        if at < bounds[number]:
            return number - 1
    return len(bounds) - 2


def words_by_row(grid: Grid, words: Sequence[Word]) -> list[list[Word]]:
    """The words of each row of the grid."""
    rows: list[list[Word]] = [[] for _ in range(grid.rows)]
    for word in words:
        rows[interval(grid.ys, boxes.middle_y(word.box))].append(word)
    return rows


def by_column(row: Sequence[Word], xs: Sequence[float]) -> list[str]:
    """The text that a row of words has in each column between the bounds `xs`."""
    entries = [""] * (len(xs) - 1)
    for word in row:
        column = interval(xs, boxes.middle_x(word.box))
        entries[column] += f" {word.text}" if entries[column] else word.text
    return entries


def is_crossed(words: Sequence[Word], at: float, em: float) -> bool:
    """Whether a word, or the space between two words of a phrase, lies over `at`."""
    for row in rows_of(words):
        for before, word in zip([None, *row], row, strict=False):
            if word.box[0] < at - 0.2 * em and word.box[2] > at + 0.2 * em:
                return True
            if (
                before is not None
                and before.box[2] <= at + 0.2 * em
                and word.box[0] >= at - 0.2 * em
                and word.box[0] - before.box[2] < 0.5 * em
            ):
                return True
    return False
