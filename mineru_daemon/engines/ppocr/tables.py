"""Tables: picture of a table and the lines read on it -> cells -> HTML.

A network (SLANet: PaddleOCR's PP-StructureV2, Li et al. 2022) writes the table's HTML
without text and tells where each cell is. This module joins that with the lines: which
text belongs to which cell, where a line runs through several cells, and which rows or
columns the network missed. Where tables are on a page is told by `layout`, what the
lines say by `recognition` or by the text layer of a PDF; tables drawn with rules on
digital pages are left to `digital_tables`.
"""

from __future__ import annotations

import bisect
import html as markup
import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median

import cv2
import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.errors import EngineError

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the page, origin at the top left."""

SIDE = 488
"""Side of the network's square input in pixels: the size it was trained at. It knows
places by their position in this square, so smaller or oblong inputs break it."""

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
"""Mean and deviation of ImageNet's channels, with which the network was trained."""

END = "eos"

ROW_OVERLAP = 0.5
"""Share of the lower piece's height by which pieces of one row of text overlap at least."""

COLUMN_NOISE = 0.2
"""Share of the rows that may cross the gap between two columns: headings, misread lines."""

CLASH_SHARE = 0.15
"""Share of the text that must lie wrongly in the network's cells, by the alignment of
lines, before its structure is given up for the one that the lines imply."""

MANY_ROWS = 6
"""Rows of text, each filling most columns, in one row of the network from which on rows
are missing; headings and cells of several lines stay below."""

DENSE = 0.6
"""Share of cells with text from which on a grid made from lines is believed."""

WORD_GAP = 0.8
"""Gap between words of one run at most, by the words' height. A space is a quarter to a
half of it, and columns stand further apart."""

WHOLE_ROW = 0.6
"""Share of a table's columns that a row of text fills to count as a row of its own."""

LEAST_INK, INK_SHARE = 30.0, 0.17
"""Difference from the paper's grey (0..255) from which on a pixel is inked, and the same
as a share of the darkest ink's: thin dashes of a small picture are pale."""

DASH_FLATNESS = 2.5
"""Width over height from which on a small mark is a dash."""

SURE_SCORE = 0.85
"""Confidence from which on text found in a cell that detection left empty is believed."""

Look = Callable[[Box], tuple[str, float]]
"""Reads what stands in an upright box (pixels of the page): text and confidence, 0..1."""


@dataclass(frozen=True)
class Cell:
    """A cell of the grid. `box` is where its text is or would be, in pixels of the page."""

    row: int
    column: int
    row_span: int
    column_span: int
    box: Box
    text: str = ""


@dataclass(frozen=True)
class TableReading:
    """A table that was read. `html` is one line; `score` the structure's mean confidence."""

    html: str
    score: float
    cells: list[Cell] = field(default_factory=list)


@dataclass(frozen=True)
class Structure:
    """What the network says: cells without text, in the order of HTML, and its confidence."""

    cells: list[Cell]
    score: float


@dataclass(frozen=True)
class Piece:
    """A line or a part of one that belongs into a single cell."""

    text: str
    box: Box


