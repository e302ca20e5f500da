"""Tables of digital pages: from rulings where there are some, else from columns of words.

Pure geometry over the lines of `pdf_text` and the rulings of `pdf_objects`; no model, no
image. Tables on images are read elsewhere. Two-column text must never become a table:
where rulings do not say so, only figures or short entries that stand in columns do.

All lengths are points of the upright page, or em of the table's type where said.
"""

from __future__ import annotations

import html
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.pdf_objects import Drawing, Fill
from mineru_daemon.engines.ppocr.pdf_text import PrintedLine, Word

SNAP = 3.0
"""Points within which rulings are one line: double rules are 2 to 3 pt apart."""
TOUCH = 4.0
"""Points within which the end of a ruling touches another one."""
COVERED = 0.5
"""Share of a cell's side under a ruling from which the side is drawn."""
CELL_GAP = 0.8
"""Gap in em from which words of a row are in two cells, before columns are known. Word
spaces are 0.25 to 0.35 em, in justified lines up to 0.7."""
MIN_COLUMN_GAP = 0.35
"""Gap in em between columns that holds over many rows."""
LONGEST_FIGURE = 40
MAX_WORDS = 12_000
"""Words of a page in which tables are looked for; a page of a newspaper has 8000."""
MAX_RULES = 2_000
"""Rules of a page that are looked at; they are compared pair by pair."""
EMPTY_ROW = 1.3
"""Height in em from which an empty drawn row is one to be filled in: a line of print and
some air."""
EMPTY_COLUMN = 1.6
"""The same for the width of columns."""
MANY_ROWS = 8
"""Rows from which on white space that runs through all of them cannot be chance."""
MAX_CELLS = 6_000
"""Cells of a grid; forms with more are drawings on graph paper."""
MIN_RULE = 30.0
"""Points; a level rule of a table without plumb ones is not shorter."""

