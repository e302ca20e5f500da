"""Figures in columns are a table even where no plumb line is drawn."""

from __future__ import annotations

from printed_tables import booktabs, find, level, line, rows


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
