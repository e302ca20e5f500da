"""Characters of a PDF become words and lines as they are seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from text_pages import LETTER, read_layer, shown, texts

from mineru_daemon.engines.ppocr.textlayer import TextLayer


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., TextLayer]:
    return partial(read_layer, tmp_path)


def test_a_line_has_its_words_its_size_and_its_place_from_the_top(read):
    layer = read(shown("Hello wide world", 50, 350, 20))
    (line,) = layer.lines
    assert line.text == "Hello wide world"
    assert [word.text for word in line.words] == ["Hello", "wide", "world"]
    assert line.size == pytest.approx(20, abs=0.1)
    x0, y0, x1, y1 = line.box
    assert x0 == pytest.approx(50, abs=2)
    assert y0 < 400 - 350 < y1
    assert 180 < x1 < 230
    assert (layer.width, layer.height) == (600, 400)


def test_words_are_parted_where_the_file_only_leaves_gaps(read):
    layer = read(b"BT /F1 12 Tf 50 300 Td [(Two)-300(words)] TJ ET")
    assert texts(layer) == ["Two words"]


def test_kerning_parts_no_words(read):
    layer = read(b"BT /F1 12 Tf 50 300 Td [(A)70(V)-60(AT)40(AR)] TJ ET")
    assert texts(layer) == ["AVATAR"]


def test_letters_set_apart_stay_words(read):
    layer = read(b"BT /F1 12 Tf 3 Tc 50 300 Td (SPACED) Tj 12 0 Td ET")
    assert texts(layer) == ["SPACED"]


def test_text_in_two_columns_makes_lines_of_its_own(read):
    layer = read(shown("left column", 50, 300) + shown("right column", 150, 300))
    assert texts(layer) == ["left column", "right column"]


def test_a_hyphen_at_a_line_end_is_a_hyphen(read):
    layer = read(shown("an exam-", 50, 300) + shown("ple of it", 50, 286))
    assert texts(layer) == ["an exam-", "ple of it"]


@pytest.mark.parametrize("shift", [0.0, 0.4, 1.5])
def test_text_printed_twice_to_look_bold_is_read_once(read, shift):
    layer = read(shown("Heavy", 50, 300) + shown("Heavy", 50 + shift, 300) + shown("x", 50, 250))
    assert texts(layer) == ["Heavy", "x"]


def test_letters_drawn_with_an_outline_are_bold(read):
    (line,) = read(b"2 Tr " + shown("Heavy", 50, 300)).lines
    assert line.bold


def test_a_bold_font_is_known_by_its_name(read):
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-BoldOblique >>"
    page = LETTER + b" /Resources << /Font << /F1 6 0 R >> >>"
    (line,) = read(shown("Heading", 50, 300), page, more=(font,)).lines
    assert (line.bold, line.italic, line.font) == (True, True, "Helvetica-BoldOblique")


def test_text_outside_the_crop_box_is_dropped(read):
    page = LETTER + b" /CropBox [100 100 500 300]"
    layer = read(shown("inside", 150, 200) + shown("outside", 150, 350), page)
    assert texts(layer) == ["inside"]
    assert (layer.width, layer.height) == (400, 200)
    assert layer.lines[0].box[0] == pytest.approx(50, abs=2)
    assert layer.lines[0].box[3] == pytest.approx(100, abs=5)


def test_a_user_unit_makes_everything_larger(read):
    (line,) = read(shown("large", 50, 300), LETTER + b" /UserUnit 2").lines
    assert line.size == pytest.approx(24, abs=0.1)
    assert line.box[0] == pytest.approx(100, abs=3)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_page_shown_turned_has_its_lines_where_they_are_seen(read, turn):
    # The text is written so that /Rotate sets it upright.
    matrix = {90: b"0 1 -1 0 100 50", 180: b"-1 0 0 -1 550 350", 270: b"0 -1 1 0 500 350"}[turn]
    content = b"BT /F1 12 Tf %s Tm (upright words) Tj ET" % matrix
    layer = read(content, LETTER + b" /Rotate %d" % turn)
    (line,) = layer.lines
    assert line.text == "upright words"
    assert line.angle == 0
    x0, y0, x1, y1 = line.box
    assert x1 - x0 > 4 * (y1 - y0)
    assert x0 == pytest.approx(50, abs=2)
    assert y0 < {90: 100, 180: 350, 270: 100}[turn] < y1


def test_text_from_right_to_left_comes_in_the_order_it_is_read(read):
    # Codes A to Z are Hebrew; files have such text as it is seen, its last letter first.
    names = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def "
        b"1 begincodespacerange <00> <ff> endcodespacerange 1 beginbfrange <41> <5a> <05D0> "
        b"endbfrange 1 beginbfchar <20> <0020> endbfchar endcmap end end"
    )
    more = (
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(names), names),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>",
    )
    page = LETTER + b" /Resources << /Font << /F1 3 0 R /F2 7 0 R >> >>"
    content = shown("MLWE MWLS", 300, 300, font="F2") + shown("and Latin", 40, 300)
    hebrew = "\u05e2\u05db\u05e6\u05dc \u05d4\u05e6\u05db\u05dc"
    assert texts(read(content, page, more=more)) == ["and Latin", hebrew]


def test_text_that_runs_up_the_page_says_so(read):
    (line,) = read(b"BT /F1 12 Tf 0 1 -1 0 100 50 Tm (sideways text) Tj ET").lines
    assert line.text == "sideways text"
    assert line.angle == 270
    (xa, ya), (xb, yb), *_ = line.corners
    assert abs(xa - xb) < 1
    assert ya > yb


def test_leaning_text_stays_one_line(read):
    (line,) = read(b"BT /F1 12 Tf 0.8 0.6 -0.6 0.8 100 50 Tm (up the hill) Tj ET").lines
    assert line.text == "up the hill"
    assert line.angle == pytest.approx(323, abs=1)
