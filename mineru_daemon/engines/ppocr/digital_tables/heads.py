"""Headings above columns of figures, and the grid of headings and body together.

Rules below headings tell over which columns they stand. Where the body is, and where its
columns lie, is told by `aligned`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.digital_tables.grid import Grid, interval, is_crossed, words_by_row
from mineru_daemon.engines.ppocr.digital_tables.notes import CAPTION
from mineru_daemon.engines.ppocr.digital_tables.rows import row_starts
from mineru_daemon.engines.ppocr.digital_tables.rules import COVERED, SNAP, Rule, cover, places_of
from mineru_daemon.engines.ppocr.digital_tables.tabular import is_prose
from mineru_daemon.engines.ppocr.digital_tables.words import between, middle_of, phrases_of, rows_of
from mineru_daemon.engines.ppocr.pdf_text import Word


def head_of(
    rows: Sequence[Sequence[Word]],
    place: tuple[int, int],
    wide: Sequence[float],
    extent: tuple[float, float],
    em: float,
) -> tuple[list[list[Word]], float | None]:
    """Rows of headings above the first row of figures, and the rule above them if any.

    `place` are the numbers of the first row that is free for them, and of the body's first.
    """
    free, first = place
    taken: list[list[Word]] = []
    top = min(word.box[1] for word in rows[first])
    head: list[list[Word]] = []
    head_top: float | None = None
    for number in range(first - 1, max(free - 1, first - 11), -1):
        row = list(rows[number])
        above = [at for at in wide if row[0].box[3] - 0.3 * em <= at <= top + 0.4 * em]
        if above:
            # Everything down from a rule belongs to the head.
            head, head_top = list(taken), min(above)
        reach = 5 if any(top - 10 * em <= at <= top + em for at in wide) else 2.5
        if is_prose(row, extent, em) or top - row[0].box[3] > reach * em:
            break
        if CAPTION.match(row[0].text) and len(row) > 2:
            break
        taken.append(row)
        top = min(word.box[1] for word in row)
    above = [at for at in wide if top - 2 * em <= at <= top + 0.4 * em]
    if above:
        head, head_top = list(taken), min(above)
    if not head:
        # A rule between head and body, if any, has none above it to go with.
        for row in taken:
            phrases = phrases_of(row, em)
            centred = row[0].box[0] > extent[0] + 0.2 * (extent[1] - extent[0])
            if len(phrases) < 2 and not centred:
                break
            head.append(row)
    return head[::-1], head_top


def stacked(
    head: Sequence[Sequence[Word]],
    body: Sequence[Sequence[Word]],
    xs: list[float],
    rules: Sequence[Rule],
    head_top: float | None,
    span: tuple[float, float],
    em: float,
) -> tuple[Grid, dict[int, int]]:
    """Grid of head and body, and the columns of words that stand over several ones."""
    first_top, bottom = span
    starts = row_starts(body, xs)
    body_ys = [between(body[number - 1], body[number]) for number in starts[1:]]
    ys: list[float] = []
    drawn: list[float] = []
    if head:
        top = min(word.box[1] for row in head for word in row)
        end = between(head[-1], body[0])
        ys.append(min(top, head_top) if head_top is not None else top)
        within = [rule for rule in rules if top + 0.3 * em < rule.at < end - 0.3 * em]
        inner = [
            at
            for at in places_of(within)
            if any(middle_of(row) < at for row in head) and any(middle_of(row) > at for row in head)
        ]
        if inner:
            drawn = inner
            ys += inner
        elif head_top is None:
            ys += [between(before, row) for before, row in itertools.pairwise(head)]
        ys.append(end)
    else:
        ys.append(first_top)
    ys += [*body_ys, bottom]
    grid = Grid(xs, ys)
    head_rows = len(ys) - 2 - len(body_ys)
    lines = words_by_row(grid, [word for row in [*head, *body] for word in row])
    home: dict[int, int] = {}
    cores = _cores(body, xs)
    for row in range(grid.rows):
        phrases = [phrase for one in rows_of(lines[row]) for phrase in phrases_of(one, em)]
        if row >= head_rows and len(phrases) == 1 and phrases[0][0].box[0] < xs[1]:
            home |= {id(word): 0 for word in phrases[0]}
            continue
        for column in range(grid.columns - 1):
            if is_crossed(lines[row], xs[column + 1], em):
                grid.joined_across.add((row, column))
    for number, at in enumerate(ys[1:-1], 1):
        if number > head_rows or at not in drawn:
            continue
        ruled = [cover(rules, at, *core) >= COVERED for core in cores]
        grid.joined_down |= {(number - 1, column) for column, one in enumerate(ruled) if not one}
        for low, high in _spans(rules, at, cores, ruled):
            _span_over(grid, number - 1, (low, high), cores, lines[number - 1], em)
    return grid, home


def _cores(rows: Sequence[Sequence[Word]], xs: Sequence[float]) -> list[tuple[float, float]]:
    """From where to where the words of each column reach; rules go by them."""
    cores = [(low, high) for low, high in itertools.pairwise(xs)]
    for column in range(len(cores)):
        own = [
            word
            for row in rows
            for word in row
            if interval(xs, boxes.middle_x(word.box)) == column
            and len(phrases_of(row, word.size)) > 1
        ]
        if own:
            cores[column] = min(word.box[0] for word in own), max(word.box[2] for word in own)
    return cores


def _spans(
    rules: Sequence[Rule],
    at: float,
    cores: Sequence[tuple[float, float]],
    ruled: Sequence[bool],
) -> list[tuple[int, int]]:
    """Columns (first, last) under one rule at `at`, or under pieces that follow each other."""
    spans: list[tuple[int, int]] = []
    for rule in rules:
        under = [
            column
            for column, core in enumerate(cores)
            if abs(rule.at - at) <= SNAP and cover([rule], rule.at, *core) >= COVERED
        ]
        if len(under) > 1:
            spans.append((under[0], under[-1]))
    start: int | None = None
    for column, one in enumerate([*ruled, False]):
        if one and start is None:
            start = column
        elif not one and start is not None:
            if column - 1 > start:
                spans.append((start, column - 1))
            start = None
    return spans


def _span_over(
    grid: Grid,
    row: int,
    span: tuple[int, int],
    cores: Sequence[tuple[float, float]],
    words: Sequence[Word],
    em: float,
) -> None:
    """A heading in the middle of columns that are ruled below stands over all of them."""
    first, last = span
    left, right = cores[first][0], cores[last][1]
    if last - first + 1 >= grid.columns:
        return
    over = [word for word in words if left - em <= boxes.middle_x(word.box) <= right + em]
    phrases = [phrase for one in rows_of(over) for phrase in phrases_of(one, em)]
    if len(phrases) != len(rows_of(over)) or not phrases:
        return
    low = min(phrase[0].box[0] for phrase in phrases)
    high = max(phrase[-1].box[2] for phrase in phrases)
    if abs(low + high - left - right) / 2 <= 0.2 * (right - left):
        grid.joined_across |= {(row, column) for column in range(first, last)}
