"""Words -> rows of words, phrases, and the text of a cell.

The words are those of `pdf_text`. What is a figure is told by `figures`, in which column
a word stands by `grid`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mineru_daemon.engines.ppocr.pdf_text import PrintedLine, Word

CELL_GAP = 0.8
"""Gap in em from which words of a row are in two cells, before columns are known. Word
spaces are 0.25 to 0.35 em, in justified lines up to 0.7."""
_LEADERS = re.compile(r"\s*(?:[.\u2024\u2025\u2026\u00b7]\s?){4,}$")
"""Dots that lead the eye to the next column."""


def upright(line: PrintedLine) -> Word:
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


def rows_of(words: Sequence[Word]) -> list[list[Word]]:
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


def phrases_of(row: Sequence[Word], em: float, gap: float = CELL_GAP) -> list[list[Word]]:
    """Words of a row in groups that may each be one cell."""
    groups: list[list[Word]] = []
    for word in row:
        if groups and word.box[0] - groups[-1][-1].box[2] < gap * em:
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups


def between(upper: Sequence[Word], lower: Sequence[Word]) -> float:
    """Height halfway between two rows."""
    return (max(word.box[3] for word in upper) + min(word.box[1] for word in lower)) / 2


def middle_of(row: Sequence[Word]) -> float:
    """Height at which the middle of a row lies."""
    return sum(word.box[1] + word.box[3] for word in row) / (2 * len(row))


def text_of(words: Sequence[Word]) -> str:
    """Text of a cell, its lines joined by spaces; words parted by a hyphen joined."""
    parts: list[str] = []
    for row in rows_of(words):
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
    """Whether no space parts a sign from such another one in a cell."""
    return (
        "\u2e80" <= sign <= "\u9fff" or "\uac00" <= sign <= "\ud7af" or "\uff00" <= sign <= "\uffef"
    )
