"""Reading lines: a rectangle on the page -> a crop -> text.

The network is a CTC model ("Connectionist Temporal Classification", Graves et al.
2006): one distribution over characters for every eight pixels of width. Lines are read
one at a time at their own width: batches of PP-OCRv6 small cost more CPU time per pixel
than single lines do, and padding costs and confuses. Finding lines is left to
`detection`, ordering them to `lines`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import cv2
import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr import spacing
from mineru_daemon.engines.ppocr.detection import Pixels, Quads
from mineru_daemon.engines.ppocr.scripts import is_wide
from mineru_daemon.errors import EngineError

CROP_HEIGHT = 48
"""Height of the network's input in pixels."""

NARROWEST = 48
"""Narrowest input: a single character in its square."""

UPRIGHT_RATIO = 1.5
"""A box this much taller than wide holds a line that is turned (as in PaddleOCR)."""

WIDEST = 3200
"""Longer lines are squeezed into it: bounds the memory of a run. A line of 8 point across
an A4 page is about 2200 wide."""


MARGIN = "margin"
"""Input of a screened model: by how much its first classes have to be above all others. Both
are told in `weights/head_edits`."""

EVERY_CLASS = np.array(np.inf, np.float32)
"""The margin that no line has."""

FEWEST_IDEOGRAPHS = 2
"""On a line, from which on all classes are asked for on its page: with two a page is hardly ever
in Latin script, and single ones hardly ever are ideographs."""


@dataclass(frozen=True)
class Reading:
    """What stands on a line, and the mean confidence of its characters, 0..1."""

    text: str
    score: float
    places: tuple[float, ...] = ()
    """Middle of each character along the line, 0 at its left end, 1 at its right."""
    scores: tuple[float, ...] = ()
    """Confidence of each character."""


class Recogniser:
    """Reads crops of lines."""

    def __init__(
        self, session: Session, characters: Sequence[str], *, spaces_by_ink: bool = False
    ) -> None:
        """`characters` are those of the model's classes, from CTC's blank on.

        `spaces_by_ink` lets the gaps between letters tell, too, where words end.
        """
        self._session = session
        self._characters = characters
        self._spaces_by_ink = spaces_by_ink
        self._near: list[str] = []
        self._has_ideographs = False

    def begin_page(self) -> None:
        """Forget what was learnt of the page before: that its lines have ideographs."""
        self._has_ideographs = False

    def read(self, line: Pixels, before_run: Callable[[], object]) -> Reading:
        """Read an RGB crop (48, w, 3); `before_run` precedes the model run."""
        feeds = feeds_of(self._session, line, every_class=self._has_ideographs)
        before_run()
        distribution = self._session.run(feeds)[0][0]
        characters = self._characters_of(distribution.shape[1])
        width = max(line.shape[1], NARROWEST)
        reading = decoded(distribution, characters, width / line.shape[1])
        if characters is self._characters and not self._has_ideographs:
            self._has_ideographs = _ideographs(reading.text) >= FEWEST_IDEOGRAPHS
        if self._spaces_by_ink:
            return respaced(reading, distribution, line, width / len(distribution))
        return reading

    def _characters_of(self, classes: int) -> Sequence[str]:
        """Those that so many classes of an output stand for."""
        if classes == len(self._characters):
            return self._characters
        if len(self._near) != classes:
            self._near = [*self._characters[: classes - 1], self._characters[-1]]
        return self._near


def _ideographs(text: str) -> int:
    return sum(is_wide(one) and one.isalpha() for one in text)


def characters(listed: str) -> list[str]:
    """Characters by class number: 0 is CTC's blank, the last one a space.

    `listed` has them one a line. Raises `EngineError` if there are none.
    """
    if not listed:
        raise EngineError("The recognition model carries no list of characters.")
    return ["", *listed.rstrip("\n").split("\n"), " "]


