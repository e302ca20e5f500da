"""Text gets into the cell it belongs to, and misread structures are mended."""

from __future__ import annotations

import re

import numpy as np
from table_building import ROW, grid, line, lines_of, texts

from mineru_daemon.engines.ppocr.image_tables.cells import Cell, Structure
from mineru_daemon.engines.ppocr.image_tables.matching import filled


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
