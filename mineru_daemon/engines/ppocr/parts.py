"""Paragraphs and solid regions of a page -> typed blocks with their lines.

Pure functions. A part's type is told with the whole page in view: headings by `headings`,
headers and footers by `furniture`. Which lines make a part is decided by `structure`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from mineru_daemon.engines.ppocr import (
    block_lines,
    boxes,
    furniture,
    headings,
    paragraphs,
    reading_order,
)
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.lines import weighted_median
from mineru_daemon.engines.ppocr.region_lines import SOLID
from mineru_daemon.engines.ppocr.regions import Region
from mineru_daemon.results import Block, BlockType

PLAIN: frozenset[str] = frozenset({"text", "title", "ref_text", "header", "footer"})
"""Regions whose type is looked at again with the whole page in view."""

REFERENCE = re.compile(r"\b(?:19|20)\d\d[a-z]?\b")
"""A year, which an entry of a bibliography has; the model takes many lists for one."""


EDGE = 0.08
"""Share of the page's width beside which nothing but margin is."""

APART = 0.5
"""Heights of a line's box between a running header or footer and the text, at least: the
model takes first and last lines of columns for them. Lines of a text have 0.3."""


@dataclass(frozen=True)
class Part:
    """A paragraph or a solid region on its way to a block."""

    rows: list[paragraphs.Row]
    type: BlockType
    text: str
    size: float
    """Median height of its lines, or what the caller gave for them."""
    box: Box
    region: Region | None


def part_of(
    rows: list[paragraphs.Row], size_of: dict[int, float], regions: Sequence[Region | None]
) -> Part:
    """A part of the page out of `rows`; `size_of` has the type size of each line by its `id`."""
    items = [item for row in rows for item in row]
    lines = [line for item in items for line in item.lines]
    sizes = [size_of[id(line)] for line in lines]
    counted = Counter(item.type for item in items)
    numbers = {item.region for item in items}
    number = numbers.pop() if len(numbers) == 1 else None
    if items[0].solid:
        content = "" if items[0].type in ("table", "image") else paragraphs.row_text(lines)
    else:
        content = paragraphs.text([paragraphs.of_row(row) for row in rows])
    region = regions[number] if number is not None else None
    edges = [boxes.around(line.corners) for line in lines]
    if items[0].solid and region is not None:
        edges = [region.box]
    return Part(
        rows,
        counted.most_common(1)[0][0],
        content,
        median(sizes) if sizes else 0.0,
        boxes.union(edges),
        region,
    )


def to_blocks(parts: Sequence[Part], width: float, height: float) -> list[Block]:
    """Types that need a look at the whole page: headings, furniture; then blocks."""
    body = weighted_median((part.size, len(part.text)) for part in parts if part.text)
    types: list[BlockType] = [
        kind or _type(part, body, width)
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


def _type(part: Part, body: float, width: float) -> BlockType:
    """Type of a part that is no furniture."""
    if part.type not in PLAIN:
        return part.type
    if _is_aside(part, width):
        return "aside_text"
    short = len(part.text) <= headings.LONGEST and len(part.rows) <= headings.MOST_LINES
    if part.type == "title" and short:
        return "title"
    cells = max(len(row) for row in part.rows)
    if cells == 1 and headings.is_heading(part.text, part.size, body, len(part.rows)):
        return "title"
    return "ref_text" if part.type == "ref_text" and REFERENCE.search(part.text) else "text"


def _is_aside(part: Part, width: float) -> bool:
    """Whether it stands sideways at the edge of the page, as stamps of archives do."""
    left, _, right, _ = part.box
    at_edge = right <= EDGE * width or left >= (1 - EDGE) * width
    return at_edge and all(
        reading_order.is_sideways(line) for row in part.rows for item in row for line in item.lines
    )


def _furniture(
    parts: Sequence[Part], width: float, height: float
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
    text = [part.box for part, kind in zip(parts, possible, strict=True)
            if kind is None and len(part.rows) > 1]  # fmt: skip
    first = min((box[3] for box in others), default=math.inf)
    last = max((box[1] for box in others), default=-math.inf)
    shared = Counter(id(part.region) for part in parts)
    kinds: list[furniture.Furniture | None] = []
    for part, kind in zip(parts, possible, strict=True):
        above = part.box[3] < height / 2
        outermost = part.box[1] < first if above else part.box[3] > last
        alone = shared[id(part.region)] == 1 or kind == "page_number"
        apart = kind == "page_number" or _stands_apart(part, text)
        kinds.append(kind if outermost and alone and apart and len(part.rows) == 1 else None)
    return kinds


def _stands_apart(part: Part, text: Sequence[Box]) -> bool:
    """Whether there is more white space than between the lines of a text."""
    return all(
        -boxes.common_height(part.box, other) >= APART * (part.box[3] - part.box[1])
        for other in text
        if boxes.common_width(part.box, other) > 0
    )


def _block(part: Part, kind: BlockType, level: int | None, width: float, height: float) -> Block:
    lines = [
        block_lines.told(line, width, height)
        for row in part.rows
        for item in row
        for line in item.lines
    ]
    scores = [line.score for line in lines if line.score is not None]
    if part.region is not None and part.type in SOLID:
        score: float | None = part.region.score
    else:
        score = sum(scores) / len(scores) if scores else None
    bbox = boxes.fractions(part.box, width, height)
    return Block(
        type=kind, bbox=bbox, content=part.text or None, score=score, text_level=level, lines=lines
    )