def crop(image: Pixels, quad: Quads) -> Pixels:
    """The line inside a quad (4, 2) of an RGB image as an upright one (48, w, 3).

    Turned upright at its own size first, then brought to the network's height: doing
    both in one warp reads less well.
    """
    top_left, top_right, bottom_right, bottom_left = quad
    width = max(_distance(top_left, top_right), _distance(bottom_left, bottom_right))
    height = max(_distance(top_left, bottom_left), _distance(top_right, bottom_right))
    if height >= UPRIGHT_RATIO * width:
        # Turned by 90 degrees counter-clockwise: the right edge becomes the top.
        quad = quad[[1, 2, 3, 0]]
        width, height = height, width
    size = max(1, int(width)), max(1, int(height))
    corners = np.array([[0, 0], [size[0], 0], size, [0, size[1]]], np.float32)
    upright = cv2.warpPerspective(
        image,
        cv2.getPerspectiveTransform(quad, corners),
        size,
        # Letters that are shrunk afterwards need no more than the pixels around.
        flags=cv2.INTER_CUBIC if size[1] <= CROP_HEIGHT else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    across = min(max(1, math.ceil(CROP_HEIGHT * width / max(height, 1))), WIDEST)
    return np.asarray(cv2.resize(upright, (across, CROP_HEIGHT)), np.uint8)


def _distance(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    return float(np.hypot(*(a - b)))


def feeds_of(
    session: Session, line: Pixels, *, every_class: bool
) -> dict[str, npt.NDArray[np.float32]]:
    """What a model is run on to read an RGB crop (48, w, 3); `every_class` has a screened model
    tell of all its classes."""
    feeds = {session.inputs[0]: planes(line)}
    if every_class and MARGIN in session.optional_inputs:
        feeds[MARGIN] = EVERY_CLASS
    return feeds


def planes(line: Pixels) -> npt.NDArray[np.float32]:
    """The network's input (1, 3, 48, w): a narrow line has the mean grey to its right."""
    width = line.shape[1]
    batch = np.zeros((1, 3, CROP_HEIGHT, max(width, NARROWEST)), np.float32)
    batch[0, :, :, :width] = normalised(line)
    return batch


def normalised(image: Pixels) -> npt.NDArray[np.float32]:
    """RGB (h, w, 3) in 0..255 -> BGR planes (3, h, w) in -1..1, as the network was trained."""
    planes = np.empty((3, *image.shape[:2]), np.float32)
    np.multiply(image.transpose(2, 0, 1)[::-1], np.float32(1 / 127.5), out=planes)
    planes -= 1
    return planes


def decoded(
    distribution: npt.NDArray[np.float32], characters: Sequence[str], padded: float = 1.0
) -> Reading:
    """The best path of a CTC output (steps, classes): repeats merged, blanks dropped.

    `padded` is the width of the network's input in widths of the line.
    """
    best = distribution.argmax(axis=1)
    begins = np.ones(len(best), bool)
    np.not_equal(best[1:], best[:-1], out=begins[1:])
    starts = np.flatnonzero(begins)
    # At the first step of a run the network is only about to be sure: its best step counts.
    peaks = np.maximum.reduceat(distribution[np.arange(len(best)), best], starts)
    kept = best[starts] != 0
    steps, scores = starts[kept], peaks[kept]
    if not len(steps):
        return Reading("", 0.0)
    text = "".join([characters[number] for number in best[steps].tolist()])
    places = np.minimum((steps + 0.5) / len(best) * padded, 1.0)
    mean = float(np.add.reduce(scores) / len(scores))
    return Reading(text, mean, tuple(places.tolist()), tuple(scores.tolist()))


def respaced(
    reading: Reading,
    distribution: npt.NDArray[np.float32],
    line: Pixels,
    pixels_per_step: float,
) -> Reading:
    """The reading of an RGB crop (48, w, 3) with the spaces that `spacing` finds likely.

    Where gaps say nothing of words, those that the network found stay.
    """
    said = reading.text
    letters = [n for n, one in enumerate(said) if one != " "]
    if len(letters) < 2:
        return reading
    width = line.shape[1]
    steps = [int(reading.places[n] * width / pixels_per_step) for n in letters]
    chances = spacing.chances(distribution[:, -1], steps, line, pixels_per_step).tolist()
    text, places, scores = [], [], []
    for n, after, chance in zip(letters, letters[1:], chances, strict=False):
        text.append(said[n])
        places.append(reading.places[n])
        scores.append(reading.scores[n])
        spaced = after > n + 1
        if spaced if spacing.is_set_apart(said[n], said[after]) else chance >= 0.5:
            text.append(" ")
            places.append((reading.places[n] + reading.places[after]) / 2)
            scores.append(reading.scores[n + 1] if spaced else chance)
    last = letters[-1]
    text.append(said[last])
    places.append(reading.places[last])
    scores.append(reading.scores[last])
    return Reading("".join(text), fmean(scores), tuple(places), tuple(scores))
