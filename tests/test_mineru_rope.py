"""Where patches and tokens stand, as in Qwen2-VL."""

from __future__ import annotations

import numpy as np

from mineru_daemon.engines.mineru import rope
from mineru_daemon.engines.mineru.architecture import TextArchitecture, VisionArchitecture
from mineru_daemon.engines.mineru.image import Grid

IMAGE = 9
TEXT = TextArchitecture(
    layers=1,
    hidden_size=64,
    heads=2,
    kv_heads=1,
    head_dim=32,
    intermediate_size=64,
    vocabulary=10,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    mrope_section=(4, 6, 6),
    max_positions=64,
    tied=True,
)
VISION = VisionArchitecture(
    depth=1,
    embed_dim=64,
    heads=2,
    mlp_dim=64,
    patch_size=14,
    spatial_merge_size=2,
    temporal_patch_size=2,
    channels=3,
    out_dim=64,
)


def test_text_stands_at_the_same_place_in_all_three() -> None:
    places, following = rope.positions([1, 2, 3], IMAGE, None)
    assert places.tolist() == [[0, 1, 2]] * 3
    assert following == 3


def test_an_image_spreads_over_height_and_width_and_text_goes_on_behind_it() -> None:
    """The example of the paper: text, an image of 2 x 3 tokens, text."""
    places, following = rope.positions([1, 2, *[IMAGE] * 6, 3, 4], IMAGE, Grid(4, 6, 2))
    assert places.tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]
    assert following == 7


def test_frequencies_turn_with_the_axis_that_is_theirs() -> None:
    places = np.array([[3], [5], [7]])
    cos, sin = rope.text_angles(places, TEXT)
    turns = rope.frequencies(32, 1e6)
    axis = np.array([3] * 4 + [5] * 6 + [7] * 6)
    np.testing.assert_allclose(cos[0], np.cos(axis * turns), atol=1e-6)
    np.testing.assert_allclose(sin[0], np.sin(axis * turns), atol=1e-6)
    assert cos.shape == (1, 16)
    assert cos.flags.c_contiguous


def test_a_patch_turns_with_its_row_and_then_with_its_column() -> None:
    grid = Grid(2, 4, 2)
    cos, sin = rope.vision_angles(grid, VISION)
    assert cos.shape == sin.shape == (8, 16)
    turns = rope.frequencies(16, 1e4)
    # In the order of the patches: the left token's four, then the right one's.
    for patch, (row, column) in enumerate(
        [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]
    ):
        angles = np.concatenate([row * turns, column * turns])
        np.testing.assert_allclose(sin[patch], np.sin(angles), atol=1e-6)