_FIGURE = re.compile(
    r"[\s(\[<>~\u2248$\u20ac\u00a3\u00a5+\-\u2010-\u2015\u2212\u00b1]*"
    r"(\d[\d\s.,:/%\u2030\u00b0'\u2019+\-\u2010-\u2015\u2212\u00b1()\u00d7x*\u2020\u2021$\u20ac]*[a-zA-Z]{0,2}\)?\*{0,3}"
    r"|\.{2,}|n\.?/?a\.?|nil|none|yes|no|ref|[*x\u2713\u2717\u2022\u2014\u2013-]+)[\s\])*]*",
    re.IGNORECASE,
)
_TYPED_RULE = re.compile(r"[-_=\u2500\u2501\u2550\u2014]{8,}")
"""A rule made of characters, as on typewriters."""
_LEADERS = re.compile(r"\s*(?:[.\u2024\u2025\u2026\u00b7]\s?){4,}$")
"""Dots that lead the eye to the next column."""
_BEFORE_FIGURE = frozenset(
    {"$", "\u20ac", "\u00a3", "\u00a5", "US$", "(", "$(", "-", "\u2013", "<", ">"}
)
_AFTER_FIGURE = frozenset({"%", ")", "%)", ")%", "*", "**", "***", "\u2020", "\u2021"})
_NOTE = re.compile(r"(notes?|sources?|exhibit reads|legend|key)\b", re.IGNORECASE)
LONG_NOTE = 90
"""Characters from which the last row over all columns is a note, not a sum."""
_CAPTION = re.compile(
    r"(table|tab\.|exhibit|figure|fig\.|chart|source|note|tabelle|tableau|\u8868|\u56fe|\u5716|\u56f3)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Table:
    """A table: its box in points of the upright page, and its HTML."""

    box: Box
    html: str
    rows: int = 0
    columns: int = 0
    ruled: bool = False
    """Whether its cells are drawn."""


def find(
    lines: Sequence[PrintedLine], drawing: Drawing, width: float, height: float
) -> list[Table]:
    """Tables of a page of `width` by `height` points, from top to bottom."""
    words = [word for line in lines if not line.angle % 180 for word in line.words]
    words += [_upright(line) for line in lines if line.angle % 180 and line.words]
    if not 2 <= len(words) <= MAX_WORDS:
        return []
    level, plumb = _rulings(drawing, width, height)
    typed = [word for word in words if _TYPED_RULE.fullmatch(word.text)]
    words = [word for word in words if not _TYPED_RULE.fullmatch(word.text)]
    level += [
        Rule((word.box[1] + word.box[3]) / 2, word.box[0], word.box[2], True) for word in typed
    ]
    drawn: list[Table] = []
    filled: list[Table] = []
    for component in _components(level, plumb):
        table = _ruled_table(component, words)
        if table is not None:
            (filled if _is_filled_only(component) else drawn).append(table)
    tables = _outermost(drawn)
    free = [word for word in words if not any(_holds(table.box, word.box) for table in tables)]
    rules = [rule for rule in level if not any(_crosses(table.box, rule) for table in tables)]
    tables += _aligned_tables(free, rules, width)
    # Stripes and heat maps colour some cells only; figures in columns tell more.
    tables += [
        table
        for table in _outermost(filled)
        if not any(_overlap(table.box, other.box) for other in tables)
    ]
    return sorted(tables, key=lambda table: (table.box[1], table.box[0]))


def _is_filled_only(component: Sequence[Rule]) -> bool:
    """Whether hardly a plumb line is drawn, so that edges of filled boxes make the columns."""
    return len(_places([rule for rule in component if not rule.level and not rule.edge])) < 2


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _is_figure(text: str) -> bool:
    """Whether an entry is a figure, or stands where one would; entries of forms are short."""
    return len(text) <= LONGEST_FIGURE and _FIGURE.fullmatch(text) is not None


def lines_outside(lines: Sequence[PrintedLine], tables: Sequence[Table]) -> list[PrintedLine]:
    """Lines whose middle lies in no table."""
    return [line for line in lines if not any(_holds(table.box, line.box) for table in tables)]


def _upright(line: PrintedLine) -> Word:
    """A line set sideways or leaning counts as one word, so that its words keep their order.

    It is as high as its type, lest it reaches into many rows: a sideways line at its
    middle, a leaning one where it begins, as such headings begin at their column.
    """
    x0, y0, x1, y1 = line.box
    half = line.size / 2
    if line.angle % 90:
        (xa, ya), _, _, (xb, yb) = line.corners
        x, y = (xa + xb) / 2, (ya + yb) / 2
        return Word(line.text, (x, y - half, x + line.size, y + half), line.size, line.bold)
    middle = (y0 + y1) / 2
    return Word(line.text, (x0, middle - half, x1, middle + half), line.size, line.bold)


def _holds(outer: Box, inner: Box) -> bool:
    x, y = (inner[0] + inner[2]) / 2, (inner[1] + inner[3]) / 2
    return outer[0] <= x <= outer[2] and outer[1] <= y <= outer[3]


def _crosses(box: Box, rule: Rule) -> bool:
    x0, y0, x1, y1 = rule.box
    return x0 <= box[2] and x1 >= box[0] and y0 <= box[3] and y1 >= box[1]


# --- rulings ------------------------------------------------------------------


@dataclass(slots=True)
class Rule:
    """A ruling after pieces are joined: at `at` across its direction, from `start` to `end`."""

    at: float
    start: float
    end: float
    level: bool
    edge: bool = False
    """Not drawn: the edge of a filled box."""

    @property
    def box(self) -> Box:
        """Its bounding box, without thickness."""
        if self.level:
            return self.start, self.at, self.end, self.at
        return self.at, self.start, self.at, self.end


def _rulings(drawing: Drawing, width: float, height: float) -> tuple[list[Rule], list[Rule]]:
    level = [Rule(one.y0, one.x0, one.x1, True) for one in drawing.rulings if one.level]
    plumb = [Rule(one.x0, one.y0, one.y1, False) for one in drawing.rulings if not one.level]
    for fill in _cells_of_fills(drawing.fills, width, height):
        x0, y0, x1, y1 = fill
        level += [Rule(y0, x0, x1, True, edge=True), Rule(y1, x0, x1, True, edge=True)]
        plumb += [Rule(x0, y0, y1, False, edge=True), Rule(x1, y0, y1, False, edge=True)]
    return _joined(level), _joined(plumb)


def _cells_of_fills(fills: Sequence[Fill], width: float, height: float) -> list[Box]:
    """Filled boxes that may be cells, those of one colour that continue each other as one."""
    boxes: dict[tuple[int, int, int], list[Box]] = {}
    for fill in fills:
        x0, y0, x1, y1 = fill.box
        if min(fill.colour) >= 250 or y1 - y0 < 5 or x1 - x0 < 8:
            continue
        if (x1 - x0) * (y1 - y0) > 0.4 * width * height:
            continue
        boxes.setdefault(fill.colour, []).append(fill.box)
    merged: list[Box] = []
    for same in boxes.values():
        if len(same) > 1500:
            continue
        down = _continued([(b[0], b[1], b[2], b[3]) for b in same])
        across = _continued([(b[1], b[0], b[3], b[2]) for b in down])
        merged += [(b[1], b[0], b[3], b[2]) for b in across]
    return merged


def _continued(boxes: list[Box]) -> list[Box]:
    """Boxes of the same extent across that touch are one box."""
    result: list[Box] = []
    for box in sorted(boxes, key=lambda one: (round(one[0]), round(one[2]), one[1])):
        if result:
            last = result[-1]
            same = abs(last[0] - box[0]) < 1.5 and abs(last[2] - box[2]) < 1.5
            if same and box[1] <= last[3] + 0.8:
                result[-1] = (last[0], last[1], last[2], max(last[3], box[3]))
                continue
        result.append(box)
    return result


def _joined(rules: list[Rule]) -> list[Rule]:
    """Pieces of one line joined; dashes too."""
    result: list[Rule] = []
    for rule in sorted(rules, key=lambda one: (round(one.at), one.start)):
        for other in reversed(result[-6:]):
            if abs(other.at - rule.at) < 1.0 and rule.start <= other.end + 2.5:
                other.end = max(other.end, rule.end)
                other.edge = other.edge and rule.edge
                break
        else:
            result.append(Rule(rule.at, rule.start, rule.end, rule.level, rule.edge))
    return [rule for rule in result if rule.end - rule.start >= 5.0]


def _components(level: list[Rule], plumb: list[Rule]) -> list[list[Rule]]:
    """Groups of rules that touch each other, of at least one of either direction."""
    rules = level + plumb
    if len(rules) > MAX_RULES:
        return []
    parent = list(range(len(rules)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for first, one in enumerate(level):
        for offset, other in enumerate(plumb):
            if (
                one.start - TOUCH <= other.at <= one.end + TOUCH
                and other.start - TOUCH <= one.at <= other.end + TOUCH
            ):
                parent[root(first)] = root(len(level) + offset)
    groups: dict[int, list[Rule]] = {}
    for number, rule in enumerate(rules):
        groups.setdefault(root(number), []).append(rule)
    return [
        group
        for group in groups.values()
        if any(rule.level for rule in group) and any(not rule.level for rule in group)
    ]


def _places(rules: Sequence[Rule]) -> list[float]:
    """Where rules lie, those within `SNAP` as one place."""
    places: list[list[float]] = []
    for at in sorted(rule.at for rule in rules):
        if places and at - places[-1][-1] <= SNAP and at - places[-1][0] <= 2 * SNAP:
            places[-1].append(at)
        else:
            places.append([at])
    return [sum(place) / len(place) for place in places]


def _cover(rules: Sequence[Rule], at: float, start: float, end: float) -> float:
    """Share of `start` to `end` that is drawn near `at`."""
    spans = sorted(
        (max(rule.start, start), min(rule.end, end))
        for rule in rules
        if abs(rule.at - at) <= SNAP and rule.end > start and rule.start < end
    )
    covered, reach = 0.0, start
    for low, high in spans:
        if high > reach:
            covered += high - max(low, reach)
            reach = high
    return covered / max(end - start, 1e-6)


# --- grids --------------------------------------------------------------------


@dataclass
class Grid:
    """Rows and columns, and which neighbours are one cell."""

    xs: list[float]
    ys: list[float]
    joined_across: set[tuple[int, int]] = field(default_factory=set)
    """(row, column) whose cell goes on in the next column."""
    joined_down: set[tuple[int, int]] = field(default_factory=set)
    """(row, column) whose cell goes on in the next row."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.ys) - 1

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self.xs) - 1


@dataclass(slots=True)
class Cell:
    """A cell of a grid, with its words."""

    row: int
    column: int
    row_span: int
    column_span: int
    words: list[Word] = field(default_factory=list)


def _cells(grid: Grid) -> list[Cell]:
    """Joined neighbours as cells; what is not a rectangle becomes the one around it."""
    rows, columns = grid.rows, grid.columns
    owner = [[-1] * columns for _ in range(rows)]
    cells: list[Cell] = []
    for row in range(rows):
        for column in range(columns):
            if owner[row][column] >= 0:
                continue
            right = column
            while (
                right + 1 < columns
                and (row, right) in grid.joined_across
                and owner[row][right + 1] < 0
            ):
                right += 1
            bottom = row
            while bottom + 1 < rows and all(
                (bottom, one) in grid.joined_down and owner[bottom + 1][one] < 0
                for one in range(column, right + 1)
            ):
                bottom += 1
            for down in range(row, bottom + 1):
                for across in range(column, right + 1):
                    owner[down][across] = len(cells)
            cells.append(Cell(row, column, bottom - row + 1, right - column + 1))
    return cells


def _fill_cells(grid: Grid, words: Sequence[Word]) -> list[Cell]:
    cells = _cells(grid)
    place = {
        (row, column): cell
        for cell in cells
        for row in range(cell.row, cell.row + cell.row_span)
        for column in range(cell.column, cell.column + cell.column_span)
    }
    for word in words:
        row = _interval(grid.ys, (word.box[1] + word.box[3]) / 2)
        column = _interval(grid.xs, (word.box[0] + word.box[2]) / 2)
        place[row, column].words.append(word)
    return cells


def _interval(bounds: Sequence[float], at: float) -> int:
    """Number of the interval that holds `at`; the nearest one outside."""
    for number in range(1, len(bounds) - 1):
        if at < bounds[number]:
            return number - 1
    return len(bounds) - 2


def _rows_of(words: Sequence[Word]) -> list[list[Word]]:
    """Words in rows from top to bottom, each from left to right."""
    rows: list[list[Word]] = []
    spans: list[tuple[float, float]] = []
    for word in sorted(words, key=lambda one: one.box[1] + one.box[3]):
        top, bottom = word.box[1], word.box[3]
        for number in range(len(rows) - 1, max(-1, len(rows) - 4), -1):
            low, high = spans[number]
            if min(high, bottom) - max(low, top) >= 0.5 * min(high - low, bottom - top):
                rows[number].append(word)
                # The tallest word stands for the row: raised signs must not pull it up.
                if bottom - top > high - low:
                    spans[number] = top, bottom
                break
        else:
            rows.append([word])
            spans.append((top, bottom))
    for row in rows:
        row.sort(key=lambda one: one.box[0])
    return rows


def _text(words: Sequence[Word]) -> str:
    """Text of a cell, its lines joined by spaces; words parted by a hyphen joined."""
    parts: list[str] = []
    for row in _rows_of(words):
        line = ""
        for before, word in zip([None, *row], row, strict=False):
            if before is None:
                line = word.text
                continue
            gap = word.box[0] - before.box[2]
            tight = gap < 0.05 * word.size or (
                _is_wide(before.text[-1]) and _is_wide(word.text[0]) and gap < 0.5 * word.size
            )
            line += word.text if tight else f" {word.text}"
        if not parts:
            parts.append(line)
        elif parts[-1][-1:] == "-" and parts[-1][-2:-1].islower() and line[:1].islower():
            parts[-1] = parts[-1][:-1] + line
        elif _is_wide(parts[-1][-1]) and _is_wide(line[0]):
            parts[-1] += line
        else:
            parts.append(line)
    return _LEADERS.sub("", " ".join(parts))


def _is_wide(sign: str) -> bool:
    return (
        "\u2e80" <= sign <= "\u9fff" or "\uac00" <= sign <= "\ud7af" or "\uff00" <= sign <= "\uffef"
    )


def _html(cells: Sequence[Cell], rows: int) -> str:
    """HTML of the cells in rows; rows without a cell of their own are left out."""
    parts = ["<table>"]
    for row in range(rows):
        own = [cell for cell in cells if cell.row == row]
        if not own:
            continue
        parts.append("<tr>")
        for cell in sorted(own, key=lambda one: one.column):
            spans = ""
            if cell.row_span > 1:
                spans += f' rowspan="{cell.row_span}"'
            if cell.column_span > 1:
                spans += f' colspan="{cell.column_span}"'
            parts.append(f"<td{spans}>{html.escape(_text(cell.words), quote=False)}</td>")
        parts.append("</tr>")
    parts.append("</table>")
    return "".join(parts)


def _compact(
    cells: list[Cell], grid: Grid, spare_rows: set[int], spare_columns: set[int]
) -> tuple[list[Cell], int, int]:
    """Without rows and columns that hold no words of their own, except for spare ones.

    They are what is left between double rules and around filled boxes.
    """
    keep_rows = [
        row
        for row in range(grid.rows)
        if row in spare_rows
        or any(cell.row == row and cell.row_span == 1 and cell.words for cell in cells)
    ]
    keep_columns = [
        column
        for column in range(grid.columns)
        if column in spare_columns
        or any(cell.column == column and cell.column_span == 1 and cell.words for cell in cells)
    ]
    # A cell whose rows are all thin keeps one of them, and so with columns.
    for cell in cells:
        if cell.words:
            if not any(cell.row <= row < cell.row + cell.row_span for row in keep_rows):
                keep_rows = sorted([*keep_rows, cell.row])
            if not any(
                cell.column <= column < cell.column + cell.column_span for column in keep_columns
            ):
                keep_columns = sorted([*keep_columns, cell.column])
    row_number = {row: number for number, row in enumerate(keep_rows)}
    column_number = {column: number for number, column in enumerate(keep_columns)}
    result = []
    for cell in cells:
        rows = [
            row_number[row]
            for row in range(cell.row, cell.row + cell.row_span)
            if row in row_number
        ]
        columns = [
            column_number[column]
            for column in range(cell.column, cell.column + cell.column_span)
            if column in column_number
        ]
        if rows and columns:
            result.append(Cell(rows[0], columns[0], len(rows), len(columns), cell.words))
    return result, len(keep_rows), len(keep_columns)


def _without_notes(cells: list[Cell], rows: int, columns: int) -> tuple[list[Cell], int]:
    """Without a caption above and notes below that share the frame of the table."""
    first, last = 0, rows
    by_row: dict[int, list[Cell]] = {}
    for cell in cells:
        by_row.setdefault(cell.row, []).append(cell)

    def alone(row: int) -> str | None:
        own = by_row.get(row, [])
        if len(own) == 1 and own[0].column_span == columns and own[0].row_span == 1:
            return _text(own[0].words)
        return None

    while last - first > 2 and (text := alone(first)) is not None:
        if text and not _CAPTION.match(text):
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


# --- ruled tables -------------------------------------------------------------


def _ruled_table(rules: Sequence[Rule], words: Sequence[Word]) -> Table | None:
    level = [rule for rule in rules if rule.level]
    plumb = [rule for rule in rules if not rule.level]
    xs, ys = _places(plumb), _places(level)
    left = min(xs[0], *(rule.start for rule in level))
    right = max(xs[-1], *(rule.end for rule in level))
    top = min(ys[0], *(rule.start for rule in plumb))
    bottom = max(ys[-1], *(rule.end for rule in plumb))
    xs = _with_ends(xs, left, right)
    ys = _with_ends(ys, top, bottom)
    box = (xs[0], ys[0], xs[-1], ys[-1])
    inside = [word for word in words if _holds(box, word.box)]
    if len(inside) < 2 or len(xs) * len(ys) > MAX_CELLS or len(xs) < 2 or len(ys) < 2:
        return None
    em = median(word.size for word in inside)
    xs = _without_slivers(xs, 0.5 * em)
    ys = _without_slivers(ys, 0.5 * em)
    drawn_columns = len(xs) - 1
    drawn_rows = len(ys) - 1
    if drawn_columns == 1 and drawn_rows == 1:
        return None
    grid = _lattice(xs, ys, level, plumb, inside, em)
    cells = _fill_cells(grid, inside)
    filled_only = _is_filled_only(rules)
    cells, rows, columns = _compact(
        cells,
        grid,
        _to_fill_in(grid.ys, [rule.at for rule in level if not rule.edge], EMPTY_ROW * em),
        _to_fill_in(grid.xs, [rule.at for rule in plumb if not rule.edge], EMPTY_COLUMN * em),
    )
    if filled_only and any(_holds_rows(cell) for cell in cells):
        # Stripes and heat maps: fills that show some rows, not all of them.
        return None
    cells, rows = _without_notes(cells, rows, columns)
    filled = [cell for cell in cells if cell.words]
    inside = [word for cell in filled for word in cell.words]
    if rows < grid.rows and inside:
        box = (
            box[0],
            min(word.box[1] for word in inside),
            box[2],
            max(word.box[3] for word in inside),
        )
    if rows * columns < 2 or len(filled) < 2 or columns < 2 or (rows < 2 and columns < 3):
        return None
    if len(filled) < 0.25 * len(cells):
        return None
    # Frames around columns of print are no tables: cells of tables hold little text.
    lengths = [sum(len(word.text) + 1 for word in cell.words) for cell in filled]
    if median(lengths) > 350 or (len(filled) < 4 and max(lengths) > 400):
        return None
    return Table(_around(box, inside), _html(cells, rows), rows, columns, ruled=True)


def _to_fill_in(bounds: Sequence[float], drawn: Sequence[float], least: float) -> set[int]:
    """Numbers of intervals that stay when empty: drawn on both sides, at least `least` wide."""
    near = [any(abs(bound - at) <= SNAP for at in drawn) for bound in bounds]
    return {
        number
        for number in range(len(bounds) - 1)
        if near[number] and near[number + 1] and bounds[number + 1] - bounds[number] >= least
    }


def _holds_rows(cell: Cell) -> bool:
    """Whether a cell holds several rows of figures, or of what stands beside figures."""
    rows = _rows_of(cell.words)
    if len(rows) < 2:
        return False
    return cell.row_span > 1 or all(_is_figure(word.text) for row in rows for word in row)


def _around(box: Box, words: Sequence[Word]) -> Box:
    x0, y0, x1, y1 = box
    return (
        min(x0, *(word.box[0] for word in words)),
        min(y0, *(word.box[1] for word in words)),
        max(x1, *(word.box[2] for word in words)),
        max(y1, *(word.box[3] for word in words)),
    )


def _with_ends(places: list[float], low: float, high: float) -> list[float]:
    """With the outer borders, where they are not drawn."""
    result = list(places)
    if low < result[0] - TOUCH:
        result.insert(0, low)
    if high > result[-1] + TOUCH:
        result.append(high)
    return result


def _without_slivers(places: list[float], least: float) -> list[float]:
    result = [places[0]]
    for place in places[1:]:
        if place - result[-1] >= least:
            result.append(place)
    return result


def _lattice(
    xs: list[float],
    ys: list[float],
    level: Sequence[Rule],
    plumb: Sequence[Rule],
    words: Sequence[Word],
    em: float,
) -> Grid:
    """The grid of drawn lines, with undrawn columns and rows added where the words show them."""
    drawn_xs, drawn_ys = xs, ys
    xs = _add_columns(xs, ys, words, em)
    ys = _add_rows(xs, ys, words)
    grid = Grid(xs, ys)
    rows = _words_by_row(grid, words)
    total = ys[-1] - ys[0]
    for column in range(1, grid.columns):
        at = xs[column]
        drawn = any(abs(at - one) < 0.01 for one in drawn_xs)
        mostly = drawn and _cover(plumb, at, ys[0], ys[-1]) * total >= 0.45 * total
        for row in range(grid.rows):
            if drawn and _cover(plumb, at, ys[row], ys[row + 1]) >= COVERED:
                continue
            if mostly or _is_crossed(rows[row], at, em):
                grid.joined_across.add((row, column - 1))
    for row in range(1, grid.rows):
        at = ys[row]
        if not any(abs(at - one) < 0.01 for one in drawn_ys):
            continue
        for column in range(grid.columns):
            if _cover(level, at, xs[column], xs[column + 1]) < COVERED:
                grid.joined_down.add((row - 1, column))
    return grid


def _words_by_row(grid: Grid, words: Sequence[Word]) -> list[list[Word]]:
    rows: list[list[Word]] = [[] for _ in range(grid.rows)]
    for word in words:
        rows[_interval(grid.ys, (word.box[1] + word.box[3]) / 2)].append(word)
    return rows


def _is_crossed(words: Sequence[Word], at: float, em: float) -> bool:
    """Whether a word, or the space between two words of a phrase, lies over `at`."""
    for row in _rows_of(words):
        for before, word in zip([None, *row], row, strict=False):
            if word.box[0] < at - 0.2 * em and word.box[2] > at + 0.2 * em:
                return True
            if (
                before is not None
                and before.box[2] <= at + 0.2 * em
                and word.box[0] >= at - 0.2 * em
                and word.box[0] - before.box[2] < 0.5 * em
            ):
                return True
    return False


def _add_columns(xs: list[float], ys: list[float], words: Sequence[Word], em: float) -> list[float]:
    """Split drawn columns at white space that runs through all their rows."""
    result = [xs[0]]
    for left, right in itertools.pairwise(xs):
        inside = [word for word in words if left <= (word.box[0] + word.box[2]) / 2 < right]
        if len(xs) == 2 or len(inside) >= 6:
            # Where some columns are drawn, the words must speak up for more.
            least = 1.2 if len(xs) > 2 else None
            rows = _rows_of(inside)
            result += [
                (low + high) / 2
                for low, high in _rivers(rows, em, least)
                if least is None or _parts_bands(rows, ys, (low + high) / 2)
            ]
        result.append(right)
    return result


def _parts_bands(rows: Sequence[Sequence[Word]], ys: Sequence[float], at: float) -> bool:
    """Whether words stand on both sides of `at` in half of the drawn rows that hold any."""
    used: set[int] = set()
    both: set[int] = set()
    for row in rows:
        band = _interval(ys, _middle(row))
        used.add(band)
        if row[0].box[2] <= at and row[-1].box[0] >= at:
            both.add(band)
    return len(both) >= 0.5 * len(used) and (len(both) > 1 or len(ys) == 2)


def _add_rows(xs: list[float], ys: list[float], words: Sequence[Word]) -> list[float]:
    """Split drawn rows that hold several rows of figures."""
    result = [ys[0]]
    for top, bottom in itertools.pairwise(ys):
        inside = [word for word in words if top <= (word.box[1] + word.box[3]) / 2 < bottom]
        result += _row_splits(inside, xs)
        result.append(bottom)
    return result


def _row_splits(words: Sequence[Word], xs: Sequence[float]) -> list[float]:
    """Heights between the rows of a band, if figures tell that it has several."""
    rows = _rows_of(words)
    if len(rows) < 2:
        return []
    starts = _row_starts(rows, xs)
    return [
        (max(word.box[3] for word in rows[number - 1]) + min(word.box[1] for word in rows[number]))
        / 2
        for number in starts[1:]
    ]


def _row_starts(rows: Sequence[Sequence[Word]], xs: Sequence[float]) -> list[int]:
    """Numbers of the text rows with which rows of the table begin.

    Figures do not run over several lines, so a column of figures tells the rows.
    """
    columns = len(xs) - 1
    entries = [_by_column(row, xs) for row in rows]
    figured: list[int] = []
    for column in range(1, columns):
        texts = [one[column] for one in entries if one[column]]
        if len(texts) >= 2 and sum(_is_figure(text) for text in texts) >= 0.7 * len(texts):
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


def _by_column(row: Sequence[Word], xs: Sequence[float]) -> list[str]:
    entries = [""] * (len(xs) - 1)
    for word in row:
        column = _interval(xs, (word.box[0] + word.box[2]) / 2)
        entries[column] += f" {word.text}" if entries[column] else word.text
    return entries


def _outermost(tables: Sequence[Table]) -> list[Table]:
    """Without tables that lie within others."""
    kept: list[Table] = []
    for table in sorted(
        tables, key=lambda one: -(one.box[2] - one.box[0]) * (one.box[3] - one.box[1])
    ):
        if not any(_holds(other.box, table.box) for other in kept):
            kept.append(table)
    return kept


# --- columns from words -------------------------------------------------------


def _rivers(
    rows: Sequence[Sequence[Word]], em: float, least: float | None = None
) -> list[tuple[float, float]]:
    """White columns (from, to) between the words of `rows`.

    Rows of a single phrase, as headings of groups, do not count; a few rows may have
    something in the way, as headings over several columns have. `least` is the width in
    em; without it, the more rows there are, the narrower a river may be.
    """
    counted = [row for row in rows if len(_phrases(row, em)) > 1]
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


def _phrases(row: Sequence[Word], em: float, gap: float = CELL_GAP) -> list[list[Word]]:
    """Words of a row in groups that may each be one cell."""
    groups: list[list[Word]] = []
    for word in row:
        if groups and word.box[0] - groups[-1][-1].box[2] < gap * em:
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups


def _aligned_tables(words: Sequence[Word], level: Sequence[Rule], width: float) -> list[Table]:
    """Tables without a lattice: figures or short entries in columns."""
    tables: list[Table] = []
    for low, top, high, bottom in _scopes(level, width):
        inside = [
            word
            for word in words
            if low <= (word.box[0] + word.box[2]) / 2 <= high
            and top <= word.box[1]
            and word.box[3] <= bottom
            and not any(_holds(table.box, word.box) for table in tables)
        ]
        rules = [
            rule
            for rule in level
            if not rule.edge
            and rule.end > low
            and rule.start < high
            and not any(_crosses(table.box, rule) for table in tables)
        ]
        if len(inside) < 6:
            continue
        em = median(word.size for word in inside)
        rows = _rows_of(inside)
        before = -1
        for first, last in _tabular_runs(rows, em):
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


def _tabular_runs(rows: Sequence[Sequence[Word]], em: float) -> list[tuple[int, int]]:
    """Ranges of rows, first and last, in which figures stand in columns."""
    tabular = [_is_tabular(row, em) for row in rows]
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
                or any(_is_prose(row, extent, em) for row in between)
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


def _is_tabular(row: Sequence[Word], em: float) -> bool:
    figures = sum(_is_figure(word.text) for word in row)
    others = sum(word.text not in _BEFORE_FIGURE and word.text not in _AFTER_FIGURE for word in row)
    if figures < 2 or figures < 0.35 * others:
        return False
    # Figures at the end of the row, apart from each other: not a date in a sentence.
    tail = [word for word in row if _is_figure(word.text)]
    gaps = [word.box[0] - before.box[2] for before, word in itertools.pairwise(tail)]
    return max(gaps) > 0.45 * em and len(_phrases(row, em, 0.5)) > 2


def _is_centred(row: Sequence[Word], extent: tuple[float, float], em: float) -> bool:
    """A single phrase away from the left edge: a heading over columns."""
    return len(_phrases(row, em)) == 1 and row[0].box[0] > extent[0] + 0.25 * (
        extent[1] - extent[0]
    )


def _is_prose(row: Sequence[Word], extent: tuple[float, float], em: float) -> bool:
    """A line of a paragraph: it fills the width with words."""
    if row[0].box[0] < extent[0] - 4 * em or row[-1].box[2] > extent[1] + 2 * em:
        return True
    phrases = _phrases(row, em)
    longest = max(phrase[-1].box[2] - phrase[0].box[0] for phrase in phrases)
    return longest > 0.7 * (extent[1] - extent[0]) and len(row) > 6


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
    tabular = [row for row in body if _is_tabular(row, em)]
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
    head, head_top = _head(rows, (free, first), wide, (left, right), em)
    bounded = head_top is not None or any(bottom - em < at < bottom + 2 * em for at in wide)
    if len(tabular) < (2 if bounded else 3):
        return None
    size = median(word.size for row in tabular for word in row)
    rivers = _rivers(tabular, size)
    if len(rivers) < (1 if bounded else 2):
        return None
    left = min([left, *(row[0].box[0] for row in head)])
    right = max([right, *(row[-1].box[2] for row in head)])
    xs = [left - 1, *((low + high) / 2 for low, high in rivers), right + 1]
    xs = _with_signs(tabular, xs)
    if len(xs) < (3 if bounded else 4) or not _is_filled(tabular, xs):
        return None
    grid, home = _stacked(head, body, xs, rules, head_top, (top, bottom), size)
    words = [word for row in [*head, *body] for word in row]
    cells = _cells(grid)
    place = {
        (row, column): cell
        for cell in cells
        for row in range(cell.row, cell.row + cell.row_span)
        for column in range(cell.column, cell.column + cell.column_span)
    }
    for word in words:
        row = _interval(grid.ys, (word.box[1] + word.box[3]) / 2)
        column = home.get(id(word), _interval(xs, (word.box[0] + word.box[2]) / 2))
        place[row, column].words.append(word)
    cells, count, columns = _compact(cells, grid, set(), set())
    if columns < 2 or count < 2:
        return None
    box = _around((left, grid.ys[0], right, grid.ys[-1]), words)
    return Table(box, _html(cells, count), count, columns)


def _with_signs(rows: Sequence[Sequence[Word]], xs: list[float]) -> list[float]:
    """Columns of signs (currency, per cent) belong to the figures beside them."""
    entries = [_by_column(row, xs) for row in rows]
    dropped: set[int] = set()
    for column in range(len(xs) - 1):
        texts = {one[column] for one in entries if one[column]}
        if texts and texts <= _BEFORE_FIGURE and column + 2 < len(xs):
            dropped.add(column + 1)
        elif texts and texts <= _AFTER_FIGURE and column > 0:
            dropped.add(column)
    return [at for number, at in enumerate(xs) if number not in dropped]


def _is_filled(rows: Sequence[Sequence[Word]], xs: Sequence[float]) -> bool:
    """Whether the columns hold entries in most rows, and short ones."""
    entries = [_by_column(row, xs) for row in rows]
    filled = sum(bool(text) for one in entries for text in one)
    if filled < 0.5 * len(entries) * (len(xs) - 1):
        return False
    figured = 0
    for column in range(len(xs) - 1):
        texts = [one[column] for one in entries if one[column]]
        if texts and sum(_is_figure(text) for text in texts) >= 0.6 * len(texts):
            figured += 1
    return figured >= 1 and figured >= 0.4 * (len(xs) - 2)


def _head(
    rows: Sequence[Sequence[Word]],
    between: tuple[int, int],
    wide: Sequence[float],
    extent: tuple[float, float],
    em: float,
) -> tuple[list[list[Word]], float | None]:
    """Rows of headings above the first row of figures, and the rule above them if any."""
    free, first = between
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
        if _is_prose(row, extent, em) or top - row[0].box[3] > reach * em:
            break
        if _CAPTION.match(row[0].text) and len(row) > 2:
            break
        taken.append(row)
        top = min(word.box[1] for word in row)
    above = [at for at in wide if top - 2 * em <= at <= top + 0.4 * em]
    if above:
        head, head_top = list(taken), min(above)
    if not head:
        # A rule between head and body, if any, has none above it to go with.
        for row in taken:
            phrases = _phrases(row, em)
            centred = row[0].box[0] > extent[0] + 0.2 * (extent[1] - extent[0])
            if len(phrases) < 2 and not centred:
                break
            head.append(row)
    return head[::-1], head_top


def _stacked(
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
    starts = _row_starts(body, xs)
    body_ys = [_between(body[number - 1], body[number]) for number in starts[1:]]
    ys: list[float] = []
    drawn: list[float] = []
    if head:
        top = min(word.box[1] for row in head for word in row)
        end = _between(head[-1], body[0])
        ys.append(min(top, head_top) if head_top is not None else top)
        inner = [
            at
            for at in _places([rule for rule in rules if top + 0.3 * em < rule.at < end - 0.3 * em])
            if any(_middle(row) < at for row in head) and any(_middle(row) > at for row in head)
        ]
        if inner:
            drawn = inner
            ys += inner
        elif head_top is None:
            ys += [_between(before, row) for before, row in itertools.pairwise(head)]
        ys.append(end)
    else:
        ys.append(first_top)
    ys += [*body_ys, bottom]
    grid = Grid(xs, ys)
    head_rows = len(ys) - 2 - len(body_ys)
    lines = _words_by_row(grid, [word for row in [*head, *body] for word in row])
    home: dict[int, int] = {}
    cores = _cores(body, xs)
    for row in range(grid.rows):
        phrases = [phrase for one in _rows_of(lines[row]) for phrase in _phrases(one, em)]
        if row >= head_rows and len(phrases) == 1 and phrases[0][0].box[0] < xs[1]:
            home |= {id(word): 0 for word in phrases[0]}
            continue
        for column in range(grid.columns - 1):
            if _is_crossed(lines[row], xs[column + 1], em):
                grid.joined_across.add((row, column))
    for number, at in enumerate(ys[1:-1], 1):
        if number > head_rows or at not in drawn:
            continue
        ruled = [_cover(rules, at, *core) >= COVERED for core in cores]
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
            if _interval(xs, (word.box[0] + word.box[2]) / 2) == column
            and len(_phrases(row, word.size)) > 1
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
            if abs(rule.at - at) <= SNAP and _cover([rule], rule.at, *core) >= COVERED
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
    over = [word for word in words if left - em <= (word.box[0] + word.box[2]) / 2 <= right + em]
    phrases = [phrase for one in _rows_of(over) for phrase in _phrases(one, em)]
    if len(phrases) != len(_rows_of(over)) or not phrases:
        return
    low = min(phrase[0].box[0] for phrase in phrases)
    high = max(phrase[-1].box[2] for phrase in phrases)
    if abs(low + high - left - right) / 2 <= 0.2 * (right - left):
        grid.joined_across |= {(row, column) for column in range(first, last)}


def _between(upper: Sequence[Word], lower: Sequence[Word]) -> float:
    return (max(word.box[3] for word in upper) + min(word.box[1] for word in lower)) / 2


def _middle(row: Sequence[Word]) -> float:
    return sum(word.box[1] + word.box[3] for word in row) / (2 * len(row))
