"""A line of text on a page: what all stages after recognition work on."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from mineru_daemon.engines.ppocr.scripts import is_wide
from mineru_daemon.results import Confidence

LOW_SCORE = 0.9
"""Mean score of a word's characters below which it is marked as unsure. Of 6,200 words of
scans, receipts and screenshots 2.2 % lay below, and seven in ten of these were wrong; of receipts
alone 6 %, as often wrong, which was nearly half of all wrong words."""


@dataclass(frozen=True)
class TextLine:
    """A line on the page: corners in pixels, clockwise from the top left; text; score."""

    corners: tuple[tuple[float, float], ...]
    text: str
    score: float
    places: tuple[float, ...] = ()
    """Middle of each character along the line, 0 at its left end, 1 at its right; empty
    where that is not known."""
    scores: tuple[float, ...] = ()
    """Confidence of each character, 0..1; empty where the text was not recognised."""

    @property
    def height(self) -> float:
        """Of its own rectangle in pixels, however it leans or is turned."""
        corner, along, _, across = self.corners
        if len(self.text) == 1:
            return math.dist(corner, across)
        return min(math.dist(corner, across), math.dist(corner, along))

    def part(self, start: int, end: int, corners: tuple[tuple[float, float], ...]) -> TextLine:
        """Characters from `start` to before `end`, without space around, at these corners.

        They keep their scores; their places on the new line are not known.
        """
        start += len(self.text[start:end]) - len(self.text[start:end].lstrip())
        text = self.text[start:end].rstrip()
        return TextLine(corners, text, self.score, scores=self.scores[start : start + len(text)])


def low_words(text: str, scores: Sequence[float]) -> list[tuple[int, int]]:
    """Ranges of characters, first and after last, of the words that are read unsurely.

    `scores` has the confidence of each character. Where a script has no spaces between
    words, each character counts as one. Neighbours are one range.
    """
    if len(scores) != len(text):
        return []
    ranges: list[tuple[int, int]] = []
    for start, end in _words(text):
        if fmean(scores[start:end]) >= LOW_SCORE:
            continue
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges


def confidence(lines: Iterable[TextLine]) -> Confidence | None:
    """How surely the lines were recognised; None if none was. White space does not count."""
    known: list[float] = []
    low = 0
    for line in lines:
        inked = [not one.isspace() for one in line.text]
        known += itertools.compress(line.scores, inked)
        low += sum(sum(inked[start:end]) for start, end in low_words(line.text, line.scores))
    if not known:
        return None
    return Confidence(
        mean_score=round(min(fmean(known), 1.0), 4),
        low_share=round(low / len(known), 4),
        characters=len(known),
    )


def _words(text: str) -> Iterator[tuple[int, int]]:
    for word in re.finditer(r"\S+", text):
        if word[0].isascii():
            yield word.span()
            continue
        for is_square, run in itertools.groupby(range(*word.span()), lambda n: is_wide(text[n])):
            places = list(run)
            if is_square:
                yield from ((place, place + 1) for place in places)
            else:
                yield places[0], places[-1] + 1


def slope(lines: Sequence[TextLine]) -> float:
    """Median angle of the wide lines in radians, clockwise; 0 if there are none."""
    angles = []
    for line in lines:
        (x0, y0), (x1, y1), _, (x3, y3) = line.corners
        if math.hypot(x1 - x0, y1 - y0) >= 3 * math.hypot(x3 - x0, y3 - y0):
            angles.append(math.atan2(y1 - y0, x1 - x0))
    return median(angles) if angles else 0.0


def weighted_median(weighed: Iterable[tuple[float, int]]) -> float:
    """The size in which half of the characters are set, of pairs of both; 0 without any."""
    ordered = sorted(weighed)
    half = sum(count for _, count in ordered) / 2
    passed = 0
    for size, count in ordered:
        passed += count
        if passed >= half:
            return size
    return 0.0
