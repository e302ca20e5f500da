"""The order in which the parts of a page are read: columns, sections, rows.

Pure functions on boxes of an upright page. A page is cut at gutters, the white strips
between columns; whatever crosses a gutter (a title or a table over all columns) ends the
columns above it and begins new ones below. White strips between the cells of rows that
belong together (receipts, forms, lists of prices) are no gutters. What a part is, and
how its lines make paragraphs, is left to `structure` and `paragraphs`.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.results import BlockType

SLACK = 0.6
"""By how much of its height a line's box may reach into a gutter: the detector's boxes are
a little wider than the letters."""

MOST_GUTTERS = 60
"""Gutters tried on one part of a page: bounds the work on a page made to be slow."""

DEEPEST = 24
"""Cuts within cuts. Newspapers have less than ten."""

SOLID_SLACK = 0.04
"""The same for a region, by its width: the layout model's boxes are a little off."""

NARROWEST_GUTTER = 0.5
"""Width of a gutter in line heights, after the slack on both sides. Between columns of
prose none is asked for: their common edges show them."""

FLOAT_LINES = 3
"""Lines beside a picture or table from which on the column they are in goes on there, and
the picture does not end it."""

SAME_ROW = 0.22
"""Distance of the middles of two lines, in heights of the lower one, up to which they are
cells of one row: lines that only happen to be side by side rarely agree so well."""

ALIGNED = 0.6
"""Share of the rows of the side with fewer rows that have a partner on the other side,
from which on two sides are cells of common rows and no columns."""

CERTAINLY_ALIGNED = 0.8
"""The same where the layout model takes one side for running text."""

FEWEST_LINES = 5
"""Lines on each side without prose from which on their alignment tells anything."""

FEWEST_PROSE = 3
"""Lines that a side of prose has for that, at least."""

PROSE_EMS = 11.0
"""Median width of prose in line heights: about four words."""

LABEL_EMS = 8.0
"""Median width in line heights up to which a column may be one of names or figures."""

PROSE_FILL = 0.6
"""Share of its column's width that a line of prose fills at least, the last of a
paragraph aside."""

BELIEVED_TEXT = 0.7
"""Share of the lines in regions of text from which on a side is a column of text."""

RUNNING: frozenset[str] = frozenset({"text", "ref_text", "image_caption", "table_caption"})
"""Types of regions that hold running text."""

ASIDE_EMS = 19.0
"""Line heights that the text beside a side bar is wide, at least: about eight words."""

ASIDE_WIDTH = 0.45
ASIDE_AREA = 0.5
"""Width and text of a side bar over those of the text beside it, at most."""

VERTICAL = 2.0
"""Height of a line over its width from which on it is set from top to bottom."""

ROW_OVERLAP = 0.5
"""Share of the lower one's height by which two items of one row overlap at least."""

TALLEST = 3.0
"""Height of an item over that of another one in its row, at most."""


