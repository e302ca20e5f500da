"""Pictures of blocks: cut out of their page, named by their block, and only where asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pdf_building import build_pdf
from PIL import Image, ImageDraw

from mineru_daemon import pictures
from mineru_daemon.documents import Limits, Page, open_document
from mineru_daemon.results import Block, BlockType

RED, GREEN = (220, 20, 20), (20, 180, 60)


def page_of(folder: Path, turned: int = 0) -> Page:
    """A page of 400 x 200 pixels, a red part at its upper left and a green one at its right,
    delivered turned by so many degrees counter-clockwise."""
    image = Image.new("RGB", (400, 200), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((40, 20, 159, 99), fill=RED)
    draw.rectangle((300, 100, 379, 179), fill=GREEN)
    image.rotate(turned, expand=True).save(folder / "page.png")
    return open_document(folder / "page.png", Limits()).page(0)


def block(kind: BlockType, left: float, top: float, right: float, bottom: float) -> Block:
    return Block(type=kind, bbox=(left, top, right, bottom), content=None)


PARTS = [
    block("text", 0.0, 0.0, 1.0, 0.05),
    block("image", 0.1, 0.1, 0.4, 0.5),
    block("table", 0.75, 0.5, 0.95, 0.9),
]


def colours(path: Path) -> set[tuple[int, ...]]:
    """What a picture shows, without JPEG's noise."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)[4:-4, 4:-4]
    return {tuple(int(one) // 40 for one in pixel) for pixel in pixels.reshape(-1, 3)}


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_pictures_show_what_their_blocks_are_on_the_upright_page(
    tmp_path: Path, turned: int
) -> None:
    found = pictures.cut_out(page_of(tmp_path, turned), turned, PARTS, tmp_path / "out")
    assert [one.image for one in found] == [None, "images/0001-01.jpg", "images/0001-02.jpg"]
    for one, colour, size in ((found[1], RED, (120, 80)), (found[2], GREEN, (80, 80))):
        file = tmp_path / "out" / str(one.image)
        assert Image.open(file).size == pytest.approx(size, abs=2)
        assert colours(file) == {tuple(part // 40 for part in colour)}


def test_a_page_that_the_file_turns_is_turned_once(tmp_path: Path) -> None:
    content = b"1 0 0 rg 10 60 80 30 re f"
    path = tmp_path / "turned.pdf"
    path.write_bytes(build_pdf(b"/MediaBox [0 0 200 100] /Rotate 90", content=content))
    with open_document(path, Limits()) as document:
        # Upright the page is 100 x 200 points, and the red part stands at its right.
        found = pictures.cut_out(
            document.page(0), 90, [block("image", 0.62, 0.06, 0.88, 0.44)], tmp_path
        )
    assert colours(tmp_path / str(found[0].image)) == {(6, 0, 0)}


def test_a_page_of_text_is_not_drawn_again(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    (tmp_path / "page.png").unlink()
    assert pictures.cut_out(page, 0, PARTS[:1], tmp_path / "out") == PARTS[:1]
    assert not (tmp_path / "out").exists()


def test_specks_have_no_picture_and_a_page_of_specks_writes_a_bounded_number(
    tmp_path: Path,
) -> None:
    page = page_of(tmp_path)
    (speck,) = pictures.cut_out(page, 0, [block("image", 0.5, 0.5, 0.51, 0.51)], tmp_path)
    assert speck.image is None
    many = [block("image", 0.0, 0.0, 0.1, 0.1)] * (pictures.MOST_ON_A_PAGE + 20)
    found = pictures.cut_out(page, 0, many, tmp_path)
    assert sum(one.image is not None for one in found) == pictures.MOST_ON_A_PAGE
