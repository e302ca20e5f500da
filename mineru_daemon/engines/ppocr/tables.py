"""Tables: picture of a table and the lines read on it -> cells -> HTML.

A network (SLANet: PaddleOCR's PP-StructureV2, Li et al. 2022) writes the table's HTML
without text and tells where each cell is. This module joins that with the lines: which
text belongs to which cell, where a line runs through several cells, and which rows or
columns the network missed. Where tables are on a page is told by `layout`, what the
lines say by `recognition` or by the text layer of a PDF; tables drawn with rules on
digital pages are left to `ruled_tables`.
"""

from __future__ import annotations

import html as markup
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from statistics import fmean

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


@dataclass(frozen=True)
class MeasuredLine(TextLine):
    """A line of which it is known where each character stands."""

    places: tuple[float, ...] = ()
    """Middle of each character along the line, 0 at its left end, 1 at its right."""


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
    ) -> TableReading:
        """The table inside `box` of an upright RGB page (H, W, 3).

        `lines` are what is to stand in it, lines or single words, corners in pixels of
        the page; every one of them ends up in a cell. `before_run` precedes the model.
        """
        height, width = image.shape[:2]
        left, top = max(0, int(box[0])), max(0, int(box[1]))
        right, bottom = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
        if right - left < 2 or bottom - top < 2:
            return filled(Structure([], 0.0), lines)
        before_run()
        structure = self.structure(image[top:bottom, left:right])
        return filled(_moved(structure, left, top), lines)

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
    return replace(
        structure,
        cells=[
            replace(
                cell,
                box=(
                    cell.box[0] + left,
                    cell.box[1] + top,
                    cell.box[2] + left,
                    cell.box[3] + top,
                ),
            )
            for cell in structure.cells
        ],
    )


def filled(structure: Structure, lines: Sequence[TextLine]) -> TableReading:
    """The table with its text: every line, or part of one, in one cell."""
    pieces = [Piece(line.text.strip(), _bounds(line)) for line in lines if line.text.strip()]
    if not pieces and not structure.cells:
        return TableReading("", structure.score)
    cells = structure.cells or [Cell(0, 0, 1, 1, _union([piece.box for piece in pieces]))]
    owners = [_nearest(piece.box, cells) for piece in pieces]
    texts: defaultdict[int, list[Piece]] = defaultdict(list)
    for piece, owner in zip(pieces, owners, strict=True):
        texts[owner].append(piece)
    cells = [replace(cell, text=_joined(texts[i])) for i, cell in enumerate(cells)]
    return TableReading(to_html(cells), structure.score, cells)


def _bounds(line: TextLine) -> Box:
    across, down = zip(*line.corners, strict=True)
    return min(across), min(down), max(across), max(down)


def _union(boxes: Sequence[Box]) -> Box:
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _nearest(box: Box, cells: Sequence[Cell]) -> int:
    area = max(1e-6, (box[2] - box[0]) * (box[3] - box[1]))

    def key(cell: Cell) -> tuple[float, float]:
        w = min(box[2], cell.box[2]) - max(box[0], cell.box[0])
        h = min(box[3], cell.box[3]) - max(box[1], cell.box[1])
        return (-(max(0, w) * max(0, h)) / area, max(0, -w) + 3 * max(0, -h))

    return min(range(len(cells)), key=lambda i: key(cells[i]))


def _joined(pieces: Sequence[Piece]) -> str:
    rows: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda p: p.box[1] + p.box[3]):
        if rows:
            t, b = rows[-1][0].box[1], rows[-1][0].box[3]
            if min(b, piece.box[3]) - max(t, piece.box[1]) >= 0.5 * min(
                b - t, piece.box[3] - piece.box[1]
            ):
                rows[-1].append(piece)
                continue
        rows.append([piece])
    return " ".join(p.text for row in rows for p in sorted(row, key=lambda p: p.box[0]))


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


def to_pipe_table(source: str) -> str | None:
    """HTML of a table as a Markdown pipe table; None when it must stay HTML.

    That is when cells span rows or columns, hold other elements (line breaks among
    them), or rows are of different lengths. The first row becomes the heading, which
    Markdown demands.
    """
    rows = _PlainRows.of(source)
    if not rows or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
        return None
    written = ["| " + " | ".join(_markdown(cell) for cell in row) + " |" for row in rows]
    written.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(written)


def _markdown(text: str) -> str:
    """Text of a cell so that Markdown neither ends the cell nor sees a tag in it."""
    text = text.replace("\\", "\\\\").replace("|", "\\|")
    return re.sub(r"<(?=[A-Za-z/!?])", r"\\<", text)


class _PlainRows(HTMLParser):
    """Rows of cells of a table without spans and without elements in its cells."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.plain = True
        self._open = False

    @classmethod
    def of(cls, source: str) -> list[list[str]] | None:
        parser = cls()
        parser.feed(source)
        parser.close()
        return (
            [[" ".join(cell.split()) for cell in row] for row in parser.rows]
            if parser.plain
            else None
        )

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._open = True
            if any(name.endswith("span") and (count or "1") != "1" for name, count in attrs):
                self.plain = False
        elif tag not in ("table", "thead", "tbody"):
            self.plain = False

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.rows[-1][-1] += data
