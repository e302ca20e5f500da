"""Tables in a text, as grids and as trees; how alike two of them are (TEDS).

TEDS ("Image-based table recognition: data, model, and evaluation", Zhong et al. 2020) is
1 - tree edit distance / size of the larger tree, over table, rows and cells with their spans;
TEDS-S ignores what the cells say. `th` counts as `td`; `thead` and `tbody` do not count.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from apted import APTED, Config
from rapidfuzz.distance import Levenshtein

from mineru_daemon.bench.accuracy.text import squeezed

MOST_NODES = 900
"""Larger trees are not compared and score 0: the edit distance is cubic."""

_HTML = re.compile(r"<table.*?</table>", re.DOTALL | re.IGNORECASE)
_RULE = re.compile(r"\s*:?-+:?\s*")


@dataclass
class Cell:
    """A cell as it is written; its place follows from the others'."""

    text: str = ""
    rowspan: int = 1
    colspan: int = 1
    heading: bool = False
    """Whether it is a `th` or stands in a `thead`."""


class _Rows(HTMLParser):
    """The rows of one table; what is not closed is closed by what follows."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[Cell]] = []
        self._cell: Cell | None = None
        self._in_head = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
            self._cell = None
        elif tag in ("td", "th") and self.rows:
            spans = dict(attrs)
            self._cell = Cell(
                "",
                _span(spans.get("rowspan")),
                _span(spans.get("colspan")),
                tag == "th" or self._in_head,
            )
            self.rows[-1].append(self._cell)
        elif tag == "thead":
            self._in_head = True
        elif tag == "br":
            self.handle_data("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = None
        elif tag == "thead":
            self._in_head = False

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.text += data


def _span(value: str | None) -> int:
    return max(1, int(value)) if value and value.strip().isdecimal() else 1


def rows(source: str) -> list[list[Cell]]:
    """Rows of the cells of a table in HTML."""
    parser = _Rows()
    parser.feed(source)
    parser.close()
    return parser.rows


def found_in(text: str) -> list[str]:
    """All tables of a Markdown text as HTML: those in HTML first, then pipe tables."""
    return [*html_in(text), *_pipe_tables(_HTML.sub("", text))]


def html_in(text: str) -> list[str]:
    """Those that are written in HTML."""
    return _HTML.findall(text)


def _pipe_tables(text: str) -> list[str]:
    def is_row(line: str) -> bool:
        return line.strip().startswith("|") and line.count("|") >= 2

    tables = []
    for in_table, lines in itertools.groupby(text.splitlines(), is_row):
        cells = [line.strip().strip("|").split("|") for line in lines] if in_table else []
        if len(cells) < 2:
            continue
        kept = [row for row in cells if not all(_RULE.fullmatch(cell or "-") for cell in row)]
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell.strip())}</td>" for cell in row) + "</tr>"
            for row in kept
        )
        tables.append(f"<table>{body}</table>")
    return tables


# --- likeness ----------------------------------------------------------------


@dataclass
class _Node:
    """Of the tree that is compared: the table, a row, or a cell with its spans and text."""

    kind: str
    spans: tuple[int, int] = (1, 1)
    text: str = ""
    children: list[_Node] = field(default_factory=list)


class _Costs(Config):  # type: ignore[misc] # apted has no types
    """1 for whatever differs, and for the text of two cells their edit distance."""

    def __init__(self, structure_only: bool) -> None:
        self._structure_only = structure_only

    def rename(self, one: _Node, other: _Node) -> float:
        if (one.kind, one.spans) != (other.kind, other.spans):
            return 1.0
        if one.kind != "td" or self._structure_only:
            return 0.0
        return float(Levenshtein.normalized_distance(one.text, other.text))

    def children(self, node: _Node) -> list[_Node]:
        return node.children


def _tree(source: str) -> _Node:
    return _Node(
        "table",
        children=[
            _Node(
                "tr",
                children=[
                    _Node("td", (cell.rowspan, cell.colspan), squeezed(cell.text)) for cell in row
                ],
            )
            for row in rows(source)
        ],
    )


def _size(node: _Node) -> int:
    return 1 + sum(_size(child) for child in node.children)


def teds(truth: str, read: str, *, structure_only: bool = False) -> float:
    """Likeness of two tables in HTML, 0..1."""
    trees = _tree(truth), _tree(read)
    size = max(map(_size, trees))
    if size > MOST_NODES:
        return 0.0
    distance: Any = APTED(*trees, _Costs(structure_only)).compute_edit_distance()
    return max(0.0, 1 - float(distance) / size)


def matched(truths: Sequence[str], text: str) -> list[tuple[float, float]]:
    """TEDS and TEDS-S of each true table; the likest are matched first, a missed one scores 0.

    Tables beyond the true ones cost nothing.
    """
    read = found_in(text)
    likeness = sorted(
        (
            (teds(truth, one), number, place)
            for number, truth in enumerate(truths)
            for place, one in enumerate(read)
        ),
        reverse=True,
    )
    scores: dict[int, tuple[float, float]] = {}
    taken: set[int] = set()
    for alike, number, place in likeness:
        if number in scores or place in taken:
            continue
        taken.add(place)
        scores[number] = alike, teds(truths[number], read[place], structure_only=True)
    return [scores.get(number, (0.0, 0.0)) for number in range(len(truths))]
