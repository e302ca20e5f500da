"""The text layer of a PDF page: what it says, and whether it may be trusted.

`read` gives lines, tables, images and links of a page without drawing it, and the verdict
whether they are the page's text or the page has to be recognised. The verdict is a pure
function of `PageFacts`. Reading order and kinds of blocks are left to others.

All coordinates are points (1/72 inch) of the upright page, origin at the top left: the
crop box, /Rotate and the user unit are applied, text outside the crop box is dropped.
`TextLayer.width` and `height` are the page's size in the same unit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pypdfium2.raw as pdfium_c

from mineru_daemon.documents import PDFIUM_LOCK, PdfPage
from mineru_daemon.engines.ppocr import (
    boxes,
    digital_pictures,
    digital_tables,
    links,
    pdf_objects,
    pdf_text,
)
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.digital_tables import Table
from mineru_daemon.engines.ppocr.links import LinkedText
from mineru_daemon.engines.ppocr.pdf_objects import Drawing, Picture
from mineru_daemon.engines.ppocr.pdf_text import Frame, Glyphs, PrintedLine

PdfMode = Literal["auto", "text", "ocr"]
Source = Literal["text", "ocr", "mixed"]

FULL_PAGE_COVER = 0.75
"""Share of the page from which an image is a scan of it; scanners leave margins."""
EARLIER_OCR_COVER = 0.4
"""The same where most of the text is invisible, as only OCR programs write it."""
FEW_STAMPED_CHARACTERS = 200
"""Visible characters up to which text on a scan is a stamp: date, number, file mark."""
MAX_UNMAPPED = 0.1
"""Share of characters without meaning from which the encoding counts as broken. Lists
with bullets from symbol fonts stay below a few per cent."""
MIN_LETTERS = 60
"""Letters below which their statistics say nothing."""
MIN_WORDLIKE_TEXT = 0.4
"""Share of letters in words that could be words, below which digital text is garbage.
Formulas and part numbers of real pages stay above 0.5."""
MIN_WORDLIKE_OCR = 0.85
"""The same for the invisible layer of an earlier OCR. Good ones are at 0.95; below, our
own reading is the better one."""
VOWEL_SHARE = (0.22, 0.62)
"""Range of the share of vowels among letters, far around all languages in Latin script
(English 0.38, Czech 0.40, Finnish 0.51, Polish 0.36 without accents)."""
MIN_OCR_REGION = 0.03
"""Share of the page from which an image may carry text worth reading. A logo is smaller."""
MIN_OCR_REGION_SIDE = 36.0
"""Points; half an inch holds a few lines."""
MAX_TEXT_ON_REGION = 0.02
"""Characters per square point of text over an image from which the image is but its
ground; a page of print has about 0.008 over all, its lines 0.02 to 0.03."""

_LATIN_WORD = re.compile(r"[A-Za-z\u00c0-\u024f]+(?:['\u2019-][A-Za-z\u00c0-\u024f]+)*")
_FIGURE_IN_WORD = re.compile(r"[a-z]\d+[a-z]")
"""As in c0rn and qu1ck: what a poor recognition makes of letters."""
_TOKEN_ENDS = re.compile(r"^[^\w]+|[^\w]+$")
_VOWELS = frozenset(
    "aeiouyAEIOUY\u00e4\u00f6\u00fc\u00e9\u00e8\u00e0\u00e1\u00ed\u00f3\u00fa\u00e5\u00e6\u00f8\u00ea\u00eb\u00ee\u00ef\u00f4\u00fb\u00e2\u00e3\u00f5\u00c4\u00d6\u00dc\u00c9\u00c5\u0119\u0105\u011b\u016f\u00fd"
)


@dataclass(frozen=True)
class PageFacts:
    """What is measured on a page to decide where its text comes from."""

    characters: int
    """Printing characters inside the page, visible or not."""
    invisible: int = 0
    """Of these, drawn in no colour (text render mode 3, as OCR programs do)."""
    unmapped: int = 0
    """Of these, without a Unicode character: no mapping, private use, control characters."""
    letters: int = 0
    """Letters of scripts with words between white space (Latin), for the two shares below."""
    wordlike: float = 1.0
    """Share of them in words that could be words: letters only, with a vowel."""
    vowels: float = 0.4
    """Share of vowels among them."""
    image_cover: float = 0.0
    """Share of the page under its largest image."""
    regions: int = 0
    """Images that are large enough to carry text and have none on them."""
    truncated: bool = False
    """The page has more characters than are read."""


@dataclass(frozen=True)
class Verdict:
    """Where the text of a page is to be taken from, and why."""

    source: Source
    """`mixed`: the text layer, and the images in `TextLayer.ocr_regions` recognised."""
    reason: str


@dataclass
class TextLayer:
    """What a PDF page says about itself."""

    width: float
    """Of the upright page in points; so are all boxes."""
    height: float
    verdict: Verdict
    facts: PageFacts
    lines: list[PrintedLine] = field(default_factory=list)
    """Lines outside tables, in the file's order."""
    places: list[float] = field(default_factory=list)
    """Of each line in the file, and of each table; NaN where a table has no line."""
    table_places: list[float] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    ocr_regions: list[Box] = field(default_factory=list)
    links: list[LinkedText] = field(default_factory=list)
    drawing: Drawing = field(default_factory=Drawing)


