"""Captions above and notes below a table that stand within its frame."""

from __future__ import annotations

import re

from mineru_daemon.engines.ppocr.digital_tables.cells import Cell

_NOTE = re.compile(r"(notes?|sources?|exhibit reads|legend|key)\b", re.IGNORECASE)
LONG_NOTE = 90
"""Characters from which the last row over all columns is a note, not a sum."""
CAPTION = re.compile(
    r"(table|tab\.|exhibit|figure|fig\.|chart|source|note|tabelle|tableau|\u8868|\u56fe|\u5716|\u56f3)",
    re.IGNORECASE,
)


def without_notes(cells: list[Cell], rows: int, columns: int) -> tuple[list[Cell], int]:
    """Without a caption above and notes below that share the frame of the table."""
    first, last = 0, rows
    by_row: dict[int, list[Cell]] = {}
    for cell in cells:
        by_row.setdefault(cell.row, []).append(cell)

    def alone(row: int) -> str | None:
        own = by_row.get(row, [])
        if len(own) == 1 and own[0].column_span == columns and own[0].row_span == 1:
            return own[0].text
        return None

    while last - first > 2 and (text := alone(first)) is not None:
        if text and not CAPTION.match(text):
            break
        first += 1
    while last - first > 2 and (text := alone(last - 1)) is not None:
        if text and not _NOTE.match(text) and len(text) < LONG_NOTE:
            break
        last -= 1
    kept = [
        Cell(cell.row - first, cell.column, cell.row_span, cell.column_span, cell.words)
        for cell in cells
        if first <= cell.row < last
    ]
    return kept, last - first
