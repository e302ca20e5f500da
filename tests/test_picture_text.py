"""What is read in pictures of a digital page: the page's text, or the picture's."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_building import line
from pdf_building import build_pdf
from PIL import Image, ImageDraw, ImageFont
from text_pages import LETTER, SENTENCE, WITH_IMAGE, shown

from mineru_daemon import cpu
from mineru_daemon.documents import Limits, open_document
from mineru_daemon.engines.ppocr.engine import PPOCREngine
from mineru_daemon.engines.ppocr.picture_text import parted
from mineru_daemon.reading import read_page
from mineru_daemon.results import PageResult

PICTURE = (100.0, 100.0, 500.0, 400.0)
NOTE = ["Please note that the office", "is closed on Monday and on", "Tuesday of the next week"]


def print_of(count: int) -> list[str]:
    """Where so many wide lines stand on the picture are found, by what is read there."""
    seen = [line(f"scanned {number}", 120, 120 + 20 * number, 360) for number in range(count)]
    of_page, _ = parted(seen, [PICTURE], [], 800)
    return [one.text for one in of_page]


def test_print_in_a_picture_is_text_of_the_page_and_few_words_are_its_own() -> None:
    assert print_of(8) == [f"scanned {number}" for number in range(8)]
    assert print_of(1) == []


@pytest.mark.parametrize(
    ("caption", "top", "belongs"),
    [
        ("Figure 3: The letter", 410, True),
        ("Figure 3: The letter", 80, True),
        ("Figure 3: The letter", 600, False),
        ("In figure 3 the letter", 410, False),
        ("Table 3: The letter", 410, False),
    ],
)
def test_what_a_caption_calls_a_figure_keeps_its_text(
    caption: str, top: float, belongs: bool
) -> None:
    seen = [line("scanned", 120, 120 + 20 * number, 360) for number in range(8)]
    outside = line("elsewhere", 120, 700, 300)
    of_page, (own,) = parted([*seen, outside], [PICTURE], [line(caption, 100, top, 400)], 800)
    assert own == (seen if belongs else [])
    assert of_page == [outside] if belongs else [outside, *seen]


@pytest.fixture(scope="module")
def engine() -> PPOCREngine:
    return PPOCREngine(cpu.plan_threads(1))


def page_with_note(engine: PPOCREngine, folder: Path, content: bytes) -> PageResult:
    """A page of text with a scanned note of 300 x 100 points in it, and `content`."""
    scan = Image.new("L", (900, 300), 255)
    for number, text in enumerate(NOTE):
        ImageDraw.Draw(scan).text(
            (30, 20 + 90 * number), text, fill=0, font=ImageFont.load_default(size=60)
        )
    pixels = scan.tobytes()
    image = (
        b"<< /Type /XObject /Subtype /Image /Width 900 /Height 300 /BitsPerComponent 8 "
        b"/ColorSpace /DeviceGray /Length %d >>\nstream\n%s\nendstream" % (len(pixels), pixels)
    )
    content = shown(SENTENCE, 40, 350) + b"q 300 0 0 100 40 200 cm /Im Do Q\n" + content
    path = folder / "page.pdf"
    path.write_bytes(build_pdf(LETTER + b" " + WITH_IMAGE, content=content, more=(image,)))
    with open_document(path, Limits()) as document:
        return read_page(engine, document, 0, lambda stage: None)


def test_a_scanned_note_in_a_digital_page_is_read_with_it(
    engine: PPOCREngine, tmp_path: Path
) -> None:
    page = page_with_note(engine, tmp_path, shown("After the note.", 40, 150))
    assert page.origin == "mixed"
    assert [block.content for block in page.blocks] == [
        SENTENCE,
        None,
        " ".join(NOTE),
        "After the note.",
    ]


def test_a_figure_tells_its_text_in_its_block_alone(engine: PPOCREngine, tmp_path: Path) -> None:
    page = page_with_note(engine, tmp_path, shown("Figure 1. A note", 40, 185))
    assert [(block.type, block.content) for block in page.blocks] == [
        ("text", SENTENCE),
        ("image", None),
        ("image_caption", "Figure 1. A note"),
    ]
    assert [one.text for one in page.blocks[1].lines] == NOTE
