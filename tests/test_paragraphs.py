"""Lines of a column as paragraphs, and the text of a paragraph."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from page_building import LEADING, column, items, line

from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.engines.ppocr.paragraphs import paragraphs, text
from mineru_daemon.engines.ppocr.reading_order import rows


def group(lines: Sequence[TextLine]) -> list[list[str]]:
    """First words of the lines of each paragraph."""
    return [
        [item.lines[0].text.split()[0] for row in part for item in row]
        for part in paragraphs(rows(items(lines)))
    ]


@pytest.mark.parametrize(
    ("lines", "joined"),
    [
        (["two", "words"], "two words"),
        (["hyphen-", "ation is undone"], "hyphenation is undone"),
        (["soft\u00ad", "hyphen"], "softhyphen"),
        (["Paris-", "Dakar"], "Paris-Dakar"),
        (["pages 10-", "20"], "pages 10-20"),
        (["a dash -", "and more"], "a dash - and more"),
        (["中文句子", "没有空格"], "中文句子没有空格"),
        (["日本語、", "かな"], "日本語、かな"),
        (["中文", "and Latin"], "中文 and Latin"),
        (["한국어는", "띄어 쓴다"], "한국어는 띄어 쓴다"),
        (["", "only one"], "only one"),
        ([], ""),
    ],
)
def test_lines_are_joined_as_their_script_asks(lines: list[str], joined: str) -> None:
    assert text(lines) == joined


def test_full_lines_at_even_distance_are_one_paragraph() -> None:
    assert group(column("a", 50, 100, 5)) == [["a0", "a1", "a2", "a3", "a4"]]


def test_a_wider_gap_begins_a_paragraph() -> None:
    page = column("a", 50, 100, 3) + column("b", 50, 100 + 3 * LEADING + 19, 3)
    assert group(page) == [["a0", "a1", "a2"], ["b0", "b1", "b2"]]


def test_an_indented_line_begins_a_paragraph() -> None:
    page = [*column("a", 50, 100, 3), line("b0 indented", 80, 100 + 3 * LEADING, 370)]
    page += column("c", 50, 100 + 4 * LEADING, 2)
    assert group(page) == [["a0", "a1", "a2"], ["b0", "c0", "c1"]]


def test_a_line_that_ends_early_ends_its_paragraph() -> None:
    page = [*column("a", 50, 100, 3), line("short end", 50, 100 + 3 * LEADING, 120)]
    page += column("b", 50, 100 + 4 * LEADING, 3)
    assert group(page) == [["a0", "a1", "a2", "short"], ["b0", "b1", "b2"]]


def test_a_line_that_ends_with_a_hyphen_goes_on() -> None:
    page = [line("a0 an un-", 50, 100, 120), *column("a1", 50, 100 + LEADING, 2)]
    assert len(group(page)) == 1


def test_entries_of_a_list_are_paragraphs_of_their_own() -> None:
    page = [line(f"• entry {n} of it", 50, 100 + LEADING * n, 400) for n in range(3)]
    assert len(group(page)) == 3


def test_larger_type_is_not_joined_with_the_text_below_it() -> None:
    page = [line("Heading", 50, 100, 400, height=34), *column("a", 50, 140, 3)]
    assert group(page) == [["Heading"], ["a0", "a1", "a2"]]


def test_a_row_of_cells_is_a_paragraph_of_its_own() -> None:
    page = [line("Bread", 50, 100, 100), line("1.20", 400, 100, 50)]
    page += [line("Milk", 50, 128, 100), line("0.90", 400, 128, 50)]
    assert group(page) == [["Bread", "1.20"], ["Milk", "0.90"]]
