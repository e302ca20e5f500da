"""The tables of a digital page are found; text in columns is not taken for one."""

from __future__ import annotations

from printed_tables import PROSE, booktabs, find, lattice, level, line, rows

from mineru_daemon.engines.ppocr import digital_tables


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


def test_lines_of_a_table_are_not_read_twice():
    found, rulings = booktabs()
    outside = line("A sentence below the table", 50, 300)
    tables = find([*found, outside], rulings)
    assert digital_tables.lines_outside([*found, outside], tables) == [outside]
