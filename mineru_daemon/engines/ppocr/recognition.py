"""Reading lines: rectangles on the page -> crops -> batches by width -> text.

The network is a CTC model ("Connectionist Temporal Classification", Graves et al.
2006): one distribution over characters for every eight pixels of width. Finding lines
is left to `detection`, ordering them to `lines`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr.detection import Pixels, Quads
from mineru_daemon.errors import EngineError

CROP_HEIGHT = 48
"""Height of the network's input in pixels."""

SMALLEST_WIDTH = 48
"""Narrowest input: a single character in its square."""

UPRIGHT_RATIO = 1.5
"""A box this much taller than wide holds a line that is turned (as in PaddleOCR)."""

BATCH_LINES = 1
"""Lines per run at most."""

BATCH_WIDTH = 4096
"""Sum of widths per run in pixels at most: bounds the memory of the output."""


@dataclass(frozen=True)
class Reading:
    """What stands on a line, and the mean confidence of its characters, 0..1."""

    text: str
    score: float


class Recogniser:
    """Reads crops of lines."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._input = session.inputs[0]
        self._characters = characters(session.metadata)

    def read(self, crops: Sequence[Pixels], before_run: Callable[[], None]) -> list[Reading]:
        """Read RGB crops (48, w, 3), in their order; `before_run` precedes every run."""
        readings = [Reading("", 0.0)] * len(crops)
        for members in batches([crop.shape[1] for crop in crops]):
            before_run()
            output = self._session.run({self._input: padded([crops[i] for i in members])})[0]
            for index, distribution in zip(members, output, strict=True):
                readings[index] = decoded(distribution, self._characters)
        return readings


def characters(metadata: dict[str, str]) -> list[str]:
    """Characters by class number: 0 is CTC's blank, the last one a space.

    The list is in the model's metadata, one character a line.
    """
    listed = metadata.get("character")
    if not listed:
        raise EngineError("The recognition model carries no list of characters.")
    return ["", *listed.rstrip("\n").split("\n"), " "]


def crop(image: Pixels, quad: Quads) -> Pixels:
    """The line inside a quad (4, 2) as an upright image (48, w, 3).

    One warp from the page to the network's height: no full-size copy of the line.
    """
    top_left, top_right, bottom_right, bottom_left = quad
    width = max(_distance(top_left, top_right), _distance(bottom_left, bottom_right))
    height = max(_distance(top_left, bottom_left), _distance(top_right, bottom_right))
    if height >= UPRIGHT_RATIO * width:
        # Turned by 90 degrees counter-clockwise: the right edge becomes the top.
        quad = quad[[1, 2, 3, 0]]
        width, height = height, width
    across = max(1, math.ceil(CROP_HEIGHT * width / max(height, 1)))
    corners = np.array([[0, 0], [across, 0], [across, CROP_HEIGHT], [0, CROP_HEIGHT]], np.float32)
    matrix = cv2.getPerspectiveTransform(quad, corners)
    warped = cv2.warpPerspective(
        image,
        matrix,
        (across, CROP_HEIGHT),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(warped, np.uint8)


def _distance(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    return float(np.hypot(*(a - b)))


def batches(widths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of crops to be read together: similar widths, within the bounds."""
    members: list[int] = []
    for index in sorted(range(len(widths)), key=lambda i: widths[i]):
        if members and (
            len(members) == BATCH_LINES or (len(members) + 1) * widths[index] > BATCH_WIDTH
        ):
            yield members
            members = []
        members.append(index)
    if members:
        yield members


def padded(crops: Sequence[Pixels]) -> npt.NDArray[np.float32]:
    """Crops side by side as the network's input (n, 3, 48, widest), zero to their right."""
    widest = max(SMALLEST_WIDTH, *(crop.shape[1] for crop in crops))
    batch = np.zeros((len(crops), 3, CROP_HEIGHT, widest), np.float32)
    for row, one in zip(batch, crops, strict=True):
        target = row[:, :, : one.shape[1]]
        np.multiply(one.transpose(2, 0, 1)[::-1], np.float32(1 / 127.5), out=target)
        target -= 1
    return batch


def decoded(distribution: npt.NDArray[np.float32], characters: Sequence[str]) -> Reading:
    """The best path of a CTC output (steps, classes): repeats merged, blanks dropped."""
    best = distribution.argmax(axis=1)
    kept = best != 0
    kept[1:] &= best[1:] != best[:-1]
    steps = np.flatnonzero(kept)
    if not len(steps):
        return Reading("", 0.0)
    text = "".join(characters[number] for number in best[steps])
    return Reading(text, float(distribution[steps, best[steps]].mean()))
