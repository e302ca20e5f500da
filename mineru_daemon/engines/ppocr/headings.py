"""Which paragraphs are headings, and of which level.

Pure functions on sizes, numbering and what the layout model took a paragraph for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBERING = re.compile(
    r"^(?:(?:chapter|section|part|appendix|article)\s+)?(\d{1,2}(?:\.\d{1,2}){0,4})\.?\s+\S",
    re.IGNORECASE,
)
"""Decimal numbers of headings: 2, 2.1, 2.1.3."""

CJK_CHAPTER = re.compile(r"^第[一二三四五六七八九十百\d]+[章篇编編]")
CJK_SECTION = re.compile(r"^第[一二三四五六七八九十百\d]+[节節]")
"""Chapters and sections of Chinese and Japanese texts."""

LARGER = 1.25
"""Size over that of the body from which on a short paragraph is a heading by size alone."""

SAME_SIZE = 1.12
"""Ratio of sizes up to which two headings are of one level."""

LONGEST = 200
"""Characters of a heading at most."""

MOST_LINES = 3
"""Lines of a heading at most."""

DEEPEST = 6
"""Markdown has six levels."""


def is_heading(text: str, size: float, body: float, lines: int) -> bool:
    """Whether a paragraph is a heading by its type size alone (pixels or points)."""
    if not 2 <= len(text) <= LONGEST or lines > MOST_LINES or not any(map(str.isalpha, text)):
        return False
    return size >= LARGER * body and text[-1] not in ",;:-"


def levels(headings: Sequence[tuple[str, float]]) -> list[int]:
    """Level from 1 for each heading (text, size) of a page, in reading order.

    Sizes are put into classes, the largest first; a decimal number overrules them.
    """
    classes: list[float] = []
    for size in sorted((size for _, size in headings), reverse=True):
        if not classes or classes[-1] > size * SAME_SIZE:
            classes.append(size)
    title = max((size for text, size in headings if not NUMBERING.match(text)), default=0.0)
    return [_level(text, size, classes, title) for text, size in headings]


def _level(text: str, size: float, classes: Sequence[float], title: float) -> int:
    number = NUMBERING.match(text)
    if number:
        # Below the document's title, if there is one in larger type.
        return min(DEEPEST, number[1].count(".") + 1 + (title > size * SAME_SIZE))
    if CJK_CHAPTER.match(text):
        return 1
    if CJK_SECTION.match(text):
        return 2
    return min(DEEPEST, 1 + sum(one > size * SAME_SIZE for one in classes))
