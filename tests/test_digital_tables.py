"""Tables of digital pages become HTML; text in columns does not."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from mineru_daemon.engines.ppocr import digital_tables
from mineru_daemon.engines.ppocr.digital_tables import Table
from mineru_daemon.engines.ppocr.pdf_objects import Drawing, Fill, Ruling
from mineru_daemon.engines.ppocr.pdf_text import PrintedLine, Word

WIDTH, HEIGHT = 600.0, 800.0
SIZE = 10.0


def words(text: str, x: float, y: float) -> list[Word]:
    """Words from (x, y) on, the top left corner, in type with letters of half an em."""
    found = []
    for part in text.split():
        end = x + len(part) * SIZE / 2
        found.append(Word(part, (x, y, end, y + SIZE), SIZE, False))
        x = end + 0.3 * SIZE
    return found


def line(text: str, x: float, y: float) -> PrintedLine:
    parts = words(text, x, y)
    x1 = parts[-1].box[2]
    corners = ((x, y), (x1, y), (x1, y + SIZE), (x, y + SIZE))
    return PrintedLine(corners, text, 1.0, words=tuple(parts), size=SIZE)


def level(y: float, x0: float, x1: float) -> Ruling:
    return Ruling(x0, y, x1, y, 0.5)


def plumb(x: float, y0: float, y1: float) -> Ruling:
    return Ruling(x, y0, x, y1, 0.5)


def lattice(xs: Sequence[float], ys: Sequence[float]) -> list[Ruling]:
    return [
        *(level(y, xs[0], xs[-1]) for y in ys),
        *(plumb(x, ys[0], ys[-1]) for x in xs),
    ]


def find(
    lines: list[PrintedLine], rulings: Sequence[Ruling] = (), fills: Sequence[Fill] = ()
) -> list[Table]:
    return digital_tables.find(
        lines, Drawing(rulings=list(rulings), fills=list(fills)), WIDTH, HEIGHT
    )


def rows(table: Table) -> list[list[str]]:
    """Cells by row; spans in front as r2 and c3."""
    result = []
    for row in re.findall(r"<tr>(.*?)</tr>", table.html):
        cells = []
        for attributes, text in re.findall(r"<td(.*?)>(.*?)</td>", row):
            spans = re.sub(r' (r)owspan="(\d+)"| (c)olspan="(\d+)"', r"\1\2\3\4 ", attributes)
            cells.append(spans + text)
        result.append(cells)
    return result


PROSE = [
    "the committee met again in the spring and found that",
    "little had changed since the last report on the state",
    "of the harbour and of the roads that lead to it from",
    "the north which were closed for most of the winter and",
    "would have to be repaired before the ships could be",
    "unloaded as fast as the merchants of the town wished",
]


def test_a_drawn_grid_is_a_table_with_its_text():
    table_lines = [
        line("Name", 55, 105),
        line("Age", 205, 105),
        line("Ada", 55, 125),
        line("36", 205, 125),
    ]
    (table,) = find(table_lines, lattice([50, 200, 300], [100, 120, 140]))
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
    table_lines = [line("Name", 55, 105), line("Date", 205, 105)]
    (table,) = find(table_lines, lattice([50, 200, 300], [100, 120, 140]))
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


def booktabs(y: float = 100.0, *, ruled: bool = True) -> tuple[list[PrintedLine], list[Ruling]]:
    rulings = [level(y, 50, 400), level(y + 20, 50, 400), level(y + 85, 50, 400)]
    found = [line("Method", 52, y + 5), line("Speed", 205, y + 5), line("Score", 305, y + 5)]
    for number, name in enumerate(("first", "second", "third one", "last")):
        top = y + 24 + 15 * number
        found += [
            line(name, 52, top),
            line(f"{number}.25", 207, top),
            line(f"{number}7.1", 307, top),
        ]
    return found, rulings if ruled else []


def test_a_table_with_level_rules_alone_is_found():
    (table,) = find(*booktabs())
    assert rows(table) == [
        ["Method", "Speed", "Score"],
        ["first", "0.25", "07.1"],
        ["second", "1.25", "17.1"],
        ["third one", "2.25", "27.1"],
        ["last", "3.25", "37.1"],
    ]


def test_a_table_without_any_rule_is_found():
    (table,) = find(booktabs(ruled=False)[0])
    assert rows(table)[0] == ["Method", "Speed", "Score"]
    assert len(rows(table)) == 5


def test_a_rule_under_a_heading_stands_over_its_columns():
    rulings = [level(100, 50, 400), level(120, 200, 400), level(140, 50, 400), level(190, 50, 400)]
    found = [line("Year ended", 270, 105), line("Item", 52, 125)]
    found += [line("2023", 205, 125), line("2024", 355, 125)]
    for number, name in enumerate(("Sales", "Costs", "Sum")):
        top = 144 + 15 * number
        found += [line(name, 52, top), line(f"1{number}0", 207, top), line(f"2{number}0", 357, top)]
    (table,) = find(found, rulings)
    assert rows(table)[0][-1] == "c2 Year ended"
    assert rows(table)[1][-2:] == ["2023", "2024"]
    assert rows(table)[2] == ["Sales", "100", "200"]


def test_a_currency_sign_belongs_to_its_figure():
    found = []
    for number, name in enumerate(("Sales", "Costs", "Sum", "Rest")):
        top = 144 + 15 * number
        found += [line(name, 52, top)]
        for x in (200, 300):
            found += [line("$", x, top), line(f"1{number}0", x + 40, top)]
    (table,) = find(found)
    assert rows(table)[0] == ["Sales", "$ 100", "$ 100"]


def test_several_tables_of_a_page_are_told_apart():
    upper, upper_rules = booktabs(100)
    lower, lower_rules = booktabs(400)
    prose = [line(text, 50, 220 + 14 * number) for number, text in enumerate(PROSE)]
    tables = find([*upper, *prose, *lower], [*upper_rules, *lower_rules])
    assert len(tables) == 2
    assert [len(rows(table)) for table in tables] == [5, 5]
    assert tables[0].box[3] < 220 < 400 <= tables[1].box[1] + 1


def test_two_columns_of_print_are_no_table():
    found = []
    for number, text in enumerate(PROSE * 5):
        found += [line(text, 40, 60 + 13 * number), line(text[::-1], 320, 60 + 13 * number)]
    assert find(found) == []


def test_prose_with_years_and_figures_is_no_table():
    text = [
        "In 1990, 12 of 40 ships sank",
        "by 1995 only 3 of 38 were",
        "lost and in 2001 none of 25",
    ]
    found = [line(one, 50, 60 + 13 * number) for number, one in enumerate(text * 4)]
    assert find(found) == []


def test_a_frame_around_prose_is_no_table():
    prose = [line(text, 55, 105 + 14 * number) for number, text in enumerate(PROSE)]
    assert find(prose, lattice([50, 400], [100, 200])) == []


def test_rules_of_a_page_head_and_foot_are_no_table():
    prose = [line(text, 50, 100 + 14 * number) for number, text in enumerate(PROSE)]
    assert find(prose, [level(50, 50, 550), level(750, 50, 550)]) == []


def test_boxes_of_colour_make_cells():
    places = list(itertools.product((100, 120, 140), (50, 150, 250)))
    fills = [Fill((x, y, x + 98, y + 18), (150 + x // 10 + y // 2, 180, 220)) for y, x in places]
    entries = ["red", "green", "blue", "one", "two", "three", "low", "middle", "high"]
    found = [line(text, x + 5, y + 4) for text, (y, x) in zip(entries, places, strict=True)]
    (table,) = find(found, fills=fills)
    assert rows(table) == [entries[:3], entries[3:6], entries[6:]]


def test_lines_of_a_table_are_not_read_twice():
    found, rulings = booktabs()
    outside = line("A sentence below the table", 50, 300)
    tables = find([*found, outside], rulings)
    assert digital_tables.lines_outside([*found, outside], tables) == [outside]


def test_signs_of_html_are_escaped():
    table_lines = [
        line("a<b", 55, 105),
        line("c&d", 205, 105),
        line("1", 55, 125),
        line("2", 205, 125),
    ]
    (table,) = find(table_lines, lattice([50, 200, 300], [100, 120, 140]))
    assert "<td>a&lt;b</td><td>c&amp;d</td>" in table.html
