"""The order of a PDF's content stream: followed where it agrees with the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from text_pages import read_layer

from mineru_daemon.engines.ppocr import digital

PAGE = b"/MediaBox [0 0 600 800]"
FILL = "words of a text that goes on and on to the end"


def shown(text: str, x: float, top: float, size: float = 10) -> bytes:
    return f"BT /F1 {size} Tf {x} {800 - top} Td ({text}) Tj ET\n".encode()


def column(name: str, x: float, top: float, count: int) -> bytes:
    return b"".join(
        shown(f"{name}{number} {FILL}", x, top + 14 * number) for number in range(count)
    )


def starts(folder: Path, content: bytes) -> list[str]:
    """First words of the blocks in the order in which they are read."""
    layer = read_layer(folder, content, PAGE, mode="text")
    return [(block.content or "").split()[0] for block in digital.to_blocks(layer)]


def test_text_flows_on_around_a_figure_whose_words_stand_apart_in_the_file(tmp_path: Path) -> None:
    figure = b"".join(shown(f"label{n} of it", 60 + 30 * n, 180 + 9 * n, 7) for n in range(4))
    left = column("a", 40, 60, 8) + column("b", 40, 240, 8)
    right = column("c", 320, 60, 20)
    found = starts(tmp_path, left + right + figure)
    assert found[0] == "a0"
    assert found.index("b0") < found.index("c0") < found.index("label0")


def test_a_file_that_writes_row_by_row_across_columns_is_not_followed(tmp_path: Path) -> None:
    rows = [
        shown(f"{name}{n} {FILL}", x, 60 + 14 * n)
        for n in range(12)
        for name, x in (("a", 40), ("b", 320))
    ]
    assert starts(tmp_path, b"".join(rows)) == ["a0", "b0"]


def test_a_file_that_writes_backwards_is_not_followed(tmp_path: Path) -> None:
    rows = [shown(f"a{n} {FILL}", 40, 60 + 14 * n) for n in range(12)]
    assert starts(tmp_path, b"".join(reversed(rows))) == ["a0"]


def test_a_heading_laid_over_the_page_at_the_end_comes_first(tmp_path: Path) -> None:
    text = column("a", 40, 100, 10) + column("b", 320, 100, 10)
    found = starts(tmp_path, text + shown("Heading of it all", 200, 60, 18))
    assert found == ["Heading", "a0", "b0"]


def test_small_print_at_the_end_of_the_file_stays_there(tmp_path: Path) -> None:
    text = column("a", 40, 100, 10) + column("b", 320, 100, 10)
    found = starts(tmp_path, shown("Remark of the printer", 40, 90, 7) + text)
    assert found[0] == "Remark"
    found = starts(tmp_path, text + shown("Remark of the printer", 40, 90, 7))
    assert found == ["a0", "b0", "Remark"]


def test_a_form_filled_in_afterwards_is_read_in_rows(tmp_path: Path) -> None:
    labels = [shown(f"Label{n}:", 40, 60 + 22 * n) for n in range(8)]
    values = [shown(f"value{n} as it was typed", 120, 60 + 22 * n) for n in range(8)]
    found = starts(tmp_path, b"".join(labels + values))
    assert [word.rstrip("0123456789:") for word in found] == ["Label"] * 8


@pytest.mark.parametrize("late", [False, True])
def test_a_table_takes_the_place_that_its_words_have_in_the_file(
    tmp_path: Path, late: bool
) -> None:
    cells = b"".join(
        shown(f"{10 * row + place}.5", 60 + 70 * place, 180 + 14 * row, 9)
        for row in range(4)
        for place in range(3)
    )
    lines = b"".join(b"40 %d m 280 %d l S\n" % (y, y) for y in (632, 620, 570))
    upper, lower = column("a", 40, 60, 7), column("b", 40, 250, 8)
    right = column("c", 320, 60, 20)
    text = upper + lower + right
    content = text + lines + cells if late else upper + lines + cells + lower + right
    layer = read_layer(tmp_path, content, PAGE, mode="text")
    kinds = [block.type for block in digital.to_blocks(layer)]
    assert kinds.index("table") == (3 if late else 1)
