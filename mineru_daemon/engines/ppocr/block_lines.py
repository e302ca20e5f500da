"""Lines as a result tells them, in shares of the page, and back.

Pure functions; the line that all stages work on is in `lines`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mineru_daemon.engines.ppocr.lines import TextLine, low_words
from mineru_daemon.results import Block, Line


def told(line: TextLine, width: float, height: float) -> Line:
    """The line with its corners as shares of a page of `width` by `height`."""
    polygon = list(_polygon(line, width, height))
    return Line(
        text=line.text,
        polygon=polygon,
        score=min(max(line.score, 0.0), 1.0),
        low=low_words(line.text, line.scores),
    )


def _polygon(line: TextLine, width: float, height: float) -> tuple[tuple[float, float], ...]:
    return tuple((_fraction(x, width), _fraction(y, height)) for x, y in line.corners)


def lines_of(
    block: Block, lines: Sequence[TextLine], width: float, height: float
) -> list[TextLine]:
    """The lines of a page that went into a block, as they were given to `to_blocks`.

    One that was split at a gutter is made anew from the block.
    """
    known = {(line.text, _polygon(line, width, height)): line for line in lines}
    found = []
    for line in block.lines:
        corners = tuple((x * width, y * height) for x, y in line.polygon)
        made = TextLine(corners, line.text, line.score or 0.0)
        found.append(known.get((line.text, tuple(line.polygon)), made))
    return found


def _fraction(pixels: float, length: float) -> float:
    return min(max(pixels / length, 0.0), 1.0)
