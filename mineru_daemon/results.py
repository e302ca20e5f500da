"""The result schema, its JSON and MinerU's content_list.

Pure data and pure functions. Who reads the pages is told by `engines`, where the files
go by `commit`; the other rendering is `markdown`. Results are written as streams, page by
page, so that a document of ten thousand pages needs no more memory than one of its pages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_NAME = "mineru-daemon/result"
SCHEMA_VERSION = "1.1"

BlockType = Literal[
    "text",
    "title",
    "table",
    "image",
    "chart",
    "equation",
    "list",
    "code",
    "algorithm",
    "header",
    "footer",
    "page_number",
    "aside_text",
    "page_footnote",
    "ref_text",
    "phonetic",
    "table_caption",
    "table_footnote",
    "image_caption",
    "image_footnote",
    "code_caption",
    "unknown",
]
"""Block types of MinerU 2.5 and its successors (their README, section on output)."""

BLOCK_TYPES: tuple[str, ...] = get_args(BlockType)

FURNITURE: frozenset[str] = frozenset({"header", "footer", "page_number", "aside_text"})
"""What stands around the text of a page. Kept in JSON, left out of Markdown, as MinerU does."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
BBox = tuple[Fraction, Fraction, Fraction, Fraction]
"""x0, y0, x1, y1 as fractions of the upright page, origin at the top left."""

Angle = Literal[0, 90, 180, 270]
"""Degrees clockwise by which something is turned."""


class Model(BaseModel):
    """Base of the schema's models: no unknown keys, so that a misspelt one is seen."""

    model_config = ConfigDict(extra="forbid")


class Line(Model):
    """One recognised line of text."""

    text: str
    polygon: list[tuple[float, float]] = Field(
        description="Corners in reading order, fractions of the upright page."
    )
    score: Fraction | None = Field(description="Mean confidence of the characters.")
    low: list[tuple[int, int]] = Field(
        default_factory=list,
        description="Words that were read unsurely: first character, and the one after the last.",
    )


class Link(Model):
    """Text of a block that leads to the web or to a mail address."""

    text: str = Field(description="As it stands in the block's content.")
    uri: str = Field(pattern=r"^(https?|mailto):\S+$")


class Block(Model):
    """One region of a page."""

    type: BlockType
    bbox: BBox
    angle: Angle = 0
    content: str | None = Field(
        description="Text, of a list with an entry on each line; a table as HTML; an equation as "
        "LaTeX, or as it was read where the block has lines; null for a bare image."
    )
    score: Fraction | None = None
    text_level: int | None = Field(default=None, description="Heading level of a title, from 1.")
    lines: list[Line] = Field(default_factory=list)
    links: list[Link] = Field(default_factory=list)
    image: str | None = Field(
        default=None,
        description="File of the block's picture in the folder NAME.mineru, if it was asked for.",
    )
    warnings: list[str] = Field(default_factory=list)


class ErrorInfo(Model):
    """Why a file or a page was not read."""

    code: str = Field(description="For programs: unsupported, encrypted, damaged, …")
    message: str = Field(description="For people: one sentence.")


class Confidence(Model):
    """How surely a page was recognised, so that bad scans can be sorted out."""

    mean_score: Fraction = Field(description="Mean confidence of all characters.")
    low_share: Fraction = Field(description="Share of characters in words of `Line.low`.")
    characters: int = Field(ge=1, description="Recognised characters, without white space.")


class PageResult(Model):
    """One page, read or failed."""

    index: int = Field(ge=0, description="Counted from 0.")
    width_px: int | None = Field(description="Width of the image that was read, in pixels.")
    height_px: int | None
    width_pt: float | None = Field(description="Width in points (1/72 inch), if known.")
    height_pt: float | None
    dpi: float | None = Field(description="Pixels per inch of the image that was read, if known.")
    rotation: Angle = Field(default=0, description="Degrees clockwise that set the page upright.")
    origin: Literal["ocr", "text-layer", "mixed"] = Field(
        default="ocr", description="Where the text comes from."
    )
    origin_reason: str | None = Field(
        default=None,
        description="Why the text of a PDF page comes from there; null for pages of images.",
    )
    confidence: Confidence | None = Field(
        default=None, description="Null where nothing was recognised, as on text-layer pages."
    )
    blocks: list[Block] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    error: ErrorInfo | None = None
    timings: dict[str, float] = Field(
        default_factory=dict, description="Wall seconds per stage, by name."
    )


class Source(Model):
    """The delivered file."""

    name: str = Field(description="As delivered; bytes that are no UTF-8 become U+FFFD.")
    folder: str = Field(default="", description="Sub-folder of the inbox, '/' between parts.")
    name_hex: str | None = Field(
        default=None, description="The name's bytes in hex where it is no valid UTF-8."
    )
    sha256: str | None
    bytes: int | None
    media_type: str | None
    pages: int | None


class EngineInfo(Model):
    """Which engine read the file, and with what."""

    name: str
    model: str
    precision: str
    reason: str | None = Field(default=None, description="Why `engine = auto` chose it.")
    settings: dict[str, Any] = Field(description="The settings that had an effect.")


class ContentItem(BaseModel):
    """One entry of MinerU's `content_list`; which keys it has depends on `type`."""

    model_config = ConfigDict(extra="allow")

    type: str
    bbox: tuple[int, int, int, int] = Field(description="In 0..1000 of the page.")
    page_idx: int = Field(ge=0)


