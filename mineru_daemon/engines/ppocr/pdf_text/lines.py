"""Characters of a page -> its printed lines.

The pure half's entry point. What shares a line is told by `runs`, where words part by
`words`; in which order lines are read is left to others.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.engines.ppocr.pdf_text.frame import onto_page
from mineru_daemon.engines.ppocr.pdf_text.glyphs import Glyph, Glyphs
from mineru_daemon.engines.ppocr.pdf_text.runs import (
    Run,
    runs_of,
    side_by_side,
    split_vertical,
    without_doubles,
)
from mineru_daemon.engines.ppocr.pdf_text.words import SPACE_GAP, Word, are_apart, split_words

DROP_CAP = 1.7
"""Size of a first letter that is two lines high and more, over that of its line."""


@dataclass(frozen=True)
class PrintedLine(TextLine):
    """A line of a text layer; corners in points of the upright page, score 1."""

    words: tuple[Word, ...] = ()
    size: float = 0.0
    """Type size in points of most of its characters."""
    font: str = ""
    bold: bool = False
    italic: bool = False
    invisible: bool = False
    colour: tuple[int, int, int] | None = None
    angle: int = 0
    """Degrees clockwise by which the line is turned on the upright page."""
    vertical: bool = False
    """Set from top to bottom with upright characters, as Chinese and Japanese may be."""

    @property
    def box(self) -> Box:
        """Its upright bounding box in points."""
        return boxes.around(self.corners)


def build_lines(glyphs: Glyphs, width: float, height: float) -> list[PrintedLine]:
    """Lines in the order in which they begin in the file; page size in points."""
    lines: list[PrintedLine] = []
    for angle, members in glyphs.by_angle.items():
        rows, columns = split_vertical(members, width) if angle == 0 else (members, [])
        lines += _lines_of(rows, angle, width, height, vertical=False)
        lines += _lines_of(columns, 90, width, height, vertical=True)
    return lines


def _lines_of(
    glyphs: list[Glyph], angle: int, width: float, height: float, *, vertical: bool
) -> list[PrintedLine]:
    runs = without_doubles(runs_of(glyphs))
    return [
        line
        for group in side_by_side(runs)
        if (line := _line(group, angle, width, height, vertical)) is not None
    ]


def _line(
    runs: list[Run], angle: int, width: float, height: float, vertical: bool
) -> PrintedLine | None:
    groups = [group for run in runs for group in split_words(run.glyphs)]
    joined: list[list[Glyph]] = []
    starts = {id(run.glyphs[0]) for run in runs[1:]}
    for group in groups:
        if joined and id(group[0]) in starts and not are_apart(joined[-1][-1], group[0], SPACE_GAP):
            joined[-1] = joined[-1] + group
        else:
            joined.append(group)
    words = []
    for group in joined:
        text = unicodedata.normalize("NFC", "".join(glyph.text for glyph in group))
        if not text.strip():
            continue
        corners = onto_page(angle, _extent(group), width, height)
        style = group[len(group) // 2].style
        size = median(glyph.em for glyph in group)
        words.append(Word(text, boxes.around(corners), size, style.bold))
    if not words:
        return None
    glyphs = [glyph for group in joined for glyph in group]
    main = glyphs[0].style
    if any(glyph.style is not main for glyph in glyphs):
        counts: dict[int, int] = {}
        for glyph in glyphs:
            counts[id(glyph.style)] = counts.get(id(glyph.style), 0) + 1
        top = max(counts, key=lambda one: counts[one])
        main = next(glyph.style for glyph in glyphs if id(glyph.style) == top)
    bold = sum(glyph.style.bold for glyph in glyphs) * 2 > len(glyphs)
    doubled = sum(len(run.glyphs) for run in runs if run.doubled) * 2 > len(glyphs)
    size = median(glyph.em for glyph in glyphs)
    return PrintedLine(
        corners=onto_page(angle, _extent(_without_drop_cap(glyphs, size)), width, height),
        text=" ".join(word.text for word in words),
        score=1.0,
        words=tuple(words),
        size=size,
        font=main.font,
        bold=bold or doubled,
        italic=main.italic,
        invisible=main.invisible,
        colour=main.colour,
        angle=0 if vertical else angle,
        vertical=vertical,
    )


def _without_drop_cap(glyphs: Sequence[Glyph], size: float) -> Sequence[Glyph]:
    """Without a first letter that stands beside the lines below, too."""
    large = glyphs[0].em >= DROP_CAP * size and len(glyphs) > 1 and glyphs[1].em < DROP_CAP * size
    return glyphs[1:] if large else glyphs


def _extent(glyphs: Sequence[Glyph]) -> Box:
    return (
        min(glyph.u0 for glyph in glyphs),
        min(glyph.v0 for glyph in glyphs),
        max(glyph.u1 for glyph in glyphs),
        max(glyph.v1 for glyph in glyphs),
    )
