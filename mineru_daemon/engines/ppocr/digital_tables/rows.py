"""Rows of a table from rows of text: which of them go on with the row above.

Rows of text are made by `words`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mineru_daemon.engines.ppocr.digital_tables.figures import is_figure
from mineru_daemon.engines.ppocr.digital_tables.grid import by_column
from mineru_daemon.engines.ppocr.pdf_text import Word


def row_starts(rows: Sequence[Sequence[Word]], xs: Sequence[float]) -> list[int]:
    """Numbers of the text rows with which rows of the table begin.

    Figures do not run over several lines, so a column of figures tells the rows.
    """
    columns = len(xs) - 1
    entries = [by_column(row, xs) for row in rows]
    figured: list[int] = []
    for column in range(1, columns):
        texts = [one[column] for one in entries if one[column]]
        if len(texts) >= 2 and sum(is_figure(text) for text in texts) >= 0.7 * len(texts):
            figured.append(column)
    if not figured:
        return [0]
    starts = [0]
    for number in range(1, len(rows)):
        if _begins_row(entries, number, figured):
            starts.append(number)
    return starts


def _begins_row(
    entries: Sequence[Sequence[str]],
    number: int,
    figured: Sequence[int],
) -> bool:
    """Whether text row `number` begins a row of the table, or goes on with the one before."""
    own = any(entries[number][column] for column in figured)
    before = any(entries[number - 1][column] for column in figured)
    label = entries[number][0]
    lower = label[:1].islower()
    if own and before:
        return True
    if own:
        # A label whose figures stand beside its last line, or a heading of a group above.
        return not (lower and entries[number - 1][0])
    if before and label:
        return not (lower or label[:1] in "(&/")
    return bool(label) and not lower
