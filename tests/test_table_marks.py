"""What detection missed in a table is found by a second look."""

from __future__ import annotations

from collections.abc import Callable

from table_building import drawn, grid, lines_of, texts

from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.image_tables.cells import Structure
from mineru_daemon.engines.ppocr.image_tables.marks import completed
from mineru_daemon.engines.ppocr.image_tables.matching import filled


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
