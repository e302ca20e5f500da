"""The engine `ppocr`: decides what is done with a page, and in which order.

A page with a text layer that can be trusted is not drawn at all (`digital`). Any other is
drawn, set upright, its lines found and read, its regions found, and all of it joined to
blocks. What the stages do is in their own modules.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mineru_daemon import cpu, weights
from mineru_daemon.documents import Page, TextPage
from mineru_daemon.engines.base import PageReading, Progress, size_warning
from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr import (
    block_lines,
    boxes,
    captions,
    digital,
    drop_caps,
    line_reader,
    lists,
    orientation,
    recognition,
    region_lines,
    skew,
    structure,
)
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.digital import Digital
from mineru_daemon.engines.ppocr.image_tables import TableReader, drawn
from mineru_daemon.engines.ppocr.layout import Layout
from mineru_daemon.engines.ppocr.line_reader import Found, LineReader, Recognisers
from mineru_daemon.engines.ppocr.lines import TextLine, confidence
from mineru_daemon.engines.ppocr.orientation import Orientation
from mineru_daemon.engines.ppocr.textlayer import PdfMode
from mineru_daemon.engines.timing import Timings, timed
from mineru_daemon.results import Angle, Block, EngineInfo

MAX_IMAGE_SIZE = 0
MIN_IMAGE_SIZE = 400

SMALL_IMAGE = 640
"""Pixels of the longest side below which an image is enlarged before it is read."""

ENLARGEMENT = 2
"""Times. Cropped tables of 250 to 500 pixels gained .03 TEDS at twice their size and no
more at three times."""

MODELS: dict[Recognisers, str] = {
    "cascade": "PP-OCRv6 tiny and small",
    "small": "PP-OCRv6 small",
    "tiny": "PP-OCRv6 tiny",
}
"""What is said of the networks in a result."""


class PPOCREngine:
    """Reads pages with PP-OCRv6 and models of layout, tables and orientation.

    One engine serves one thread.
    """

    def __init__(
        self,
        plan: cpu.ThreadPlan,
        *,
        max_image_size: int = MAX_IMAGE_SIZE,
        min_image_size: int = MIN_IMAGE_SIZE,
        detection_pixels: int = line_reader.DETECTION_PIXELS,
        min_text_score: float = line_reader.MIN_TEXT_SCORE,
        recogniser: Recognisers = "cascade",
        pdf_mode: PdfMode = "auto",
        recognition_model: Path | None = None,
        graphs_in: Path | None = None,
        reason: str | None = None,
    ) -> None:
        """Load the models. Sizes are longest sides in pixels.

        A page larger than `max_image_size` (0: no bound) is read smaller, one smaller
        than `min_image_size` is read with a warning. `recogniser` tells what reads lines,
        `recognition_model` is the folder of a model that does it instead, `pdf_mode` tells
        whether the text layer of a PDF is used, `graphs_in` is where optimised graphs of the
        shipped models are kept, `reason` tells why this engine was chosen. Raises `EngineError`
        if weights are missing or cannot be loaded.
        """
        # OpenCV has a pool of its own, and its work here is too small for threads.
        cv2.setNumThreads(1)
        self._lines = LineReader(
            plan,
            detection_pixels=detection_pixels,
            min_text_score=min_text_score,
            recogniser=recogniser,
            recognition_model=recognition_model,
            graphs_in=graphs_in,
        )
        self._sessions = [
            Session(weights.locate(name), plan, kept_in=graphs_in)
            for name in (weights.ORIENTATION, weights.LAYOUT, weights.TABLE)
        ]
        self._orientation = Orientation(self._sessions[0])
        self._layout = Layout(self._sessions[1])
        self._tables = TableReader(self._sessions[2])
        self._max_image_size = max_image_size
        self._min_image_size = min_image_size
        self._pdf_mode: PdfMode = pdf_mode
        self.info = EngineInfo(
            name="ppocr",
            model=f"lines by {recognition_model.name}" if recognition_model else MODELS[recogniser],
            precision="fp32",
            reason=reason,
            settings={
                "max_image_size": max_image_size,
                "min_image_size": min_image_size,
                "detection_pixels": detection_pixels,
                "min_text_score": min_text_score,
                "recogniser": recogniser,
                "pdf_mode": pdf_mode,
                "recognition_model": str(recognition_model or ""),
                "intra_op_num_threads": plan.intra,
                "spin_microseconds": plan.spin_microseconds,
            },
        )

    def warm_up(self) -> None:
        """Run every model once on a small empty image."""
        self._lines.warm_up()
        blank = np.full((64, 64, 3), 255, np.uint8)
        self._orientation.detect(blank)
        self._layout.regions(blank)
        self._tables.structure(blank)

    def close(self) -> None:
        """Give all sessions back."""
        self._lines.close()
        for session in self._sessions:
            session.close()

    def read(self, page: Page, progress: Progress) -> PageReading:
        """Read one page."""
        timings: Timings = defaultdict(float)
        if not isinstance(page, TextPage):
            return self._read_image(page, progress, timings)
        progress("text-layer")
        with timed(timings, "text-layer"):
            told = page.ask(digital.read, self._pdf_mode)
        if told.verdict.source == "ocr":
            reading = self._read_image(page, progress, timings)
        else:
            reading = self._read_layer(page, told, progress, timings)
        reading.origin_reason = told.verdict.reason
        return reading

    # --- a page of pixels ----------------------------------------------------

    def _read_image(self, page: Page, progress: Progress, timings: Timings) -> PageReading:
        with timed(timings, "render"):
            progress("render")
            rendering = page.render(self._max_image_size)
            image = rendering.pixels
        longest = max(image.shape[:2])
        if longest < SMALL_IMAGE:
            with timed(timings, "preprocess"):
                image = enlarged(image, ENLARGEMENT)
        found, angle = self._upright(image, progress, timings)
        with timed(timings, "preprocess"):
            found, leaning = skew.corrected(found)
        lines = self._lines.read(found, progress, timings)
        with timed(timings, "inference.recognition"):
            lines = drop_caps.completed(
                lines, found.image, lambda box: self._lines.read_box(found.image, box, progress)
            )
        height, width = found.image.shape[:2]
        blocks: list[Block] = []
        if lines:
            progress("inference.layout")
            with timed(timings, "inference.layout"):
                regions = (
                    self._layout.regions_of_clipping(found.image)
                    if longest < SMALL_IMAGE
                    else self._layout.regions(found.image)
                )
            with timed(timings, "postprocess"):
                seen = drawn.find(found.image, lines)
                if longest < SMALL_IMAGE:
                    regions = drawn.clipped_table(regions, lines)
                regions = drawn.without_pieces(seen, regions)
                tables = drawn.missed(seen, regions, region_lines.SUREST_TABLE, lines)
                ready = [
                    Block(
                        type="table",
                        bbox=boxes.fractions(table.box, width, height),
                        content=table.html,
                    )
                    for table in tables
                ]
                blocks = structure.to_blocks(lines, regions, width, height, ready=ready)
                blocks = lists.gathered(captions.marked(blocks))
            blocks = [
                self._with_structure(block, lines, found.image, seen, progress, timings)
                if block.type == "table" and block.content is None
                else block
                for block in blocks
            ]
        blocks = [skew.put_back(block, leaning, width, height) for block in blocks]
        width, height = rendering.size if angle % 180 == 0 else rendering.size[::-1]
        return PageReading(
            blocks=blocks,
            width_px=width,
            height_px=height,
            dpi=rendering.dpi,
            rotation=_added(page.rotation, angle),
            confidence=confidence(lines),
            warnings=[*page.warnings, *size_warning(width, height, self._min_image_size)],
            timings=dict(timings),
        )

    def _upright(self, image: Pixels, progress: Progress, timings: Timings) -> tuple[Found, Angle]:
        """The lines of the image when it is set upright, and by which turn it was."""
        with timed(timings, "inference.orientation"):
            turn = self._orientation.detect(image, lambda: progress("inference.orientation"))
        found = self._lines.find(orientation.turned(image, turn.angle), progress, timings)
        if turn.angle == 0:
            return found, 0
        # A turn has to be confirmed by what the lines then say.
        with timed(timings, "inference.orientation"):
            crops = [recognition.crop(found.image, quad) for quad in found.quads]
            leaning = orientation.lean(crops, lambda crop: self._lines.score(crop, progress))
            angle = orientation.upright_after(turn, leaning)
        if angle != turn.angle:
            found = self._lines.find(orientation.turned(image, angle), progress, timings)
        return found, angle

    def _with_structure(
        self,
        block: Block,
        lines: Sequence[TextLine],
        image: Pixels,
        seen: Sequence[drawn.DrawnTable],
        progress: Progress,
        timings: Timings,
    ) -> Block:
        """The table with its content as HTML; `lines` are those of the page, `seen` its tables
        by rules and figures, which may have more of this one than the network tells."""
        height, width = image.shape[:2]
        left, top, right, bottom = block.bbox
        inside = block_lines.lines_of(block, lines, width, height)

        def look(box: Box) -> tuple[str, float]:
            return self._lines.read_box(image, box, progress)

        with timed(timings, "inference.table"):
            table = self._tables.read(
                image,
                (left * width, top * height, right * width, bottom * height),
                inside,
                lambda: progress("inference.table"),
                look,
            )
        box = (left * width, top * height, right * width, bottom * height)
        html = drawn.fuller(seen, box, len(table.cells)) or table.html
        return block.model_copy(update={"content": html, "score": min(table.score, 1.0)})

    # --- a page with a text layer --------------------------------------------

    def _read_layer(
        self, page: TextPage, told: Digital, progress: Progress, timings: Timings
    ) -> PageReading:
        seen: list[TextLine] = []
        width = height = dpi = None
        blocks = told.blocks
        if told.layer is not None:
            with timed(timings, "render"):
                progress("render")
                rendering = page.render(self._max_image_size)
                image = rendering.pixels
            height, width = image.shape[:2]
            dpi = rendering.dpi
            scale = width / told.width
            for box in told.ocr_regions:
                left, top, right, bottom = (round(edge * scale) for edge in box)
                part = image[max(0, top) : bottom, max(0, left) : right]
                if min(part.shape[:2]) == 0:
                    continue
                found = self._lines.find(part, progress, timings)
                offset = (max(0, left), max(0, top))
                seen += [
                    digital.moved(line, offset, 1 / scale)
                    for line in self._lines.read(found, progress, timings)
                ]
            with timed(timings, "postprocess"):
                blocks = page.ask(digital.joined, told.layer, seen)
        return PageReading(
            blocks=blocks,
            width_px=width,
            height_px=height,
            dpi=dpi,
            rotation=page.rotation,
            origin="mixed" if seen else "text-layer",
            confidence=confidence(seen),
            warnings=list(page.warnings),
            timings=dict(timings),
        )


def enlarged(image: Pixels, factor: int) -> Pixels:
    """An RGB image (H, W, 3) with `factor` times its sides."""
    height, width = image.shape[:2]
    size = (width * factor, height * factor)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _added(first: Angle, second: Angle) -> Angle:
    angles: dict[int, Angle] = {0: 0, 90: 90, 180: 180, 270: 270}
    return angles[(first + second) % 360]
