"""Whether what was read in a picture of a digital page is text of the page.

Pure functions, in points of the upright page. A piece of a document that was scanned or
photographed into a page is read with the page. What stands in a figure, which a caption calls
so, or in a few places of a photograph or diagram, belongs to the picture: MinerU's
convention has no content for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mineru_daemon.engines.ppocr import boxes, captions
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.lines import TextLine

SPARSE = 0.1
"""Share of a picture under its lines below which they are labels or words in a scene. Plots
have 0.03 to 0.08, business cards 0.15, a loosely set letter 0.2, print 0.4 and more."""


def parted(
    seen: Sequence[TextLine], pictures: Sequence[Box], printed: Sequence[TextLine], height: float
) -> tuple[list[TextLine], list[list[TextLine]]]:
    """Lines `seen` in pictures -> those of the page, and those of each picture alone.

    `printed` are the lines of the text layer, which may hold captions; `height` is the page's.
    """
    inside: list[list[TextLine]] = [[] for _ in pictures]
    of_page = []
    for line in seen:
        box = boxes.around(line.corners)
        holding = [number for number, one in enumerate(pictures) if boxes.centre_in(box, one)]
        if holding:
            inside[holding[0]].append(line)
        else:
            of_page.append(line)
    of_pictures: list[list[TextLine]] = []
    for picture, lines in zip(pictures, inside, strict=True):
        belongs = _is_sparse(picture, lines) or captions.names_figure(picture, printed, height)
        of_pictures.append(lines if belongs else [])
        of_page += [] if belongs else lines
    return of_page, of_pictures


def _is_sparse(picture: Box, lines: Sequence[TextLine]) -> bool:
    covered = sum(boxes.area(boxes.around(line.corners)) for line in lines)
    return covered < SPARSE * boxes.area(picture)
