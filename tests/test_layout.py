"""Regions from the network's raw output, and from the network itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from mineru_daemon import cpu, weights
from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr import layout
from mineru_daemon.engines.ppocr.layout import HEIGHT, STRIDES, TYPES, WIDTH
from mineru_daemon.engines.ppocr.regions import Region

Floats = npt.NDArray[np.float32]


class Heads:
    """Raw output of the network in which nothing is found, until told otherwise."""

    def __init__(self) -> None:
        cells = [-(-WIDTH // stride) * -(-HEIGHT // stride) for stride in STRIDES]
        self.scores = [np.zeros((count, len(TYPES)), np.float32) for count in cells]
        self.distances = [np.zeros((count, 32), np.float32) for count in cells]

    def find(
        self, kind: str, column: int, row: int, steps: tuple[int, ...], score: float, head: int = 1
    ) -> None:
        """A box around a cell, its edges so many strides away."""
        cell = row * -(-WIDTH // STRIDES[head]) + column
        self.scores[head][cell, TYPES.index(kind)] = score
        self.distances[head][cell] = -50.0
        for edge, step in enumerate(steps):
            self.distances[head][cell, edge * 8 + step] = 50.0

    def regions(self, width: int = WIDTH, height: int = HEIGHT) -> list[Region]:
        return layout.decoded(self.scores, self.distances, width, height)


def test_a_box_lies_around_its_cell_at_the_distances_of_its_edges() -> None:
    heads = Heads()
    heads.find("table", 10, 20, (2, 1, 4, 3), 0.9)
    (region,) = heads.regions()
    middle_x, middle_y = 10.5 * 16, 20.5 * 16
    assert region.type == "table"
    assert region.score == pytest.approx(0.9)
    assert region.box == pytest.approx(
        (middle_x - 32, middle_y - 16, middle_x + 64, middle_y + 48), abs=0.01
    )


def test_boxes_are_in_pixels_of_the_page_whatever_its_shape() -> None:
    heads = Heads()
    heads.find("text", 10, 20, (2, 2, 2, 2), 0.9)
    (small,) = heads.regions()
    (large,) = heads.regions(WIDTH * 2, HEIGHT * 3)
    scale = (2, 3, 2, 3)
    assert large.box == pytest.approx(
        [edge * by for edge, by in zip(small.box, scale, strict=True)]
    )


def test_a_page_without_anything_has_no_regions() -> None:
    assert Heads().regions() == []


def test_what_the_network_doubts_is_left_out() -> None:
    heads = Heads()
    heads.find("text", 10, 20, (2, 2, 2, 2), layout.THRESHOLD - 0.01)
    assert heads.regions() == []


def test_of_two_boxes_around_one_thing_the_surer_is_kept() -> None:
    heads = Heads()
    heads.find("text", 10, 20, (4, 4, 4, 4), 0.6)
    heads.find("text", 11, 20, (5, 4, 3, 4), 0.8)
    heads.find("title", 10, 21, (4, 5, 4, 3), 0.7)
    (region,) = heads.regions()
    assert region.type == "text"
    assert region.score == pytest.approx(0.8)


def test_things_beside_each_other_are_all_kept_the_surest_first() -> None:
    heads = Heads()
    heads.find("text", 5, 20, (3, 3, 3, 3), 0.6)
    heads.find("image", 20, 20, (3, 3, 3, 3), 0.8)
    assert [region.type for region in heads.regions()] == ["image", "text"]


def test_boxes_end_at_the_edges_of_the_page() -> None:
    heads = Heads()
    heads.find("header", 0, 0, (7, 7, 7, 7), 0.9)
    (region,) = heads.regions()
    assert region.box[:2] == (0, 0)


def test_the_network_sees_paragraphs_on_a_drawn_page() -> None:
    page = np.full((1600, 1216, 3), 255, np.uint8)
    for top in (200, 900):
        for line in range(12):
            for word in range(9):
                left = 150 + word * 100
                page[top + line * 40 : top + line * 40 + 18, left : left + 80] = 40
    session = Session(weights.locate(weights.LAYOUT), cpu.granted_threads(1, 1))
    regions = layout.Layout(session).regions(page)
    session.close()
    assert regions
    for region in regions:
        assert 0 <= region.box[0] < region.box[2] <= 1216
        assert 0 <= region.box[1] < region.box[3] <= 1600


def test_a_clipping_is_put_on_a_sheet_of_its_own_paper() -> None:
    clipping = np.full((40, 200, 3), 230, np.uint8)
    clipping[10:20, 50:60] = 0
    sheet, left, top = layout.framed(clipping)
    height, width = sheet.shape[:2]
    assert height >= width > 200
    assert (sheet[top : top + 40, left : left + 200] == clipping).all()
    assert (sheet[0] == 230).all()
    assert (sheet[-1] == 230).all()
