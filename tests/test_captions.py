"""Captions that call themselves so, and pictures of digital pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from text_pages import IMAGE, SENTENCE, WITH_IMAGE, read_layer, shown

from mineru_daemon.engines.ppocr import captions, digital
from mineru_daemon.engines.ppocr.digital_pictures import picture_boxes, placed
from mineru_daemon.engines.ppocr.pdf_objects import Picture
from mineru_daemon.results import Block, BlockType, PageResult, content_list


def block(kind: BlockType, text: str | None, *bbox: float) -> Block:
    left, top, right, bottom = bbox
    return Block(type=kind, bbox=(left, top, right, bottom), content=text)


FIGURE = block("image", None, 0.1, 0.1, 0.5, 0.3)
GRID = block("table", "<table></table>", 0.1, 0.5, 0.5, 0.7)


@pytest.mark.parametrize(
    ("text", "where", "kind"),
    [
        ("Figure 3. A view of the bay", (0.1, 0.31, 0.5, 0.33), "image_caption"),
        ("Abbildung 2: Der Hafen", (0.1, 0.31, 0.5, 0.33), "image_caption"),
        ("\u56f3 1 \u6e2f", (0.1, 0.31, 0.5, 0.33), "image_caption"),
        ("Fig. A-4", (0.1, 0.07, 0.5, 0.09), "image_caption"),
        ("TABLE IV Prices", (0.1, 0.47, 0.5, 0.49), "table_caption"),
        ("Tabelle 7", (0.1, 0.71, 0.5, 0.73), "table_caption"),
        ("Figure 3. A view of the bay", (0.1, 0.8, 0.5, 0.82), "text"),
        ("Table 4 shows that", (0.1, 0.31, 0.5, 0.33), "text"),
        ("Figures are given in millions", (0.1, 0.31, 0.5, 0.33), "text"),
        ("Table 4", (0.6, 0.71, 0.9, 0.73), "text"),
    ],
)
def test_captions_are_told_by_their_words_and_their_place(
    text: str, where: tuple[float, ...], kind: str
) -> None:
    found = captions.marked([FIGURE, GRID, block("text", text, *where)])
    assert found[2].type == kind
    assert found[:2] == [FIGURE, GRID]


def test_a_caption_stands_in_the_item_of_its_picture() -> None:
    blocks = captions.marked([FIGURE, block("title", "Figure 3", 0.1, 0.31, 0.3, 0.33)])
    page = PageResult(
        index=0, width_px=1, height_px=1, width_pt=1, height_pt=1, dpi=72, blocks=blocks
    )
    (item,) = content_list(page)
    assert item["image_caption"] == ["Figure 3"]


def test_ornaments_grounds_and_what_belongs_to_tables_are_no_pictures() -> None:
    def found(*boxes: tuple[float, float, float, float]) -> int:
        return len(
            picture_boxes([Picture(box, 9, 9, 8) for box in boxes], [(0, 500, 600, 700)], 600, 800)
        )

    assert found((100, 100, 200, 200)) == 1
    assert found((100, 100, 115, 115)) == 0
    assert found((0, 0, 600, 800)) == 0
    assert found((50, 520, 250, 650)) == 0
    assert found((100, 100, 200, 120), (100, 121, 200, 140), (100, 141, 200, 160)) == 1


def test_a_picture_stands_before_the_text_on_it_or_behind_what_is_above_it() -> None:
    text = [
        block("text", "a", 0.1, 0.1, 0.4, 0.2),
        block("text", "b", 0.1, 0.5, 0.4, 0.6),
        block("text", "c", 0.6, 0.1, 0.9, 0.2),
        block("text", "on it", 0.65, 0.5, 0.7, 0.52),
    ]

    def order(bbox: tuple[float, float, float, float]) -> list[str]:
        return [one.content or "picture" for one in placed(text, [block("image", None, *bbox)])]

    assert order((0.1, 0.25, 0.4, 0.45)) == ["a", "picture", "b", "c", "on it"]
    assert order((0.6, 0.4, 0.9, 0.6)) == ["a", "b", "c", "picture", "on it"]
    assert order((0.1, 0.01, 0.4, 0.08)) == ["picture", "a", "b", "c", "on it"]


def test_a_digital_page_tells_its_pictures_and_loses_no_word(tmp_path: Path) -> None:
    content = shown(SENTENCE, 40, 360) + b"q 200 0 0 100 40 200 cm /Im Do Q\n"
    content += shown("Figure 1. The fox", 40, 185) + shown("A label", 60, 250)
    content += shown(SENTENCE, 40, 100)
    page = b"/MediaBox [0 0 600 400] " + WITH_IMAGE
    layer = read_layer(tmp_path, content, page, mode="text", more=(IMAGE,))
    blocks = digital.to_blocks(layer)
    assert [(one.type, (one.content or "")[:5]) for one in blocks] == [
        ("text", "The q"),
        ("image", ""),
        ("text", "A lab"),
        ("image_caption", "Figur"),
        ("text", "The q"),
    ]
    assert blocks[1].bbox == pytest.approx((40 / 600, 0.25, 0.4, 0.5), abs=0.01)
