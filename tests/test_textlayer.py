"""Digital pages are read from their text layer, where it can be trusted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from pdf_building import build_pdf

from mineru_daemon.documents import Limits, open_document
from mineru_daemon.documents.pdf import PdfPage
from mineru_daemon.engines.ppocr import textlayer
from mineru_daemon.engines.ppocr.textlayer import PageFacts, PdfMode, TextLayer, decide

LETTER = b"/MediaBox [0 0 600 400]"
IMAGE = (
    b"<< /Type /XObject /Subtype /Image /Width 2 /Height 2 /BitsPerComponent 8 "
    b"/ColorSpace /DeviceGray /Length 4 >>\nstream\n\x00\xff\xff\x00\nendstream"
)
WITH_IMAGE = b"/Resources << /Font << /F1 3 0 R >> /XObject << /Im 6 0 R >> >>"


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Read page 0 of a PDF with this content; further arguments go to `build_pdf`."""

    def _read(
        content: bytes, page: bytes = LETTER, mode: PdfMode = "auto", **more: Any
    ) -> TextLayer:
        path = tmp_path / "page.pdf"
        path.write_bytes(build_pdf(page, content=content, **more))
        with open_document(path, Limits()) as document:
            opened = document.page(0)
            assert isinstance(opened, PdfPage)
            return textlayer.read(opened, mode)

    return _read


def shown(text: str, x: float, y: float, size: float = 12, font: str = "F1") -> bytes:
    return f"BT /{font} {size} Tf {x} {y} Td ({text}) Tj ET\n".encode()


def texts(layer: TextLayer) -> list[str]:
    return [line.text for line in layer.lines]


SENTENCE = "The quick brown fox jumps over the lazy dog and finds a warm place"


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


def test_links_keep_their_place_and_address(read):
    link = (
        b"<< /Type /Annot /Subtype /Link /Rect [50 290 120 320] "
        b"/A << /S /URI /URI (https://example.org/a) >> >>"
    )
    layer = read(shown("a link", 50, 300), LETTER + b" /Annots [6 0 R]", more=(link,))
    (found,) = layer.links
    assert found.uri == "https://example.org/a"
    assert found.box == pytest.approx((50, 80, 120, 110))


def test_rulings_and_fills_are_told_apart(read):
    layer = read(b"1 w 50 300 m 200 300 l S 50 100 80 1 re f 1 0 0 rg 300 100 90 40 re f")
    # A page without text goes to recognition, and its drawing is known all the same.
    assert [ruling.level for ruling in layer.drawing.rulings] == [True, True]
    (fill,) = layer.drawing.fills
    assert fill.box == pytest.approx((300, 260, 390, 300))
    assert fill.colour == (255, 0, 0)


# --- what may be trusted ------------------------------------------------------


def test_a_page_without_text_is_recognised(read):
    assert read(b"0 0 m 10 10 l S").verdict.source == "ocr"


def test_a_page_of_text_is_not_recognised(read):
    layer = read(shown(SENTENCE, 20, 300))
    assert layer.verdict.source == "text"
    assert texts(layer) == [SENTENCE]


def test_a_scan_with_a_stamp_on_it_is_recognised(read):
    content = b"q 600 0 0 400 0 0 cm /Im Do Q " + shown("RECEIVED 2024-03-01", 400, 20)
    layer = read(content, LETTER + WITH_IMAGE, more=(IMAGE,))
    assert layer.verdict.source == "ocr"
    assert layer.lines == []


def hidden(text: str) -> bytes:
    return b"q 600 0 0 400 0 0 cm /Im Do Q 3 Tr " + shown(text, 20, 300)


def test_a_good_earlier_recognition_is_kept(read):
    layer = read(hidden(SENTENCE), LETTER + WITH_IMAGE, more=(IMAGE,))
    assert layer.verdict.source == "text"
    assert layer.lines[0].invisible


def test_a_poor_earlier_recognition_is_done_again(read):
    garbled = "Tlne qu1cl< bnwvn f0x jnrnp5 0vcr thc 1azy d0g xzqw rnnvv kjhg bcdf wrtp lkjh"
    layer = read(hidden(f"{garbled} {garbled}"), LETTER + WITH_IMAGE, more=(IMAGE,))
    assert layer.verdict.source == "ocr"
    assert "earlier" in layer.verdict.reason