def read(page: PdfPage, mode: PdfMode = "auto") -> TextLayer:
    """The text layer of `page`; see the module for the coordinates.

    With the verdict `ocr` there are no lines and no tables. `mode` "ocr" looks at nothing.
    """
    width, height = page.width_pt, page.height_pt
    if mode == "ocr":
        facts = PageFacts(0)
        return TextLayer(width, height, decide(facts, mode), facts)
    with PDFIUM_LOCK:
        frame = _frame(page)
        glyphs = pdf_text.read_glyphs(page.pdfium_page, frame)
        drawing = pdf_objects.read_drawing(page.pdfium_page, page.pdfium_page.pdf, frame)
    lines = pdf_text.build_lines(glyphs, width, height)
    regions = ocr_regions(drawing.pictures, lines, width, height)
    facts = measure(glyphs, lines, drawing, len(regions), width * height)
    verdict = decide(facts, mode)
    layer = TextLayer(width, height, verdict, facts, pictures=drawing.pictures)
    layer.drawing = drawing
    if verdict.source == "ocr":
        return layer
    if verdict.source == "mixed":
        layer.ocr_regions = regions
    lines = _without_hidden(lines, drawing.pictures)
    layer.links = links.on_words(drawing.links, lines)
    layer.tables = digital_tables.find(lines, drawing, width, height)
    layer.lines = digital_tables.lines_outside(lines, layer.tables)
    number_of = {id(line): float(number) for number, line in enumerate(lines)}
    layer.places = [number_of[id(line)] for line in layer.lines]
    layer.table_places = [
        min(
            (number_of[id(line)] for line in lines if boxes.centre_in(line.box, table.box)),
            default=math.nan,
        )
        for table in layer.tables
    ]
    return layer


def decide(facts: PageFacts, mode: PdfMode = "auto") -> Verdict:
    """Text layer, recognition, or both, with the reason for people."""
    if mode == "ocr":
        return Verdict("ocr", "The settings ask for recognition.")
    mixed: Source = "mixed" if facts.regions else "text"
    if mode == "text":
        return Verdict("text", "The settings ask for the text layer.")
    if not facts.characters:
        return Verdict("ocr", "The page has no text layer.")
    if facts.unmapped > MAX_UNMAPPED * facts.characters:
        return Verdict("ocr", "The fonts do not tell which characters they show.")
    is_scan = facts.image_cover >= FULL_PAGE_COVER
    hidden = facts.invisible > facts.characters / 2
    if is_scan and not hidden and facts.characters - facts.invisible <= FEW_STAMPED_CHARACTERS:
        return Verdict("ocr", "The page is a scan with a few words printed on it.")
    if facts.letters >= MIN_LETTERS:
        least = MIN_WORDLIKE_OCR if hidden else MIN_WORDLIKE_TEXT
        if facts.wordlike < least:
            return Verdict(
                "ocr",
                "The text of an earlier recognition is poor."
                if hidden
                else "The text layer holds no words.",
            )
        if not VOWEL_SHARE[0] <= facts.vowels <= VOWEL_SHARE[1] and facts.letters >= 200:
            return Verdict("ocr", "The letters of the text layer make no words.")
    if hidden and facts.image_cover >= EARLIER_OCR_COVER:
        return Verdict("text", "An earlier recognition is good enough.")
    if mixed == "mixed":
        return Verdict("mixed", "The page has text, and images that may carry more.")
    return Verdict("text", "The page has text.")


