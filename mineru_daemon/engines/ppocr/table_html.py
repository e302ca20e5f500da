"""A table's cells -> HTML of one line.

The one place where HTML of tables is written, for tables of images and of digital pages.
Which cells there are, and what stands in them, is told by `image_tables` and
`digital_tables`.
"""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol


class WrittenCell(Protocol):
    """A cell by its place in the grid, with its text."""

    @property
    def row(self) -> int:
        """Number of its first row, from 0."""

    @property
    def column(self) -> int:
        """Number of its first column, from 0."""

    @property
    def row_span(self) -> int:
        """How many rows it is in."""

    @property
    def column_span(self) -> int:
        """How many columns it is in."""

    @property
    def text(self) -> str:
        """What stands in it, not yet escaped."""


def to_html(cells: Iterable[WrittenCell], *, empty_rows: bool = True) -> str:
    """The table as HTML. With `empty_rows`, rows in which no cell begins are written too."""
    rows: defaultdict[int, list[str]] = defaultdict(list)
    for cell in sorted(cells, key=lambda one: (one.row, one.column)):
        spans = "".join(
            f' {name}="{count}"'
            for name, count in (("rowspan", cell.row_span), ("colspan", cell.column_span))
            if count > 1
        )
        rows[cell.row].append(f"<td{spans}>{html.escape(cell.text, quote=False)}</td>")
    numbers = range(max(rows, default=-1) + 1) if empty_rows else sorted(rows)
    return "<table>" + "".join(f"<tr>{''.join(rows[row])}</tr>" for row in numbers) + "</table>"
