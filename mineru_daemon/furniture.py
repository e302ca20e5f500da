"""Running headers, footers and page numbers: what returns from page to page.

Pure functions over the pages of a document, whichever engine read them. What a single
page tells of its furniture is the engines' business. Text that is wrongly taken for
furniture is missing from Markdown, so doubt is decided for the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from mineru_daemon.results import FURNITURE, Block, PageResult

Furniture = Literal["header", "footer", "page_number"]
Pages = Callable[[], Iterable[PageResult]]
"""Reads the pages of a document from the first to the last, each time it is called."""

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
"""Distance in shares of the page at which two blocks no longer stand at the same place."""

_STEP = SAME_PLACE / 2
_NUMBERS_TRIED = 4
_SEVERAL = -1


def across_pages(pages: Pages) -> Pages:
    """The same pages, with text that returns from page to page marked as furniture.

    A block returns if another page has one at the same place in the margin with the same
    text, or with the same but for one number that counts the pages. Two pages are enough.

    The pages are read once here, to learn what returns, and once more by each call of
    what is given back; one is held at a time. What is learnt takes some hundred bytes for
    each block in a margin.
    """
    seen: dict[tuple[int, int], int] = {}
    for page in pages():
        for block in page.blocks:
            if block.type in FURNITURE or _may_be_furniture(block):
                step = round(block.bbox[1] / _STEP)
                for key in _keys(block, page.index):
                    if seen.setdefault((key, step), page.index) != page.index:
                        seen[key, step] = _SEVERAL

    def returns(block: Block, index: int) -> bool:
        step = round(block.bbox[1] / _STEP)
        return any(
            seen.get((key, near), index) != index
            for key in _keys(block, index)
            for near in (step - 1, step, step + 1)
        )

    def marked() -> Iterator[PageResult]:
        for page in pages():
            blocks = [
                _marked(block) if _may_be_furniture(block) and returns(block, page.index) else block
                for block in page.blocks
            ]
            yield page.model_copy(update={"blocks": blocks})

    return marked


def _marked(block: Block) -> Block:
    kind: Furniture = "header" if block.bbox[3] <= MARGIN else "footer"
    if PAGE_NUMBER.match((block.content or "").strip()):
        kind = "page_number"
    return block.model_copy(update={"type": kind, "text_level": None})


def _may_be_furniture(block: Block) -> bool:
    in_margin = block.bbox[3] <= MARGIN or block.bbox[1] >= 1 - MARGIN
    length = len((block.content or "").strip())
    return in_margin and block.type in ("text", "title") and 0 < length <= LONGEST


def _keys(block: Block, index: int) -> Iterator[int]:
    """What must return: the text; and for each number the text with what the number would
    be on the first page, so that it may count the pages and nothing else."""
    text = (block.content or "").strip().casefold()
    yield hash(text)
    for number, found in enumerate(re.finditer(r"\d{1,9}", text)):
        if number == _NUMBERS_TRIED:
            break
        yield hash((text[: found.start()], int(found[0]) - index, text[found.end() :]))
