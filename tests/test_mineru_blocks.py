"""Blocks of the official client become blocks of the result schema."""

from __future__ import annotations

from typing import Any

import pytest
from mineru_vl_utils.structs import BLOCK_TYPES as THEIRS

from mineru_daemon.engines.mineru.blocks import inherit, to_blocks
from mineru_daemon.results import PageResult, content_list


def _found(kind: str, box: tuple[float, ...] = (0.1, 0.1, 0.9, 0.2), **more: Any) -> dict[str, Any]:
    return {"type": kind, "bbox": list(box), "angle": 0, "content": "Content", **more}


@pytest.mark.parametrize("kind", sorted(THEIRS))
def test_every_type_of_the_official_client_has_one_here(kind: str) -> None:
    (block,) = to_blocks([_found(kind)])
    assert block.content == "Content"
    if kind not in ("unknown", "equation_block"):
        assert block.type != "unknown"


def test_headings_have_levels() -> None:
    kinds = ("doc_title", "title", "paragraph_title", "text")
    blocks = to_blocks([_found(kind) for kind in kinds])
    assert [block.type for block in blocks] == ["title", "title", "title", "text"]
    assert [block.text_level for block in blocks] == [1, 1, 2, None]


def test_a_turned_block_says_by_how_much() -> None:
    assert [block.angle for block in to_blocks([_found("text", angle=90)])] == [90]
    assert [block.angle for block in to_blocks([_found("text", angle=None)])] == [0]


def test_an_equation_has_no_brackets() -> None:
    (block,) = to_blocks([_found("equation", content="\\[\nE = m c ^ { 2 }\n\\]")])
    assert block.content == "E = m c ^ { 2 }"


def test_a_formula_of_several_lines_keeps_their_warnings() -> None:
    lines = [
        _found("equation", (0.2, 0.1, 0.8, 0.2), score=0.5, warnings=["Broken off."]),
        _found("equation", (0.2, 0.25, 0.8, 0.35), score=1.0, warnings=[]),
        _found("equation", (0.2, 0.6, 0.8, 0.7), score=0.1, warnings=["Elsewhere."]),
    ]
    joined = _found("equation", (0.1, 0.1, 0.9, 0.4))
    inherit(joined, [*lines, joined])
    assert (joined["score"], joined["warnings"]) == (0.75, ["Broken off."])


def test_a_list_takes_its_entries_in() -> None:
    found = [
        _found("list", (0.1, 0.1, 0.9, 0.4), content=None),
        _found("text", (0.1, 0.1, 0.9, 0.2), content="1. Prices are\nprinted.", score=0.5),
        _found("text", (0.1, 0.25, 0.9, 0.4), content="2. Tomas asks.", score=1.0, warnings=["w"]),
        _found("text", (0.1, 0.5, 0.9, 0.6), content="No entry."),
    ]
    listed, other = to_blocks(found)
    assert (listed.type, listed.content) == ("list", "1. Prices are printed.\n2. Tomas asks.")
    assert (listed.score, listed.warnings) == (0.75, ["w"])
    assert other.content == "No entry."
    page = PageResult(
        index=0, width_px=1, height_px=1, width_pt=1, height_pt=1, dpi=1, blocks=[listed]
    )
    (item,) = content_list(page)
    assert item["list_items"] == ["1. Prices are printed.", "2. Tomas asks."]


def test_a_container_of_pictures_gives_way_to_them() -> None:
    inner = _found("image", (0.1, 0.1, 0.4, 0.2), content=None)
    outer = _found("image_block", (0.1, 0.1, 0.9, 0.2), content=None)
    assert [block.bbox[2] for block in to_blocks([outer, inner])] == [0.4]
    assert [block.type for block in to_blocks([outer])] == ["image"]


@pytest.mark.parametrize(
    ("kind", "near", "expected"),
    [
        ("caption", "table", "table_caption"),
        ("caption", "chart", "image_caption"),
        ("caption", None, "text"),
        ("footnote", "table", "table_footnote"),
        ("footnote", None, "page_footnote"),
    ],
)
def test_a_caption_without_a_kind_belongs_to_what_is_nearest(
    kind: str, near: str | None, expected: str
) -> None:
    found = [_found(kind, (0.1, 0.1, 0.9, 0.15)), _found("code", (0.1, 0.8, 0.9, 0.9))]
    if near is None:
        found.pop()
    else:
        found.append(_found(near, (0.1, 0.16, 0.9, 0.5)))
    assert to_blocks(found)[0].type == expected


def test_warnings_and_scores_go_with_the_block() -> None:
    (block,) = to_blocks([_found("text", score=0.25, warnings=["Broken off."])])
    assert (block.score, block.warnings) == (0.25, ["Broken off."])
    (block,) = to_blocks([_found("text", content="  ")])
    assert block.content is None
