"""Facts that a page's Markdown must hold: unit tests in the format of olmOCR-bench.

Four kinds: `present` and `absent` (a text, nearly), `order` (one before another), `table` (a
cell with a neighbour or heading). Definitions as in olmOCR-bench's repository of March 2026;
formulas are not looked at.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from fuzzysearch import find_near_matches
from rapidfuzz import fuzz

from mineru_daemon.bench.accuracy import tables
from mineru_daemon.bench.accuracy.grid import STEPS, Grid
from mineru_daemon.bench.accuracy.tables import Cell

Fact = dict[str, Any]

KINDS = ("present", "absent", "order", "table")

LEAST_ALIKE = 0.5
"""Of two cells, however many differences a fact allows."""

_SIGNS = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e"), '"'),
    **dict.fromkeys(map(ord, "\u2013\u2014\u2011\u2012\u2212"), "-"),
    ord("\uff3f"): "_",
    ord("\u00b5"): "\u03bc",
}

_HEADINGS = {"top_heading": "up", "left_heading": "left"}


def holds(fact: Fact, page: str) -> bool:
    """Whether a page's Markdown satisfies a fact of one of `KINDS`."""
    match fact["type"]:
        case "present":
            return _occurs(fact, page)
        case "absent":
            return not _occurs(fact, page)
        case "order":
            return _in_order(fact, page)
    return _has_cell(fact, page)


def plain(text: str) -> str:
    """Folding: emphasis off, single spaces, NFC, plain quotes and dashes."""
    text = re.sub(r"<br/?>", " ", text)
    for pattern in (r"\*\*(.*?)\*\*", r"__(.*?)__"):
        text = re.sub(pattern, r"\1", text)
    text = re.sub(r"</?[bi]>", "", text)
    for pattern in (r"(\*\*|__)(.*?)\1", r"(\*|_)(.*?)\1"):
        text = re.sub(pattern, r"\2", text)
    return unicodedata.normalize("NFC", re.sub(r"\s+", " ", text)).translate(_SIGNS)


def _least(fact: Fact, text: str) -> float:
    """Similarity that is left when all allowed differences are used up."""
    return 1.0 - float(fact.get("max_diffs", 0)) / max(1, len(text))


def _occurs(fact: Fact, page: str) -> bool:
    text, page = plain(fact["text"]), plain(page)
    if not fact.get("case_sensitive", True):
        text, page = text.lower(), page.lower()
    first, last = fact.get("first_n") or 0, fact.get("last_n") or 0
    if first or last:
        page = page[:first] + (page[-last:] if last else "")
    return fuzz.partial_ratio(text, page) / 100 >= _least(fact, text)


def _in_order(fact: Fact, page: str) -> bool:
    page = plain(page)
    starts = [
        [
            found.start
            for found in find_near_matches(
                plain(fact[which]), page, max_l_dist=fact.get("max_diffs", 0)
            )
        ]
        for which in ("before", "after")
    ]
    return all(starts) and min(starts[0]) < max(starts[1])


# --- tables ------------------------------------------------------------------


def _has_cell(fact: Fact, page: str) -> bool:
    grids = [Grid(rows) for rows in map(tables.rows, tables.html_in(page)) if any(rows)]
    if not fact.get("ignore_markdown_tables", False):
        grids += _pipe_grids(page)
    wanted = {
        relation: plain(fact[relation]) for relation in (*STEPS, *_HEADINGS) if fact.get(relation)
    }

    def alike(text: str, cell: Cell) -> bool:
        similarity = fuzz.ratio(text, plain(cell.text.strip())) / 100
        return similarity >= max(LEAST_ALIKE, _least(fact, text))

    text = plain(fact["cell"])
    return any(
        alike(text, cell)
        and all(
            any(alike(query, grid.cells[other]) for other in _related(grid, place, relation))
            for relation, query in wanted.items()
        )
        for grid in grids
        for place, cell in grid.cells.items()
    )


def _related(grid: Grid, place: tuple[int, int], relation: str) -> set[tuple[int, int]]:
    if relation in _HEADINGS:
        return grid.headings(place, _HEADINGS[relation])
    return grid.beside(place, relation)


def _pipe_grids(page: str) -> Iterator[Grid]:
    """Two or more lines with a pipe in a row; first row and first column are headings."""
    for in_table, lines in itertools.groupby(page.strip().split("\n"), lambda line: "|" in line):
        rows = _pipe_rows(list(lines)) if in_table else []
        if rows:
            yield Grid(
                [
                    [Cell(text, heading=not row or not column) for column, text in enumerate(cells)]
                    for row, cells in enumerate(rows)
                ]
            )


def _pipe_rows(lines: list[str]) -> list[list[str]]:
    """Cells of each line that is no rule."""
    if len(lines) < 2:
        return []
    rows = []
    ruled = False
    for line in lines:
        inner = line.replace("|", "").strip()
        if not ruled and inner and set(inner) <= set("- :"):
            ruled = True
            continue
        if line.strip() and set(line) <= set("- :|"):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        cells = cells[1:] if not cells[0] else cells
        cells = cells[:-1] if cells and not cells[-1] else cells
        if cells:
            rows.append(cells)
    return rows