def test_hidden_text_that_no_image_shows_is_dropped(read):
    content = shown(SENTENCE, 20, 300) + b"BT 3 Tr /F1 12 Tf 20 200 Td (keywords) Tj ET"
    assert texts(read(content)) == [SENTENCE]


def test_a_font_that_does_not_tell_its_characters_is_recognised(read):
    font = (
        b"<< /Type /Font /Subtype /Type3 /FontBBox [0 0 500 700] /FontMatrix [0.001 0 0 0.001 0 0] "
        b"/CharProcs << /g1 7 0 R >> /FirstChar 1 /LastChar 1 /Widths [600] "
        b"/Encoding << /Type /Encoding /Differences [1 /g1] >> /Resources << >> >>"
    )
    glyph = b"<< /Length 32 >>\nstream\n600 0 d0 0 0 500 700 re f       \nendstream"
    page = LETTER + b" /Resources << /Font << /F1 6 0 R >> >>"
    content = b"BT /F1 12 Tf 50 300 Td <" + b"01" * 60 + b"> Tj ET"
    layer = read(content, page, more=(font, glyph))
    assert layer.verdict.source == "ocr"


def test_a_large_picture_beside_text_is_to_be_looked_at(read):
    content = shown(SENTENCE, 20, 350) + b"q 300 0 0 200 100 50 cm /Im Do Q"
    layer = read(content, LETTER + WITH_IMAGE, more=(IMAGE,))
    assert layer.verdict.source == "mixed"
    assert layer.ocr_regions == [pytest.approx((100, 150, 400, 350))]
    assert texts(layer) == [SENTENCE]


def test_a_logo_is_not_looked_at(read):
    content = shown(SENTENCE, 20, 350) + b"q 40 0 0 40 500 350 cm /Im Do Q"
    assert read(content, LETTER + WITH_IMAGE, more=(IMAGE,)).verdict.source == "text"


def test_the_mode_overrules_what_is_on_the_page(read):
    assert read(shown(SENTENCE, 20, 300), mode="ocr").lines == []
    assert read(b"", mode="text").verdict.source == "text"


GOOD = PageFacts(characters=2000, letters=1500, wordlike=0.97, vowels=0.39)


@pytest.mark.parametrize(
    ("changes", "source"),
    [
        ({}, "text"),
        ({"characters": 0}, "ocr"),
        ({"unmapped": 100}, "text"),
        ({"unmapped": 400}, "ocr"),
        ({"wordlike": 0.2}, "ocr"),
        ({"vowels": 0.05}, "ocr"),
        ({"letters": 40, "vowels": 0.05, "wordlike": 0.1}, "text"),
        ({"image_cover": 1.0}, "text"),
        ({"image_cover": 1.0, "characters": 60}, "ocr"),
        ({"image_cover": 1.0, "invisible": 2000}, "text"),
        ({"image_cover": 1.0, "invisible": 2000, "wordlike": 0.7}, "ocr"),
        ({"image_cover": 0.3, "regions": 2}, "mixed"),
    ],
)
def test_the_verdict_follows_from_the_facts(changes, source):
    verdict = decide(dataclasses.replace(GOOD, **changes))
    assert verdict.source == source
    assert verdict.reason.endswith(".")


def test_words_of_many_languages_look_like_words():
    for words in (
        "It was the best of times, it was the worst of times",
        "Příliš žluťoučký kůň úpěl ďábelské ódy",
        "Szkoła podstawowa w Krakowie otwiera drzwi",
        "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich",
        "user@example.org 25kg and/or McDonald's IEEE-754",
    ):
        letters, wordlike, vowels = textlayer.word_statistics(words.split())
        assert letters > 20
        assert wordlike > 0.9
        assert 0.22 < vowels < 0.62


def test_a_shifted_alphabet_does_not_look_like_words():
    shifted = "Wkh txlfn eurzq ira mxpsv ryhu wkh odcb grj dqg ilqgv d zdup sodfh"
    _, wordlike, vowels = textlayer.word_statistics(shifted.split())
    assert wordlike < 0.85
    assert vowels < 0.22