class Result(Model):
    """Schema of a result document. Written by `write_json`, one stream, one page a time."""

    schema_: Literal["mineru-daemon/result"] = Field(alias="schema")
    version: Literal["1.1"]
    job: str = Field(description="Unique for each delivery.")
    status: Literal["success", "partial", "failed"]
    error: ErrorInfo | None
    source: Source
    engine: EngineInfo | None
    created: str = Field(description="When the result was written: ISO 8601, UTC.")
    pages: list[PageResult]
    content_list: list[ContentItem]
    timings: dict[str, float] = Field(description="Wall seconds per stage over the document.")


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a result document."""
    schema = Result.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA_NAME,
        **{key: value for key, value in schema.items() if key != "title"},
    }


def content_list(page: PageResult) -> Iterator[dict[str, Any]]:
    """The page's blocks in MinerU's published `content_list` convention.

    Captions and footnotes stand in the item of the table, picture or code that they
    belong to. Paths of pictures are as seen from the folder NAME.mineru, empty where none
    was cut out. Source: MinerU's documentation of its output files, `*_content_list.json`.
    """
    notes = _notes(page.blocks)
    joined = {number for numbers in notes.values() for number in numbers}
    for number, block in enumerate(page.blocks):
        if number in joined:
            continue
        item = _content_item(block)
        for note in notes.get(number, []):
            _, _, kind = page.blocks[note].type.partition("_")
            item[f"{item['type']}_{kind}"].append(page.blocks[note].content or "")
        item["bbox"] = [round(edge * 1000) for edge in block.bbox]
        item["page_idx"] = page.index
        yield item


def _content_item(block: Block) -> dict[str, Any]:
    content = block.content or ""
    path = block.image or ""
    match block.type:
        case "title":
            return {"type": "text", "text": content, "text_level": block.text_level or 1}
        case "table":
            empty: dict[str, Any] = {"table_caption": [], "table_footnote": []}
            return {"type": "table", "img_path": path, **empty, "table_body": content}
        case "image" | "chart" as kind:
            told = {"content": content} if content else {}
            notes: dict[str, Any] = {f"{kind}_caption": [], f"{kind}_footnote": []}
            return {"type": kind, "img_path": path, **told, **notes}
        case "equation":
            plain = {"text": content, "text_format": "text"}
            latex = {"text": f"$$\n{content}\n$$", "text_format": "latex"}
            return {"type": "equation", "img_path": path, **(plain if block.lines else latex)}
        case "code" | "algorithm":
            return {
                "type": "code", "sub_type": block.type, "code_caption": [], "code_body": content
            }  # fmt: skip
        case "list":
            return {"type": "list", "sub_type": "text", "list_items": content.splitlines()}
        case kind if kind in _NOTES or kind == "unknown":
            return {"type": "text", "text": content}
        case kind:
            return {"type": kind, "text": content}


_NOTES: dict[str, frozenset[str]] = {
    "table_caption": frozenset({"table"}),
    "table_footnote": frozenset({"table"}),
    "image_caption": frozenset({"image", "chart"}),
    "image_footnote": frozenset({"image", "chart"}),
    "code_caption": frozenset({"code", "algorithm"}),
}
"""Captions and footnotes, and what they can belong to."""

_NOTE_REACH = 0.1
"""Share of the page's sides by which a note stands away from what it belongs to at most."""


def _notes(blocks: Sequence[Block]) -> dict[int, list[int]]:
    """Numbers of the captions and footnotes of each block that has any."""
    notes: dict[int, list[int]] = {}
    for number, block in enumerate(blocks):
        near = [
            (_distance(block.bbox, other.bbox), place)
            for place, other in enumerate(blocks)
            if other.type in _NOTES.get(block.type, ())
        ]
        if near and min(near)[0] <= _NOTE_REACH:
            notes.setdefault(min(near)[1], []).append(number)
    return notes


def _distance(one: BBox, other: BBox) -> float:
    """The gap between two boxes, the larger of across and down; 0 if they touch."""
    across = max(one[0], other[0]) - min(one[2], other[2])
    down = max(one[1], other[1]) - min(one[3], other[3])
    return max(across, down, 0.0)


def write_content_list(stream: IO[str], pages: Iterable[PageResult]) -> None:
    """Write the document's `content_list` as a file of its own."""
    stream.write("[")
    _write_items(stream, (item for page in pages for item in content_list(page)))
    stream.write("\n]\n")


def write_json(
    stream: IO[str],
    head: dict[str, Any],
    pages: Callable[[], Iterable[PageResult]],
    timings: Callable[[], dict[str, float]],
) -> None:
    """Write a result document that satisfies `Result`, holding one page at a time.

    `head` has the keys from `job` to `created`; `pages` is called twice, once for
    `pages` and once for `content_list`; `timings` is called last.
    """
    stream.write("{")
    for key, value in {"schema": SCHEMA_NAME, "version": SCHEMA_VERSION, **head}.items():
        stream.write(f"{_dumps(key)}: {_dumps(value)},\n")
    stream.write('"pages": [')
    _write_items(stream, (page.model_dump(mode="json") for page in pages()))
    stream.write('],\n"content_list": [')
    _write_items(stream, (item for page in pages() for item in content_list(page)))
    stream.write(f'],\n"timings": {_dumps(timings())}}}\n')


def _write_items(stream: IO[str], items: Iterable[dict[str, Any]]) -> None:
    for number, item in enumerate(items):
        stream.write((",\n" if number else "\n") + _dumps(item))


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
