"""Columns from words: white space that runs through the rows.

In which rows it is looked for is up to `lattice` and `aligned`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mineru_daemon.engines.ppocr.digital_tables.figures import (
    AFTER_FIGURE,
    BEFORE_FIGURE,
    is_figure,
)
from mineru_daemon.engines.ppocr.digital_tables.grid import by_column
from mineru_daemon.engines.ppocr.digital_tables.words import phrases_of
from mineru_daemon.engines.ppocr.pdf_text import Word

MIN_COLUMN_GAP = 0.35
"""Gap in em between columns that holds over many rows."""
MANY_ROWS = 8
"""Rows from which on white space that runs through all of them cannot be chance."""


def rivers_of(
    rows: Sequence[Sequence[Word]], em: float, least: float | None = None
) -> list[tuple[float, float]]:
    """White columns (from, to) between the words of `rows`.

    Rows of a single phrase, as headings of groups, do not count; a few rows may have
    something in the way, as headings over several columns have. `least` is the width in
    em; without it, the more rows there are, the narrower a river may be.
    """
    counted = [row for row in rows if len(phrases_of(row, em)) > 1]
    if len(counted) < 2:
        return []
    if least is None:
        least = 0.9 if len(counted) < 4 else 0.6 if len(counted) < MANY_ROWS else MIN_COLUMN_GAP
    allowed = len(counted) // 8 if len(counted) >= 6 else (1 if len(counted) >= 4 else 0)
    events: list[tuple[float, int]] = []
    for row in counted:
        reach = -1e9
        start = None
        for word in row:
            if start is None or word.box[0] > reach + 0.1 * em:
                if start is not None:
                    events += [(start, 1), (reach, -1)]
                start, reach = word.box[0], word.box[2]
            else:
                reach = max(reach, word.box[2])
        if start is not None:
            events += [(start, 1), (reach, -1)]
    events.sort()
    rivers: list[tuple[float, float]] = []
    depth = 0
    begin: float | None = None
    stretches: list[tuple[int, float, float]] = []
    last = 0.0
    for at, change in events:
        before = depth
        depth += change
        if begin is not None:
            stretches.append((before, last, at))
        last = at
        if before > allowed >= depth:
            begin, stretches = at, []
        elif before <= allowed < depth:
            if begin is not None and at - begin >= least * em:
                rivers.append(_emptiest(stretches, 0.1 * em))
            begin = None
    return [river for river in rivers if _parts(counted, river)]


def _emptiest(stretches: Sequence[tuple[int, float, float]], least: float) -> tuple[float, float]:
    """Of (rows in the way, from, to), the widest where the fewest rows are in the way."""
    wide = [one for one in stretches if one[2] - one[1] >= least] or list(stretches)
    fewest = min(one[0] for one in wide)
    _, low, high = max((one for one in wide if one[0] == fewest), key=lambda one: one[2] - one[1])
    return low, high


def _parts(rows: Sequence[Sequence[Word]], river: tuple[float, float]) -> bool:
    """Whether at least two rows, and a quarter of them, have words on both sides of a river."""
    middle = (river[0] + river[1]) / 2
    both = sum(row[0].box[2] <= middle + 1 and row[-1].box[0] >= middle - 1 for row in rows)
    return both >= 2 and both >= 0.25 * len(rows)


def with_signs(rows: Sequence[Sequence[Word]], xs: list[float]) -> list[float]:
    """Columns of signs (currency, per cent) belong to the figures beside them."""
    entries = [by_column(row, xs) for row in rows]
    dropped: set[int] = set()
    for column in range(len(xs) - 1):
        texts = {one[column] for one in entries if one[column]}
        if texts and texts <= BEFORE_FIGURE and column + 2 < len(xs):
            dropped.add(column + 1)
        elif texts and texts <= AFTER_FIGURE and column > 0:
            dropped.add(column)
    return [at for number, at in enumerate(xs) if number not in dropped]


def is_filled(rows: Sequence[Sequence[Word]], xs: Sequence[float]) -> bool:
    """Whether the columns hold entries in most rows, and short ones."""
    entries = [by_column(row, xs) for row in rows]
    filled = sum(bool(text) for one in entries for text in one)
    if filled < 0.5 * len(entries) * (len(xs) - 1):
        return False
    figured = 0
    for column in range(len(xs) - 1):
        texts = [one[column] for one in entries if one[column]]
        if texts and sum(is_figure(text) for text in texts) >= 0.6 * len(texts):
            figured += 1
    return figured >= 1 and figured >= 0.4 * (len(xs) - 2)
