"""Two recognisers in a row: the quick one reads a line, the thorough one what it is unsure of.

PP-OCRv6 tiny takes a fifth of the CPU time of small and is right wherever it is sure. So
single words are cut out of the line and read again by small, and whole lines only where
words cannot be told apart. How a crop is read is the business of `recognition`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import cv2
import numpy as np

from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.recognition import CROP_HEIGHT, Reading, Recogniser
from mineru_daemon.engines.ppocr.scripts import is_wide

UNSURE = 0.9
"""Confidence of a character below which its word is read again."""

UNSURE_ON_BAD_PAGE = 0.98
"""The same on a page where tiny errs often. Read again up to here instead of to `UNSURE`, words of
receipts gain .009 F1; of 354 such words of scans small put 2 right and 3 wrong."""

BAD_PAGE = 0.1
"""Share of words below `UNSURE` from which on a page is a bad one. Scans have up to .06, most
screenshots .03 to .07, receipts .09 to .5."""

FIRST_WORDS = 20
"""Words, `BAD_PAGE` of them unsure, that a page is thought to have had before its first line."""

WIDE_UNSURE = 0.9
"""The same for ideographs, of which tiny knows a third of those that small knows."""

WIDE_LINE = 0.3
"""Share of ideographs among a line's characters from which on it has no words."""

WHOLE_LINE = 0.6
"""Share of a line's width from which on its words are not read again one by one."""

APART = CROP_HEIGHT
"""Pixels of a crop between two words below which they are read again together."""

GAP = 7
"""Pixels of a crop over which ink is averaged where the gap between two words is sought."""


@dataclass(frozen=True)
class Span:
    """Part of a line: characters from `first` to before `end`, pixels `left` to `right`."""

    first: int
    end: int
    left: int
    right: int


class Cascade:
    """Reads crops of the lines of one page, as `Recogniser` does, and learns how hard they are."""

    def __init__(self, quick: Recogniser, thorough: Recogniser) -> None:
        self._quick = quick
        self._thorough = thorough
        self._words = FIRST_WORDS
        self._unsure_words = FIRST_WORDS * BAD_PAGE

    def read(self, line: Pixels, before_run: Callable[[], object]) -> Reading:
        """Read an RGB crop (48, w, 3); `before_run` precedes every model run."""
        reading = self._quick.read(line, before_run)
        worst = [min(reading.scores[first:end]) for first, end in words(reading.text)]
        self._words += len(worst)
        self._unsure_words += sum(score < UNSURE for score in worst)
        bad = self._unsure_words > BAD_PAGE * self._words
        spans = spans_to_read_again(reading, line, UNSURE_ON_BAD_PAGE if bad else UNSURE)
        if spans == [whole(reading, line)]:
            return self._thorough.read(line, before_run)
        parts = [
            self._thorough.read(np.ascontiguousarray(line[:, span.left : span.right]), before_run)
            for span in spans
        ]
        return joined(reading, spans, parts, line.shape[1])


def words(text: str) -> list[tuple[int, int]]:
    """First character of each word, and the one after its last."""
    return [found.span() for found in re.finditer(r"\S+", text)]


def whole(reading: Reading, line: Pixels) -> Span:
    """The line from end to end."""
    return Span(0, len(reading.text), 0, line.shape[1])


def spans_to_read_again(reading: Reading, line: Pixels, unsure: float = UNSURE) -> list[Span]:
    """What the reading of an RGB crop (48, w, 3) is unsure of, from left to right."""
    text, scores = reading.text, reading.scores
    wide = [score for one, score in zip(text, scores, strict=True) if is_wide(one)]
    if not text.strip():
        return [whole(reading, line)]
    if len(wide) >= WIDE_LINE * len(text):
        doubtful = min(wide) < WIDE_UNSURE or min(scores) < unsure
        return [whole(reading, line)] if doubtful else []
    found = words(text)
    doubtful_words = [
        number
        for number, (first, end) in enumerate(found)
        if min(scores[first:end]) < unsure or any(map(is_wide, text[first:end]))
    ]
    if not doubtful_words:
        return []
    edges = _edges(found, reading.places, line)
    spans: list[Span] = []
    for number in doubtful_words:
        (first, end), left, right = found[number], edges[number], edges[number + 1]
        if spans and left - spans[-1].right < APART:
            first, left = spans[-1].first, spans[-1].left
            spans.pop()
        spans.append(Span(first, end, left, right))
    if sum(span.right - span.left for span in spans) > WHOLE_LINE * line.shape[1]:
        return [whole(reading, line)]
    return spans


def joined(
    reading: Reading, spans: Sequence[Span], parts: Sequence[Reading], width: int
) -> Reading:
    """The reading of a line `width` pixels wide with what its spans were read as again.

    A span in which nothing was found keeps what it had.
    """
    text, places, scores = reading.text, list(reading.places), list(reading.scores)
    for span, part in reversed(list(zip(spans, parts, strict=True))):
        if not part.text.strip():
            continue
        across = span.right - span.left
        moved = [(span.left + place * across) / width for place in part.places]
        text = text[: span.first] + part.text + text[span.end :]
        places[span.first : span.end] = moved
        scores[span.first : span.end] = part.scores
    if not scores:
        return reading
    return Reading(text, fmean(scores), tuple(places), tuple(scores))


def _edges(found: Sequence[tuple[int, int]], places: Sequence[float], line: Pixels) -> list[int]:
    """Where words begin, in pixels, and where the last one ends: in the gaps between them."""
    width = line.shape[1]
    # Rows at the very edge show the neighbours' ascenders and descenders.
    middle = line[CROP_HEIGHT // 8 : -CROP_HEIGHT // 8, :, 1]
    contrast = middle.max(axis=0).astype(np.float32) - middle.min(axis=0)
    ink = cv2.blur(contrast[None], (GAP, 1), borderType=cv2.BORDER_REPLICATE)[0]
    edges = [0]
    for (_, end), (first, _) in pairwise(found):
        begin, stop = int(places[end - 1] * width), int(places[first] * width) + 1
        begin = max(begin, edges[-1] + 1)
        if begin >= min(stop, width):
            edges.append(min(begin, width - 1))
        else:
            edges.append(begin + int(ink[begin:stop].argmin()))
    return [*edges, width]