def measure(
    glyphs: Glyphs, lines: Sequence[PrintedLine], drawing: Drawing, regions: int, area: float
) -> PageFacts:
    """The facts of a page of `area` square points."""
    letters, wordlike, vowels = word_statistics(word.text for line in lines for word in line.words)
    cover = max((boxes.area(picture.box) for picture in drawing.pictures), default=0.0) / area
    return PageFacts(
        characters=glyphs.characters,
        invisible=glyphs.invisible,
        unmapped=glyphs.unmapped,
        letters=letters,
        wordlike=wordlike,
        vowels=vowels,
        image_cover=min(cover, 1.0),
        regions=regions,
        truncated=glyphs.truncated,
    )


def word_statistics(words: Iterable[str]) -> tuple[int, float, float]:
    """Latin letters, their share in words that could be words, and the share of vowels."""
    letters = good = vowels = 0
    for word in words:
        core = _TOKEN_ENDS.sub("", word)
        count = sum("a" <= sign.lower() <= "z" or "\u00c0" <= sign <= "\u024f" for sign in core)
        if not count:
            continue
        letters += count
        vowels += sum(sign in _VOWELS for sign in core)
        if _is_wordlike(core):
            good += count
    if not letters:
        return 0, 1.0, 0.4
    return letters, good / letters, vowels / letters


def _is_wordlike(core: str) -> bool:
    if _LATIN_WORD.fullmatch(core):
        return _could_be_word(core)
    if _FIGURE_IN_WORD.search(core):
        return False
    # Several words, or words and figures, with a mark between: and/or, name@host, 25kg.
    return len(core) > 3 and all(_could_be_word(part) for part in _LATIN_WORD.findall(core))


def _could_be_word(word: str) -> bool:
    if len(word) <= 3 or word.isupper():
        return True
    inner_capitals = sum(sign.isupper() for sign in word[1:])
    return any(sign in _VOWELS for sign in word) and inner_capitals <= 1 + word.count("-")


def ocr_regions(
    pictures: Sequence[Picture], lines: Sequence[PrintedLine], width: float, height: float
) -> list[Box]:
    """Boxes of images that are large enough to carry text and bear no text layer.

    Images that touch, as a scan cut into strips, count as one.
    """
    regions = []
    for box in digital_pictures.joined([picture.box for picture in pictures], digital_pictures.GAP):
        x0, y0, x1, y1 = box
        if boxes.area(box) < MIN_OCR_REGION * width * height:
            continue
        if min(x1 - x0, y1 - y0) < MIN_OCR_REGION_SIDE:
            continue
        over = sum(
            len(line.text) * line.size**2 for line in lines if boxes.centre_in(line.box, box)
        )
        if over < MAX_TEXT_ON_REGION * boxes.area(box):
            regions.append(box)
    return regions


def _without_hidden(lines: list[PrintedLine], pictures: Sequence[Picture]) -> list[PrintedLine]:
    """Without invisible text that no image shows: it is nothing a reader would see."""
    if not any(line.invisible for line in lines):
        return lines
    return [
        line
        for line in lines
        if not line.invisible or any(boxes.centre_in(line.box, picture.box) for picture in pictures)
    ]


def _frame(page: PdfPage) -> Frame:
    """How the page lies: crop box within media box, /Rotate and user unit."""
    rectangle = pdfium_c.FS_RECTF()
    pdfium_c.FPDF_GetPageBoundingBox(page.pdfium_page, rectangle)
    return Frame(
        rectangle.left,
        rectangle.bottom,
        rectangle.right,
        rectangle.top,
        page.rotation,
        page.user_unit,
    )
