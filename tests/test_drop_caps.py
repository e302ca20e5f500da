"""Large first letters of paragraphs: where they stand, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from page_building import EM, LEADING, column, line
from PIL import Image, ImageDraw, ImageFont
from text_pages import read_layer, shown

from mineru_daemon import cpu
from mineru_daemon.documents import Limits, open_document
from mineru_daemon.engines.ppocr import digital
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.drop_caps import completed, places
from mineru_daemon.engines.ppocr.engine import PPOCREngine
from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.reading import read_page

LEFT, TOP, WIDTH = 100, 200, 400


def paragraph(beside: int, depth: float, below: int = 3) -> list[TextLine]:
    """So many lines that give way to a letter of this width, and so many below it."""
    lines = [
        line("nce upon a time there", LEFT + depth, TOP + LEADING * number, WIDTH - depth)
        for number in range(beside)
    ]
    return [*lines, *column("b", LEFT, TOP + LEADING * beside, below, WIDTH)]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (paragraph(2, 2 * EM), True),
        (paragraph(4, 3 * EM), True),
        (paragraph(1, 2 * EM), False),
        (paragraph(7, 2 * EM), False),
        (paragraph(2, 6 * EM), False),
        (paragraph(2, 2 * EM, below=0), False),
        ([*paragraph(2, 2 * EM), line("1990", LEFT, TOP + 10)], False),
    ],
)
def test_lines_that_give_way_tell_where_the_letter_stands(
    lines: list[TextLine], found: bool
) -> None:
    assert [number for number, _ in places(lines)] == ([0] if found else [])


def test_only_a_letter_that_is_seen_and_read_is_added() -> None:
    lines = paragraph(2, 2 * EM)
    lines[0] = replace(lines[0], scores=(0.9,) * len(lines[0].text))
    sheet = np.full((500, 600, 3), 255, np.uint8)
    inked = sheet.copy()
    inked[TOP + 5 : TOP + 50, LEFT + 5 : LEFT + 15] = 0
    asked: list[Box] = []

    def says(text: str, score: float, image: np.ndarray = inked) -> str:
        def look(box: Box) -> tuple[str, float]:
            asked.append(box)
            return text, score

        first = completed(lines, image, look)[0]
        assert len(first.scores) == len(first.text)
        return first.text

    assert says("o", 0.95) == "Once upon a time there"
    assert says("O", 0.3) == says("#", 0.9) == says("On", 0.9) == "nce upon a time there"
    asked.clear()
    assert says("O", 0.9, sheet) == "nce upon a time there"
    assert asked == []


def test_a_drop_cap_on_an_image_begins_its_paragraph(tmp_path: Path) -> None:
    image = Image.new("RGB", (900, 500), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=26)
    large = ImageFont.load_default(size=120)
    pen.text((56, 84 - large.getbbox("T")[1]), "T", fill="black", font=large)
    for number, (left, text) in enumerate(
        (
            (140, "here was a house beside the old river and"),
            (140, "in which nobody had lived for twenty or"),
            (140, "thirty years as they said in the village,"),
            (56, "and the garden around it was wild and deep"),
            (56, "and full of birds that sang all day, all night."),
        )
    ):
        pen.text((left, 80 + 40 * number), text, fill="black", font=font)
    image.save(tmp_path / "page.png")
    engine = PPOCREngine(cpu.plan_threads(1))
    with open_document(tmp_path / "page.png", Limits()) as document:
        page = read_page(engine, document, 0, lambda stage: None)
    engine.close()
    content = page.blocks[0].content
    assert content is not None
    assert content.startswith("There was a house beside the old river and in which nobody")


def test_a_drop_cap_of_a_text_layer_leaves_the_lines_in_order(tmp_path: Path) -> None:
    content = shown("T", 40, 322, 40)
    for number, (left, text) in enumerate(
        (
            (65, "here was a house beside the old river"),
            (65, "in which nobody had lived for twenty"),
            (40, "years, and the garden around it was wild"),
        )
    ):
        content += shown(text, left, 345 - 14 * number)
    (block,) = digital.to_blocks(read_layer(tmp_path, content))
    assert block.content is not None
    assert block.content.startswith("There was a house beside the old river in which nobody")
