"""Setting a page upright: quarter turns, found by a model.

The model is a classifier of text images (PP-LCNet, "PP-LCNet: A Lightweight CPU
Convolutional Neural Network", Cui et al. 2021, as trained by PaddleClas' PULC). Which
lines are on the page is told by `detection`, what they say by `recognition`; the engine
decides when to ask. Small skew is the business of `skew`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import cv2
import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.imagenet import DEVIATION, MEAN
from mineru_daemon.results import Angle

WINDOW = 224
"""Side of the model's square input in pixels."""

SHORT_SIDE = 256
"""The page's shorter side in pixels when windows are cut from it (PULC's training)."""
LONG_SIDE = 64 * SHORT_SIDE
"""Longer strips are squeezed: 20,000 x 3 pixels came to 1.3 GB at the size of the shorter side."""

SURE = 0.85
"""Confidence of the middle window from which on no other window is asked: windows that
were wrong stayed below 0.8. The model was trained with smoothed labels and never goes
beyond 0.93."""

LOWEST_TO_TURN = 0.5
"""Confidence below which the page is left as it is. Pages were never misjudged above it
except in scripts the model does not know."""

SAMPLE_LINES = 4
"""Lines read both ways by `lean`."""

SAMPLE_WIDTH = 300
"""Pixels of width that a line of the sample has at best: long enough to be sure of,
short enough to be read in some milliseconds."""

CLEAR_LEAN = 0.12
"""Difference of mean recognition scores from which on `lean` tells up from down. Lines of
Latin and CJK text differ by 0.25 to 0.6, lines of Arabic by 0.03."""

QUARTERS: dict[Angle, int] = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}


@dataclass(frozen=True)
class Turn:
    """Degrees clockwise that set a page upright, and how sure that is, 0..1."""

    angle: Angle
    confidence: float


class Orientation:
    """Tells by which quarter turn a page is set upright."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._input = session.inputs[0]

    def detect(self, image: Pixels, before_run: Callable[[], None] = lambda: None) -> Turn:
        """The turn for an RGB page (H, W, 3); `before_run` precedes every model run.

        One window from the middle decides if it is sure of itself, else three along
        the page, each weighted by how much it knows: a blank window says nothing.
        """
        small = _shrunk(image)
        before_run()
        chances = self._chances([_window(small, 0.5)])
        if chances.max() < SURE:
            before_run()
            ends = self._chances([_window(small, 0.0), _window(small, 1.0)])
            chances = np.concatenate([chances, ends])
        return decided(chances)

    def _chances(self, windows: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """Chances (n, 4) that windows (224, 224, 3) are turned by 0, 90, 180, 270 clockwise."""
        batch = (np.stack(windows).astype(np.float32) / 255 - MEAN) / DEVIATION
        feed = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        output: npt.NDArray[np.float32] = self._session.run({self._input: feed})[0]
        return output


def decided(chances: npt.NDArray[np.float32]) -> Turn:
    """The turn that follows from the chances (n, 4) of n windows.

    Column k is the chance that the page is turned clockwise by k quarters; the turn
    that undoes it goes the other way.
    """
    weights = (chances.max(axis=1) - 1 / 4) ** 2 + 1e-9
    joint = (chances * weights[:, None]).sum(axis=0) / weights.sum()
    best = int(joint.argmax())
    confidence = float(joint[best])
    if confidence < LOWEST_TO_TURN:
        return Turn(0, confidence)
    undone: tuple[Angle, ...] = (0, 270, 180, 90)
    return Turn(undone[best], confidence)


def turned(image: Pixels, angle: Angle) -> Pixels:
    """The image turned clockwise by quarters of a full turn."""
    if angle == 0:
        return image
    return np.asarray(cv2.rotate(image, QUARTERS[angle]), np.uint8)


def lean(crops: Sequence[Pixels], score: Callable[[Pixels], float]) -> float | None:
    """How much better lines read as they stand than upside down: a difference of scores.

    `crops` are lines (48, w, 3) of a page that is thought to be upright; `score` reads
    one and tells its confidence, 0 where there is no text. A few lines of middling
    length are read twice. Above `CLEAR_LEAN` the page is upright, below -`CLEAR_LEAN`
    it is upside down; in between, as in scripts that the recogniser does not read,
    nobody knows. None without lines.
    """
    sample = sorted(crops, key=lambda crop: abs(crop.shape[1] - SAMPLE_WIDTH))[:SAMPLE_LINES]
    if not sample:
        return None
    return fmean(score(crop) - score(np.ascontiguousarray(crop[::-1, ::-1])) for crop in sample)


def upright_after(turn: Turn, leaning: float | None) -> Angle:
    """The turn to keep when the page was turned as proposed and its lines were read.

    `leaning` is what `lean` says of the turned page. Half a turn is undone unless the
    lines confirm it, since a false turn of an upright page costs everything on it; a
    quarter turn is known from the lines' direction and only its sense may be wrong.
    """
    if turn.angle == 0 or leaning is None:
        return turn.angle
    if turn.angle == 180:
        return 180 if leaning >= CLEAR_LEAN else 0
    if leaning <= -CLEAR_LEAN:
        return 270 if turn.angle == 90 else 90
    return turn.angle


def _shrunk(image: Pixels) -> Pixels:
    """The page with its shorter side at `SHORT_SIDE` pixels, the longer at most `LONG_SIDE`."""
    height, width = image.shape[:2]
    scale = SHORT_SIDE / min(height, width)
    # OpenCV averages areas of whole pixels with vector instructions, and others one by one.
    while min(image.shape[:2]) >= 2 * SHORT_SIDE:
        rows, columns = image.shape[0] // 2, image.shape[1] // 2
        half = cv2.resize(
            image[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA
        )
        image = np.asarray(half, np.uint8)
    across, down = (
        min(max(SHORT_SIDE, round(side * scale)), LONG_SIDE) for side in (width, height)
    )
    return np.asarray(cv2.resize(image, (across, down)), np.uint8)


def _window(small: Pixels, place: float) -> Pixels:
    """A square of the shrunk page: `place` 0 is its begin along the longer side, 1 its end."""
    height, width = small.shape[:2]
    along = round((max(height, width) - WINDOW) * place)
    across = (min(height, width) - WINDOW) // 2
    top, left = (along, across) if height >= width else (across, along)
    return small[top : top + WINDOW, left : left + WINDOW]
