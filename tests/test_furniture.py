"""Running headers, footers and page numbers, on one page and across pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mineru_daemon.engines.ppocr.furniture import on_page
from mineru_daemon.furniture import across_pages
from mineru_daemon.results import Block, PageResult


def block(text: str, top: float, kind: str = "text") -> Block:
    return Block(type=kind, bbox=(0.1, top, 0.9, top + 0.02), content=text)  # type: ignore[arg-type]


def page(index: int, blocks: list[Block]) -> PageResult:
    return PageResult(
        index=index, width_px=1, height_px=1, width_pt=None, height_pt=None, dpi=None,
        blocks=blocks,
    )  # fmt: skip


def marked(pages: list[list[Block]]) -> list[PageResult]:
    results = [page(index, blocks) for index, blocks in enumerate(pages)]
    return list(across_pages(lambda: iter(results))())


def types(pages: list[list[Block]]) -> list[list[str]]:
    return [[one.type for one in page.blocks] for page in marked(pages)]


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


def test_the_number_that_counts_the_pages_may_differ() -> None:
    pages = [[block(f"Report 2024, page {number}", 0.95)] for number in (11, 12, 14)]
    assert types([pages[0], pages[1]]) == [["footer"], ["footer"]]
    assert types([pages[0], [], [block("Report 2024, page 13", 0.95)]])[2] == ["footer"]


def test_other_numbers_may_not() -> None:
    pages = [[block("Invoice 2024-117", 0.03)], [block("Invoice 2024-139", 0.03)]]
    assert types(pages) == [["text"], ["text"]]
    pages = [[block("Report 2023, page 1", 0.95)], [block("Report 2024, page 2", 0.95)]]
    assert types(pages) == [["text"], ["text"]]


def test_a_header_that_one_page_knows_marks_it_on_the_other() -> None:
    pages = [[block("A Journal", 0.03, "header")], [block("A Journal", 0.03)]]
    assert types(pages) == [["header"], ["header"]]


def test_numbers_that_return_are_page_numbers() -> None:
    assert types([[block("7", 0.95)], [block("8", 0.95)]]) == [["page_number"], ["page_number"]]


def test_text_that_returns_in_the_middle_of_pages_stays() -> None:
    assert types([[block("Yours", 0.5)], [block("Yours", 0.5)]]) == [["text"], ["text"]]


def test_text_at_another_place_or_on_the_same_page_is_no_return() -> None:
    assert types([[block("Note", 0.02)], [block("Note", 0.09)]]) == [["text"], ["text"]]
    assert types([[block("Note", 0.03), block("Note", 0.03)]]) == [["text", "text"]]


def test_text_a_little_higher_or_lower_is_at_the_same_place() -> None:
    for top in (0.021, 0.025, 0.0299):
        assert types([[block("Note", 0.03)], [block("Note", top)]]) == [["header"], ["header"]]
    assert types([[block("Note", 0.03)], [block("Note", 0.0501)]]) == [["text"], ["text"]]


def test_a_heading_that_returns_loses_its_level() -> None:
    heading = block("A Journal", 0.03, "title").model_copy(update={"text_level": 1})
    first = marked([[heading], [heading]])[0].blocks[0]
    assert (first.type, first.text_level) == ("header", None)


def test_pages_stream_through_and_are_left_as_they_were() -> None:
    alive = most = 0

    class Tracked(PageResult):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def pages() -> Iterator[PageResult]:
        nonlocal alive, most
        for index in range(50):
            alive += 1
            most = max(most, alive)
            yield Tracked(**page(index, [block("A Journal", 0.03)]).model_dump())

    result = across_pages(pages)
    for _ in range(2):
        assert [one.blocks[0].type for one in result()] == ["header"] * 50
    assert most <= 3
