"""Links, rulings and fills of a page keep their places."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from text_pages import LETTER, read_layer, shown

from mineru_daemon.engines.ppocr.textlayer import TextLayer


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., TextLayer]:
    return partial(read_layer, tmp_path)


def test_links_keep_their_place_and_address(read):
    link = (
        b"<< /Type /Annot /Subtype /Link /Rect [50 290 120 320] "
        b"/A << /S /URI /URI (https://example.org/a) >> >>"
    )
    layer = read(shown("a link", 50, 300), LETTER + b" /Annots [6 0 R]", more=(link,))
    (found,) = layer.links
    assert found.uri == "https://example.org/a"
    assert found.box == pytest.approx((50, 80, 120, 110))


def test_rulings_and_fills_are_told_apart(read):
    layer = read(b"1 w 50 300 m 200 300 l S 50 100 80 1 re f 1 0 0 rg 300 100 90 40 re f")
    # A page without text goes to recognition, and its drawing is known all the same.
    assert [ruling.level for ruling in layer.drawing.rulings] == [True, True]
    (fill,) = layer.drawing.fills
    assert fill.box == pytest.approx((300, 260, 390, 300))
    assert fill.colour == (255, 0, 0)
