"""Digital pages are read from their text layer, where it can be trusted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from text_pages import IMAGE, LETTER, SENTENCE, WITH_IMAGE, read_layer, shown, texts

from mineru_daemon.engines.ppocr import textlayer
from mineru_daemon.engines.ppocr.textlayer import PageFacts, TextLayer, decide


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., TextLayer]:
    return partial(read_layer, tmp_path)


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