class TableReader:
    """Reads tables."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._input = session.inputs[0]
        self._tokens = tokens(session.metadata)

    def read(
        self,
        image: Pixels,
        box: Box,
        lines: Sequence[TextLine],
        before_run: Callable[[], None] = lambda: None,
        look: Look | None = None,
        *,
        words: bool = False,
    ) -> TableReading:
        """The table inside `box` of an upright RGB page (H, W, 3).

        `lines` are what is to stand in it, corners in pixels of the page; every one of
        them ends up in a cell. `words` tells that each is a single word, as text layers
        give them. `before_run` precedes the model.
        With `look`, cells that are empty but inked are read once more (single
        characters and dashes are what detection misses); leave it out where `lines`
        come from a text layer.
        """
        height, width = image.shape[:2]
        left, top = max(0, int(box[0])), max(0, int(box[1]))
        right, bottom = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
        if right - left < 2 or bottom - top < 2:
            return filled(Structure([], 0.0), lines, words=words)
        before_run()
        crop = image[top:bottom, left:right]
        reading = filled(_moved(self.structure(crop), left, top), lines, words=words)
        if look is None:
            return reading
        return completed(reading, image, lines, look)

    def structure(self, crop: Pixels) -> Structure:
        """Cells of the table that fills an RGB crop (h, w, 3), boxes in pixels of the crop."""
        places, chances = self._session.run({self._input: prepared(crop)})
        return decoded(places[0], chances[0], self._tokens, float(max(crop.shape[:2])))


def tokens(metadata: dict[str, str]) -> list[str]:
    """The network's vocabulary by class number; the last class ends a table.

    The list is in the model's metadata, one piece of HTML a line. Class 0 begins a
    table, and a plain cell is one piece, `<td></td>`.
    """
    listed = metadata.get("character")
    if not listed:
        raise EngineError("The table model carries no list of its tokens.")
    pieces = [piece for piece in listed.splitlines() if piece != "<td>"]
    if "<td></td>" not in pieces:
        pieces.append("<td></td>")
    return ["sos", *pieces, END]


def prepared(crop: Pixels) -> npt.NDArray[np.float32]:
    """The network's input (1, 3, 488, 488) for an RGB crop: BGR, at the top left, zero around."""
    height, width = crop.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    resized = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_LINEAR), np.float32)
    batch = np.zeros((1, 3, SIDE, SIDE), np.float32)
    normal = (resized[:, :, ::-1] / 255 - MEAN) / DEVIATION
    batch[0, :, : size[1], : size[0]] = normal.transpose(2, 0, 1)
    return batch


def decoded(
    places: npt.NDArray[np.float32],
    chances: npt.NDArray[np.float32],
    vocabulary: Sequence[str],
    side: float,
) -> Structure:
    """The network's output as a grid of cells.

    `places` (steps, 8) are the corners of the cell that a step begins, as fractions of
    the square; `chances` (steps, classes) tell the steps' tokens; `side` is the longer
    side of the crop in pixels, which fills the square.
    """
    best = chances.argmax(axis=1)
    scores: list[float] = []
    cells: list[tuple[int, dict[str, int], Box]] = []
    row = -1
    for step, number in enumerate(best):
        word = vocabulary[number]
        if word == END:
            break
        scores.append(float(chances[step, number]))
        if word == "<tr>":
            row += 1
        elif word in ("<td", "<td></td>", "<td>"):
            across, down = places[step, 0::2] * side, places[step, 1::2] * side
            box = (across.min(), down.min(), across.max(), down.max())
            cells.append((max(row, 0), {}, _floats(box)))
        elif cells and (span := re.fullmatch(r'\s*(row|col)span="(\d+)"', word)):
            cells[-1][1][span[1]] = int(span[2])
    return Structure(
        list(
            _placed(
                (row, spans.get("row", 1), spans.get("col", 1), box) for row, spans, box in cells
            )
        ),
        fmean(scores) if scores else 0.0,
    )


def _floats(box: Iterable[float]) -> Box:
    x0, y0, x1, y1 = (float(edge) for edge in box)
    return x0, y0, x1, y1


def _placed(cells: Iterable[tuple[int, int, int, Box]]) -> Iterator[Cell]:
    """Cells (row, row span, column span, box) in HTML's order with their columns."""
    taken: set[tuple[int, int]] = set()
    row, column = -1, 0
    for number, down, across, box in cells:
        if number != row:
            row, column = number, 0
        while (row, column) in taken:
            column += 1
        taken |= {(row + i, column + j) for i in range(down) for j in range(across)}
        yield Cell(row, column, down, across, box)
        column += across


def _moved(structure: Structure, left: float, top: float) -> Structure:
    """Boxes from pixels of a crop to pixels of the page."""
    moved = [replace(cell, box=_shifted(cell.box, left, top)) for cell in structure.cells]
    return replace(structure, cells=moved)


