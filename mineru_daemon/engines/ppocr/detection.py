"""Finding lines of text: image -> probability map -> rotated rectangles.

The map comes from a DB network ("Real-time Scene Text Detection with Differentiable
Binarization", Liao et al. 2020), whose regions are text lines shrunk towards their
middle. Reading the lines is left to `recognition`, their order to `lines`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr import imagenet

Pixels = npt.NDArray[np.uint8]
Quads = npt.NDArray[np.float32]

STRIDE = 32
"""The network halves its input five times: sides are multiples of it."""

MAP_THRESHOLD = 0.2
"""A pixel of the map above it is text; so in the configuration of PP-OCRv6_tiny_det."""

BOX_THRESHOLD = 0.4
"""Mean of the map inside a rectangle from which on it counts as a line; from there too."""

UNCLIP_RATIO = 1.6
"""By how much a shrunk region grows: area * ratio / perimeter on each side (DB paper). The
configuration's 1.4 cuts letters off: of receipts' lines .941 are found instead of .953."""

SMALLEST_REGION = 3.0
"""Shorter side of a region in pixels of the map below which it is noise."""

MOST_REGIONS = 3000
"""Bound on the regions of one page, so that a page of noise ends."""


class Detector:
    """Finds the lines on an image."""

    def __init__(self, session: Session, pixels: int) -> None:
        """`pixels` bounds the network's input, width times height."""
        self._session = session
        self._input = session.inputs[0]
        self._pixels = pixels

    def prepare(self, image: Pixels) -> npt.NDArray[np.float32]:
        """The network's input (1, 3, h, w) for an RGB image (H, W, 3)."""
        size = input_size(image.shape[1], image.shape[0], self._pixels)
        # Averaging keeps thin strokes that interpolation between four pixels would skip.
        resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        # The configuration gives ImageNet's figures to channels in the order blue, green, red.
        return imagenet.planes(np.asarray(resized, np.uint8)[:, :, ::-1])

    def probabilities(self, prepared: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The map (h, w), values from 0 to 1."""
        output: npt.NDArray[np.float32] = self._session.run({self._input: prepared})[0][0, 0]
        return output


def input_size(width: int, height: int, pixels: int) -> tuple[int, int]:
    """Width and height the network works at: multiples of 32, about `pixels` in all.

    A bound on the area costs the same for every shape of page and, unlike one on the
    longer side, leaves the print on long receipts and scrolled screenshots readable. A
    page below the bound is not enlarged. Strips, which have to be at least `STRIDE` across,
    are shortened for it.
    """
    scale = min(1.0, math.sqrt(pixels / (width * height)))
    longest = pixels / STRIDE
    return _multiple(min(width * scale, longest)), _multiple(min(height * scale, longest))


def _multiple(length: float) -> int:
    return max(STRIDE, round(length / STRIDE) * STRIDE)


def quads(probabilities: npt.NDArray[np.float32], width: int, height: int) -> Quads:
    """Corners of the lines on a page of `width` x `height` pixels.

    Shape (n, 4, 2), in pixels of the page: top left, top right, bottom right, bottom
    left of each line as it stands on the page, clipped to the page.
    """
    found = list(_grown_regions(probabilities))
    if not found:
        return np.zeros((0, 4, 2), np.float32)
    rows, columns = probabilities.shape
    scale = np.array([width / columns, height / rows], np.float32)
    on_page: Quads = np.clip(np.stack(found) * scale, 0, np.array([width, height], np.float32))
    return on_page


def _grown_regions(probabilities: npt.NDArray[np.float32]) -> Iterator[Quads]:
    """Corners (4, 2) of the regions that the map is sure of, grown to whole lines."""
    text = (probabilities > MAP_THRESHOLD).astype(np.uint8)
    mask = cv2.dilate(text, np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours[:MOST_REGIONS]:
        middle, (across, down), angle = cv2.minAreaRect(contour)
        if min(across, down) < SMALLEST_REGION:
            continue
        if _mean_inside(probabilities, _corners(middle, across, down, angle)) < BOX_THRESHOLD:
            continue
        growth = 2 * (across * down * UNCLIP_RATIO / (2 * (across + down)))
        yield _from_top_left(_corners(middle, across + growth, down + growth, angle))


def _corners(middle: Sequence[float], width: float, height: float, angle: float) -> Quads:
    """Corners (4, 2) of a rotated rectangle as `cv2.minAreaRect` describes it."""
    return np.asarray(cv2.boxPoints((middle, (width, height), angle)), np.float32)


def _mean_inside(probabilities: npt.NDArray[np.float32], corners: Quads) -> float:
    """Mean of the map inside a rectangle given by its corners (4, 2)."""
    rows, columns = probabilities.shape
    left, top = np.clip(np.floor(corners.min(0)).astype(int), 0, [columns - 1, rows - 1])
    right, bottom = np.clip(np.ceil(corners.max(0)).astype(int), 0, [columns - 1, rows - 1])
    mask = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
    cv2.fillPoly(mask, [(corners - [left, top]).astype(np.int32)], 1)
    return cv2.mean(probabilities[top : bottom + 1, left : right + 1], mask)[0]


def _from_top_left(corners: Quads) -> Quads:
    """The corners in clockwise order (y grows downwards) from the one at the top left."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    (top_left, bottom_left), (top_right, bottom_right) = (
        pair[np.argsort(pair[:, 1], kind="stable")] for pair in (by_x[:2], by_x[2:])
    )
    return np.stack([top_left, top_right, bottom_right, bottom_left])
