"""Aligned tables: figures or short entries in columns, with level rules or none.

Two-column text must never become a table: only figures that stand in columns over
several rows do. Headings are left to `heads`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.digital_tables.cells import compacted, filled_cells
from mineru_daemon.engines.ppocr.digital_tables.columns import is_filled, rivers_of, with_signs
from mineru_daemon.engines.ppocr.digital_tables.heads import head_of, stacked
from mineru_daemon.engines.ppocr.digital_tables.rules import SNAP, Rule
from mineru_daemon.engines.ppocr.digital_tables.table import Table, of_cells
from mineru_daemon.engines.ppocr.digital_tables.tabular import is_tabular, tabular_runs
from mineru_daemon.engines.ppocr.digital_tables.words import rows_of
from mineru_daemon.engines.ppocr.pdf_text import Word

MIN_RULE = 30.0
"""Points; a level rule of a table without plumb ones is not shorter."""


def aligned_tables(words: Sequence[Word], level: Sequence[Rule], width: float) -> list[Table]:
    """Tables without a lattice: figures or short entries in columns."""
    tables: list[Table] = []
    for low, top, high, bottom in _scopes(level, width):
        inside = [
            word
            for word in words
            if low <= boxes.middle_x(word.box) <= high
            and top <= word.box[1]
            and word.box[3] <= bottom
            and not any(boxes.centre_in(word.box, table.box) for table in tables)
        ]
        rules = [
            rule
            for rule in level
            if not rule.edge
            and rule.end > low
            and rule.start < high
            and not any(boxes.touch(table.box, rule.box) for table in tables)
        ]
        if len(inside) < 6:
            continue
        em = median(word.size for word in inside)
        rows = rows_of(inside)
        before = -1
        for first, last in tabular_runs(rows, em):
            table = _aligned_table(rows, before + 1, (first, last), rules, em)
            if table is not None:
                tables.append(table)
                before = last
    return tables


def _scopes(level: Sequence[Rule], width: float) -> list[Box]:
    """Boxes in which tables are looked for: between rules of one length, then the page."""
    scopes: list[Box] = []
    for rule in level:
        if rule.edge or rule.end - rule.start < 3 * MIN_RULE or rule.end - rule.start > 0.6 * width:
            continue
        twins = [
            other.at
            for other in level
            if abs(other.start - rule.start) < 6 and abs(other.end - rule.end) < 6
        ]
        # A caption may share the rules; a row of sums may stand below the last one.
        scope = (rule.start - SNAP, min(twins) - 30, rule.end + SNAP, max(twins) + 15)
        if len(twins) >= 3 and all(
            abs(scope[0] - one[0]) > 6 or abs(scope[2] - one[2]) > 6 for one in scopes
        ):
            scopes.append(scope)
    return [*scopes[:8], (-math.inf, -math.inf, math.inf, math.inf)]


def _aligned_table(
    rows: Sequence[Sequence[Word]],
    free: int,
    run: tuple[int, int],
    level: Sequence[Rule],
    em: float,
) -> Table | None:
    """The table whose figures stand in the rows of `run`; rows from `free` on may be its head."""
    first, last = run
    body = [list(row) for row in rows[first : last + 1]]
    tabular = [row for row in body if is_tabular(row, em)]
    if len(tabular) < 2:
        return None
    left = min(row[0].box[0] for row in body)
    right = max(row[-1].box[2] for row in body)
    rules = [
        rule
        for rule in level
        if rule.start < right and rule.end > left and rule.end - rule.start >= 8
    ]
    wide = [
        rule.at
        for rule in rules
        if min(rule.end, right) - max(rule.start, left) >= 0.75 * (right - left)
    ]
    top = min(word.box[1] for word in body[0])
    bottom = max(word.box[3] for word in body[-1])
    head, head_top = head_of(rows, (free, first), wide, (left, right), em)
    bounded = head_top is not None or any(bottom - em < at < bottom + 2 * em for at in wide)
    if len(tabular) < (2 if bounded else 3):
        return None
    size = median(word.size for row in tabular for word in row)
    rivers = rivers_of(tabular, size)
    if len(rivers) < (1 if bounded else 2):
        return None
    left = min([left, *(row[0].box[0] for row in head)])
    right = max([right, *(row[-1].box[2] for row in head)])
    xs = [left - 1, *((low + high) / 2 for low, high in rivers), right + 1]
    xs = with_signs(tabular, xs)
    if len(xs) < (3 if bounded else 4) or not is_filled(tabular, xs):
        return None
    grid, home = stacked(head, body, xs, rules, head_top, (top, bottom), size)
    words = [word for row in [*head, *body] for word in row]
    cells = filled_cells(grid, words, home)
    cells, count, columns = compacted(cells, grid, set(), set())
    if columns < 2 or count < 2:
        return None
    return of_cells(cells, (left, grid.ys[0], right, grid.ys[-1]), count, columns)
