"""Headings and their levels."""

from __future__ import annotations

import pytest

from mineru_daemon.engines.ppocr.headings import is_heading, levels


def test_short_text_in_larger_type_is_a_heading() -> None:
    assert is_heading("Results", 30, 20, 1)


@pytest.mark.parametrize(
    ("text", "size", "lines"),
    [
        ("Results", 21, 1),
        ("A long text " * 30, 30, 3),
        ("Four lines of it", 30, 4),
        ("1 234,00", 30, 1),
        ("To whom it may concern,", 30, 1),
    ],
)
def test_body_size_long_text_figures_and_open_ends_are_no_headings(
    text: str, size: float, lines: int
) -> None:
    assert not is_heading(text, size, 20, lines)


def test_larger_headings_stand_above_smaller_ones() -> None:
    assert levels([("Title", 50), ("Part", 35), ("Detail", 26), ("Part two", 34)]) == [1, 2, 3, 2]


def test_numbers_tell_the_level_where_sizes_do_not() -> None:
    headings = [("1 First", 25.0), ("1.1 Inside", 25.0), ("1.1.1 Deeper", 25.0), ("2 Second", 25.0)]
    assert levels(headings) == [1, 2, 3, 1]


def test_numbered_headings_stand_below_the_title_of_the_document() -> None:
    assert levels([("The whole", 50), ("1 First", 25), ("1.1 Inside", 25)]) == [1, 2, 3]


def test_a_numbered_heading_is_no_title_of_the_document() -> None:
    assert levels([("1 Aim", 24.0), ("1.1 Scope", 16.0)]) == [1, 2]


def test_chinese_sections_stand_below_chapters() -> None:
    assert levels([("第一章 总则", 25), ("第一节 目的", 25)]) == [1, 2]


def test_a_page_without_headings_has_no_levels() -> None:
    assert levels([]) == []
