"""Entries of lists become one block, and lists of Markdown."""

from __future__ import annotations

from mineru_daemon import markdown
from mineru_daemon.engines.ppocr.lists import gathered
from mineru_daemon.results import Block, BlockType, Link, PageResult, content_list


def entry(text: str, top: float, kind: BlockType = "text", left: float = 0.1) -> Block:
    return Block(type=kind, bbox=(left, top, left + 0.4, top + 0.02), content=text, score=0.9)


def found(*blocks: Block) -> list[tuple[str, str | None]]:
    return [(block.type, block.content) for block in gathered(blocks)]


def test_entries_below_each_other_are_one_list() -> None:
    before, after = entry("Buy:", 0.1), entry("Thank you", 0.25)
    assert found(before, entry("• eggs", 0.13), entry("• milk", 0.16), after) == [
        ("text", "Buy:"),
        ("list", "• eggs\n• milk"),
        ("text", "Thank you"),
    ]
    assert found(entry("1. boil", 0.1), entry("2. stir", 0.13)) == [("list", "1. boil\n2. stir")]
    assert found(entry("・卵", 0.1), entry("・牛乳", 0.13)) == [("list", "・卵\n・牛乳")]


def test_single_entries_headings_and_entries_elsewhere_are_no_list() -> None:
    assert found(entry("1. May", 0.1)) == [("text", "1. May")]
    heads = (entry("1. Aim", 0.1, "title"), entry("2. Way", 0.13, "title"))
    assert [kind for kind, _ in found(*heads)] == ["title", "title"]
    for other in (entry("• b", 0.5), entry("• b", 0.13, left=0.6)):
        assert [kind for kind, _ in found(entry("• a", 0.1), other)] == ["text", "text"]


def test_a_list_keeps_its_place_and_its_links() -> None:
    link = Link(text="eggs", uri="https://example.org/")
    first = entry("• eggs", 0.1).model_copy(update={"links": [link]})
    (block,) = gathered([first, entry("• milk", 0.13)])
    assert block.bbox == (0.1, 0.1, 0.5, 0.15)
    assert block.links == [link]
    assert block.score == 0.9


def shown(content: str) -> str:
    return markdown.of_page(page(Block(type="list", bbox=(0, 0, 1, 1), content=content)))


def page(*blocks: Block) -> PageResult:
    return PageResult(
        index=0, width_px=None, height_px=None, width_pt=None, height_pt=None, dpi=None,
        origin="ocr", blocks=list(blocks),
    )  # fmt: skip


def test_markdown_has_its_own_bullets_and_keeps_numbers() -> None:
    assert shown("• eggs\n◦ milk\n・ bread") == "- eggs\n- milk\n- bread"
    assert shown("1. boil\n2) stir") == "1. boil\n2) stir"
    assert shown("(a) boil\n(b) stir") == "(a) boil\n\n(b) stir"


def test_content_list_has_the_entries() -> None:
    block = Block(type="list", bbox=(0, 0, 1, 1), content="• eggs\n• milk")
    (item,) = content_list(page(block))
    assert (item["type"], item["list_items"]) == ("list", ["• eggs", "• milk"])