def filled(structure: Structure, lines: Sequence[TextLine], *, words: bool = False) -> TableReading:
    """The table with its text: every line, or part of one, in one cell.

    Where the alignment of the lines contradicts the network's structure too often, as
    on long dense tables, the lines' own rows and columns are the structure.
    """
    lines = [line for line in lines if line.text.strip()]
    if not lines:
        return TableReading(to_html(structure.cells), structure.score, structure.cells)
    runs = in_runs(lines) if words else lines
    gaps = column_gaps([Piece(run.text, _bounds(run)) for run in runs])
    by_lines = _assigned(*_grid_of(runs, gaps))
    if not structure.cells:
        return TableReading(to_html(by_lines), structure.score, by_lines)
    pieces = [piece for line in lines for piece in parted(line, _cuts(line, structure.cells))]
    owners = [_owner(piece.box, structure.cells) for piece in pieces]
    clash = clashes(pieces, owners, structure.cells, gaps)
    if clash > CLASH_SHARE and _is_plausible(by_lines, structure.cells):
        return TableReading(to_html(by_lines), structure.score, by_lines)
    cells = _assigned(structure.cells, pieces, owners)
    return TableReading(to_html(cells), structure.score, cells)


def _assigned(cells: Sequence[Cell], pieces: Sequence[Piece], owners: Sequence[int]) -> list[Cell]:
    """Cells with the text of the pieces; `owners` are the pieces' indices of cells."""
    texts: defaultdict[int, list[Piece]] = defaultdict(list)
    for piece, owner in zip(pieces, owners, strict=True):
        texts[owner].append(piece)
    return [replace(cell, text=_joined(texts[number])) for number, cell in enumerate(cells)]


def _is_plausible(by_lines: Sequence[Cell], cells: Sequence[Cell]) -> bool:
    """Whether the lines' grid is a table, not running text cut along chance gaps."""
    columns = max(cell.column + cell.column_span for cell in cells)
    implied = max(cell.column + cell.column_span for cell in by_lines)
    inked = sum(bool(cell.text) for cell in by_lines)
    return inked >= DENSE * len(by_lines) and implied <= 1.5 * columns + 4


def _bounds(line: TextLine) -> Box:
    across, down = zip(*line.corners, strict=True)
    return min(across), min(down), max(across), max(down)


def _union(boxes: Sequence[Box]) -> Box:
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _owner(box: Box, cells: Sequence[Cell]) -> int:
    """Index of the cell that covers most of a box, of the nearest one if none does."""

    def misfit(cell: Cell) -> tuple[float, float]:
        across = min(box[2], cell.box[2]) - max(box[0], cell.box[0])
        down = min(box[3], cell.box[3]) - max(box[1], cell.box[1])
        # Rows are lower than columns are wide: a step to another row is the longer way.
        return -max(0.0, across) * max(0.0, down), max(0.0, -across) + 3 * max(0.0, -down)

    return min(range(len(cells)), key=lambda number: misfit(cells[number]))


def _cuts(line: TextLine, cells: Sequence[Cell]) -> list[float]:
    """Where a line is to be cut, in pixels across: between neighbouring cells it fills."""
    box = _bounds(line)
    crossed = sorted(
        (
            cell.box
            for cell in cells
            if min(box[3], cell.box[3]) - max(box[1], cell.box[1])
            >= ROW_OVERLAP * min(box[3] - box[1], cell.box[3] - cell.box[1])
            and min(box[2], cell.box[2]) - max(box[0], cell.box[0])
            >= ROW_OVERLAP * (cell.box[2] - cell.box[0])
        ),
        key=lambda one: one[0] + one[2],
    )
    return [
        (left[2] + right[0]) / 2
        for left, right in itertools.pairwise(crossed)
        # Cells above each other are no reason to cut.
        if right[0] >= (left[0] + left[2]) / 2 and left[2] <= (right[0] + right[2]) / 2
    ]


