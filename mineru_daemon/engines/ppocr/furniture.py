"""Running headers, footers and page numbers.

Pure functions: on one page by place, form and what the layout model said; over the
pages of a document by what returns at the same place. Text that is wrongly taken for
furniture is missing from Markdown, so doubt is decided for the text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from mineru_daemon.results import Block

Furniture = Literal["header", "footer", "page_number"]

MARGIN = 0.12
"""Share of the page's height at top and bottom in which furniture stands."""

PAGE_NUMBER = re.compile(
    r"^\W{0,3}(?:(?:page|p\.|seite|página|第)\s*)?"
    r"(?:\d{1,4}|(?=[ivxl])(?:xl|l?x{0,3})(?:ix|iv|v?i{0,3}))"
    r"(?:\s*(?:/|of|von|de|sur|共)\s*\d{1,4})?\s*页?\W{0,3}$",
    re.IGNORECASE,
)
"""A page number with what stands around it."""

LONGEST = 160
"""Characters of furniture at most."""

SAME_PLACE = 0.02
"""Distance in shares of the page up to which two blocks stand at the same place."""


def on_page(text: str, believed: str, top: float, bottom: float) -> Furniture | None:
    """What a paragraph between `top` and `bottom` (0..1 of the page) can be, if furniture.

    `believed` is the layout model's type. It is furniture if nothing else lies between it
    and the edge of the page; that is for the caller to look at.
    """
    if len(text) > LONGEST:
        return None
    above, below = bottom <= MARGIN, top >= 1 - MARGIN
    if PAGE_NUMBER.match(text) and (above or below or believed in ("header", "footer")):
        return "page_number"
    if believed not in ("header", "footer") or not (above or below):
        return None
    return "header" if above else "footer"


def across_pages(pages: Sequence[Sequence[Block]]) -> list[list[Block]]:
    """The same blocks, with text that returns from page to page marked as furniture.

    A block returns if another page has one at the same place in the margin with the same
    text but for digits. Pages with a single neighbour count too: two are enough.
    """
    places: defaultdict[str, list[tuple[int, float, float]]] = defaultdict(list)
    for number, page in enumerate(pages):
        for block in page:
            key = _repeating(block)
            if key:
                places[key].append((number, block.bbox[1], block.bbox[3]))
    return [[_marked(block, number, places) for block in page] for number, page in enumerate(pages)]


def _marked(
    block: Block, number: int, places: defaultdict[str, list[tuple[int, float, float]]]
) -> Block:
    key = _repeating(block)
    if not key or not any(
        other != number and abs(top - block.bbox[1]) < SAME_PLACE for other, top, _ in places[key]
    ):
        return block
    if PAGE_NUMBER.match(block.content or ""):
        kind: Furniture = "page_number"
    else:
        kind = "header" if block.bbox[3] <= MARGIN else "footer"
    return block.model_copy(update={"type": kind, "text_level": None})


def _repeating(block: Block) -> str | None:
    """What must return for a block to be furniture; None if it cannot be."""
    text = (block.content or "").strip()
    in_margin = block.bbox[3] <= MARGIN or block.bbox[1] >= 1 - MARGIN
    if not in_margin or block.type not in ("text", "title") or not 0 < len(text) <= LONGEST:
        return None
    return re.sub(r"\d+", "0", text.casefold())
