"""A block is shown no larger than its letters need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mineru_daemon.engines.mineru import scale

WORDS = ("The 12 hygrometers of the laboratory", "were certified in June, see page 12.")


def _printed(
    lines: Sequence[str], size: int, ink: str = "black", paper: str = "white", pitch: float = 1.3
) -> Image.Image:
    """Lines of text at `size` pixels per em and `pitch` ems apart, with a little paper around."""
    font = ImageFont.load_default(size)
    width = round(max(font.getlength(line) for line in lines)) + 16
    image = Image.new("RGB", (width, round(len(lines) * pitch * size) + 16), paper)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((8, 8 + number * pitch * size), line, ink, font)
    return image


def _capital(size: int) -> float:
    _, top, _, bottom = ImageFont.load_default(size).getbbox("H", anchor="ls")
    return bottom - top


@pytest.mark.parametrize("size", [14, 20, 28, 40, 67])
@pytest.mark.parametrize(
    "lines", [WORDS[:1], WORDS * 4, ("2061 597.38 1,240.00",), ("Payment",)], ids=len
)
def test_the_height_of_capitals_is_found(size: int, lines: Sequence[str]) -> None:
    found = scale.letter_height(_printed(lines, size))
    assert found == pytest.approx(_capital(size), rel=0.1, abs=1)


def test_light_text_on_dark_ground_is_measured_too() -> None:
    light = _printed(WORDS, 28, "white", "#123")
    assert scale.letter_height(light) == scale.letter_height(_printed(WORDS, 28))


def test_the_grain_of_a_scan_does_not_matter() -> None:
    clean = np.asarray(_printed(WORDS * 3, 28)).astype(float)
    grain = np.random.default_rng(0).normal(0, 25, clean.shape)
    scanned = Image.fromarray(np.clip(clean + grain, 0, 255).astype(np.uint8))
    assert scale.letter_height(scanned) == pytest.approx(_capital(28), abs=1.5)


def test_rules_and_frames_are_not_letters() -> None:
    image = _printed(WORDS * 3, 20, pitch=2)
    draw = ImageDraw.Draw(image)
    for y in range(3, image.height, 40):
        draw.line((0, y, image.width, y), "black", 2)
    draw.rectangle((0, 0, image.width - 1, image.height - 1), outline="black", width=2)
    assert scale.letter_height(image) == pytest.approx(_capital(20), rel=0.1, abs=1)


def test_where_no_letters_are_found_a_block_is_shown_as_it_is() -> None:
    rng = np.random.default_rng(0)
    for image in (
        Image.new("RGB", (300, 200), "white"),
        Image.new("RGB", (300, 200), "black"),
        Image.fromarray(rng.integers(250, 256, (200, 300, 3)).astype(np.uint8)),
    ):
        assert scale.letter_height(image) is None
        assert scale.crop_size(image, "text", "balanced", 0) == (300, 200)


def test_large_print_is_shown_smaller_and_small_print_as_it_is() -> None:
    large, small = _printed(WORDS * 3, 60), _printed(WORDS, 12)
    size = scale.crop_size(large, "text", "balanced", 0)
    shown = scale.letter_height(large.resize(size, Image.Resampling.BICUBIC))
    assert shown == pytest.approx(scale.LETTERS["balanced"]["text"], abs=1.5)
    assert scale.crop_size(small, "text", "balanced", 0) == small.size


@pytest.mark.parametrize("lines", [WORDS[:1], WORDS, WORDS * 4], ids=len)
@pytest.mark.parametrize("preset", ["balanced", "economy"])
def test_no_letter_becomes_lower_than_needed_and_no_token_is_too_many(
    lines: Sequence[str], preset: scale.Preset
) -> None:
    for size in range(24, 70, 3):
        image = _printed(lines, size)
        found, needed = scale.letter_height(image), scale.LETTERS[preset]["text"]
        assert found is not None
        for side, shown in zip(image.size, scale.crop_size(image, "text", preset, 0), strict=True):
            assert shown % scale.TOKEN_SIDE == 0
            whole, per_letter = round(side / scale.TOKEN_SIDE) * scale.TOKEN_SIDE, found / side
            enough = (shown + scale.SLACK * scale.TOKEN_SIDE) * per_letter >= needed
            assert shown == whole or (shown < whole and enough)
            fewer = shown - scale.TOKEN_SIDE
            assert not fewer or fewer * per_letter < needed


def test_tables_and_formulas_are_shown_larger_than_text() -> None:
    image = _printed(WORDS * 3, 40)
    widths = [
        scale.crop_size(image, kind, "balanced", 0)[0] for kind in ("text", "table", "equation")
    ]
    assert widths == sorted(set(widths))
    assert scale.crop_size(image, "image", "balanced", 0) == image.size


def test_quality_shows_every_block_as_it_is() -> None:
    image = _printed(WORDS, 60)
    assert scale.crop_size(image, "text", "quality", 0) == image.size
    assert scale.layout_side("quality", 0) == 1036


def test_no_side_is_longer_than_the_bounds() -> None:
    image = Image.new("RGB", (1600, 400), "white")
    assert scale.crop_size(image, "table", "economy", 0) == (768, 192)
    assert scale.crop_size(image, "table", "quality", 500) == (500, 125)
    assert scale.layout_side("economy", 0) <= 768
    assert scale.layout_side("quality", 500) == 500
    assert scale.layout_side("balanced", 5000) == scale.LAYOUT_SIDES["balanced"]


def test_a_line_is_never_lower_than_an_image_token() -> None:
    image = _printed(("Invoice",), 60)
    assert min(scale.crop_size(image, "title", "economy", 0)) >= scale.TOKEN_SIDE
