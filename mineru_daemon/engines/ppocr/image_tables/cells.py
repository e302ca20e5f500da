"""What is known of a table on an image: its cells, with or without their text."""

from __future__ import annotations

from dataclasses import dataclass

from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.table_html import to_html


@dataclass(frozen=True)
class Cell:
    """A cell of the grid. `box` is where its text is or would be, in pixels of the page."""

    row: int
    column: int
    row_span: int
    column_span: int
    box: Box
    text: str = ""


@dataclass(frozen=True)
class Structure:
    """What the network says: cells without text, in the order of HTML, and its confidence."""

    cells: list[Cell]
    score: float


@dataclass(frozen=True)
class TableReading:
    """A table that was read; `score` is the mean confidence of its structure."""

    cells: list[Cell]
    score: float

    @property
    def html(self) -> str:
        """The table as HTML of one line."""
        return to_html(self.cells)