@dataclass(frozen=True)
class Item:
    """Something to be put in order: a line, or a region that is read as one thing."""

    box: Box
    """On the page turned back by its slope."""
    lines: tuple[TextLine, ...]
    type: BlockType = "text"
    """What the region that holds the line was taken for."""
    region: int | None = None
    """Number of that region; None for a line outside all regions."""
    solid: bool = False
    """Whether it is a whole region: a table, a picture, a formula."""

    @property
    def width(self) -> float:
        """In pixels."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        """In pixels."""
        return self.box[3] - self.box[1]

    @property
    def middle(self) -> float:
        """Distance of its horizontal middle line from the top, in pixels."""
        return boxes.middle_y(self.box)


def upright(corners: Iterable[tuple[float, float]], turn: float) -> Box:
    """Box around corners after turning them back by `turn` radians.

    A line that leans is higher than its letters: top and bottom are the means of the two
    upper and the two lower corners.
    """
    cosine, sine = math.cos(turn), math.sin(turn)
    turned = [(x * cosine + y * sine, y * cosine - x * sine) for x, y in corners]
    heights = sorted(y for _, y in turned)
    half = max(1, len(heights) // 2)
    across = [x for x, _ in turned]
    return min(across), sum(heights[:half]) / half, max(across), sum(heights[-half:]) / half


def is_vertical(lines: Sequence[TextLine]) -> bool:
    """Whether most of a page is set from top to bottom, as Chinese and Japanese may be."""
    downwards = sum(len(line.text) for line in lines if _is_set_downwards(line))
    return downwards * 2 > sum(len(line.text) for line in lines)


def _is_set_downwards(line: TextLine) -> bool:
    left, top, right, bottom = upright(line.corners, 0.0)
    ideographs = sum("\u3040" <= one <= "\u9fff" for one in line.text)
    return bottom - top >= VERTICAL * (right - left) and 2 * ideographs > len(line.text)


def is_sideways(line: TextLine) -> bool:
    """Whether a line is turned by a quarter: higher than wide, and not set downwards."""
    left, top, right, bottom = boxes.around(line.corners)
    tall = bottom - top >= VERTICAL * (right - left)
    return tall and len(line.text) > 1 and not _is_set_downwards(line)


def turned_to_rows(box: Box, width: float) -> Box:
    """A box on a page of `width` turned so that lines set downwards become rows.

    The rightmost line, which is read first, becomes the uppermost row.
    """
    left, top, right, bottom = box
    return top, width - right, bottom, width - left


def columns(items: Sequence[Item], depth: int = DEEPEST) -> list[list[Item]]:
    """Parts of the page in reading order; inside each, rows are read from top to bottom.

    A part is cut again up to `depth` times.
    """
    if len(items) < 2 or not depth:
        return [list(items)] if items else []
    heights = [item.height for item in items if not item.solid]
    em = median(heights or [item.height for item in items])
    best: list[list[Item]] = []
    gained = 0.0
    for gutter in _gutters(items, em):
        parts, gain = _cut(items, gutter, em)
        if gain > gained:
            best, gained = parts, gain
    if not best:
        return [list(items)]
    return [part for section in best for part in columns(section, depth - 1)]


def rows(items: Iterable[Item]) -> list[list[Item]]:
    """Rows from top to bottom, each from left to right."""
    found: list[tuple[Item, list[Item]]] = []
    for item in sorted(items, key=lambda one: one.box[1]):
        for first, members in reversed(found[-3:]):
            if _share_row(item, first):
                members.append(item)
                break
        else:
            found.append((item, [item]))
    found.sort(key=lambda row: row[0].middle)
    return [sorted(members, key=lambda one: one.box[0]) for _, members in found]


def _share_row(one: Item, other: Item) -> bool:
    """Whether two items stand side by side. What is much taller has rows of its own beside
    it: a picture, a line that is written upwards."""
    low, high = sorted((one.height, other.height))
    if high > TALLEST * low:
        return False
    return boxes.common_height(one.box, other.box) >= ROW_OVERLAP * low


def _gutters(items: Sequence[Item], em: float) -> list[float]:
    """Where a column may begin: just left of edges at which items begin, in pixels."""
    edges = sorted(_core(item)[0] for item in items)
    starts = [
        (before - edge, edge)
        for before, edge in itertools.pairwise(edges)
        if edge - before >= NARROWEST_GUTTER * em
    ]
    # A column is wide: the edges it begins at lie far from those before.
    widest = sorted(starts)[:MOST_GUTTERS]
    return [edge - NARROWEST_GUTTER * em / 2 for _, edge in sorted(widest, key=lambda one: one[1])]


def _core(item: Item) -> tuple[float, float]:
    """Left and right of an item without the slack of its box."""
    slack = item.width * SOLID_SLACK if item.solid else min(SLACK * item.height, item.width / 4)
    return item.box[0] + slack, item.box[2] - slack


def _cut(items: Sequence[Item], gutter: float, em: float) -> tuple[list[list[Item]], float]:
    """The page cut at a gutter: parts in reading order, and how much text they set apart."""
    parts: list[list[Item]] = []
    whole: list[Item] = []
    gain = 0.0
    for section, crossed in _sections(items, gutter):
        left = [item for item in section if item.box[0] + item.box[2] < 2 * gutter]
        right = [item for item in section if item.box[0] + item.box[2] >= 2 * gutter]
        if crossed or not are_columns(left, right, em):
            whole += section
            continue
        if whole:
            parts.append(whole)
            whole = []
        parts += [right, left] if _is_aside(left, right, em) else [left, right]
        gain += min(_area(left), _area(right))
    if whole:
        parts.append(whole)
    return parts, gain


def _sections(items: Sequence[Item], gutter: float) -> list[tuple[list[Item], bool]]:
    """Runs of items from top to bottom, and whether they cross the gutter.

    What stands in one row with something that crosses belongs to its run.
    """
    crossing = [
        item
        for item in items
        if _core(item)[0] < gutter < _core(item)[1] and not _floats(item, items)
    ]
    # The last line of a title may end before the gutter.
    over = {
        number
        for number, count in Counter(item.region for item in crossing).items()
        if number is not None and 2 * count >= sum(item.region == number for item in items)
    }
    crosses = {id(item) for item in crossing} | {id(item) for item in items if item.region in over}
    bands = _bands(item.box for item in items if id(item) in crosses)
    middles = sorted(item.middle for item in items if id(item) in crosses)
    runs: list[tuple[list[Item], bool]] = []
    for item in sorted(items, key=lambda one: one.middle):
        beside = bisect_left(middles, item.box[1]) < bisect_right(middles, item.box[3])
        crossed = id(item) in crosses or beside or _is_inside(item.middle, bands)
        if not runs or runs[-1][1] != crossed:
            runs.append(([], crossed))
        runs[-1][0].append(item)
    return runs


def _bands(parts: Iterable[Box]) -> list[tuple[float, float]]:
    """Top and bottom of what boxes cover, from top to bottom, without overlaps."""
    bands: list[tuple[float, float]] = []
    for _, top, _, bottom in sorted(parts, key=lambda one: one[1]):
        if bands and top <= bands[-1][1]:
            bands[-1] = (bands[-1][0], max(bands[-1][1], bottom))
        else:
            bands.append((top, bottom))
    return bands


def _is_inside(height: float, bands: Sequence[tuple[float, float]]) -> bool:
    number = bisect_right(bands, (height, float("inf"))) - 1
    return number >= 0 and height <= bands[number][1]


def _is_aside(left: Sequence[Item], right: Sequence[Item], em: float) -> bool:
    """Whether the left side is a side bar or marginal notes: read after the text beside it."""
    if any(item.solid for item in left):
        return False
    return (
        median(item.width for item in left) < PROSE_EMS * em
        and _extent(left) <= ASIDE_WIDTH * _extent(right)
        and _area(left) <= ASIDE_AREA * _area(right)
        and _wide(right) >= ASIDE_EMS * em
    )


def _area(items: Sequence[Item]) -> float:
    return sum(boxes.area(item.box) for item in items)


def _extent(items: Sequence[Item]) -> float:
    return max(item.box[2] for item in items) - min(item.box[0] for item in items)


def _wide(items: Sequence[Item]) -> float:
    """Width that one line in five reaches."""
    return sorted(item.width for item in items)[int(0.8 * (len(items) - 1))]


def _floats(item: Item, items: Sequence[Item]) -> bool:
    """Whether a column goes on beside a region or a caption that reaches into it."""
    if not item.solid and item.type not in ("image_caption", "table_caption"):
        return False
    beside = [other for other in items if item.box[1] <= other.middle <= item.box[3]]
    left = sum(_core(other)[1] <= _core(item)[0] for other in beside)
    right = sum(_core(other)[0] >= _core(item)[1] for other in beside)
    return max(left, right) >= (FLOAT_LINES if item.solid else 1)


def are_columns(left: Sequence[Item], right: Sequence[Item], em: float) -> bool:
    """Whether the left side is read to its end before the right one, not row by row."""
    if not left or not right:
        return False
    shared = _regions(left) & _regions(right)
    sides = [[item for item in side if not item.solid] for side in (left, right)]
    prose = [is_prose(side, em) for side in sides]
    if all(prose):
        return True
    believed = [_is_believed_text(side, shared) for side in sides]
    if all(one or other for one, other in zip(prose, believed, strict=True)):
        # The model takes a column of names or prices for text, too.
        of_labels = any(_median_width(side) <= LABEL_EMS * em for side in sides)
        return not of_labels or alignment(*sides) < CERTAINLY_ALIGNED
    if shared and any(_is_of(side, shared) for side in (left, right)):
        return False
    gap = min(_core(item)[0] for item in right) - max(_core(item)[1] for item in left)
    if gap < NARROWEST_GUTTER * em:
        return False
    if not all(sides):
        return True
    of_prose = any(
        one and len(side) >= FEWEST_PROSE for one, side in zip(prose, sides, strict=True)
    )
    fewest, most = sorted(map(len, sides))
    if (fewest < FEWEST_LINES and not of_prose) or (fewest < FEWEST_PROSE and most < FEWEST_LINES):
        return False
    return alignment(*sides) < (CERTAINLY_ALIGNED if any(believed) else ALIGNED)


def is_prose(items: Sequence[Item], em: float) -> bool:
    """Whether most lines are wide and equally wide: running text, no cells."""
    lines = [item for item in items if not item.solid]
    widths = [item.width for item in lines]
    if not widths:
        return False
    widest = _wide(lines)
    full = sum(width >= PROSE_FILL * widest for width in widths)
    return median(widths) >= PROSE_EMS * em and full >= PROSE_FILL * len(widths)


def _is_believed_text(items: Sequence[Item], shared: set[int]) -> bool:
    """Whether the layout model took most lines for running text of this side alone."""
    lines = [item for item in items if not item.solid]
    text = [
        item
        for item in lines
        if item.type in RUNNING and item.region is not None and item.region not in shared
    ]
    return bool(lines) and len(text) >= max(FEWEST_LINES, BELIEVED_TEXT * len(lines))


def _is_of(items: Sequence[Item], regions: set[int]) -> bool:
    """Whether at least half of the items are in some of the regions."""
    return 2 * sum(item.region in regions for item in items) >= len(items)


def _median_width(items: Sequence[Item]) -> float:
    return median(item.width for item in items)


def _regions(items: Sequence[Item]) -> set[int]:
    return {item.region for item in items if item.region is not None}


def alignment(left: Sequence[Item], right: Sequence[Item]) -> float:
    """Share of the rows of the emptier side that have a partner on the other side."""
    fewer, more = sorted((rows(left), rows(right)), key=len)
    others = sorted((row[0].middle, row[0].height) for row in more)
    partners = 0
    for row in fewer:
        first = row[0]
        place = bisect_left(others, (first.middle, 0.0))
        partners += any(
            abs(first.middle - middle) <= SAME_ROW * min(first.height, height)
            for middle, height in others[max(0, place - 1) : place + 1]
        )
    return partners / len(fewer)
