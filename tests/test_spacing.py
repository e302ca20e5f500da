"""Where words end is told by the network and by the gaps in the ink together."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mineru_daemon import cpu
from mineru_daemon.engines.ppocr import recognition, recognition_model, spacing
from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.recognition import Reading, Recogniser

FONT = ImageFont.load_default(size=32)
STEP = 8.0
"""Pixels of a crop for each step of the network."""


def drawn(text: str, ink: str = "black", paper: str = "white") -> tuple[Pixels, list[int]]:
    """A crop of a line (48, w, 3), and the steps at which its letters stand."""
    image = Image.new("RGB", (round(FONT.getlength(text)) + 16, 48), paper)
    ImageDraw.Draw(image).text((8, 4), text, fill=ink, font=FONT)
    middles = [
        8 + FONT.getlength(text[:n]) + FONT.getlength(one) / 2
        for n, one in enumerate(text)
        if one != " "
    ]
    return np.asarray(image), [int(middle / STEP) for middle in middles]


def word_ends(text: str, said: float, **colours: str) -> list[int]:
    """After which letters a space is likely if the network says `said` for all of them."""
    line, steps = drawn(text, **colours)
    spaces = np.full(round(line.shape[1] / STEP) + 1, said, np.float32)
    chances = spacing.chances(spaces, steps, line, STEP)
    return [int(n) + 1 for n in np.flatnonzero(chances >= 0.5)]


@pytest.mark.parametrize("colours", [{}, {"ink": "white", "paper": "navy"}, {"ink": "grey"}])
def test_where_the_network_cannot_tell_wide_gaps_are_spaces(colours: dict[str, str]) -> None:
    assert word_ends("Two brown loaves", 0.5, **colours) == [3, 8]


def test_where_the_network_is_sure_gaps_do_not_matter() -> None:
    assert word_ends("Two brown loaves", 1e-6) == []
    assert word_ends("Loaves", 0.999) == [1, 2, 3, 4, 5]


def test_an_empty_crop_has_no_spaces() -> None:
    line = np.full((48, 80, 3), 255, np.uint8)
    spaces = np.full(10, 0.01, np.float32)
    assert (spacing.chances(spaces, [2, 4, 9], line, STEP) < 0.5).all()


def respaced(text: str, said: float, line: Pixels, steps: list[int]) -> str:
    """What becomes of a reading of the line's letters without any space."""
    count = round(line.shape[1] / STEP) + 1
    distribution = np.zeros((count, 3), np.float32)
    distribution[:, -1] = said
    places = tuple((step + 0.5) * STEP / line.shape[1] for step in steps)
    found = Reading(text, 0.9, places, (0.9,) * len(text))
    again = recognition.respaced(found, distribution, line, STEP)
    assert len(again.places) == len(again.scores) == len(again.text)
    assert list(again.places) == sorted(again.places)
    return again.text


def test_spaces_are_put_between_the_letters() -> None:
    line, steps = drawn("Two brown loaves")
    assert respaced("Twobrownloaves", 0.5, line, steps) == "Two brown loaves"
    assert respaced("x", 0.5, line, steps[:1]) == "x"


def test_scripts_without_words_get_no_spaces() -> None:
    line, steps = drawn("ab cd")
    assert respaced("漢字学習", 0.5, line, steps) == "漢字学習"


@pytest.mark.parametrize(("text", "letters"), [("f(  )", "f()"), ("done   .", "done.")])
def test_paper_beside_small_marks_is_no_space(text: str, letters: str) -> None:
    line, steps = drawn(text)
    assert respaced(letters, 0.5, line, steps) == letters


def test_the_quick_model_keeps_the_spaces_of_clear_print() -> None:
    model = recognition_model.shipped(cpu.plan_threads(1), "tiny")
    assert model.spaces_by_ink
    quick = Recogniser(model.session, model.characters, spaces_by_ink=True)
    words = "Total amount due: 1,250.00 EUR (incl. 6 % tax)"
    assert quick.read(drawn(words)[0], lambda: None).text == words
    model.session.close()
