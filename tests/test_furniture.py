"""Running headers, footers and page numbers, on one page and across pages."""

from __future__ import annotations

import pytest

from mineru_daemon.engines.ppocr.furniture import across_pages, on_page
from mineru_daemon.results import Block


def block(text: str, top: float, kind: str = "text") -> Block:
    return Block(type=kind, bbox=(0.1, top, 0.9, top + 0.02), content=text)  # type: ignore[arg-type]


def types(pages: list[list[Block]]) -> list[list[str]]:
    return [[one.type for one in page] for page in across_pages(pages)]


@pytest.mark.parametrize("text", ["7", "- 12 -", "Page 3 of 10", "xii", "3 / 10", "第 3 页"])
def test_a_page_number_at_the_bottom_is_known_without_the_model(text: str) -> None:
    assert on_page(text, "text", 0.95, 0.97) == "page_number"


@pytest.mark.parametrize("text", ["12.50", "civil", "2 apples", "No. 7 of the series"])
def test_other_short_texts_are_no_page_numbers(text: str) -> None:
    assert on_page(text, "text", 0.95, 0.97) is None


def test_the_model_alone_makes_a_header_only_at_the_edge_of_the_page() -> None:
    assert on_page("A Journal", "header", 0.03, 0.05) == "header"
    assert on_page("A Journal", "header", 0.40, 0.42) is None
    assert on_page("A Journal", "footer", 0.95, 0.97) == "footer"


def test_text_at_the_edge_is_text_if_nothing_says_otherwise() -> None:
    assert on_page("A Journal", "text", 0.03, 0.05) is None


def test_text_that_returns_on_the_next_page_is_a_header() -> None:
    pages = [[block("A Journal", 0.03), block("one", 0.5)], [block("A Journal", 0.032)]]
    assert types(pages) == [["header", "text"], ["header"]]


def test_digits_may_differ_from_page_to_page() -> None:
    pages = [[block("Report 2024, page 1", 0.95)], [block("Report 2024, page 2", 0.95)]]
    assert types(pages) == [["footer"], ["footer"]]


def test_numbers_that_return_are_page_numbers() -> None:
    assert types([[block("7", 0.95)], [block("8", 0.95)]]) == [["page_number"], ["page_number"]]


def test_text_that_returns_in_the_middle_of_pages_stays() -> None:
    assert types([[block("Yours", 0.5)], [block("Yours", 0.5)]]) == [["text"], ["text"]]


def test_text_at_another_place_or_on_the_same_page_is_no_return() -> None:
    assert types([[block("Note", 0.02)], [block("Note", 0.09)]]) == [["text"], ["text"]]
    assert types([[block("Note", 0.03), block("Note", 0.03)]]) == [["text", "text"]]


def test_a_heading_that_returns_loses_its_level() -> None:
    page = [block("Chapter 1", 0.03, "title").model_copy(update={"text_level": 1})]
    (first, _) = across_pages([page, page])
    assert (first[0].type, first[0].text_level) == ("header", None)
