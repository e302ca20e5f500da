"""Links of a digital page: which words they lie on, and in which block these went.

Pure functions. Where links lie is told by `pdf_objects`. Only links that lead to the web
or to a mail address are kept: what a document says must not make a reader's click run a
script or open a file.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from mineru_daemon import results
from mineru_daemon.engines.ppocr import boxes, paragraphs, pdf_objects
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.pdf_text import PrintedLine, Word
from mineru_daemon.results import Block

MAX_LINKS = 2_000
"""Links of a page that are looked at. The index of a book has some hundreds."""

OUTSIDE = 0.15
"""Share of the type size by which a word stands out of a link's box if a mark at its end
is not part of the link."""

_SCHEME = re.compile(r"(https?|mailto):(?=\S)", re.IGNORECASE)
_OPENING = "([{<\"'“‘«„（【「『《"
_CLOSING = ")]}>\"'”’».,;:!?。，、；：！？）】」』》"


@dataclass(frozen=True, slots=True)
class LinkedText:
    """Words under a link; its box in points of the upright page."""

    box: Box
    uri: str
    text: str


def on_words(links: Sequence[pdf_objects.Link], lines: Sequence[PrintedLine]) -> list[LinkedText]:
    """The links that may be followed and lie on words, in the file's order."""
    found = []
    for link in links[:MAX_LINKS]:
        uri = followable(link.uri)
        text = paragraphs.text(list(_texts_under(link.box, lines))) if uri else ""
        if uri and text:
            found.append(LinkedText(link.box, uri, text))
    return found


def followable(uri: str) -> str | None:
    """The URI with its scheme in small letters and nothing unprintable; None if it is
    neither of the web nor a mail address."""
    scheme = _SCHEME.match(uri)
    if not scheme:
        return None
    rest = "".join(
        one if one.isprintable() and not one.isspace() else quote(one, errors="replace")
        for one in uri[scheme.end() :]
    )
    return f"{scheme[1].lower()}:{rest}"


def _texts_under(box: Box, lines: Sequence[PrintedLine]) -> Iterable[str]:
    """Of each line, the words whose middles lie in a box."""
    for line in lines:
        _, top, _, bottom = line.box
        if bottom < box[1] or top > box[3]:
            continue
        text = " ".join(filter(None, (_part_under(box, word) for word in line.words)))
        if text:
            yield text


def _part_under(box: Box, word: Word) -> str:
    """The word without marks at its ends that stand outside; empty if it is not under."""
    if not boxes.centre_in(word.box, box):
        return ""
    left, _, right, _ = word.box
    text = word.text
    if left < box[0] - OUTSIDE * word.size:
        text = text.lstrip(_OPENING)
    if right > box[2] + OUTSIDE * word.size:
        text = text.rstrip(_CLOSING)
    return text


def onto(
    blocks: Sequence[Block], links: Sequence[LinkedText], width: float, height: float
) -> list[Block]:
    """The blocks of a page of `width` x `height` points, each with the links on it.

    A link that goes on in the next line is two in the file, and one here.
    """
    of_block: dict[int, list[results.Link]] = {}
    for uri, group in itertools.groupby(links, key=lambda link: link.uri):
        parts = [(_block_under(link.box, blocks, width, height), link.text) for link in group]
        for number, members in itertools.groupby(parts, key=lambda part: part[0]):
            if number is None:
                continue
            texts = [text for _, text in members]
            whole = paragraphs.text(texts)
            if whole in (blocks[number].content or ""):
                texts = [whole]
            of_block.setdefault(number, []).extend(
                results.Link(text=text, uri=uri) for text in texts
            )
    return [
        block.model_copy(update={"links": of_block[number]}) if number in of_block else block
        for number, block in enumerate(blocks)
    ]


def _block_under(box: Box, blocks: Sequence[Block], width: float, height: float) -> int | None:
    """Number of the smallest block with text that holds the middle of a box."""
    across, down = boxes.middle_x(box) / width, boxes.middle_y(box) / height
    holding = [
        (boxes.area(block.bbox), number)
        for number, block in enumerate(blocks)
        for left, top, right, bottom in [block.bbox]
        if block.content and left <= across <= right and top <= down <= bottom
    ]
    return min(holding)[1] if holding else None
