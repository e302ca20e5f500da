"""The structure that lines imply: rows and columns by how they are aligned.

Whether it is believed rather than the network's is decided by `matching`.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from statistics import fmean, median

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.image_tables.cells import Cell
from mineru_daemon.engines.ppocr.image_tables.pieces import Piece, parted, text_rows
from mineru_daemon.engines.ppocr.lines import TextLine

COLUMN_NOISE = 0.2
"""Share of the rows that may cross the gap between two columns: headings, misread lines."""


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


def column_of(place: float, gaps: Sequence[float]) -> int:
    """Number of the column in which a place lies, in pixels across."""
    return bisect.bisect(gaps, place)


def grid_of(
    lines: Sequence[TextLine], gaps: Sequence[float]
) -> tuple[list[Cell], list[Piece], list[int]]:
    """Cells that the lines imply, the pieces, and which cell each piece is in."""
    whole = [Piece(line.text.strip(), boxes.around(line.corners)) for line in lines]
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
            first, last = column_of(x0 + inset, gaps), column_of(x1 - inset, gaps)
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
            middle = column_of(boxes.middle_x(piece.box), gaps)
            owners.append(base + bisect.bisect(starts, middle) - 1)
    return cells, pieces, owners
