"""Cells become HTML, whatever stands in them."""

from __future__ import annotations

from table_building import grid, line

from mineru_daemon.engines.ppocr.image_tables.cells import Structure
from mineru_daemon.engines.ppocr.image_tables.matching import filled


def test_text_cannot_break_out_of_its_cell() -> None:
    reading = filled(Structure(grid(1, 1), 1.0), [line("</td><script>a & b", 10, 10)])
    assert reading.html == ("<table><tr><td>&lt;/td&gt;&lt;script&gt;a &amp; b</td></tr></table>")
