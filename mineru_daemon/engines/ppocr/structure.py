"""Lines and regions of a page -> blocks with types, in reading order.

Pure functions; the one entry point is `to_blocks`. A line belongs to the region that
holds most of it; lines in no region make paragraphs by geometry, so that what the
layout model misses is never lost. Order is left to `reading_order`, paragraphs to
`paragraphs`, headings to `headings`, headers and footers to `furniture`, the inside of
tables to `image_tables`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from mineru_daemon.engines.ppocr import (
    boxes,
    furniture,
    headings,
    paragraphs,
    reading_order,
    stream_order,
)
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.lines import TextLine, low_words, slope
from mineru_daemon.engines.ppocr.reading_order import Item
from mineru_daemon.engines.ppocr.regions import Region
from mineru_daemon.engines.ppocr.scripts import is_wide
from mineru_daemon.results import BBox, Block, BlockType, Line

SOLID: frozenset[str] = frozenset({"table", "image", "equation"})
"""Regions that are read as one thing."""

PLAIN: frozenset[str] = frozenset({"text", "title", "ref_text", "header", "footer"})
"""Regions whose type is looked at again with the whole page in view."""

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

SPLIT_SHARE = 0.25
SPLIT_EMS = 20.0
SPLIT_GUTTER = 2.0
"""A line is split if each of two regions has this share of it, if it is this long, and if
the regions lie this close to each other, both in line heights."""

REFERENCE = re.compile(r"\b(?:19|20)\d\d[a-z]?\b")
"""A year, which an entry of a bibliography has; the model takes many lists for one."""

FORMULA_LINES = 12
"""Lines in a formula at most."""


@dataclass(frozen=True)
class _Part:
    """A paragraph or a solid region on its way to a block."""

    rows: list[paragraphs.Row]
    type: BlockType
    text: str
    size: float
    """Median height of its lines, or what the caller gave for them."""
    box: Box
    region: Region | None


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
    sized = list(zip(lines, sizes or [_height(line) for line in lines], strict=True))
    place_of: dict[int, float] = {}
    size_of: dict[int, float] = {}
    lines = []
    for number, (whole, size) in enumerate(sized):
        for line in split_at_gutter(whole, regions):
            lines.append(line)
            size_of[id(line)] = size
            if places:
                place_of[id(line)] = places[number]
    given = [Region(block.type, _scaled(block.bbox, width, height), 1.0) for block in ready]
    believed = [*_believed(regions, given, lines, width * height), *given]
    items = _items(lines, believed, len(regions), turn)
    if downwards:
        items = [replace(item, box=reading_order.turned_to_rows(item.box, width)) for item in items]
    columns = reading_order.columns(items)
    if places and not downwards:
        of_ready = dict(enumerate(places[len(sized) :], len(regions)))
        columns = _as_in_file(columns, place_of, of_ready, size_of)
    parts = [
        _part(group, size_of, believed)
        for column in columns
        for paragraph in paragraphs.paragraphs(reading_order.rows(column))
        for group in _apart(paragraph)
    ]
    made = {id(region): block for region, block in zip(given, ready, strict=True)}
    return [
        _completed(made[id(part.region)], block) if id(part.region) in made else block
        for part, block in zip(parts, _blocks(parts, width, height), strict=True)
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


def split_at_gutter(line: TextLine, regions: Sequence[Region]) -> list[TextLine]:
    """The two halves of a line that runs through regions of text side by side, or the line.

    The detector joins lines over a narrow gutter. Where the text is to be cut is told by
    the widths of its characters, to the next space.
    """
    box = left, top, right, bottom = boxes.around(line.corners)
    middle, least = (top + bottom) / 2, SPLIT_SHARE * (right - left)
    touched = sorted(
        region.box
        for region in regions
        if region.type == "text"
        and region.box[1] < middle < region.box[3]
        and boxes.common_width(box, region.box) > least
    )
    if len(touched) != 2 or right - left < SPLIT_EMS * (bottom - top):
        return [line]
    gutter = (touched[0][2] + touched[1][0]) / 2
    if abs(touched[1][0] - touched[0][2]) > SPLIT_GUTTER * (bottom - top):
        return [line]
    share = (gutter - left) / (right - left)
    widths = [2 if is_wide(one) else 1 for one in line.text]
    ends = list(itertools.accumulate(widths))
    spaces = [number for number, one in enumerate(line.text) if one == " "]
    if not spaces:
        return [line]
    cut = min(spaces, key=lambda number: abs(ends[number] - share * ends[-1]))
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = line.corners
    upper = (x0 + share * (x1 - x0), y0 + share * (y1 - y0))
    lower = (x3 + share * (x2 - x3), y3 + share * (y2 - y3))
    return [
        line.part(0, cut, ((x0, y0), upper, lower, (x3, y3))),
        line.part(cut, len(line.text), (upper, (x1, y1), (x2, y2), lower)),
    ]


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


def row_text(lines: Sequence[TextLine]) -> str:
    """Lines in rows, each row a line of text: what is left of a table without structure."""
    turn = slope(lines)
    items = [Item(reading_order.upright(line.corners, turn), (line,)) for line in lines]
    return "\n".join(_row_text(row) for row in reading_order.rows(items))


def _believed(
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


def _items(
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


def _apart(rows: list[paragraphs.Row]) -> list[list[paragraphs.Row]]:
    """Tables and pictures that stand in one row, each for itself."""
    items = [item for row in rows for item in row]
    if len(items) == 1 or not any(item.solid for item in items):
        return [rows]
    return [[[item]] for item in items]


def _part(
    rows: list[paragraphs.Row], size_of: dict[int, float], regions: Sequence[Region | None]
) -> _Part:
    items = [item for row in rows for item in row]
    lines = [line for item in items for line in item.lines]
    sizes = [size_of[id(line)] for line in lines]
    counted = Counter(item.type for item in items)
    numbers = {item.region for item in items}
    number = numbers.pop() if len(numbers) == 1 else None
    if items[0].solid:
        content = "" if items[0].type in ("table", "image") else row_text(lines)
    else:
        content = paragraphs.text([_row_text(row) for row in rows])
    region = regions[number] if number is not None else None
    edges = [boxes.around(line.corners) for line in lines]
    if items[0].solid and region is not None:
        edges = [region.box]
    return _Part(
        rows,
        counted.most_common(1)[0][0],
        content,
        median(sizes) if sizes else 0.0,
        boxes.union(edges),
        region,
    )


def _row_text(row: Sequence[Item]) -> str:
    return " ".join(line.text.strip() for item in row for line in item.lines)


def _blocks(parts: Sequence[_Part], width: float, height: float) -> list[Block]:
    """Types that need a look at the whole page: headings, furniture; then blocks."""
    body = _body_size(parts)
    types: list[BlockType] = [
        kind or (_type(part, body) if part.type in PLAIN else part.type)
        for part, kind in zip(parts, _furniture(parts, width, height), strict=True)
    ]
    titles = [number for number, one in enumerate(types) if one == "title"]
    levels = dict(
        zip(
            titles,
            headings.levels([(parts[number].text, parts[number].size) for number in titles]),
            strict=True,
        )
    )
    return [
        _block(part, types[number], levels.get(number), width, height)
        for number, part in enumerate(parts)
    ]


def _type(part: _Part, body: float) -> BlockType:
    """Type of a paragraph that is no caption, no furniture, and nothing solid."""
    if part.type == "title" and len(part.text) <= headings.LONGEST:
        return "title"
    cells = max(len(row) for row in part.rows)
    if cells == 1 and headings.is_heading(part.text, part.size, body, len(part.rows)):
        return "title"
    return "ref_text" if part.type == "ref_text" and REFERENCE.search(part.text) else "text"


def _furniture(
    parts: Sequence[_Part], width: float, height: float
) -> list[furniture.Furniture | None]:
    """Which parts are running headers, footers or page numbers.

    Only single rows with nothing but furniture between them and the edge of the page. On
    a page that is wider than high, a slide or a screenshot, what the layout model takes
    for a header is a heading or a title bar.
    """
    upright = height >= width
    possible = [
        furniture.on_page(
            part.text,
            part.type if upright else "text",
            part.box[1] / height,
            part.box[3] / height,
        )
        if part.type in PLAIN
        else None
        for part in parts
    ]
    others = [part.box for part, kind in zip(parts, possible, strict=True) if kind is None]
    first = min((box[3] for box in others), default=math.inf)
    last = max((box[1] for box in others), default=-math.inf)
    shared = Counter(id(part.region) for part in parts)
    kinds: list[furniture.Furniture | None] = []
    for part, kind in zip(parts, possible, strict=True):
        above = part.box[3] < height / 2
        outermost = part.box[1] < first if above else part.box[3] > last
        alone = shared[id(part.region)] == 1 or kind == "page_number"
        kinds.append(kind if outermost and alone and len(part.rows) == 1 else None)
    return kinds


def _body_size(parts: Sequence[_Part]) -> float:
    """The size in which most characters of the page are set."""
    weighed = sorted((part.size, len(part.text)) for part in parts if part.text)
    half = sum(count for _, count in weighed) / 2
    passed = 0
    for size, count in weighed:
        passed += count
        if passed >= half:
            return size
    return 0.0


def _block(part: _Part, kind: BlockType, level: int | None, width: float, height: float) -> Block:
    lines = [_line(line, width, height) for row in part.rows for item in row for line in item.lines]
    scores = [line.score for line in lines if line.score is not None]
    if part.region is not None and part.type in SOLID:
        score: float | None = part.region.score
    else:
        score = sum(scores) / len(scores) if scores else None
    bbox = boxes.fractions(part.box, width, height)
    return Block(
        type=kind, bbox=bbox, content=part.text or None, score=score, text_level=level, lines=lines
    )


def _line(line: TextLine, width: float, height: float) -> Line:
    polygon = list(_polygon(line, width, height))
    return Line(
        text=line.text,
        polygon=polygon,
        score=min(max(line.score, 0.0), 1.0),
        low=low_words(line.text, line.scores),
    )


def _polygon(line: TextLine, width: float, height: float) -> tuple[tuple[float, float], ...]:
    return tuple((_fraction(x, width), _fraction(y, height)) for x, y in line.corners)


def _scaled(bbox: BBox, width: float, height: float) -> Box:
    return bbox[0] * width, bbox[1] * height, bbox[2] * width, bbox[3] * height


def _fraction(pixels: float, length: float) -> float:
    return min(max(pixels / length, 0.0), 1.0)


def _height(line: TextLine) -> float:
    """Height of a line's own rectangle, however it leans or is turned."""
    corner, along, _, across = line.corners
    if len(line.text) == 1:
        return math.dist(corner, across)
    return min(math.dist(corner, across), math.dist(corner, along))
