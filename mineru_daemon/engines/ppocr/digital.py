"""From a text layer to blocks: what a digital page needs besides reading order.

The text layer is read by `textlayer`, order and types are `structure`'s; this module
brings both together, with the tables and pictures that the file itself tells. `read` and
`joined` run where the document is open, as a hostile page can make them take long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mineru_daemon.documents import PdfPage
from mineru_daemon.engines.ppocr import (
    block_lines,
    boxes,
    captions,
    digital_pictures,
    links,
    lists,
    picture_text,
    structure,
    textlayer,
)
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.engines.ppocr.textlayer import PdfMode, TextLayer, Verdict
from mineru_daemon.results import Block


@dataclass(frozen=True)
class Digital:
    """What a page says about itself, as far as it can be told without drawing it."""

    verdict: Verdict
    width: float
    """Of the page in points."""
    blocks: list[Block]
    """All there are, where the verdict is `text`."""
    ocr_regions: list[Box]
    """Where it is `mixed`: parts to be recognised, in points, before the page is `joined`."""
    layer: TextLayer | None = None
    """Where it is `mixed`."""


def read(page: PdfPage, mode: PdfMode) -> Digital:
    """The page by its text layer."""
    layer = textlayer.read(page, mode)
    if layer.verdict.source == "ocr":
        return Digital(layer.verdict, layer.width, [], [])
    if layer.ocr_regions:
        return Digital(layer.verdict, layer.width, [], layer.ocr_regions, layer)
    return Digital(layer.verdict, layer.width, to_blocks(layer), [])


def joined(_page: PdfPage, layer: TextLayer, seen: Sequence[TextLine]) -> list[Block]:
    """Blocks of a `mixed` page with the lines `seen` in its images, in points."""
    return to_blocks(layer, seen)


def moved(line: TextLine, offset: tuple[float, float], scale: float) -> TextLine:
    """A line of an image part, in points of its page.

    `offset` is the part's corner in pixels of the page's image, `scale` points per pixel.
    """
    corners = tuple(((x + offset[0]) * scale, (y + offset[1]) * scale) for x, y in line.corners)
    return replace(line, corners=corners)


def to_blocks(layer: TextLayer, seen: Sequence[TextLine] = ()) -> list[Block]:
    """Blocks of a page in reading order.

    `seen` are lines in points that were recognised in its images.
    """
    tables = [
        Block(
            type="table",
            bbox=boxes.fractions(table.box, layer.width, layer.height),
            content=table.html,
        )
        for table in layer.tables
    ]
    found = digital_pictures.picture_boxes(
        layer.pictures, [table.box for table in layer.tables], layer.width, layer.height
    )
    of_page, of_pictures = picture_text.parted(seen, found, layer.lines, layer.height)
    sizes = [line.size for line in layer.lines]
    sizes += [abs(line.corners[3][1] - line.corners[0][1]) for line in of_page]
    blocks = structure.to_blocks(
        [*layer.lines, *of_page],
        [],
        layer.width,
        layer.height,
        sizes,
        tables,
        [*layer.places, *(math.nan for _ in of_page), *layer.table_places],
    )
    pictures = [_picture(box, lines, layer) for box, lines in zip(found, of_pictures, strict=True)]
    blocks = captions.marked(digital_pictures.placed(blocks, pictures))
    return lists.gathered(links.onto(blocks, layer.links, layer.width, layer.height))


def _picture(box: Box, lines: Sequence[TextLine], layer: TextLayer) -> Block:
    width, height = layer.width, layer.height
    told = [block_lines.told(line, width, height) for line in sorted(lines, key=_place)]
    return Block(type="image", bbox=boxes.fractions(box, width, height), content=None, lines=told)


def _place(line: TextLine) -> tuple[float, float]:
    left, top, _, _ = boxes.around(line.corners)
    return top, left
