"""Tables on images are read cell by cell, and no text of theirs is lost."""

from __future__ import annotations

import pytest
from table_building import COLUMN, PRICES, ROW, drawn, line, lines_of, texts

from mineru_daemon import cpu, weights
from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.image_tables import TableReader


@pytest.fixture(scope="module")
def reader() -> TableReader:
    return TableReader(Session(weights.locate(weights.TABLE), cpu.plan_threads(1)))


def test_a_ruled_table_is_read_cell_by_cell(reader: TableReader) -> None:
    image = drawn(PRICES)
    reading = reader.read(image, (0, 0, image.shape[1], image.shape[0]), lines_of(PRICES))
    assert texts(reading.html) == PRICES
    assert 0.5 < reading.score <= 1


def test_a_table_in_the_middle_of_a_page_has_cells_in_pixels_of_the_page(
    reader: TableReader,
) -> None:
    image = drawn(PRICES, left=300, top=200)
    box: Box = (300, 200, image.shape[1], image.shape[0])
    reading = reader.read(image, box, lines_of(PRICES, 300, 200))
    assert texts(reading.html) == PRICES
    apple = next(cell for cell in reading.cells if cell.text == "Apple")
    assert 300 <= apple.box[0] < apple.box[2] <= 300 + COLUMN + 20
    assert 200 + ROW - 20 <= apple.box[1] < apple.box[3] <= 200 + 2 * ROW + 20


def test_a_box_without_area_still_keeps_its_text(reader: TableReader) -> None:
    image = drawn(PRICES)
    assert "Apple" in reader.read(image, (10, 10, 10, 10), [line("Apple", 10, 10)]).html


def test_the_model_is_not_run_before_the_caller_is_told(reader: TableReader) -> None:
    told: list[str] = []
    image = drawn(PRICES)
    reader.read(image, (0, 0, 600, 180), lines_of(PRICES), lambda: told.append("table"))
    assert told == ["table"]
