"""The engine `ppocr`: page -> detection -> recognition -> blocks, with its timings.

What the stages do is in their own modules; this one runs them and reports progress.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from mineru_daemon import cpu
from mineru_daemon.documents import Page
from mineru_daemon.engines.base import PageReading, Progress
from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr import detection, lines, models, recognition
from mineru_daemon.results import EngineInfo

MAX_IMAGE_SIZE = 0
MIN_IMAGE_SIZE = 400
DETECTION_PIXELS = 960 * 704
MIN_TEXT_SCORE = 0.5


class PPOCREngine:
    """Reads pages with PP-OCRv6 small. One engine serves one thread."""

    def __init__(
        self,
        plan: cpu.ThreadPlan,
        *,
        max_image_size: int = MAX_IMAGE_SIZE,
        min_image_size: int = MIN_IMAGE_SIZE,
        detection_pixels: int = DETECTION_PIXELS,
        min_text_score: float = MIN_TEXT_SCORE,
        spinning: bool = False,
        weights: models.Weights | None = None,
    ) -> None:
        """Load the models. Sizes are longest sides in pixels.

        A page larger than `max_image_size` (0: no bound) is read smaller, one smaller
        than `min_image_size` is read with a warning. Lines are searched for on
        `detection_pixels` (width times height) and dropped if their score is below
        `min_text_score`.
        Raises `EngineError` if the weights are missing or cannot be loaded.
        """
        weights = weights or models.locate()
        # OpenCV has a pool of its own, and its work here is too small for threads.
        cv2.setNumThreads(1)
        self._detection = Session(weights.detection, plan, spinning=spinning)
        self._recognition = Session(weights.recognition, plan, spinning=spinning)
        self._detector = detection.Detector(self._detection, detection_pixels)
        self._recogniser = recognition.Recogniser(self._recognition)
        self._max_image_size = max_image_size
        self._min_image_size = min_image_size
        self._min_text_score = min_text_score
        self._info = EngineInfo(
            name="ppocr",
            model="PP-OCRv6 small",
            precision="fp32",
            settings={
                "max_image_size": max_image_size,
                "min_image_size": min_image_size,
                "detection_pixels": detection_pixels,
                "min_text_score": min_text_score,
                "intra_op_num_threads": plan.intra,
                "spinning": spinning,
            },
        )

    @property
    def info(self) -> EngineInfo:
        """Name, model, precision and effective settings."""
        return self._info

    def warm_up(self) -> None:
        """Run both models once on a small empty image."""
        page = np.zeros((detection.STRIDE, detection.STRIDE, 3), np.uint8)
        self._detector.probabilities(self._detector.prepare(page))
        line = np.zeros((recognition.CROP_HEIGHT, recognition.NARROWEST, 3), np.uint8)
        self._recogniser.read(line)

    def read(self, page: Page, progress: Progress) -> PageReading:
        """Read one page."""
        timings: defaultdict[str, float] = defaultdict(float)
        with _timed(timings, "render"):
            progress("render")
            rendering = page.render(self._max_image_size)
            width, height = rendering.image.size
            image = np.asarray(rendering.image)
        found = self._lines(image, progress, timings)
        with _timed(timings, "postprocess"):
            blocks = lines.to_blocks(found, width, height)
        return PageReading(
            blocks=blocks,
            width_px=width,
            height_px=height,
            dpi=rendering.dpi,
            rotation=page.rotation,
            warnings=[*page.warnings, *self._size_warning(width, height)],
            timings=dict(timings),
        )

    def close(self) -> None:
        """Give both sessions back."""
        self._detection.close()
        self._recognition.close()

    def _lines(
        self, image: detection.Pixels, progress: Progress, timings: defaultdict[str, float]
    ) -> list[lines.TextLine]:
        with _timed(timings, "preprocess"):
            prepared = self._detector.prepare(image)
        progress("inference.detection")
        with _timed(timings, "inference.detection"):
            probabilities = self._detector.probabilities(prepared)
        with _timed(timings, "postprocess"):
            quads = detection.quads(probabilities, image.shape[1], image.shape[0])
        found = []
        for quad in quads:
            with _timed(timings, "preprocess"):
                crop = recognition.crop(image, quad)
            progress("inference.recognition")
            with _timed(timings, "inference.recognition"):
                reading = self._recogniser.read(crop)
            if reading.text.strip() and reading.score >= self._min_text_score:
                corners = tuple((float(x), float(y)) for x, y in quad)
                found.append(lines.TextLine(corners, reading.text, reading.score))
        return found

    def _size_warning(self, width: int, height: int) -> list[str]:
        if max(width, height) >= self._min_image_size:
            return []
        return [
            f"The page is only {width} x {height} pixels: text may be missing or misread below "
            f"{self._min_image_size} pixels on the longer side."
        ]


@contextmanager
def _timed(timings: defaultdict[str, float], stage: str) -> Iterator[None]:
    """Add the wall seconds spent inside to `timings[stage]`."""
    begin = time.perf_counter()
    try:
        yield
    finally:
        timings[stage] += time.perf_counter() - begin