def parted(line: TextLine, cuts: Sequence[float]) -> list[Piece]:
    """A line cut near the places `cuts` (pixels across), at the widest gaps there.

    Where characters' places are unknown they are taken to be equally wide, and only
    spaces are gaps.
    """
    left, top, right, bottom = _bounds(line)
    text, width = line.text, right - left
    if not cuts or width <= 0:
        return [Piece(text.strip(), (left, top, right, bottom))]
    places = line.places
    known = len(places) == len(text)
    middles = places if known else [(number + 0.5) / len(text) for number in range(len(text))]
    xs = [left + place * width for place in middles]
    ends = [0]
    for cut in sorted(cuts):
        best, where = float("inf"), None
        for number in range(ends[-1] + 1, len(text)):
            gap = xs[number] - xs[number - 1]
            spaced = text[number - 1].isspace()
            if not (spaced or known):
                continue
            cost = abs((xs[number] + xs[number - 1]) / 2 - cut) - 2 * gap * (2 if spaced else 1)
            if cost < best:
                best, where = cost, number
        if where is not None:
            ends.append(where)
    pieces = []
    for begin, end in itertools.pairwise([*ends, len(text)]):
        part = text[begin:end]
        if part.strip():
            x0 = left if begin == 0 else (xs[begin] + xs[begin - 1]) / 2
            x1 = right if end == len(text) else (xs[end] + xs[end - 1]) / 2
            pieces.append(Piece(part.strip(), (x0, top, x1, bottom)))
    return pieces


def text_rows(pieces: Sequence[Piece]) -> list[list[int]]:
    """Indices of pieces by rows of text, from top to bottom, each from left to right."""
    rows: list[tuple[float, float, list[int]]] = []
    for number in sorted(range(len(pieces)), key=lambda n: pieces[n].box[1] + pieces[n].box[3]):
        _, top, _, bottom = pieces[number].box
        if rows:
            row_top, row_bottom, members = rows[-1]
            overlap = min(bottom, row_bottom) - max(top, row_top)
            if overlap > ROW_OVERLAP * min(bottom - top, row_bottom - row_top):
                members.append(number)
                count = len(members)
                rows[-1] = (
                    row_top + (top - row_top) / count,
                    row_bottom + (bottom - row_bottom) / count,
                    members,
                )
                continue
        rows.append((top, bottom, [number]))
    return [sorted(members, key=lambda n: pieces[n].box[0]) for *_, members in rows]


def in_runs(words: Sequence[TextLine]) -> list[TextLine]:
    """Words that stand closely side by side as one line, with its characters' places."""
    pieces = [Piece(word.text.strip(), _bounds(word)) for word in words]
    runs: list[TextLine] = []
    for row in text_rows(pieces):
        open_run: list[Piece] = []
        for number in row:
            piece = pieces[number]
            if open_run:
                height = max(one.box[3] - one.box[1] for one in (open_run[-1], piece))
                if piece.box[0] - open_run[-1].box[2] > WORD_GAP * height:
                    runs.append(_run(open_run))
                    open_run = []
            open_run.append(piece)
        runs.append(_run(open_run))
    return runs


def _run(pieces: Sequence[Piece]) -> TextLine:
    """Pieces of one row as one line, a space between two."""
    x0, y0, x1, y1 = _union([piece.box for piece in pieces])
    width = max(x1 - x0, 1e-6)
    text, last = "", x0
    places: list[float] = []
    for piece in pieces:
        left, _, right, _ = piece.box
        if text:
            places.append(((left + last) / 2 - x0) / width)
            text += " "
        step = (right - left) / len(piece.text)
        places += [(left + (n + 0.5) * step - x0) / width for n in range(len(piece.text))]
        text += piece.text
        last = right
    return TextLine(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), text, 1.0, tuple(places))


def column_gaps(pieces: Sequence[Piece]) -> list[float]:
    """Where columns part, in pixels across: places that hardly any full row crosses.

    Dots that lead from a label to its number are no column.
    """
    pieces = [piece for piece in pieces if any(map(str.isalnum, piece.text))]
    rows = text_rows(pieces)
    most = max((len(row) for row in rows), default=0)
    full = [row for row in rows if len(row) >= max(2, most / 2)]
    if not full:
        return []
    spans = [pieces[number].box for row in full for number in row]
    allowed = COLUMN_NOISE * len(full)
    least = 0.25 * median(box[3] - box[1] for box in spans)
    edges = sorted([(box[0], 1) for box in spans] + [(box[2], -1) for box in spans])
    gaps: list[float] = []
    depth, begin, sparse = 0, 0.0, False
    for place, step in edges:
        depth += step
        if sparse and depth > allowed:
            if place - begin >= least:
                gaps.append((begin + place) / 2)
            sparse = False
        elif not sparse and depth <= allowed:
            begin, sparse = place, True
    # The sparse stretch before the first column is none between columns.
    first = min(box[0] for box in spans)
    return [gap for gap in gaps if gap > first + least]


