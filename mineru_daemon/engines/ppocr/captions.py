"""Captions that call themselves so: "Figure 3", "Table 2", in the words of many languages.

Pure functions on blocks in reading order. Captions that the layout model sees are left as they
are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.results import Block, BlockType

REACH = 0.04
"""Share of the page's height between a caption and what it belongs to, at most: two lines."""

_NUMBER = r"\s*[-.:]?\s*(?:[A-Z]{1,2}[.-]?)?(?:\d{1,3}|[IVX]{1,5})\b"

CALLED: tuple[tuple[re.Pattern[str], BlockType, frozenset[str]], ...] = (
    (
        re.compile(
            r"(?:fig(?:ure|ura|uur|\.)?|abb(?:ildung|\.)?|bild|foto|photo|chart|scheme|plate|"
            rf"ris\.|obr\.|[图圖図]|写真){_NUMBER}",
            re.IGNORECASE,
        ),
        "image_caption",
        frozenset({"image", "chart"}),
    ),
    (
        re.compile(
            rf"(?:tab(?:le|elle|leau|la|ela|el|\.)?|cuadro|exhibit|[表]){_NUMBER}", re.IGNORECASE
        ),
        "table_caption",
        frozenset({"table"}),
    ),
)
"""How a caption begins, its type, and what it can belong to."""


def marked(blocks: Sequence[Block]) -> list[Block]:
    """The blocks, with text above or below a table or picture that calls itself its caption."""
    return [
        block.model_copy(update={"type": kind, "text_level": None})
        if block.type in ("text", "title") and (kind := _kind(block, blocks))
        else block
        for block in blocks
    ]


def names_figure(picture: Box, lines: Iterable[TextLine], height: float) -> bool:
    """Whether one of the lines beside a picture calls it a figure; all in the page's unit."""
    pattern = next(one for one, kind, _ in CALLED if kind == "image_caption")
    return any(
        pattern.match(line.text.strip())
        and _is_near(boxes.around(line.corners), picture, REACH * height)
        for line in lines
    )


def _kind(block: Block, blocks: Sequence[Block]) -> BlockType | None:
    text = (block.content or "").strip()
    for pattern, kind, owners in CALLED:
        if pattern.match(text) and any(
            other.type in owners and _is_beside(block, other) for other in blocks
        ):
            return kind
    return None


def _is_beside(caption: Block, other: Block) -> bool:
    return _is_near(caption.bbox, other.bbox, REACH)


def _is_near(caption: Box, other: Box, reach: float) -> bool:
    """Above or below, or at a side at the same height."""
    gap = -boxes.common_height(caption, other)
    return gap <= reach and boxes.common_width(caption, other) > -reach
