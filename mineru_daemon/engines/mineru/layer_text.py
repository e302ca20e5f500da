"""Text of a block from the PDF's text layer, where both agree on what stands there.

Whether the layer of a page can be trusted at all is the verdict of `ppocr.textlayer`; here
it is compared with one block of the layout. Where they do not agree, the model reads.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from mineru_daemon.engines.ppocr import boxes, paragraphs
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.engines.ppocr.textlayer import TextLayer
from mineru_daemon.results import BBox

KINDS = frozenset(
    {
        "text",
        "title",
        "doc_title",
        "paragraph_title",
        "list_item",
        "aside_text",
        "ref_text",
        "index",
        "caption",
        "table_caption",
        "image_caption",
        "code_caption",
        "footnote",
        "table_footnote",
        "image_footnote",
        "page_footnote",
        "header",
        "footer",
        "page_number",
    }
)
"""Types of blocks that are plain text. Code is not: its indentation is not in the layer."""

INSIDE = 0.8
OUTSIDE = 0.2
"""Shares of a line's area in the block from which on it is one of its lines, and up to which
it is none. A line between them is cut by the block's edge: no agreement."""

COVERED = 0.6
"""Share of the block's area that the box around its lines must cover. The model's boxes are a
little wider than their text, and whole thousandths of the page."""

PLAIN_SIGNS = frozenset("+<=>|~^`\u00b1\u00d7\u00f7\u00ac\u2212\u2044\u2190\u2192\u2191\u2193")
"""Signs of mathematics that also stand in plain text."""


def text_of(layer: TextLayer, bbox: BBox) -> str | None:
    """The text of the block at `bbox`, or None where layer and layout do not agree.

    That is when a line is cut by the block's edge, when much of the block is without text,
    or when the text has signs of mathematics, which the model writes as LaTeX.
    """
    left, top, right, bottom = bbox
    box = left * layer.width, top * layer.height, right * layer.width, bottom * layer.height
    inside: list[TextLine] = []
    for line in layer.lines:
        share = boxes.share(boxes.around(line.corners), box)
        if share >= INSIDE:
            inside.append(line)
        elif share > OUTSIDE:
            return None
    if not inside or not _covers(inside, box) or any(_is_formula(line.text) for line in inside):
        return None
    return paragraphs.text(paragraphs.row_text(inside).splitlines()) or None


def _covers(lines: Sequence[TextLine], box: Box) -> bool:
    around = boxes.union(boxes.around(line.corners) for line in lines)
    return boxes.common_area(around, box) >= COVERED * boxes.area(box)


def _is_formula(text: str) -> bool:
    return any(
        (unicodedata.category(sign) == "Sm" and sign not in PLAIN_SIGNS)
        or "\U0001d400" <= sign <= "\U0001d7ff"
        for sign in text
    )
