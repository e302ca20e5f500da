"""Images become the patches that the vision encoder was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mineru_daemon.engines.mineru.image import Grid, ImageProcessor, smart_resize
from mineru_daemon.errors import EngineError

PROCESSOR = ImageProcessor()


def _read(tmp_path: Path, config: Any) -> ImageProcessor:
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(config))
    return ImageProcessor.read(path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((980, 980), (980, 980)),
        ((1036, 1036), (980, 980)),  # above the largest area
        ((300, 100), (308, 112)),
        ((41, 41), (56, 56)),  # 28 x 28 would be below the least area
        ((97, 333), (84, 336)),
        ((42, 1000), (56, 1008)),  # a half is rounded to even: 1.5 tokens are two
        ((4000, 3000), (1148, 840)),
    ],
)
def test_sides_become_multiples_of_a_token_within_the_bounds(
    given: tuple[int, int], expected: tuple[int, int]
) -> None:
    size = smart_resize(*given, 28, 56 * 56, 28 * 28 * 1280)
    assert size == expected
    assert PROCESSOR.tokens(*given) == size[0] * size[1] // 28**2


def test_an_image_that_is_too_long_is_refused_in_a_sentence() -> None:
    with pytest.raises(EngineError, match="An image of 6000 x 20 pixels is too long and narrow"):
        PROCESSOR.size(6000, 20)


def test_the_bounds_may_be_given_in_either_way(tmp_path: Path) -> None:
    both = {"min_pixels": 4 * 784, "max_pixels": 9 * 784}
    size = {"size": {"shortest_edge": 4 * 784, "longest_edge": 9 * 784}}
    for config in (both, size, {**both, "size": {"shortest_edge": 1, "longest_edge": 1}}):
        processor = _read(tmp_path, config)
        assert (processor.min_pixels, processor.max_pixels) == (4 * 784, 9 * 784)
    assert _read(tmp_path, {}) == PROCESSOR


@pytest.mark.parametrize(
    "config", [{"do_normalize": False}, {"resample": 2}, {"patch_size": "large"}, [1]]
)
def test_what_another_processing_asks_for_is_refused(tmp_path: Path, config: Any) -> None:
    with pytest.raises(EngineError, match=r"preprocessor_config\.json cannot be used"):
        _read(tmp_path, config)


def test_neighbours_that_merge_follow_each_other() -> None:
    """The first four patches are the upper left token, row after row."""
    pixels = np.zeros((56, 84, 3), np.uint8)
    for row in range(4):
        for column in range(6):
            pixels[14 * row : 14 * row + 14, 14 * column : 14 * column + 14] = 10 * row + column
    patches, grid = PROCESSOR.patches(pixels)
    assert grid == Grid(height=4, width=6, merge=2)
    assert (grid.patches, grid.tokens) == (24, 6)
    red = (patches[:, 0] * PROCESSOR.std[0] + PROCESSOR.mean[0]) * 255
    assert np.rint(red[:8]).tolist() == [0, 1, 10, 11, 2, 3, 12, 13]
    assert np.rint(red[-4:]).tolist() == [24, 25, 34, 35]


def test_a_patch_holds_channels_twice_then_rows_then_columns() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (56, 56, 3), np.uint8)
    patches, _ = PROCESSOR.patches(pixels)
    assert patches.dtype == np.float32
    first = patches[0].reshape(3, 2, 14, 14)
    for channel in range(3):
        mean, std = PROCESSOR.mean[channel], PROCESSOR.std[channel]
        expected = (pixels[:14, :14, channel] / 255 - mean) / std
        for time in range(2):
            np.testing.assert_allclose(first[channel, time], expected, atol=1e-6)


def test_the_asked_for_size_is_made_in_one_step() -> None:
    image = Image.effect_noise((400, 300), 80).convert("RGB")
    once, grid = PROCESSOR(image, (200, 150))
    assert (grid.width * 14, grid.height * 14) == PROCESSOR.size(200, 150)
    expected = image.resize(PROCESSOR.size(200, 150), Image.Resampling.BICUBIC)
    assert np.array_equal(once, PROCESSOR.patches(np.asarray(expected))[0])


def test_images_of_other_modes_are_read_as_colour() -> None:
    gray = Image.effect_noise((56, 56), 80)
    assert np.array_equal(PROCESSOR(gray)[0], PROCESSOR(gray.convert("RGB"))[0])
