"""Pictures of a digital page as blocks, put where they are seen.

Which images a page has is told by `pdf_objects`, their captions by `captions`. What is drawn of
lines and curves is no picture here.
"""

from __future__ import annotations

from collections.abc import Sequence

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.pdf_objects import Picture
from mineru_daemon.results import BBox, Block

SMALLEST = 0.006
"""Share of the page's area below which an image is an ornament: a logo has 1 %."""

SHORTEST = 20.0
"""Points of its shorter side, for the same reason."""

GROUND = 0.75
"""Share of the page from which an image is what the page is printed on."""

GAP = 2.0
"""Points between the strips that one picture is cut into."""

MOST_STRIPS = 400
"""Images of a page beyond which they are a mosaic, one picture."""


def picture_boxes(
    pictures: Sequence[Picture], tables: Sequence[Box], width: float, height: float
) -> list[Box]:
    """Boxes in points of what a reader takes for pictures on a page of this size."""
    return [
        box
        for box in joined([picture.box for picture in pictures], GAP)
        if SMALLEST <= boxes.area(box) / (width * height) < GROUND
        and min(box[2] - box[0], box[3] - box[1]) >= SHORTEST
        and not any(boxes.share(box, table) > 0.5 or boxes.share(table, box) > 0.5
                    for table in tables)
    ]  # fmt: skip


def joined(parts: list[Box], gap: float) -> list[Box]:
    """Bounding boxes of groups of boxes that overlap or lie within `gap` points."""
    if len(parts) > MOST_STRIPS:
        # A mosaic of tiles or a pattern: one picture as far as text is concerned.
        return [boxes.union(parts)]
    groups = list(parts)
    merged = True
    while merged:
        merged = False
        rest: list[Box] = []
        for box in groups:
            for number, other in enumerate(rest):
                if boxes.touch(box, other, gap):
                    rest[number] = boxes.union([box, other])
                    merged = True
                    break
            else:
                rest.append(box)
        groups = rest
    return groups


def placed(blocks: Sequence[Block], pictures: Sequence[Block]) -> list[Block]:
    """Blocks in reading order with pictures among them.

    A picture stands before the text on it, else behind what is above it in its column.
    """
    result = list(blocks)
    for picture in sorted(pictures, key=lambda one: (one.bbox[1], one.bbox[0])):
        result.insert(_place(result, picture.bbox), picture)
    return result


def _place(blocks: Sequence[Block], bbox: BBox) -> int:
    for number, block in enumerate(blocks):
        if boxes.share(block.bbox, bbox) > 0.5:
            return number
    middle = boxes.middle_y(bbox)
    above = [
        (block.bbox[3], number)
        for number, block in enumerate(blocks)
        if boxes.middle_y(block.bbox) < middle and boxes.common_width(block.bbox, bbox) > 0
    ]
    return max(above)[1] + 1 if above else 0
