"""Reads one table of a page: runs the network and joins what it says with the lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.image_tables.cells import Structure, TableReading
from mineru_daemon.engines.ppocr.image_tables.marks import Look, completed
from mineru_daemon.engines.ppocr.image_tables.matching import filled
from mineru_daemon.engines.ppocr.image_tables.slanet import decoded, prepared, tokens
from mineru_daemon.engines.ppocr.lines import TextLine


class TableReader:
    """Reads tables."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._input = session.inputs[0]
        self._tokens = tokens(session.metadata)

    def read(
        self,
        image: Pixels,
        box: Box,
        lines: Sequence[TextLine],
        before_run: Callable[[], None] = lambda: None,
        look: Look | None = None,
        *,
        words: bool = False,
    ) -> TableReading:
        """The table inside `box` of an upright RGB page (H, W, 3).

        `lines` are what is to stand in it, corners in pixels of the page; every one of
        them ends up in a cell. `words` tells that each is a single word, as text layers
        give them. `before_run` precedes the model.
        With `look`, cells that are empty but inked are read once more (single
        characters and dashes are what detection misses); leave it out where `lines`
        come from a text layer.
        """
        height, width = image.shape[:2]
        left, top = max(0, int(box[0])), max(0, int(box[1]))
        right, bottom = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
        if right - left < 2 or bottom - top < 2:
            return filled(Structure([], 0.0), lines, words=words)
        before_run()
        crop = image[top:bottom, left:right]
        reading = filled(_moved(self.structure(crop), left, top), lines, words=words)
        if look is None:
            return reading
        return completed(reading, image, lines, look)

    def structure(self, crop: Pixels) -> Structure:
        """Cells of the table that fills an RGB crop (h, w, 3), boxes in pixels of the crop."""
        places, chances = self._session.run({self._input: prepared(crop)})
        return decoded(places[0], chances[0], self._tokens, float(max(crop.shape[:2])))


def _moved(structure: Structure, left: float, top: float) -> Structure:
    """Boxes from pixels of a crop to pixels of the page."""
    moved = [replace(cell, box=boxes.shifted(cell.box, left, top)) for cell in structure.cells]
    return replace(structure, cells=moved)