def _column(place: float, gaps: Sequence[float]) -> int:
    return bisect.bisect(gaps, place)


def clashes(
    pieces: Sequence[Piece], owners: Sequence[int], cells: Sequence[Cell], gaps: Sequence[float]
) -> float:
    """Share of the pieces that the network's cells put together although they stand apart.

    Apart are pieces of one row of text in different columns, and rows of text that
    each fill most of the columns.
    """
    rows = text_rows(pieces)
    columns = len(gaps) + 1
    if columns < 2 or len(rows) < 2:
        return 0.0
    apart = 0
    whole_rows: defaultdict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        seen: dict[int, int] = {}
        filled_columns: set[int] = set()
        for member in row:
            x0, _, x1, _ = pieces[member].box
            column = _column((x0 + x1) / 2, gaps)
            filled_columns.add(column)
            cell = cells[owners[member]]
            if cell.column_span == 1 and seen.setdefault(owners[member], column) != column:
                apart += 1
        if columns >= 3 and len(filled_columns) >= max(3, WHOLE_ROW * columns):
            votes = [cells[owners[member]].row for member in row]
            whole_rows[max(set(votes), key=votes.count)].append(number)
    for shared in whole_rows.values():
        # Headings and cells of two or three lines fill rows of text that belong together.
        if len(shared) > MANY_ROWS:
            apart += sum(len(rows[number]) for number in shared[1:])
    return apart / len(pieces)


def _grid_of(
    lines: Sequence[TextLine], gaps: Sequence[float]
) -> tuple[list[Cell], list[Piece], list[int]]:
    """Cells that the lines imply, the pieces, and which cell each piece is in."""
    whole = [Piece(line.text.strip(), _bounds(line)) for line in lines]
    rows_of_lines = text_rows(whole)
    most = max(len(row) for row in rows_of_lines)
    edges = [min(one.box[0] for one in whole), *gaps, max(one.box[2] for one in whole)]
    tops = [fmean(whole[n].box[1] for n in row) for row in rows_of_lines]
    bottoms = [fmean(whole[n].box[3] for n in row) for row in rows_of_lines]
    bounds = [tops[0], *((a + b) / 2 for a, b in zip(bottoms, tops[1:], strict=False)), bottoms[-1]]
    cells: list[Cell] = []
    pieces: list[Piece] = []
    owners: list[int] = []
    for number, row in enumerate(rows_of_lines):
        spans: list[tuple[int, int]] = []
        for member in row:
            x0, _, x1, _ = whole[member].box
            inset = min(0.3 * (x1 - x0), 0.5 * (bottoms[number] - tops[number]))
            first, last = _column(x0 + inset, gaps), _column(x1 - inset, gaps)
            # A long line alone in its row is a heading over columns, not several cells.
            if len(row) <= most / 2 and first < last:
                parts = [whole[member]]
                spans.append((first, last))
            else:
                parts = parted(lines[member], gaps[first:last])
            pieces += parts
        starts = [
            column
            for column in range(len(edges) - 1)
            if not any(first < column <= last for first, last in spans)
        ]
        base = len(cells)
        for column, after in itertools.pairwise([*starts, len(edges) - 1]):
            box = (edges[column], bounds[number], edges[after], bounds[number + 1])
            cells.append(Cell(number, column, 1, after - column, box))
        for piece in pieces[len(owners) :]:
            middle = _column((piece.box[0] + piece.box[2]) / 2, gaps)
            owners.append(base + bisect.bisect(starts, middle) - 1)
    return cells, pieces, owners


def _joined(pieces: Sequence[Piece]) -> str:
    """The text of one cell: rows from top to bottom, spaces but between CJK characters."""
    text = ""
    for row in text_rows(pieces):
        for number in row:
            part = pieces[number].text
            glue = "" if not text or (_is_wide(text[-1]) and _is_wide(part[0])) else " "
            text += glue + part
    return text


def _is_wide(character: str) -> bool:
    """Whether a character is written without spaces around it, as Chinese and Japanese are."""
    return unicodedata.east_asian_width(character) in "WF" and not "\uac00" <= character <= "\ud7a3"


