"""Lines and regions of a page -> blocks with types, in reading order.

Pure functions; the one entry point is `to_blocks`. Lines in no region make paragraphs by
geometry, so that what the layout model misses is never lost. Which line belongs to which
region is told by `region_lines`, order by `reading_order` and `stream_order`, paragraphs
by `paragraphs`, types by `parts`, the inside of tables by `image_tables`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from mineru_daemon.engines.ppocr import (
    boxes,
    gutter_lines,
    paragraphs,
    parts,
    reading_order,
    region_lines,
    stream_order,
)
from mineru_daemon.engines.ppocr.lines import TextLine, slope
from mineru_daemon.engines.ppocr.reading_order import Item
from mineru_daemon.engines.ppocr.regions import Region
from mineru_daemon.results import Block


def to_blocks(
    lines: Sequence[TextLine],
    regions: Sequence[Region],
    width: float,
    height: float,
    sizes: Sequence[float] | None = None,
    ready: Sequence[Block] = (),
    places: Sequence[float] = (),
) -> list[Block]:
    """Blocks of an upright page of `width` x `height` pixels, in reading order.

    `lines` may come from recognition or from a text layer; they, `regions` and the page
    are measured in one unit, pixels or points. `sizes` are the lines' type sizes (any
    unit), if known better than from their heights. `ready` are blocks made elsewhere, such
    as the tables and pictures of a text layer: they only take their place in the order,
    and get the lines that lie in them if they have none. `places` tell in which order a file
    has the lines, and behind them `ready`; NaN where that is not known.

    Blocks of tables and pictures have their lines and no content; formulas have the plain
    text of their lines. A line that runs through two columns is split between them.
    """
    downwards = reading_order.is_vertical(lines)
    turn = 0.0 if downwards else slope(lines)
    sized = list(zip(lines, sizes or [line.height for line in lines], strict=True))
    place_of: dict[int, float] = {}
    size_of: dict[int, float] = {}
    lines = []
    for number, (whole, size) in enumerate(sized):
        for line in gutter_lines.split_at_gutter(whole, regions):
            lines.append(line)
            size_of[id(line)] = size
            if places:
                place_of[id(line)] = places[number]
    given = [Region(block.type, boxes.scaled(block.bbox, width, height), 1.0) for block in ready]
    believed = [*region_lines.believed(regions, given, lines, width * height), *given]
    items = region_lines.items_of(lines, believed, len(regions), turn)
    if downwards:
        items = [replace(item, box=reading_order.turned_to_rows(item.box, width)) for item in items]
    columns = reading_order.columns(items)
    if places and not downwards:
        of_ready = dict(enumerate(places[len(sized) :], len(regions)))
        columns = _as_in_file(columns, place_of, of_ready, size_of)
    found = [
        parts.part_of(group, size_of, believed)
        for column in columns
        for paragraph in paragraphs.paragraphs(reading_order.rows(column))
        for group in _apart(paragraph)
    ]
    made = {id(region): block for region, block in zip(given, ready, strict=True)}
    return [
        _completed(made[id(part.region)], block) if id(part.region) in made else block
        for part, block in zip(found, parts.to_blocks(found, width, height), strict=True)
    ]


def _as_in_file(
    columns: Sequence[Sequence[Item]],
    place_of: dict[int, float],
    of_ready: dict[int, float],
    size_of: dict[int, float],
) -> list[list[Item]]:
    """Columns in the file's order, where that agrees with the page."""
    items = [item for column in columns for item in column]
    places: dict[int, float] = {}
    sizes: dict[int, float] = {}
    for item in items:
        sizes[id(item)] = max((size_of[id(line)] for line in item.lines), default=0.0)
        place = (
            of_ready.get(item.region, math.nan)
            if item.solid and item.region is not None
            else min((place_of[id(line)] for line in item.lines), default=math.nan)
        )
        if not math.isnan(place):
            places[id(item)] = place
    return stream_order.followed(columns, places, sizes)


def _completed(ready: Block, block: Block) -> Block:
    """A block made elsewhere, with the lines that were found in its place."""
    return ready if ready.lines else ready.model_copy(update={"lines": block.lines})


def _apart(rows: list[paragraphs.Row]) -> list[list[paragraphs.Row]]:
    """Tables and pictures that stand in one row, each for itself."""
    items = [item for row in rows for item in row]
    if len(items) == 1 or not any(item.solid for item in items):
        return [rows]
    return [[[item]] for item in items]
