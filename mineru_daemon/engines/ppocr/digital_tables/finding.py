"""The tables of a page: ruled ones first, aligned ones in what is left."""

from __future__ import annotations

from collections.abc import Sequence

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.digital_tables.aligned import aligned_tables
from mineru_daemon.engines.ppocr.digital_tables.ruled import ruled_table
from mineru_daemon.engines.ppocr.digital_tables.rules import (
    components,
    is_filled_only,
    is_typed,
    rules_of,
    typed_rule,
)
from mineru_daemon.engines.ppocr.digital_tables.table import Table
from mineru_daemon.engines.ppocr.digital_tables.words import upright
from mineru_daemon.engines.ppocr.pdf_objects import Drawing
from mineru_daemon.engines.ppocr.pdf_text import PrintedLine

MAX_WORDS = 12_000
"""Words of a page in which tables are looked for; a page of a newspaper has 8000."""


def find(
    lines: Sequence[PrintedLine], drawing: Drawing, width: float, height: float
) -> list[Table]:
    """Tables of a page of `width` by `height` points, from top to bottom."""
    words = [word for line in lines if not line.angle % 180 for word in line.words]
    words += [upright(line) for line in lines if line.angle % 180 and line.words]
    if not 2 <= len(words) <= MAX_WORDS:
        return []
    level, plumb = rules_of(drawing, width, height)
    typed = [word for word in words if is_typed(word)]
    words = [word for word in words if not is_typed(word)]
    level += [typed_rule(word) for word in typed]
    drawn: list[Table] = []
    filled: list[Table] = []
    for component in components(level, plumb):
        table = ruled_table(component, words)
        if table is not None:
            (filled if is_filled_only(component) else drawn).append(table)
    tables = _outermost(drawn)
    free = [word for word in words if not _is_inside(word.box, tables)]
    rules = [
        rule for rule in level if not any(boxes.touch(table.box, rule.box) for table in tables)
    ]
    tables += aligned_tables(free, rules, width)
    # Stripes and heat maps colour some cells only; figures in columns tell more.
    tables += [
        table
        for table in _outermost(filled)
        if not any(boxes.overlap(table.box, other.box) for other in tables)
    ]
    return sorted(tables, key=lambda table: (table.box[1], table.box[0]))


def _outermost(tables: Sequence[Table]) -> list[Table]:
    """Without tables that lie within others."""
    kept: list[Table] = []
    for table in sorted(tables, key=lambda one: -boxes.area(one.box)):
        if not _is_inside(table.box, kept):
            kept.append(table)
    return kept


def lines_outside(lines: Sequence[PrintedLine], tables: Sequence[Table]) -> list[PrintedLine]:
    """Lines whose middle lies in no table."""
    return [line for line in lines if not _is_inside(line.box, tables)]


def _is_inside(box: Box, tables: Sequence[Table]) -> bool:
    return any(boxes.centre_in(box, table.box) for table in tables)
