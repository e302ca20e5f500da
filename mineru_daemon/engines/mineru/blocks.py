"""The official client's blocks -> blocks of the result schema."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.results import BLOCK_TYPES, Block

INSIDE = 0.9
"""Share of a block's area that lies in a container it belongs to; as in mineru-vl-utils."""

CONTAINERS = {
    "list": frozenset({"text", "list_item", "ref_text"}),
    "image_block": frozenset({"image", "chart"}),
}

RENAMED = {
    "doc_title": "title",
    "paragraph_title": "title",
    "list_item": "text",
    "index": "text",
    "formula_number": "text",
    "image_block": "image",
}
"""Types of mineru-vl-utils 2 that MinerU 2.5's output does not have."""

LEVELS = {"title": 1, "doc_title": 1, "paragraph_title": 2}

NOTED = {"table": "table", "image": "image", "chart": "image", "code": "code"}
"""What a caption or footnote without a kind can belong to, and how its type begins."""


def to_blocks(found: Sequence[dict[str, Any]]) -> list[Block]:
    """`ContentBlock`s of a page, after the official post-processing, in their order.

    Besides the official keys a block may have `score` and `warnings`. A list that holds its
    entries takes them in, one per line; a container of pictures gives way to them.
    """
    entries = {number: _entries(number, found) for number in range(len(found))}
    taken = {
        one for number, held in entries.items() if found[number]["type"] == "list" for one in held
    }
    made = []
    for number, block in enumerate(found):
        kind, content = block["type"], block.get("content")
        if number in taken or (kind == "image_block" and entries[number]):
            continue
        warnings = list(block.get("warnings", ()))
        scores = [block.get("score")]
        if kind == "list" and entries[number]:
            held = [found[one] for one in entries[number]]
            content = "\n".join(" ".join((one.get("content") or "").split()) for one in held)
            warnings += [text for one in held for text in one.get("warnings", ())]
            scores = [one.get("score") for one in held]
        made.append(
            Block(
                type=_type(block, found),
                bbox=tuple(block["bbox"]),
                angle=block.get("angle") or 0,
                content=_plain(kind, content) or None,
                score=_mean(scores),
                text_level=LEVELS.get(kind),
                warnings=warnings,
            )
        )
    return made


def inherit(joined: dict[str, Any], found: Sequence[dict[str, Any]]) -> None:
    """Give a formula that post-processing made of several what was noted about them."""
    parts = [
        block
        for block in found
        if block["type"] == joined["type"] and _lies_in(block, joined) and block is not joined
    ]
    joined["score"] = _mean([block.get("score") for block in parts])
    joined["warnings"] = [text for block in parts for text in block.get("warnings", ())]


def _lies_in(inner: dict[str, Any], outer: dict[str, Any]) -> bool:
    return boxes.share(tuple(inner["bbox"]), tuple(outer["bbox"])) >= INSIDE


def _entries(number: int, found: Sequence[dict[str, Any]]) -> list[int]:
    """Numbers of the blocks that a container holds."""
    kinds = CONTAINERS.get(found[number]["type"], frozenset())
    return [
        other
        for other, block in enumerate(found)
        if block["type"] in kinds and _lies_in(block, found[number])
    ]


def _type(block: dict[str, Any], found: Sequence[dict[str, Any]]) -> Any:
    kind = block["type"]
    if kind in ("caption", "footnote"):
        near = min(
            (
                (_distance(block["bbox"], other["bbox"]), other["type"])
                for other in found
                if other["type"] in NOTED
            ),
            default=None,
        )
        if near is None:
            return "text" if kind == "caption" else "page_footnote"
        kind = f"{NOTED[near[1]]}_{kind}"
        kind = "page_footnote" if kind == "code_footnote" else kind
    kind = RENAMED.get(kind, kind)
    return kind if kind in BLOCK_TYPES else "unknown"


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    across = max(one[0], other[0]) - min(one[2], other[2])
    down = max(one[1], other[1]) - min(one[3], other[3])
    return math.hypot(max(across, 0.0), max(down, 0.0))


def _plain(kind: str, content: str | None) -> str:
    """Content without what only marks its kind: the brackets around an equation."""
    content = (content or "").strip()
    if kind == "equation":
        content = content.removeprefix("\\[").removesuffix("\\]").strip()
    return content


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None
