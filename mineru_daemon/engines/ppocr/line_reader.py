"""Where lines are on an image, and what they say: detection and recognition in turn.

The networks and what belongs to each are in `detection` and `recognition`; what becomes
of the lines is decided by `engine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from mineru_daemon import cpu, weights
from mineru_daemon.engines.base import Progress
from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr import cascade, detection, recognition
from mineru_daemon.engines.ppocr import recognition_model as recognition_models
from mineru_daemon.engines.ppocr.detection import Pixels, Quads
from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.engines.timing import Timings, timed

DETECTION_PIXELS = 960 * 704
MIN_TEXT_SCORE = 0.5

Recognisers = Literal["cascade", "small", "tiny"]
"""What reads lines: PP-OCRv6 small, tiny, or (cascade) tiny all lines and small what tiny is
unsure of."""


class Found(NamedTuple):
    """Where lines are on an image: corners (n, 4, 2) in pixels, and the image itself."""

    image: Pixels
    quads: Quads


class LineReader:
    """Finds and reads lines of text on RGB images (H, W, 3)."""

    def __init__(
        self,
        plan: cpu.ThreadPlan,
        *,
        detection_pixels: int = DETECTION_PIXELS,
        min_text_score: float = MIN_TEXT_SCORE,
        recogniser: Recognisers = "cascade",
        recognition_model: Path | None = None,
        graphs_in: Path | None = None,
    ) -> None:
        """Load the networks; `recognition_model` is the folder of one that reads all lines,
        `graphs_in` where optimised graphs of the shipped ones are kept.

        Lines are searched for on `detection_pixels` (width times height) and dropped if
        their score is below `min_text_score`. Raises `EngineError`.
        """
        detector = Session(weights.locate(weights.DETECTION), plan, kept_in=graphs_in)
        self._detector = detection.Detector(detector, detection_pixels)
        if recognition_model:
            models = [recognition_models.of_folder(recognition_model, plan)]
        else:
            models = [
                recognition_models.shipped(plan, size, graphs_in=graphs_in)
                for size in recognition_models.SIZES
                if recogniser in (size, "cascade")
            ]
        self._sessions = [detector, *(model.session for model in models)]
        self._recognisers = [
            recognition.Recogniser(
                model.session, model.characters, spaces_by_ink=model.spaces_by_ink
            )
            for model in models
        ]
        # Single marks, and lines that tell up from down, are few: the best network reads them.
        self._best = self._recognisers[-1]
        self._min_text_score = min_text_score

    def warm_up(self) -> None:
        """Run every network once on a small empty image."""
        page = np.zeros((detection.STRIDE, detection.STRIDE, 3), np.uint8)
        self._detector.probabilities(self._detector.prepare(page))
        line = np.zeros((recognition.CROP_HEIGHT, recognition.NARROWEST, 3), np.uint8)
        for one in self._recognisers:
            one.read(line, lambda: None)

    def close(self) -> None:
        """Give all sessions back."""
        for session in self._sessions:
            session.close()

    def find(self, image: Pixels, progress: Progress, timings: Timings) -> Found:
        """Where the lines of an image are."""
        with timed(timings, "preprocess"):
            prepared = self._detector.prepare(image)
        progress("inference.detection")
        with timed(timings, "inference.detection"):
            probabilities = self._detector.probabilities(prepared)
        with timed(timings, "postprocess"):
            return Found(image, detection.quads(probabilities, image.shape[1], image.shape[0]))

    def read(self, found: Found, progress: Progress, timings: Timings) -> list[TextLine]:
        """What they say; without those that are no text."""
        lines = []
        reader = self._page_reader()
        for quad in found.quads:
            with timed(timings, "preprocess"):
                crop = recognition.crop(found.image, quad)
            with timed(timings, "inference.recognition"):
                reading = reader.read(crop, lambda: progress("inference.recognition"))
            if reading.text.strip() and reading.score >= self._min_text_score:
                corners = tuple((float(x), float(y)) for x, y in quad)
                lines.append(
                    TextLine(corners, reading.text, reading.score, reading.places, reading.scores)
                )
        return lines

    def _page_reader(self) -> recognition.Recogniser | cascade.Cascade:
        for one in self._recognisers:
            one.begin_page()
        if len(self._recognisers) == 1:
            return self._best
        quick, thorough = self._recognisers
        return cascade.Cascade(quick, thorough)

    def read_box(
        self, image: Pixels, box: Sequence[float], progress: Progress
    ) -> tuple[str, float]:
        """Text and score of what stands in an upright box (pixels), taken as one line."""
        left, top, right, bottom = box
        corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
        crop = recognition.crop(image, np.array(corners, np.float32))
        reading = self._best.read(crop, lambda: progress("inference.recognition"))
        return reading.text, reading.score

    def score(self, crop: Pixels, progress: Progress) -> float:
        """How sure the recogniser is of a line (48, w, 3); 0 where it reads nothing."""
        reading = self._best.read(crop, lambda: progress("inference.orientation"))
        return reading.score if reading.text.strip() else 0.0
