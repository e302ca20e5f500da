"""Characters of one run -> words: where there is white space between them.

Pure functions. Which characters make a run is told by `runs`, which words make a line by
`lines`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from statistics import median

from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.pdf_text.glyphs import Glyph
from mineru_daemon.engines.ppocr.scripts import is_right_to_left, is_square

SPACE_GAP = 0.17
"""Gap in em from which two characters are two words. TeX's word space is 0.333 em and
may shrink to 0.222 (The TeXbook, ch. 12); kerning stays below 0.1."""
MARKED_SPACE_GAP = 0.04
"""The same where PDFium put a space of its own."""
OVERHANG = 0.1
"""Em by which slanted letters, and f, may reach over the space after them."""
CJK_SPACE_GAP = 0.45
"""The same between two ideographs, which carry white space inside their squares."""


@dataclass(frozen=True, slots=True)
class Word:
    """Characters without white space between them."""

    text: str
    box: Box
    size: float
    bold: bool


def split_words(glyphs: list[Glyph]) -> list[list[Glyph]]:
    """Characters of a run, parted where there is white space."""
    words = _parted(glyphs, SPACE_GAP, MARKED_SPACE_GAP)
    singles = sum(len(word) == 1 and not is_square(word[0].text) for word in words)
    if len(glyphs) >= 6 and singles > 0.7 * len(words) and singles >= 5:
        # L e t t e r s set apart: words are parted by more than the usual distance.
        gaps = [
            _gap(left, right) / max(left.em, right.em) for left, right in itertools.pairwise(glyphs)
        ]
        usual = median(gaps) + SPACE_GAP
        if sum(gap > usual for gap in gaps) < len(gaps) / 3:
            return _parted(glyphs, usual, usual, trust_file=False)
    return words


def _parted(
    glyphs: list[Glyph], threshold: float, marked: float, *, trust_file: bool = True
) -> list[list[Glyph]]:
    words = [[glyphs[0]]]
    for before, glyph in itertools.pairwise(glyphs):
        limit = marked if glyph.spaced else threshold
        if glyph.spaced and (before.style.italic or before.text == "f"):
            limit -= OVERHANG
        if are_apart(before, glyph, limit) or (
            trust_file
            and glyph.spaced == 2
            and not (is_square(before.text) and is_square(glyph.text))
        ):
            words.append([glyph])
        else:
            words[-1].append(glyph)
    return words


def are_apart(before: Glyph, glyph: Glyph, threshold: float) -> bool:
    """Whether white space of `threshold` em or more lies between two characters."""
    if is_square(before.text) and is_square(glyph.text):
        threshold = max(threshold, CJK_SPACE_GAP)
    return _gap(before, glyph) > threshold * min(max(before.em, glyph.em), 1.5 * glyph.em)


def _gap(before: Glyph, glyph: Glyph) -> float:
    if is_right_to_left(glyph.text) and glyph.u0 < before.u0:
        return before.u0 - glyph.u1
    return glyph.u0 - before.u1
