"""What detection missed: single characters and dashes in cells that seem empty.

Dashes are told by their form; anything else is read by the caller's `Look`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

import cv2
import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.image_tables.cells import TableReading
from mineru_daemon.engines.ppocr.lines import TextLine

LEAST_INK, INK_SHARE = 30.0, 0.17
"""Difference from the paper's grey (0..255) from which on a pixel is inked, and the same
as a share of the darkest ink's: thin dashes of a small picture are pale."""

DASH_FLATNESS = 2.5
"""Width over height from which on a small mark is a dash."""

SURE_SCORE = 0.85
"""Confidence from which on text found in a cell that detection left empty is believed."""

Look = Callable[[Box], tuple[str, float]]
"""Reads what stands in an upright box (pixels of the page): text and confidence, 0..1."""


def completed(
    reading: TableReading, image: Pixels, lines: Sequence[TextLine], look: Look
) -> TableReading:
    """The table with what detection missed: marks in empty cells, looked at one by one."""
    read = [boxes.around(line.corners) for line in lines]
    if not read or all(cell.text for cell in reading.cells):
        return reading
    height = median(bottom - top for _, top, _, bottom in read)
    left, top, right, bottom = boxes.union([*read, *(cell.box for cell in reading.cells)])
    left, top = max(0, int(left)), max(0, int(top))
    grey = cv2.cvtColor(
        image[top : int(np.ceil(bottom)) + 1, left : int(np.ceil(right)) + 1], cv2.COLOR_RGB2GRAY
    )
    apart = np.abs(grey.astype(np.float32) - float(np.median(grey)))
    least = max(LEAST_INK, INK_SHARE * float(np.percentile(apart, 99)))
    known = np.zeros(grey.shape, bool)
    for x0, y0, x1, y1 in read:
        across = slice(max(0, int(x0) - left), int(np.ceil(x1)) - left)
        known[max(0, int(y0) - top) : int(np.ceil(y1)) - top, across] = True
    cells = []
    for cell in reading.cells:
        text = cell.text
        if not text:
            x0, y0 = max(0, int(cell.box[0]) - left), max(0, int(cell.box[1]) - top)
            x1, y1 = int(np.ceil(cell.box[2])) - left, int(np.ceil(cell.box[3])) - top
            part = np.asarray(grey[y0:y1, x0:x1], np.float32)
            if min(part.shape) >= 3:
                # Cells may be shaded: each has its own paper.
                ink = (np.abs(part - np.median(part)) > least) & ~known[y0:y1, x0:x1]
                mark = _mark(ink.astype(np.uint8), height)
                if mark is not None:
                    text = _read_mark(boxes.shifted(mark, x0 + left, y0 + top), height, look)
        cells.append(replace(cell, text=text))
    return replace(reading, cells=cells)


def _mark(ink: npt.NDArray[np.uint8], height: float) -> Box | None:
    """Bounds of what is written inside a cell, in pixels of it; rules and specks do not count.

    `ink` (h, w) is 1 where the cell is inked outside of known text; `height` is that of
    a line of the table.
    """
    rows, columns = ink.shape
    _, _, found, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    marks = [
        (float(x), float(y), float(x + w), float(y + h))
        for x, y, w, h, area in found[1:].tolist()
        if area >= max(2.0, 0.001 * height**2)
        # What goes on beyond the cell is a rule or a neighbour's letter.
        and x > 0
        and y > 0
        and x + w < columns
        and y + h < rows
        and w < 3 * height
        and h < 1.2 * height
    ]
    if not marks:
        return None
    return boxes.union(marks)


def _read_mark(mark: Box, height: float, look: Look) -> str:
    x0, y0, x1, y1 = mark
    across, down = x1 - x0, y1 - y0
    if (
        0.2 * height <= across
        and across >= DASH_FLATNESS * down
        and down <= 0.25 * height
        and across <= 1.5 * height
    ):
        return "-" if across < 0.35 * height else "–"
    middle, half = (y0 + y1) / 2, max(down + 0.3 * height, height) / 2
    text, score = look((x0 - 0.25 * height, middle - half, x1 + 0.25 * height, middle + half))
    return text.strip() if score >= SURE_SCORE else ""
