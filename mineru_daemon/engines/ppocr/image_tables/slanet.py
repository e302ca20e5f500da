"""The network's side: picture of a table -> tensor, its output -> cells without text.

SLANet (PaddleOCR's PP-StructureV2, Li et al. 2022) writes the table's HTML without text
and tells where each cell is. What the cells hold is left to `matching`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

import cv2
import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.image_tables.cells import Cell, Structure
from mineru_daemon.engines.ppocr.imagenet import DEVIATION, MEAN
from mineru_daemon.errors import EngineError

SIDE = 488
"""Side of the network's square input in pixels: the size it was trained at. It knows
places by their position in this square, so smaller or oblong inputs break it."""

END = "eos"


def tokens(metadata: dict[str, str]) -> list[str]:
    """The network's vocabulary by class number; the last class ends a table.

    The list is in the model's metadata, one piece of HTML a line. Class 0 begins a
    table, and a plain cell is one piece, `<td></td>`.
    """
    listed = metadata.get("character")
    if not listed:
        raise EngineError("The table model carries no list of its tokens.")
    pieces = [piece for piece in listed.splitlines() if piece != "<td>"]
    if "<td></td>" not in pieces:
        pieces.append("<td></td>")
    return ["sos", *pieces, END]


def prepared(crop: Pixels) -> npt.NDArray[np.float32]:
    """The network's input (1, 3, 488, 488) for an RGB crop: BGR, at the top left, zero around."""
    height, width = crop.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    resized = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_LINEAR), np.float32)
    batch = np.zeros((1, 3, SIDE, SIDE), np.float32)
    normal = (resized[:, :, ::-1] / 255 - MEAN) / DEVIATION
    batch[0, :, : size[1], : size[0]] = normal.transpose(2, 0, 1)
    return batch


def decoded(
    places: npt.NDArray[np.float32],
    chances: npt.NDArray[np.float32],
    vocabulary: Sequence[str],
    side: float,
) -> Structure:
    """The network's output as a grid of cells.

    `places` (steps, 8) are the corners of the cell that a step begins, as fractions of
    the square; `chances` (steps, classes) tell the steps' tokens; `side` is the longer
    side of the crop in pixels, which fills the square.
    """
    best = chances.argmax(axis=1)
    scores: list[float] = []
    cells: list[tuple[int, dict[str, int], Box]] = []
    row = -1
    for step, number in enumerate(best):
        word = vocabulary[number]
        if word == END:
            break
        scores.append(float(chances[step, number]))
        if word == "<tr>":
            row += 1
        elif word in ("<td", "<td></td>", "<td>"):
            across, down = places[step, 0::2] * side, places[step, 1::2] * side
            box = (across.min(), down.min(), across.max(), down.max())
            cells.append((max(row, 0), {}, boxes.plain(box)))
        elif cells and (span := re.fullmatch(r'\s*(row|col)span="(\d+)"', word)):
            cells[-1][1][span[1]] = int(span[2])
    return Structure(
        list(
            _placed(
                (row, spans.get("row", 1), spans.get("col", 1), box) for row, spans, box in cells
            )
        ),
        fmean(scores) if scores else 0.0,
    )


def _placed(cells: Iterable[tuple[int, int, int, Box]]) -> Iterator[Cell]:
    """Cells (row, row span, column span, box) in HTML's order with their columns."""
    taken: set[tuple[int, int]] = set()
    row, column = -1, 0
    for number, down, across, box in cells:
        if number != row:
            row, column = number, 0
        while (row, column) in taken:
            column += 1
        taken |= {(row + i, column + j) for i in range(down) for j in range(across)}
        yield Cell(row, column, down, across, box)
        column += across