def completed(
    reading: TableReading, image: Pixels, lines: Sequence[TextLine], look: Look
) -> TableReading:
    """The table with what detection missed: marks in empty cells, looked at one by one."""
    boxes = [_bounds(line) for line in lines]
    if not boxes or all(cell.text for cell in reading.cells):
        return reading
    height = median(bottom - top for _, top, _, bottom in boxes)
    left, top, right, bottom = _union([*boxes, *(cell.box for cell in reading.cells)])
    left, top = max(0, int(left)), max(0, int(top))
    grey = cv2.cvtColor(
        image[top : int(np.ceil(bottom)) + 1, left : int(np.ceil(right)) + 1], cv2.COLOR_RGB2GRAY
    )
    apart = np.abs(grey.astype(np.float32) - float(np.median(grey)))
    least = max(LEAST_INK, INK_SHARE * float(np.percentile(apart, 99)))
    known = np.zeros(grey.shape, bool)
    for x0, y0, x1, y1 in boxes:
        across = slice(max(0, int(x0) - left), int(np.ceil(x1)) - left)
        known[max(0, int(y0) - top) : int(np.ceil(y1)) - top, across] = True
    cells = []
    for cell in reading.cells:
        text = cell.text
        if not text:
            x0, y0 = max(0, int(cell.box[0]) - left), max(0, int(cell.box[1]) - top)
            x1, y1 = int(np.ceil(cell.box[2])) - left, int(np.ceil(cell.box[3])) - top
            part = np.asarray(grey[y0:y1, x0:x1], np.float32)
            if min(part.shape) >= 3:
                # Cells may be shaded: each has its own paper.
                ink = (np.abs(part - np.median(part)) > least) & ~known[y0:y1, x0:x1]
                mark = _mark(ink.astype(np.uint8), height)
                if mark is not None:
                    text = _read_mark(_shifted(mark, x0 + left, y0 + top), height, look)
        cells.append(replace(cell, text=text))
    return replace(reading, cells=cells, html=to_html(cells))


def _mark(ink: npt.NDArray[np.uint8], height: float) -> Box | None:
    """Bounds of what is written inside a cell, in pixels of it; rules and specks do not count.

    `ink` (h, w) is 1 where the cell is inked outside of known text; `height` is that of
    a line of the table.
    """
    rows, columns = ink.shape
    _, _, found, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    marks = [
        (x, y, x + w, y + h)
        for x, y, w, h, area in found[1:].tolist()
        if area >= max(2.0, 0.001 * height**2)
        # What goes on beyond the cell is a rule or a neighbour's letter.
        and x > 0
        and y > 0
        and x + w < columns
        and y + h < rows
        and w < 3 * height
        and h < 1.2 * height
    ]
    if not marks:
        return None
    return _union([_floats(mark) for mark in marks])


def _shifted(box: Box, across: float, down: float) -> Box:
    return box[0] + across, box[1] + down, box[2] + across, box[3] + down


def _read_mark(mark: Box, height: float, look: Look) -> str:
    x0, y0, x1, y1 = mark
    across, down = x1 - x0, y1 - y0
    if (
        0.2 * height <= across
        and across >= DASH_FLATNESS * down
        and down <= 0.25 * height
        and across <= 1.5 * height
    ):
        return "-" if across < 0.35 * height else "–"
    middle, half = (y0 + y1) / 2, max(down + 0.3 * height, height) / 2
    text, score = look((x0 - 0.25 * height, middle - half, x1 + 0.25 * height, middle + half))
    return text.strip() if score >= SURE_SCORE else ""


def to_html(cells: Sequence[Cell]) -> str:
    """The table as HTML of one line."""
    rows: defaultdict[int, list[str]] = defaultdict(list)
    for cell in sorted(cells, key=lambda one: (one.row, one.column)):
        spans = "".join(
            f' {name}="{count}"'
            for name, count in (("rowspan", cell.row_span), ("colspan", cell.column_span))
            if count > 1
        )
        rows[cell.row].append(f"<td{spans}>{markup.escape(cell.text, quote=False)}</td>")
    last = max(rows, default=-1)
    return (
        "<table>"
        + "".join(f"<tr>{''.join(rows[row])}</tr>" for row in range(last + 1))
        + "</table>"
    )
