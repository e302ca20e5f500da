"""What a table of a digital page is to others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.digital_tables.cells import Cell
from mineru_daemon.engines.ppocr.table_html import to_html


@dataclass(frozen=True)
class Table:
    """A table: its box in points of the upright page, and its HTML."""

    box: Box
    html: str
    rows: int = 0
    columns: int = 0
    ruled: bool = False
    """Whether its cells are drawn."""


def of_cells(
    cells: Sequence[Cell], box: Box, rows: int, columns: int, *, ruled: bool = False
) -> Table:
    """The table of these cells. `box` is that of its grid, beyond which words may reach."""
    around = boxes.union([box, *(word.box for cell in cells for word in cell.words)])
    html = to_html(cells, empty_rows=False)
    return Table(around, html, rows, columns, ruled)
