"""Rows of text that look like rows of a table, and those that look like prose.

Pure tests on words in rows; what table they make is left to `aligned`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from mineru_daemon.engines.ppocr.digital_tables.figures import (
    AFTER_FIGURE,
    BEFORE_FIGURE,
    is_figure,
)
from mineru_daemon.engines.ppocr.digital_tables.words import phrases_of
from mineru_daemon.engines.ppocr.pdf_text import Word


def tabular_runs(rows: Sequence[Sequence[Word]], em: float) -> list[tuple[int, int]]:
    """Ranges of rows, first and last, in which figures stand in columns."""
    tabular = [is_tabular(row, em) for row in rows]
    tops = [min(word.box[1] for word in row) for row in rows]
    ends = [max(word.box[3] for word in row) for row in rows]
    runs: list[tuple[int, int]] = []
    start: int | None = None
    last = 0
    for number in range(len(rows)):
        if not tabular[number]:
            continue
        if start is not None:
            between = rows[last + 1 : number]
            extent = (
                min(row[0].box[0] for row in rows[start : last + 1]),
                max(row[-1].box[2] for row in rows[start : last + 1]),
            )
            apart = (
                tops[number]
                - ends[last]
                - sum(ends[one] - tops[one] for one in range(last + 1, number))
            )
            broken = (
                len(between) > 3
                or apart > 2.2 * em * (len(between) + 1)
                or any(is_prose(row, extent, em) for row in between)
                or (apart > 0.8 * em and any(_is_centred(row, extent, em) for row in between))
            )
            if broken:
                runs.append((start, last))
                start = None
        if start is None:
            start = number
        last = number
    if start is not None:
        runs.append((start, last))
    return runs


def is_tabular(row: Sequence[Word], em: float) -> bool:
    """Whether a row holds figures that stand apart from each other."""
    figures = sum(is_figure(word.text) for word in row)
    others = sum(word.text not in BEFORE_FIGURE and word.text not in AFTER_FIGURE for word in row)
    if figures < 2 or figures < 0.35 * others:
        return False
    # Figures at the end of the row, apart from each other: not a date in a sentence.
    tail = [word for word in row if is_figure(word.text)]
    gaps = [word.box[0] - before.box[2] for before, word in itertools.pairwise(tail)]
    return max(gaps) > 0.45 * em and len(phrases_of(row, em, 0.5)) > 2


def _is_centred(row: Sequence[Word], extent: tuple[float, float], em: float) -> bool:
    """A single phrase away from the left edge: a heading over columns."""
    return len(phrases_of(row, em)) == 1 and row[0].box[0] > extent[0] + 0.25 * (
        extent[1] - extent[0]
    )


def is_prose(row: Sequence[Word], extent: tuple[float, float], em: float) -> bool:
    """A line of a paragraph: it fills the width with words."""
    if row[0].box[0] < extent[0] - 4 * em or row[-1].box[2] > extent[1] + 2 * em:
        return True
    phrases = phrases_of(row, em)
    longest = max(phrase[-1].box[2] - phrase[0].box[0] for phrase in phrases)
    return longest > 0.7 * (extent[1] - extent[0]) and len(row) > 6
