"""The result document: its schema, its JSON stream and content_list."""

from __future__ import annotations

import io
import json

import jsonschema
import pytest
from pydantic import ValidationError

from mineru_daemon import markdown, results
from mineru_daemon.results import Block, Line, PageResult, Result


def block(kind, content, **more):
    return Block(type=kind, bbox=(0.1, 0.2, 0.5, 0.25), content=content, **more)


def page(index, *blocks):
    return PageResult(
        index=index, width_px=100, height_px=200, width_pt=None, height_pt=None, dpi=None,
        blocks=list(blocks),
    )  # fmt: skip


HEAD: dict[str, object] = {
    "job": "1-a",
    "status": "success",
    "error": None,
    "source": {
        "name": "a.png", "folder": "", "name_hex": None, "sha256": "0" * 64, "bytes": 3,
        "media_type": "image/png", "pages": 2,
    },
    "engine": {
        "name": "ppocr", "model": "m", "precision": "fp32", "reason": None, "settings": {},
    },
    "created": "2025-01-01T00:00:00.000+00:00",
}  # fmt: skip


def written(pages):
    stream = io.StringIO()
    results.write_json(stream, HEAD, lambda: iter(pages), lambda: {"total": 1.0})
    return json.loads(stream.getvalue())


def test_the_stream_is_a_valid_result_document():
    line = Line(text="héllo \udcff?".replace("\udcff", "�"), polygon=[(0.1, 0.2)] * 4, score=0.5)
    document = written(
        [
            page(0, block("title", "T", text_level=2), block("text", "a\nb", lines=[line])),
            page(
                1, block("table", "<table></table>"), block("image", None), block("equation", "x")
            ),
        ]
    )
    jsonschema.Draft202012Validator(results.json_schema()).validate(document)
    parsed = Result.model_validate(document)
    assert [one.index for one in parsed.pages] == [0, 1]
    assert len(parsed.content_list) == 5


def test_a_document_without_pages_is_valid_too():
    jsonschema.Draft202012Validator(results.json_schema()).validate(written([]))


def test_the_schema_refuses_what_is_not_in_it():
    document = written([page(0, block("text", "a"))])
    validator = jsonschema.Draft202012Validator(results.json_schema())
    document["pages"][0]["blocks"][0]["bbox"][0] = 1.5
    assert not validator.is_valid(document)
    document = written([])
    document["surprise"] = 1
    assert not validator.is_valid(document)


def test_one_page_is_held_at_a_time():
    alive = 0
    most = 0

    class Tracked(PageResult):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def pages():
        nonlocal alive, most
        for index in range(50):
            alive += 1
            most = max(most, alive)
            yield Tracked(**page(index, block("text", "x")).model_dump())

    results.write_json(io.StringIO(), HEAD, pages, dict)
    markdown.write(io.StringIO(), pages())
    assert most <= 3


def test_content_list_follows_minerus_convention():
    items = list(
        results.content_list(
            page(
                3,
                block("title", "Title", text_level=2),
                block("text", "Text"),
                block("table", "<table><tr><td>1</td></tr></table>"),
                block("equation", "a^2"),
                block("image", None),
            )
        )
    )
    assert [item["type"] for item in items] == ["text", "text", "table", "equation", "image"]
    assert items[0]["text_level"] == 2
    assert "text_level" not in items[1]
    assert items[2]["table_body"].startswith("<table>")
    assert items[2]["table_caption"] == []
    assert items[3]["text_format"] == "latex"
    assert all(item["bbox"] == [100, 200, 500, 250] and item["page_idx"] == 3 for item in items)


@pytest.mark.parametrize("edge", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_box_outside_the_page_is_refused(edge):
    with pytest.raises(ValidationError):
        Block(type="text", bbox=(0, 0, edge, 1), content="")
