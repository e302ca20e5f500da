"""Lines of text cut and joined for cells: pieces, rows of pieces, runs of words.

Where a line is to be cut is told by `matching` and `line_grid`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.engines.ppocr.scripts import is_wide

ROW_OVERLAP = 0.5
"""Share of the lower piece's height by which pieces of one row of text overlap at least."""

WORD_GAP = 0.8
"""Gap between words of one run at most, by the words' height. A space is a quarter to a
half of it, and columns stand further apart."""


@dataclass(frozen=True)
class Piece:
    """A line or a part of one that belongs into a single cell."""

    text: str
    box: Box


def parted(line: TextLine, cuts: Sequence[float]) -> list[Piece]:
    """A line cut near the places `cuts` (pixels across), at the widest gaps there.

    Where characters' places are unknown they are taken to be equally wide, and only
    spaces are gaps.
    """
    left, top, right, bottom = boxes.around(line.corners)
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
    pieces = [Piece(word.text.strip(), boxes.around(word.corners)) for word in words]
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
    x0, y0, x1, y1 = boxes.union([piece.box for piece in pieces])
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


def text_of(pieces: Sequence[Piece]) -> str:
    """The text of one cell: rows from top to bottom, spaces but between CJK characters."""
    text = ""
    for row in text_rows(pieces):
        for number in row:
            part = pieces[number].text
            glue = "" if not text or (is_wide(text[-1]) and is_wide(part[0])) else " "
            text += glue + part
    return text
