"""From an image to the patches that the vision encoder reads: size, order, normalisation.

Equal to transformers' `Qwen2VLImageProcessorPil`, bit for bit. At which size an image is
read is decided in `scale`; the rotary angles of the patches are made in `rope`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mineru_daemon.errors import EngineError

Float = npt.NDArray[np.float32]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the images that CLIP was trained on; what a `preprocessor_config.json` says goes first."""

MIN_PIXELS = 56 * 56
MAX_PIXELS = 28 * 28 * 1280
"""Bounds of Qwen2-VL's image processor where the checkpoint names none."""

MAX_ASPECT = 200
"""Sides whose ratio is larger are refused, as by the reference."""


@dataclass(frozen=True)
class Grid:
    """How the patches of one image lie."""

    height: int
    """Patches from top to bottom."""
    width: int
    merge: int
    """Patches of a side that become one token."""

    @property
    def patches(self) -> int:
        """Number of patches."""
        return self.height * self.width

    @property
    def tokens(self) -> int:
        """Number of tokens that the language model sees of the image."""
        return self.patches // self.merge**2


@dataclass(frozen=True)
class ImageProcessor:
    """What a checkpoint's `preprocessor_config.json` asks for."""

    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS
    patch_size: int = 14
    temporal_patch_size: int = 2
    merge_size: int = 2
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    rescale_factor: float = 1 / 255

    @classmethod
    def read(cls, path: Path) -> ImageProcessor:
        """Read a `preprocessor_config.json`.

        Knows both ways to bound the size: `min_pixels` and `max_pixels`, and `size` with
        `shortest_edge` and `longest_edge` (which are pixels of the area too); the former go
        first. Raises EngineError when it is missing, no JSON, or asks for something else.
        """
        try:
            config = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise EngineError(f"{path} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise EngineError(f"{path} is not valid JSON: {error}; export it again.") from error
        try:
            return cls._of(config)
        except (AttributeError, TypeError, ValueError) as error:
            raise EngineError(f"{path} cannot be used: {error}.") from error

    @classmethod
    def _of(cls, config: dict[str, Any]) -> ImageProcessor:
        for key in ("do_resize", "do_rescale", "do_normalize"):
            if not config.get(key, True):
                raise ValueError(f"{key} is off, the encoder was trained with it")
        if config.get("resample", Image.Resampling.BICUBIC) != Image.Resampling.BICUBIC:
            raise ValueError(f"resample is {config['resample']}, only 3 (bicubic) is known")
        size = config.get("size") or {}

        def bound(pixels: str, edge: str, default: int) -> int:
            named = config.get(pixels)
            return int(size.get(edge, default) if named is None else named)

        return cls(
            min_pixels=bound("min_pixels", "shortest_edge", MIN_PIXELS),
            max_pixels=bound("max_pixels", "longest_edge", MAX_PIXELS),
            patch_size=int(config.get("patch_size", 14)),
            temporal_patch_size=int(config.get("temporal_patch_size", 2)),
            merge_size=int(config.get("merge_size", 2)),
            mean=tuple(map(float, config.get("image_mean") or CLIP_MEAN)),
            std=tuple(map(float, config.get("image_std") or CLIP_STD)),
            rescale_factor=float(config.get("rescale_factor", 1 / 255)),
        )

    @property
    def factor(self) -> int:
        """Pixels of the side of a token; both sides of an image are multiples of it."""
        return self.patch_size * self.merge_size

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size at which an image is read; see `smart_resize`."""
        return smart_resize(width, height, self.factor, self.min_pixels, self.max_pixels)

    def tokens(self, width: int, height: int) -> int:
        """How many tokens the language model sees of an image of this size."""
        width, height = self.size(width, height)
        return (width // self.factor) * (height // self.factor)

    def __call__(
        self, image: Image.Image, size: tuple[int, int] | None = None
    ) -> tuple[Float, Grid]:
        """Patches float32 [N, channels * temporal * side * side] of an RGB image, and how they lie.

        `size` (width, height) is what to scale the image to first; the one step from the
        image itself to the nearest size that can be read does both. Neighbours that merge
        follow each other. Raises EngineError if the image is too narrow to be read.
        """
        width, height = self.size(*(size or image.size))
        if image.mode != "RGB":
            image = image.convert("RGB")
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        return self.patches(np.asarray(image))

    def patches(self, pixels: npt.NDArray[np.uint8]) -> tuple[Float, Grid]:
        """Patches of `pixels`, uint8 [H, W, 3] with sides that are multiples of `factor`."""
        side, merge, times = self.patch_size, self.merge_size, self.temporal_patch_size
        height, width, channels = pixels.shape
        grid = Grid(height // side, width // side, merge)
        # [rows of tokens, columns of tokens, row in token, column in token, channel, y, x]
        order = pixels.reshape(
            grid.height // merge, merge, side, grid.width // merge, merge, side, channels
        ).transpose(0, 3, 1, 4, 6, 2, 5)
        made = np.empty((*order.shape[:5], times, side, side), np.float32)
        # A pixel has 256 values: the arithmetic of the reference is done for each of them
        # once, in its own order, and every pixel is then one look-up.
        for channel, values in enumerate(self._values()):
            made[:, :, :, :, channel, 0] = values[order[:, :, :, :, channel]]
        made[:, :, :, :, :, 1:] = made[:, :, :, :, :, :1]
        return made.reshape(grid.patches, -1), grid

    def _values(self) -> Float:
        """Normalised value of each pixel value, float32 [channels, 256]."""
        scaled = (np.arange(256) * self.rescale_factor).astype(np.float32)
        mean = np.array(self.mean, np.float32)[:, None]
        return (scaled - mean) / np.array(self.std, np.float32)[:, None]


def smart_resize(
    width: int, height: int, factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """Width and height in multiples of `factor`, near the given ones, within both bounds.

    Source: Qwen2-VL's image processor. Raises EngineError for sides whose ratio is above
    `MAX_ASPECT`.
    """
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise EngineError(
            f"An image of {width} x {height} pixels is too long and narrow to be read by MinerU."
        )
    wide, high = (round(side / factor) * factor for side in (width, height))
    if wide * high > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        wide, high = (
            max(factor, math.floor(side / shrink / factor) * factor) for side in (width, height)
        )
    elif wide * high < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        wide, high = (math.ceil(side * grow / factor) * factor for side in (width, height))
    return wide, high
