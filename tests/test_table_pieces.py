"""Lines are cut where cells part them."""

from __future__ import annotations

from table_building import line

from mineru_daemon.engines.ppocr.image_tables.pieces import parted
from mineru_daemon.engines.ppocr.lines import TextLine


def test_a_line_without_a_space_is_cut_at_its_widest_gap() -> None:
    corners = ((0.0, 0.0), (400.0, 0.0), (400.0, 20.0), (0.0, 20.0))
    measured = TextLine(corners, "1234", 0.9, (0.1, 0.2, 0.8, 0.9))
    assert [piece.text for piece in parted(measured, [150.0])] == ["12", "34"]


def test_a_word_is_not_cut_where_its_letters_are_unknown() -> None:
    assert [piece.text for piece in parted(line("Unbreakable", 0, 0), [60.0])] == ["Unbreakable"]
