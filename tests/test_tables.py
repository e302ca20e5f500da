"""Tables that the tests draw themselves, and grids without a picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mineru_daemon import cpu, weights
from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.engines.ppocr.tables import (
    Box,
    Cell,
    Structure,
    TableReader,
    completed,
    decoded,
    filled,
    parted,
    to_html,
)

PRICES = [["Fruit", "Price", "Stock"], ["Apple", "1.20", "15"], ["Pear", "2.40", "7"]]
COLUMN, ROW = 200, 60


def line(text: str, x: float, y: float, width: float | None = None) -> TextLine:
    right, bottom = x + (width or 12 * len(text)), y + 24
    return TextLine(((x, y), (right, y), (right, bottom), (x, bottom)), text, 0.99)


def lines_of(rows: Sequence[Sequence[str]], left: float = 0, top: float = 0) -> list[TextLine]:
    return [
        line(text, left + column * COLUMN + 20, top + row * ROW + 18)
        for row, texts in enumerate(rows)
        for column, text in enumerate(texts)
        if text
    ]


def grid(rows: int, columns: int) -> list[Cell]:
    return [
        Cell(
            row, column, 1, 1, (column * COLUMN, row * ROW, (column + 1) * COLUMN, (row + 1) * ROW)
        )
        for row in range(rows)
        for column in range(columns)
    ]


def drawn(rows: Sequence[Sequence[str]], left: int = 0, top: int = 0) -> Pixels:
    across, down = COLUMN * len(rows[0]), ROW * len(rows)
    image = Image.new("RGB", (left + across + 2, top + down + 2), "white")
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=24)
    for row, texts in enumerate(rows):
        for column, text in enumerate(texts):
            x, y = left + column * COLUMN, top + row * ROW
            pen.rectangle((x, y, x + COLUMN, y + ROW), outline="black", width=2)
            pen.text((x + 20, y + 16), text, fill="black", font=font)
    return np.array(image)


def texts(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]


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


def test_no_text_is_lost_however_the_lines_lie() -> None:
    random = np.random.default_rng(7)
    lines = [
        line(f"word{number}", float(x), float(y), float(width))
        for number, (x, y, width) in enumerate(
            random.uniform([-200, -200, 20], [900, 900, 500], (60, 3))
        )
    ]
    for cells in (grid(3, 3), grid(1, 1), []):
        html = filled(Structure(cells, 1.0), lines).html
        assert sorted(re.findall(r"word\d+", html)) == sorted(one.text for one in lines)


def test_text_outside_of_all_cells_goes_to_the_nearest() -> None:
    reading = filled(Structure(grid(2, 2), 1.0), [line("far", 420, 70)])
    assert texts(reading.html) == [["", ""], ["", "far"]]


def test_a_cell_of_two_lines_reads_from_top_to_bottom() -> None:
    lines = [line("below", 20, 34), line("above", 20, 4)]
    assert texts(filled(Structure(grid(1, 2), 1.0), lines).html) == [["above below", ""]]


def test_chinese_lines_of_a_cell_are_joined_without_a_space() -> None:
    lines = [line("营业", 20, 4), line("收入", 20, 34)]
    assert texts(filled(Structure(grid(1, 1), 1.0), lines).html) == [["营业收入"]]


def test_a_line_through_two_cells_is_cut_at_its_space() -> None:
    lines = [line("1,250 3,400", 20, 18, width=360)]
    assert texts(filled(Structure(grid(1, 2), 1.0), lines).html) == [["1,250", "3,400"]]


def test_a_line_without_a_space_is_cut_at_its_widest_gap() -> None:
    corners = ((0.0, 0.0), (400.0, 0.0), (400.0, 20.0), (0.0, 20.0))
    measured = TextLine(corners, "1234", 0.9, (0.1, 0.2, 0.8, 0.9))
    assert [piece.text for piece in parted(measured, [150.0])] == ["12", "34"]


def test_a_word_is_not_cut_where_its_letters_are_unknown() -> None:
    assert [piece.text for piece in parted(line("Unbreakable", 0, 0), [60.0])] == ["Unbreakable"]


def test_columns_that_the_network_put_together_are_parted_by_the_lines() -> None:
    rows = [[f"{row}{column}" for column in range(4)] for row in range(8)]
    merged = [
        Cell(row, column, 1, 1, (column * 400, row * ROW, column * 400 + 400, row * ROW + ROW))
        for row in range(8)
        for column in range(2)
    ]
    assert texts(filled(Structure(merged, 0.9), lines_of(rows)).html) == rows


def test_rows_that_the_network_ran_out_of_are_added_by_the_lines() -> None:
    rows = [[f"{row}-{column}" for column in range(4)] for row in range(30)]
    short = grid(10, 4)
    assert texts(filled(Structure(short, 0.9), lines_of(rows)).html) == rows


def test_single_words_are_joined_to_runs_before_columns_are_sought() -> None:
    words = [
        line(word, x, row * ROW + 10, 60)
        for row in range(8)
        for word, x in (("two", 0), ("words", 68), ("one", 300), ("more", 368))
    ]
    one_cell = [Cell(row, 0, 1, 1, (0, row * ROW, 500, row * ROW + ROW)) for row in range(8)]
    reading = filled(Structure(one_cell, 0.9), words, words=True)
    assert texts(reading.html) == [["two words", "one more"]] * 8


def test_text_cannot_break_out_of_its_cell() -> None:
    reading = filled(Structure(grid(1, 1), 1.0), [line("</td><script>a & b", 10, 10)])
    assert reading.html == ("<table><tr><td>&lt;/td&gt;&lt;script&gt;a &amp; b</td></tr></table>")


def test_spans_of_the_network_become_attributes_and_push_later_cells_aside() -> None:
    vocabulary = ["sos", "<tr>", "</tr>", "<td", ">", "</td>", ' rowspan="2"', "<td></td>", "eos"]
    written = [1, 3, 6, 4, 5, 7, 2, 1, 7, 2, 8, 7]
    chances = np.zeros((len(written), len(vocabulary)), np.float32)
    chances[range(len(written)), written] = 0.75
    structure = decoded(np.full((len(written), 8), 0.5, np.float32), chances, vocabulary, 100.0)
    assert [(cell.row, cell.column, cell.row_span) for cell in structure.cells] == [
        (0, 0, 2),
        (0, 1, 1),
        (1, 1, 1),
    ]
    assert structure.score == pytest.approx(0.75)
    assert '<td rowspan="2"></td>' in to_html(structure.cells)


def looking(text: str, score: float) -> Callable[[Box], tuple[str, float]]:
    return lambda box: (text, score)


def test_a_mark_in_an_empty_cell_is_looked_at_once_more() -> None:
    rows = [["Fruit", "Count"], ["Apple", "5"]]
    lines = [one for one in lines_of(rows) if one.text != "5"]
    reading = filled(Structure(grid(2, 2), 1.0), lines)
    image = drawn(rows)
    assert texts(completed(reading, image, lines, looking("5", 0.99)).html) == rows
    assert texts(completed(reading, image, lines, looking("5", 0.3)).html)[1] == ["Apple", ""]


def test_a_dash_needs_no_reading_and_an_empty_cell_stays_empty() -> None:
    rows = [["Fruit", "Count"], ["Apple", "-"], ["Pear", ""]]

    def never(box: Box) -> tuple[str, float]:
        raise AssertionError(box)

    lines = [one for one in lines_of(rows) if one.text != "-"]
    reading = filled(Structure(grid(3, 2), 1.0), lines)
    html = completed(reading, drawn(rows), lines, never).html
    assert texts(html)[1][1] in ("-", "–")
    assert texts(html)[2] == ["Pear", ""]
