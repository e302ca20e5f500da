"""In which order parts of a page are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from page_building import EM, column, items, line, turned

from mineru_daemon.engines.ppocr.lines import TextLine, slope
from mineru_daemon.engines.ppocr.reading_order import (
    Item,
    are_columns,
    columns,
    rows,
    upright,
)


def read(lines: Sequence[TextLine], *solid: Item) -> list[str]:
    """First words of the lines in the order they are read; solid regions by their type."""
    return [
        item.type if item.solid else item.lines[0].text.split()[0]
        for part in columns([*items(lines, slope(lines)), *solid])
        for row in rows(part)
        for item in row
    ]


def region(kind: str, left: float, top: float, right: float, bottom: float) -> Item:
    return Item((left, top, right, bottom), (), kind, 0, solid=True)  # type: ignore[arg-type]


def names(name: str, count: int) -> list[str]:
    return [f"{name}{number}" for number in range(count)]


def test_one_column_is_read_from_top_to_bottom() -> None:
    assert read(column("a", 50, 100, 5)[::-1]) == names("a", 5)


def test_two_columns_are_read_one_after_the_other() -> None:
    page = column("a", 50, 100, 8) + column("b", 480, 100, 8)
    assert read(page) == names("a", 8) + names("b", 8)


def test_three_columns_are_read_one_after_the_other() -> None:
    page = [
        one
        for number, name in enumerate("abc")
        for one in column(name, 50 + 330 * number, 100, 8, width=300)
    ]
    assert read(page) == names("a", 8) + names("b", 8) + names("c", 8)


def test_columns_of_different_leading_are_not_read_in_rows() -> None:
    page = column("a", 50, 100, 12, leading=28) + column("b", 480, 105, 9, leading=36)
    assert read(page) == names("a", 12) + names("b", 9)


def test_a_title_over_all_columns_comes_first() -> None:
    page = [line("Title of it all", 200, 40, 500), *column("a", 50, 100, 6)]
    page += column("b", 480, 100, 6)
    assert read(page) == ["Title", *names("a", 6), *names("b", 6)]


def test_a_line_over_both_columns_ends_the_columns_above_it() -> None:
    page = column("a", 50, 100, 4) + column("b", 480, 100, 4)
    page += [line("Middle of the page", 50, 240, 830)]
    page += column("c", 50, 300, 4) + column("d", 480, 300, 4)
    expected = [*names("a", 4), *names("b", 4), "Middle", *names("c", 4), *names("d", 4)]
    assert read(page) == expected


def test_a_picture_over_both_columns_ends_the_columns_above_it() -> None:
    page = column("a", 50, 100, 4) + column("b", 480, 100, 4)
    page += column("c", 50, 500, 4) + column("d", 480, 500, 4)
    picture = region("image", 50, 250, 880, 460)
    expected = [*names("a", 4), *names("b", 4), "image", *names("c", 4), *names("d", 4)]
    assert read(page, picture) == expected


def test_text_that_flows_around_a_picture_keeps_its_columns() -> None:
    page = column("a", 50, 100, 4) + column("b", 480, 100, 4)
    page += column("c", 50, 212, 6, width=280) + column("d", 600, 212, 6, width=280)
    page += column("e", 50, 380, 4) + column("f", 480, 380, 4)
    order = read(page, region("image", 350, 215, 580, 375))
    order.remove("image")
    left = names("a", 4) + names("c", 6) + names("e", 4)
    assert order == left + names("b", 4) + names("d", 6) + names("f", 4)


@pytest.mark.parametrize("degrees", [-2.0, -1.0, 1.0, 2.0])
def test_a_page_that_leans_keeps_its_columns(degrees: float) -> None:
    page = column("a", 50, 100, 20) + column("b", 490, 100, 20)
    assert read(turned(page, degrees)) == names("a", 20) + names("b", 20)


def test_prices_stay_with_their_goods() -> None:
    goods = ["Bread", "Butter", "Milk", "Cheese", "Apples", "Total"]
    page = [line(name, 50, 100 + 30 * n, 150) for n, name in enumerate(goods)]
    page += [line(f"{n}.00", 420, 101 + 30 * n, 60) for n in range(6)]
    expected = [part for n, name in enumerate(goods) for part in (name, f"{n}.00")]
    assert read(page) == expected


def test_labels_stay_with_their_values() -> None:
    labels = ["Name", "Street", "Town", "Country", "Telephone"]
    page = [line(label, 50, 100 + 40 * n, 110) for n, label in enumerate(labels)]
    page += [line(f"v{n} of the form", 300, 100 + 40 * n, 400) for n in range(5)]
    expected = [part for n, label in enumerate(labels) for part in (label, f"v{n}")]
    assert read(page) == expected


def test_marks_of_a_list_stay_with_their_entries() -> None:
    page = [line(f"{n}.", 50, 100 + 28 * n, 18) for n in range(6)]
    page += column("entry", 85, 100, 6)
    assert read(page)[:4] == ["0.", "entry0", "1.", "entry1"]


def test_a_side_bar_is_read_after_the_text_beside_it() -> None:
    bar = [line(f"s{n}", 20, 90 + 23 * n, 90, height=14) for n in range(14)]
    page = bar + column("a", 250, 100, 12, width=700)
    assert read(page) == names("a", 12) + names("s", 14)


def test_notes_in_the_right_margin_are_read_after_the_text_beside_them() -> None:
    notes = [line(f"n{n}", 800, 130 + 19 * n, 100, height=14) for n in range(7)]
    page = column("a", 50, 100, 12, width=700) + notes
    assert read(page) == names("a", 12) + names("n", 7)


def test_the_layout_model_decides_where_alignment_is_in_doubt() -> None:
    tops = [100, 128, 156, 184, 226, 254]
    notes = [line(f"n{number}", 800, top, 100) for number, top in enumerate(tops)]
    text = column("a", 50, 100, 6, width=700)
    alone = columns(items([*text, *notes]))
    believed = columns([*(replace(item, region=1) for item in items(text)), *items(notes)])
    assert (len(alone), len(believed)) == (1, 2)


def test_text_written_upwards_in_the_margin_does_not_join_rows() -> None:
    margin = line("archive", 5, 100, width=16, height=400)
    order = read([margin, *column("a", 50, 100, 10)])
    assert [name for name in order if name != "archive"] == names("a", 10)


def test_lines_beside_something_tall_keep_rows_of_their_own() -> None:
    tall = line("upwards", 5, 100, width=16, height=400)
    found = rows(items([tall, *column("a", 50, 100, 5)]))
    assert sorted(len(row) for row in found) == [1] * 6


def test_an_empty_page_has_no_parts() -> None:
    assert columns([]) == []


def test_a_price_list_is_read_in_rows_though_the_model_sees_two_texts() -> None:
    goods = [
        line(f"Goods number {number} of the garden, per kilogram", 50, 100 + 40 * number, 420)
        for number in range(7)
    ]
    prices = [line(f"{number}.50", 700, 100 + 40 * number, 50) for number in range(7)]
    sides = [
        [Item(upright(one.corners, 0.0), (one,), "text", region) for one in side]
        for region, side in enumerate((goods, prices))
    ]
    assert not are_columns(sides[0], sides[1], EM)
    moved = [line(f"{number}.50", 700, 115 + 40 * number, 50) for number in range(7)]
    notes = [Item(upright(one.corners, 0.0), (one,), "text", 1) for one in moved]
    assert are_columns(sides[0], notes, EM)
