"""Links of digital PDFs are kept with the text that they lie on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from text_pages import read_layer, shown

from mineru_daemon.engines.ppocr import digital, pdf_objects
from mineru_daemon.engines.ppocr.links import followable, on_words
from mineru_daemon.engines.ppocr.pdf_text import PrintedLine, Word
from mineru_daemon.results import Link


def link(uri: str, *box: float, more: str = "") -> str:
    rectangle = " ".join(map(str, box))
    action = f"/A << /S /URI /URI ({uri}) >>"
    return f"<< /Type /Annot /Subtype /Link /Rect [{rectangle}] {action} {more} >>"


@pytest.fixture
def links(tmp_path: Path) -> Any:
    """Links of each block of a page of 600 x 400 points with this content."""

    def _links(content: bytes, *annotations: str) -> list[list[tuple[str, str]]]:
        page = f"/MediaBox [0 0 600 400] /Annots [{' '.join(annotations)}]".encode()
        blocks = digital.to_blocks(read_layer(tmp_path, content, page, "text"))
        return [[(one.text, one.uri) for one in block.links] for block in blocks]

    return _links


def test_a_link_has_the_words_under_it(links):
    # Helvetica of 12 points: "See " is 24.7 points wide, "our site" 43.
    found = links(
        shown("See our site for more", 50, 300), link("https://a.example/x", 74, 296, 119, 312)
    )
    assert found == [[("our site", "https://a.example/x")]]


def test_a_mark_beside_the_link_is_not_part_of_it(links):
    found = links(
        shown("\\(site\\) and more text here", 50, 300),
        link("https://a.example/", 54, 296, 72, 312),
    )
    assert found == [[("site", "https://a.example/")]]


def test_marks_of_chinese_are_marks_too():
    box = (10.0, 10.0, 50.0, 22.0)
    word = Word("（网站）。", (0.0, 10.0, 62.0, 22.0), 12.0, False)
    line = PrintedLine(
        ((0.0, 10.0), (62.0, 10.0), (62.0, 22.0), (0.0, 22.0)), word.text, 1.0, words=(word,)
    )
    (found,) = on_words([pdf_objects.Link(box, "https://a.example/")], [line])
    assert found.text == "网站"


def test_a_link_goes_on_in_the_next_line(links):
    content = shown("For more of it you may always read the long", 50, 300)
    content += shown("guide of our house, or ask at the counter.", 50, 286)
    first, second = (242, 296, 300, 310), (50, 282, 80, 296)
    uri = "https://a.example/"
    two = links(content, link(uri, *first), link(uri, *second))
    assert two == [[("the long guide", uri)]]

    def corners(left: float, bottom: float, right: float, top: float) -> str:
        return f"{left} {top} {right} {top} {left} {bottom} {right} {bottom}"

    quads = f"/QuadPoints [{corners(*first)} {corners(*second)}]"
    assert links(content, link(uri, 50, 282, 300, 310, more=quads)) == two


def test_each_block_has_its_own_links(links):
    content = shown("One line at the top", 50, 350) + shown("another line below it", 50, 100)
    found = links(
        content,
        link("https://a.example/", 45, 345, 200, 365),
        link("mailto:b@b.example", 45, 95, 200, 115),
        link("https://nowhere.example/", 400, 200, 500, 220),
    )
    assert found == [
        [("One line at the top", "https://a.example/")],
        [("another line below it", "mailto:b@b.example")],
    ]


@pytest.mark.parametrize(
    "uri",
    ["javascript:alert(1)", "file:///etc/passwd", "data:text/html,x", "www.a.example", "https:"],
)
def test_links_elsewhere_than_to_the_web_or_a_mail_address_are_dropped(uri):
    assert followable(uri) is None
    with pytest.raises(ValidationError):
        Link(text="x", uri=uri)


def test_a_uri_is_brought_into_form():
    assert followable("HTTPS://a.example/a b\nc") == "https://a.example/a%20b%0Ac"
    assert followable("Mailto:x@y.example") == "mailto:x@y.example"
    assert Link(text="x", uri=followable("http://a.example/\u2028\x00ü") or "")
