"""Tables on images by their rules or their figures, where the layout model sees none."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from page_building import EM, line, turned

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.image_tables import drawn
from mineru_daemon.engines.ppocr.image_tables.drawn import DrawnTable
from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.engines.ppocr.regions import Region

CELLS = [["Name", "Colour", "Weight"], ["bell", "red", "heavy"], ["rope", "grey", "light"]]
GRID = "<tr><td>Name</td><td>Colour</td><td>Weight</td></tr><tr><td>bell</td><td>red</td>"


def paper() -> Pixels:
    return np.full((700, 900, 3), 255, np.uint8)


def leaning(image: Pixels, degrees: float) -> Pixels:
    """Turned clockwise around its corner, on paper of the same size."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((0, 0), -degrees, 1)
    out = cv2.warpAffine(image, matrix, (width, height), borderValue=(255, 255, 255))
    return np.asarray(out, np.uint8)


def in_grid(image: Pixels, left: int = 100, top: int = 200) -> list[TextLine]:
    """Draw the rules of a table of 3 x 3 cells; its lines."""
    for row in range(4):
        cv2.line(image, (left, top + 50 * row), (left + 600, top + 50 * row), (0, 0, 0), 2)
    for column in range(4):
        x = left + 200 * column
        cv2.line(image, (x, top), (x, top + 150), (0, 0, 0), 2)
    return [
        line(text, left + 20 + 200 * column, top + 15 + 50 * row)
        for row, texts in enumerate(CELLS)
        for column, text in enumerate(texts)
    ]


def test_drawn_cells_are_a_table() -> None:
    image = paper()
    lines = in_grid(image)
    (table,) = drawn.find(image, [*lines, line("A sentence above it all", 100, 100)])
    assert (table.rows, table.columns, table.ruled) == (3, 3, True)
    assert GRID in table.html
    assert table.box == pytest.approx((100, 200, 700, 350), abs=4)


def test_a_page_that_leans_has_its_tables_too() -> None:
    image = paper()
    lines = turned(in_grid(image), 1.5)
    (table,) = drawn.find(leaning(image, 1.5), lines)
    assert GRID in table.html


@pytest.mark.parametrize("angle", [0.0, 1.5])
def test_rules_of_a_huge_page_are_looked_for_on_a_smaller_one(
    monkeypatch: pytest.MonkeyPatch, angle: float
) -> None:
    image = paper()
    lines = turned(in_grid(image), angle)
    image = leaning(image, angle)
    (expected,) = drawn.find(image, lines)
    seen: list[int] = []
    strokes = drawn._strokes

    def watched(ink: Pixels, least: int, em: float) -> list[tuple[float, ...]]:
        seen.append(ink.size)
        return strokes(ink, least, em)

    monkeypatch.setattr(drawn, "_strokes", watched)
    monkeypatch.setattr(drawn, "MOST_PIXELS", 100_000)
    (table,) = drawn.find(image, lines)
    assert table.html == expected.html
    assert table.box == pytest.approx(expected.box, abs=4)
    assert max(seen) <= 101_000


def test_figures_in_columns_are_a_table_and_lines_are_cut_into_words() -> None:
    rows = [("sold", 184.5, 2, 369), ("kept", 6.25, 12, 75), ("lost", 58, 1, 58), ("all", 9, 9, 99)]
    lines = []
    for number, (name, *figures) in enumerate(rows):
        top = 200 + 30 * number
        lines.append(line(name, 100, top))
        lines += [line(str(one), 300 + 150 * place, top) for place, one in enumerate(figures)]
    (table,) = drawn.find(paper(), lines)
    assert (table.rows, table.columns, table.ruled) == (4, 4, False)
    assert "<td>kept</td><td>6.25</td><td>12</td><td>75</td>" in table.html


def test_running_text_and_a_page_of_hatchings_are_none() -> None:
    text = [line("words of a text that goes on and on", 100, 100 + 30 * n) for n in range(9)]
    assert drawn.find(paper(), text) == []
    hatched = paper()
    hatched[::6] = 0
    assert drawn.find(hatched, text) == []
    assert drawn.find(paper(), []) == []


def test_words_lie_where_their_characters_were_seen() -> None:
    places = (0.1, 0.2, 0.3, 0.8, 0.9)
    seen = TextLine(line("ab cd", 0, 0, 100).corners, "ab cd", 1.0, places)
    found = drawn.words_of(seen)
    assert [word for word, _, _ in found] == ["ab", "cd"]
    assert found[0][1:] == pytest.approx((0.0, 0.25))
    assert found[1][1:] == pytest.approx((0.75, 1.0))


PROSE = [line("words of a text that goes on and on until its line is full", 0, 0)] * 3


def table(
    box: boxes.Box, rows: int = 4, columns: int = 4, ruled: bool = False, html: str = "x"
) -> DrawnTable:
    return DrawnTable(box, html, rows, columns, ruled)


def test_only_what_the_model_missed_and_is_sure_is_added() -> None:
    seen = [table((0, 0, 100, 100)), table((0, 200, 100, 300))]
    region = Region("table", (10, 10, 90, 90), 0.9)
    assert drawn.missed(seen, [region], 0.5, PROSE) == seen[1:]
    assert drawn.missed(seen, [Region("table", (10, 10, 90, 90), 0.4)], 0.5, PROSE) == seen
    assert drawn.missed(seen, [], 0.5, PROSE[:2]) == []
    assert drawn.missed([table((0, 0, 9, 9), columns=2)], [], 0.5, PROSE) == []
    assert drawn.missed([table((0, 0, 9, 9), 2, 2, ruled=True)], [], 0.5, PROSE) == []


def test_the_fuller_table_is_taken_unless_words_would_be_lost() -> None:
    large = table((0, 0, 100, 100), 10, 10, html="large")
    assert drawn.fuller([large], (0, 0, 100, 100), 60) == "large"
    assert drawn.fuller([large], (0, 0, 100, 100), 90) is None
    assert drawn.fuller([large], (0, 0, 300, 300), 60) is None
    inner = table((20, 20, 40, 40), 2, 2, ruled=True)
    assert drawn.fuller([large, inner], (0, 0, 100, 100), 60) is None


def test_tables_within_one_that_is_drawn_around_them_are_its_pieces() -> None:
    pieces = [
        Region("table", (5, 5, 95, 45), 0.9),
        Region("table", (5, 55, 95, 95), 0.9),
        Region("text", (5, 47, 95, 53), 0.9),
        Region("table", (5, 200, 95, 250), 0.9),
    ]
    around = table((0, 0, 100, 100), ruled=True)
    assert drawn.without_pieces([around], pieces) == pieces[2:]
    assert drawn.without_pieces([around], pieces[1:]) == pieces[1:]
    assert drawn.without_pieces([table((0, 0, 100, 100))], pieces) == pieces


def clipping(columns: int) -> list[TextLine]:
    return [
        line(f"entry {row}", 10 + 200 * column, 10 + 2 * EM * row)
        for row, column in itertools.product(range(5), range(columns))
    ]


@pytest.mark.parametrize(("columns", "kind"), [(3, "table"), (1, "image")])
def test_a_clipping_of_rows_and_columns_is_a_table_though_it_looks_like_a_picture(
    columns: int, kind: str
) -> None:
    picture = Region("image", (0, 0, 700, 250), 0.7)
    (found,) = drawn.clipped_table([picture], clipping(columns))
    assert found.type == kind
