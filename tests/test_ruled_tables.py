"""What is drawn around words becomes rows and columns."""

from __future__ import annotations

import itertools

from printed_tables import GRID, find, in_grid, lattice, level, line, plumb, rows

from mineru_daemon.engines.ppocr.pdf_objects import Fill


def test_a_drawn_grid_is_a_table_with_its_text():
    (table,) = find(in_grid(["Name", "Age"], ["Ada", "36"]), GRID)
    assert rows(table) == [["Name", "Age"], ["Ada", "36"]]
    assert table.box == (50, 100, 300, 140)
    assert table.ruled


def test_lines_of_one_cell_are_joined_and_hyphens_undone():
    table_lines = [
        line("a long descrip-", 55, 105),
        line("tion of it", 55, 117),
        line("7", 205, 105),
    ]
    (table,) = find(table_lines, lattice([50, 200, 300], [100, 130, 150]))
    assert rows(table)[0] == ["a long description of it", "7"]


def test_a_missing_line_joins_cells_over_columns():
    rulings = [
        *(level(y, 50, 350) for y in (100, 120, 140, 160)),
        plumb(50, 100, 160),
        plumb(350, 100, 160),
        plumb(150, 100, 160),
        plumb(250, 120, 160),
    ]
    table_lines = [
        line("City", 55, 105),
        line("Both years", 220, 105),
        *(line(text, x, 125) for text, x in (("Oslo", 55), ("1", 155), ("2", 255))),
        *(line(text, x, 145) for text, x in (("Rome", 55), ("3", 155), ("4", 255))),
    ]
    (table,) = find(table_lines, rulings)
    assert rows(table) == [["City", "c2 Both years"], ["Oslo", "1", "2"], ["Rome", "3", "4"]]


def test_a_missing_line_joins_cells_over_rows():
    rulings = [
        *(plumb(x, 100, 160) for x in (50, 150, 250)),
        *(level(y, 50, 250) for y in (100, 120, 160)),
        level(140, 150, 250),
    ]
    table_lines = [
        line("Kind", 55, 105),
        line("Value", 155, 105),
        line("Both", 55, 135),
        line("1", 155, 125),
        line("2", 155, 145),
    ]
    (table,) = find(table_lines, rulings)
    assert rows(table) == [["Kind", "Value"], ["r2 Both", "1"], ["2"]]


def test_double_rules_are_one():
    xs, ys = [50, 52, 200, 202, 300, 302], [100, 102, 120, 122, 140, 142]
    table_lines = [
        line("a", 60, 107),
        line("b", 210, 107),
        line("c", 60, 127),
        line("d", 210, 127),
    ]
    (table,) = find(table_lines, lattice(xs, ys))
    assert rows(table) == [["a", "b"], ["c", "d"]]


def test_an_empty_row_of_a_form_is_kept():
    (table,) = find(in_grid(["Name", "Date"]), GRID)
    assert rows(table) == [["Name", "Date"], ["", ""]]


def test_rows_of_figures_within_one_drawn_row_are_parted():
    rulings = lattice([50, 200, 300, 400], [100, 120, 180])
    table_lines = [line("Town", 55, 105), line("2001", 205, 105), line("2002", 305, 105)]
    for number, town in enumerate(("Oslo", "Rome", "Bern")):
        y = 125 + 15 * number
        table_lines += [
            line(town, 55, y),
            line(f"{number}.5", 205, y),
            line(f"{number}.7", 305, y),
        ]
    (table,) = find(table_lines, rulings)
    assert rows(table)[1:] == [
        ["Oslo", "0.5", "0.7"],
        ["Rome", "1.5", "1.7"],
        ["Bern", "2.5", "2.7"],
    ]


def test_wrapped_text_within_one_drawn_row_is_not_parted():
    rulings = lattice([50, 200, 400], [100, 120, 160])
    table_lines = [
        line("Kind", 55, 105),
        line("Meaning", 205, 105),
        line("visual scale", 55, 125),
        line("with ends", 55, 138),
        line("a line of fixed", 205, 125),
        line("length to mark", 205, 138),
    ]
    (table,) = find(table_lines, rulings)
    assert rows(table)[1] == ["visual scale with ends", "a line of fixed length to mark"]


def test_boxes_of_colour_make_cells():
    places = list(itertools.product((100, 120, 140), (50, 150, 250)))
    fills = [Fill((x, y, x + 98, y + 18), (150 + x // 10 + y // 2, 180, 220)) for y, x in places]
    entries = ["red", "green", "blue", "one", "two", "three", "low", "middle", "high"]
    found = [line(text, x + 5, y + 4) for text, (y, x) in zip(entries, places, strict=True)]
    (table,) = find(found, fills=fills)
    assert rows(table) == [entries[:3], entries[3:6], entries[6:]]


def test_signs_of_html_are_escaped():
    (table,) = find(in_grid(["a<b", "c&d"], ["1", "2"]), GRID)
    assert "<td>a&lt;b</td><td>c&amp;d</td>" in table.html
