"""Which regions of a page count, and which lines they hold.

Pure functions. A line belongs to the smallest region that holds most of it; a region is
checked against the lines in it, as the layout model sees tables and pictures where none are.
"""

from __future__ import annotations

from collections.abc import Sequence

from mineru_daemon.engines.ppocr import boxes, reading_order
from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.engines.ppocr.reading_order import Item
from mineru_daemon.engines.ppocr.regions import Region

SOLID: frozenset[str] = frozenset({"table", "image", "equation"})
"""Regions that are read as one thing."""

CAPTIONS: frozenset[str] = frozenset({"table_caption", "image_caption"})

HELD = 0.5
"""Share of a line's area from which on a region holds it."""

INSIDE = 0.8
"""Share of a region's area from which on it is part of a table or picture around it."""

SUREST_TABLE = 0.5
"""Score from which on a table is believed: more than other regions, as it changes how its
lines are read."""

SUREST_PICTURE = 0.85
PICTURE_PAGE = 0.4
"""Score of a picture with text in it, at least, and its share of the page at most. The
model takes receipts and screenshots for pictures as a whole, and parts of screenshots
with little certainty."""

FORMULA_LINES = 12
"""Lines in a formula at most."""


def believed(
    regions: Sequence[Region], given: Sequence[Region], lines: Sequence[TextLine], page: float
) -> list[Region | None]:
    """The regions that count, at their places in the list; None for the others."""
    kept: list[Region | None] = [
        region if _is_plausible(region, lines, page) else None for region in regions
    ]
    solid = [region for region in kept if region is not None and region.type in SOLID]
    for number, region in enumerate(kept):
        if region is None:
            continue
        inside_given = any(boxes.share(region.box, outer.box) >= INSIDE for outer in given)
        if inside_given or (region.type not in CAPTIONS and _is_part(region, solid)):
            kept[number] = None
    return kept


def _is_part(region: Region, solid: Sequence[Region]) -> bool:
    """Whether a region is part of a larger or surer table or picture."""
    return any(
        boxes.share(region.box, outer.box) >= INSIDE
        and (
            boxes.area(outer.box) > boxes.area(region.box)
            or (outer.score > region.score and region.type in SOLID)
        )
        for outer in solid
        if outer is not region
    )


def _is_plausible(region: Region, lines: Sequence[TextLine], page: float) -> bool:
    if region.type not in SOLID:
        return True
    held = [line for line in lines if boxes.share(boxes.around(line.corners), region.box) >= HELD]
    if region.type == "table":
        return region.score >= SUREST_TABLE and len(held) > 1
    if region.type == "equation":
        return len(held) <= FORMULA_LINES
    return not held or (
        region.score >= SUREST_PICTURE
        and boxes.area(region.box) <= PICTURE_PAGE * page
        and 2 * len(held) <= len(lines)
    )


def items_of(
    lines: Sequence[TextLine], regions: Sequence[Region | None], given: int, turn: float
) -> list[Item]:
    """Lines and solid regions as items to be put in order.

    Regions from number `given` on are solid, and items even without lines.
    """
    inside: dict[int, list[TextLine]] = {
        number: []
        for number, region in enumerate(regions)
        if region is not None and (region.type in SOLID or number >= given)
    }
    items: list[Item] = []
    for line in lines:
        number = _holder(line, regions)
        if number is not None and number in inside:
            inside[number].append(line)
            continue
        region = regions[number] if number is not None else None
        box = reading_order.upright(line.corners, turn)
        items.append(Item(box, (line,), region.type if region else "text", number))
    for number, members in inside.items():
        region = regions[number]
        if region is not None and (members or region.type == "image" or number >= given):
            left, top, right, bottom = region.box
            corners = ((left, top), (right, top), (right, bottom), (left, bottom))
            box = reading_order.upright(corners, turn)
            items.append(Item(box, tuple(members), region.type, number, solid=True))
    return items


def _holder(line: TextLine, regions: Sequence[Region | None]) -> int | None:
    """Number of the smallest region that holds most of a line."""
    box = boxes.around(line.corners)
    holding = [
        (boxes.area(region.box), number)
        for number, region in enumerate(regions)
        if region is not None and boxes.share(box, region.box) >= HELD
    ]
    return min(holding)[1] if holding else None
