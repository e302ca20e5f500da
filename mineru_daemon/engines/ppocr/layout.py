"""Finding the regions of a page: image -> boxes with a type and a score.

The network is PicoDet ("PP-PicoDet: A Better Real-Time Object Detector on Mobile
Devices", Yu et al. 2021) trained on CDLA, a set of Chinese scientific pages. What the
regions mean for the lines of the page is decided by `structure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr import boxes, imagenet
from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.regions import Region
from mineru_daemon.results import BlockType

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.intp]

WIDTH, HEIGHT = 608, 800
"""Size of the network's input, fixed in its graph. Pages are stretched to it, as they
were when it was trained."""

STRIDES = (8, 16, 32, 64)
"""Pixels of the input between neighbouring cells, for each of the network's four heads."""

TYPES: tuple[BlockType, ...] = (
    "text",
    "title",
    "image",
    "image_caption",
    "table",
    "table_caption",
    "header",
    "footer",
    "ref_text",
    "equation",
)
"""Types by class number: CDLA's text, title, figure, figure caption, table, table
caption, header, footer, reference, equation (the names in the model's metadata)."""

THRESHOLD = 0.4
"""Score from which on a box is believed. Low, as `structure` checks boxes against lines."""

SAME_OVERLAP = 0.5
"""Intersection over union from which on two boxes of one type are the same thing."""

ANY_OVERLAP = 0.7
"""The same for two boxes of different types."""

BINS = 8
"""Whole strides over which the distance of an edge is distributed: 0 to 7."""

MARGIN = 0.08
"""Margin of the sheet that a clipping is put on, in widths of the clipping."""

MOST_CANDIDATES = 1000
"""Bound on the boxes of one page that are compared with each other."""


class Layout:
    """Finds the regions of a page."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._input = session.inputs[0]

    def regions_of_clipping(self, image: Pixels) -> list[Region]:
        """The regions of an RGB image (H, W, 3) that is a part of a page, in its pixels."""
        height, width = image.shape[:2]
        if height >= width:
            return self.regions(image)
        sheet, left, top = framed(image)
        return [
            replace(
                region,
                box=(
                    min(max(region.box[0] - left, 0.0), width),
                    min(max(region.box[1] - top, 0.0), height),
                    min(max(region.box[2] - left, 0.0), width),
                    min(max(region.box[3] - top, 0.0), height),
                ),
            )
            for region in self.regions(sheet)
        ]

    def regions(self, image: Pixels) -> list[Region]:
        """Regions of an RGB image (H, W, 3), the surest first."""
        outputs = self._session.run({self._input: prepared(image)})
        heads = len(STRIDES)
        scores = [output[0] for output in outputs[:heads]]
        distances = [output[0] for output in outputs[heads:]]
        return decoded(scores, distances, image.shape[1], image.shape[0])


def framed(image: Pixels) -> tuple[Pixels, int, int]:
    """A clipping (H, W, 3) as it would stand on a page, and where: left and top in pixels.

    The network knows pages: a table that fills a wide image it takes for a picture, on a
    square sheet with a margin it finds it.
    """
    height, width = image.shape[:2]
    margin = max(1, round(width * MARGIN))
    side = width + 2 * margin
    paper = np.median(np.concatenate([image[0], image[-1]]), axis=0)
    sheet = np.empty((max(side, height + 2 * margin), side, 3), np.uint8)
    sheet[:] = paper
    top = max(margin, (sheet.shape[0] - height) // 4)
    sheet[top : top + height, margin : margin + width] = image
    return sheet, margin, top


def prepared(image: Pixels) -> Floats:
    """The network's input (1, 3, 800, 608) for an RGB image (H, W, 3)."""
    # Averaging keeps thin strokes, which a page shrunk by picking pixels would lose.
    resized = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return imagenet.planes(np.asarray(resized, np.uint8))


def decoded(
    scores: Sequence[Floats], distances: Sequence[Floats], width: int, height: int
) -> list[Region]:
    """Regions on a page of `width` x `height` pixels, the surest first.

    Each head gives for its cells, row by row, the scores of the classes (cells, 10) and
    for the left, top, right and bottom edge the distribution of its distance from the
    cell's middle over whole strides (cells, 4 * 8): the "general distribution" of
    "Generalized Focal Loss", Li et al. 2020.
    """
    found_boxes, found_scores, found_kinds = [], [], []
    for stride, score, distance in zip(STRIDES, scores, distances, strict=True):
        cells, kinds_here = np.nonzero(score > THRESHOLD)
        found_boxes.append(_boxes(cells, distance, stride))
        found_scores.append(score[cells, kinds_here])
        found_kinds.append(kinds_here)
    sure: Floats = np.concatenate(found_scores)
    order = np.argsort(-sure, kind="stable")[:MOST_CANDIDATES]
    sure = sure[order]
    kinds: Numbers = np.concatenate(found_kinds)[order]
    found: Floats = np.concatenate(found_boxes)[order]
    found = np.clip(found, 0, np.array([WIDTH, HEIGHT] * 2, np.float32))
    found *= np.array([width / WIDTH, height / HEIGHT] * 2, np.float32)
    return [
        Region(TYPES[kinds[i]], boxes.plain(found[i]), float(sure[i]))
        for i in _distinct(found, kinds)
    ]


def _boxes(cells: Numbers, distance: Floats, stride: int) -> Floats:
    """Boxes (n, 4) in pixels of the input around the middles of the given cells."""
    columns = -(-WIDTH // stride)
    middles = (np.stack([cells % columns, cells // columns], 1) + 0.5) * stride
    bins = distance[cells].reshape(len(cells), 4, BINS)
    weights = np.exp(bins - bins.max(2, keepdims=True))
    steps = (weights * np.arange(BINS)).sum(2) / weights.sum(2)
    away = steps * stride * np.array([-1, -1, 1, 1])
    return np.asarray(np.tile(middles, 2) + away, np.float32)


def _distinct(found: Floats, kinds: Numbers) -> list[int]:
    """Indices of boxes that are not a surer one's double; `found` (n, 4) comes surest first."""
    areas = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    left = np.arange(len(found))
    kept = []
    while len(left):
        first, left = left[0], left[1:]
        kept.append(int(first))
        low = np.maximum(found[left, :2], found[first, :2])
        high = np.minimum(found[left, 2:], found[first, 2:])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        overlap = common / np.maximum(areas[left] + areas[first] - common, 1e-6)
        bound = np.where(kinds[left] == kinds[first], SAME_OVERLAP, ANY_OVERLAP)
        left = left[overlap <= bound]
    return kept
