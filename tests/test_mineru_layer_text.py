"""A block takes its text from the PDF's text layer where layer and layout agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from text_pages import read_layer, shown

from mineru_daemon.engines.mineru.layer_text import text_of
from mineru_daemon.engines.ppocr.textlayer import TextLayer

WIDTH, HEIGHT = 600.0, 400.0
Box = tuple[float, float, float, float]


def _page(folder: Path, *lines: str) -> TextLayer:
    """A page with lines of 12 points from 100 points below the top on, 20 points apart."""
    content = b"".join(
        shown(line, 50, HEIGHT - 112 - 20 * number) for number, line in enumerate(lines)
    )
    return read_layer(folder, content, mode="text")


def _around(layer: TextLayer, first: int, last: int, margin: float = 3) -> Box:
    """The box around some lines, a little wider, as a layout has it."""
    boxes = [line.box for line in layer.lines[first:last]]
    return (
        (min(box[0] for box in boxes) - margin) / WIDTH,
        (min(box[1] for box in boxes) - margin) / HEIGHT,
        (max(box[2] for box in boxes) + margin) / WIDTH,
        (max(box[3] for box in boxes) + margin) / HEIGHT,
    )


LINES = (
    "The hygrometers of the laborato-",
    "ry were certified in June, and the",
    "results are on page 12.",
)


def test_lines_of_a_block_become_one_text(tmp_path: Path) -> None:
    layer = _page(tmp_path, *LINES, "Another paragraph follows here.")
    assert text_of(layer, _around(layer, 0, 3)) == (
        "The hygrometers of the laboratory were certified in June, and the results are on page 12."
    )
    assert text_of(layer, _around(layer, 3, 4)) == "Another paragraph follows here."


def test_a_block_whose_edge_cuts_a_line_is_read_by_the_model(tmp_path: Path) -> None:
    layer = _page(tmp_path, *LINES)
    left, top, right, bottom = _around(layer, 0, 3)
    assert text_of(layer, (left, top, (left + right) / 2, bottom)) is None
    assert text_of(layer, (left, top + 8 / HEIGHT, right, bottom)) is None


def test_a_block_with_much_more_than_its_text_is_read_by_the_model(tmp_path: Path) -> None:
    """There may be a picture of text in it."""
    layer = _page(tmp_path, *LINES)
    left, top, right, bottom = _around(layer, 0, 3)
    assert text_of(layer, (left, top, right, bottom + 100 / HEIGHT)) is None


def test_a_block_without_text_is_read_by_the_model(tmp_path: Path) -> None:
    layer = _page(tmp_path, *LINES)
    assert text_of(layer, (0.1, 0.7, 0.9, 0.9)) is None


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("5 + 3 = 8 \u00b1 0.1", True),
        ("so that \u2211 x is small", False),
        ("for all \U0001d465", False),
        ("a \u2264 b", False),
    ],
)
def test_formulas_in_a_text_are_left_to_the_model(
    tmp_path: Path, text: str, is_plain: bool
) -> None:
    layer = _page(tmp_path, *LINES)
    changed = layer.lines[0]
    layer.lines[:] = [type(changed)(**{**changed.__dict__, "text": text})]
    assert (text_of(layer, _around(layer, 0, 1)) == text) is is_plain
