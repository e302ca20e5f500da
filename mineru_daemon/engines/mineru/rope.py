"""Rotary positions: where patches, image tokens and text tokens stand, as angles.

Equal to transformers' Qwen2-VL for prompts with one image or none. The angles are given
as cosines and sines, which the graphs take as inputs; see `export.models`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.mineru.architecture import (
    VISION_ROPE_THETA,
    TextArchitecture,
    VisionArchitecture,
)
from mineru_daemon.engines.mineru.image import Grid

Float = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Angles = tuple[Float, Float]
"""Cosines and sines, both [positions, frequencies]."""


def frequencies(dim: int, theta: float) -> Float:
    """Angle per position, float32 [dim / 2], of a rotary embedding over `dim` numbers."""
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    # Rounded twice, as the reference does: one last bit here is 0.001 rad at position 16384.
    return np.float32(1) / np.float32(theta) ** exponents


def vision_angles(grid: Grid, architecture: VisionArchitecture) -> Angles:
    """For the patches of an image: half of the frequencies turn with the row, half with the
    column."""
    rows, columns = np.indices((grid.height, grid.width))
    places = np.stack([_in_patch_order(one, grid) for one in (rows, columns)], axis=1)
    turns = frequencies(architecture.head_dim // 2, VISION_ROPE_THETA)
    return _angles((places[:, :, None].astype(np.float32) * turns).reshape(grid.patches, -1))


def _in_patch_order(places: npt.NDArray[np.int64], grid: Grid) -> npt.NDArray[np.int64]:
    merge = grid.merge
    split = places.reshape(grid.height // merge, merge, grid.width // merge, merge)
    return split.transpose(0, 2, 1, 3).reshape(-1)


def positions(ids: Sequence[int], image_token: int, grid: Grid | None) -> tuple[Ids, int]:
    """Positions [3, tokens] in time, height and width, and the one of the next token.

    Text stands at the same place in all three. An image stands still in time, and its
    tokens spread over height and width; text after it goes on behind the larger of both.
    """
    count = len(ids)
    if grid is None:
        return np.tile(np.arange(count), (3, 1)), count
    start = ids.index(image_token)
    high, wide = grid.height // grid.merge, grid.width // grid.merge
    down, across = np.indices((high, wide)).reshape(2, -1)
    picture = np.stack([np.zeros_like(down), down, across]) + start
    before = np.tile(np.arange(start), (3, 1))
    after = start + max(high, wide)
    rest = count - start - grid.tokens
    behind = np.tile(np.arange(after, after + rest), (3, 1))
    return np.concatenate([before, picture, behind], axis=1), after + rest


def text_angles(places: Ids, architecture: TextArchitecture) -> Angles:
    """For tokens at `places` [3, tokens]: some frequencies turn with time, some with height,
    some with width, as `mrope_section` deals them out."""
    turns = frequencies(architecture.head_dim, architecture.rope_theta)
    axis = np.repeat(np.arange(3), architecture.mrope_section)
    return _angles(places[axis].T.astype(np.float32) * turns)


def _angles(turned: Float) -> Angles:
    """The product is rounded to float32 as in the reference, the functions of it are exact."""
    exact = np.ascontiguousarray(turned, np.float64)
    return np.cos(exact).astype(np.float32), np.sin(exact).astype(np.float32)
