"""Lines of one column -> paragraphs, and the text of a paragraph.

Pure functions. Which lines make a column is told by `reading_order`, what a paragraph
is by `structure` and `headings`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from statistics import median

from mineru_daemon.engines.ppocr import reading_order
from mineru_daemon.engines.ppocr.lines import TextLine, slope
from mineru_daemon.engines.ppocr.reading_order import Item
from mineru_daemon.engines.ppocr.scripts import is_wide

Row = Sequence[Item]

LARGEST_LEADING = 1.6
"""Distance of the middles of two lines of a paragraph, over the column's usual distance."""

SAME_SIZE = 0.72
"""Ratio of the heights of two lines from which on they can be of one size: a line without
ascenders or descenders is lower than its neighbours."""

NEAR = 4
"""Rows above and below that tell the width of the column, which changes around pictures."""

INDENT = 0.8
"""Depth of an indented first line in line heights, at least."""

LIST_MARK = re.compile(
    r"^(?:[•・]|[●○◦▪■□►–—*·-]\s|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)]\s|[①-⑳]"
    r"|\d{1,3}[.、．)）](?=[\u3040-\u9fff])|[（(][一二三四五六七八九十\d]+[）)])"
)
"""How an entry of a list begins."""

HYPHENS = "-‐\u00ad"
"""Hyphen-minus, hyphen, soft hyphen."""


def paragraphs(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one column -> groups of rows that are one paragraph each.

    A row of several cells is a paragraph of its own, and so is a solid region.
    """
    if not rows:
        return []
    pitch = _usual_pitch(rows)
    groups: list[list[Row]] = [[rows[0]]]
    for number, row in enumerate(rows[1:], 1):
        near = [
            item.box
            for other in rows[max(0, number - NEAR) : number + NEAR]
            for item in other
            if not item.solid
            and item.region == row[0].region
            and _is_same_size(item.height, row[0].height)
        ]
        left = min((box[0] for box in near), default=0.0)
        right = max((box[2] for box in near), default=0.0)
        if _continues(groups[-1], row, pitch, left, right):
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def text(lines: Sequence[str]) -> str:
    """Lines of a paragraph as one text: hyphenation undone, CJK joined without spaces."""
    joined = ""
    for line in lines:
        joined = join(joined, line.strip()) if joined else line.strip()
    return joined


def row_text(lines: Sequence[TextLine]) -> str:
    """Lines in rows, each row a line of text: what is left of a table without structure."""
    turn = slope(lines)
    items = [Item(reading_order.upright(line.corners, turn), (line,)) for line in lines]
    return "\n".join(of_row(row) for row in reading_order.rows(items))


def of_row(row: Row) -> str:
    """The text of what stands side by side."""
    return " ".join(line.text.strip() for item in row for line in item.lines)


def join(before: str, after: str) -> str:
    """Two lines of a paragraph as one text."""
    if not before or not after:
        return before or after
    if before[-1] in HYPHENS and len(before) > 1 and before[-2].isalpha() and after[0].islower():
        return before[:-1] + after
    if before[-1] in HYPHENS and len(before) > 1 and before[-2].isalnum() and after[0].isalnum():
        return before + after
    if is_wide(before[-1]) and is_wide(after[0]):
        return before + after
    return f"{before} {after}"


def _usual_pitch(rows: Sequence[Row]) -> float:
    """Median distance between the middles of neighbouring rows, in pixels."""
    steps = [
        after[0].middle - before[0].middle
        for before, after in itertools.pairwise(rows)
        if after[0].middle > before[0].middle and not (before[0].solid or after[0].solid)
    ]
    close = [step for step, row in zip(steps, rows, strict=False) if step < 3 * row[0].height]
    return median(close or steps or [0.0])


def _continues(group: Sequence[Row], row: Row, pitch: float, left: float, right: float) -> bool:
    """Whether a row goes on with the paragraph above it."""
    before, after = group[-1], row
    if len(before) > 1 or len(after) > 1:
        return False
    above, below = before[0], after[0]
    if above.solid or below.solid or above.type != below.type:
        return False
    if above.region is not None and below.region is not None and above.region != below.region:
        return False
    if not _is_same_size(above.height, below.height):
        return False
    high = max(above.height, below.height)
    step = below.middle - above.middle
    if step > LARGEST_LEADING * max(pitch, high) or step > 2.5 * high:
        return False
    if _mark(below):
        return False
    if above.type == "title" or above.lines[-1].text.endswith(tuple(HYPHENS)):
        return True
    em = (above.height + below.height) / 2
    if _is_indented(below, above, left, em) and not (len(group) == 1 and _mark(above)):
        return False
    return not _ended_early(above, below, right, em)


def _is_same_size(one: float, other: float) -> bool:
    return min(one, other) >= SAME_SIZE * max(one, other)


def _mark(item: Item) -> bool:
    return bool(item.lines) and bool(LIST_MARK.match(item.lines[0].text))


def _is_indented(below: Item, above: Item, left: float, em: float) -> bool:
    """Whether a line begins a paragraph by standing back from the line above it."""
    depth = below.box[0] - max(above.box[0], left)
    return INDENT * em <= depth <= 6 * em and above.box[0] - left < INDENT * em


def _ended_early(above: Item, below: Item, right: float, em: float) -> bool:
    """Whether the line above had room for the next line's first word: an end on purpose."""
    room = right - above.box[2]
    first = next(iter(_words(below.lines[0].text)), "") if below.lines else ""
    characters = max(1, len(below.lines[0].text)) if below.lines else 1
    word = below.width * (len(first) + 1) / characters
    centred = abs(above.box[0] + above.box[2] - below.box[0] - below.box[2]) < em
    return room > word + 1.5 * em and not (centred and above.box[0] > below.box[0] + em)


def _words(line: str) -> Iterator[str]:
    """Words of a line; in scripts without spaces, a few characters."""
    for word in line.split():
        yield word[:3] if any(map(is_wide, word[:3])) else word
