"""The result document: its schema, its JSON stream and content_list."""

from __future__ import annotations

import io
import json

import jsonschema
import pytest
from pydantic import ValidationError
from result_building import block, page

from mineru_daemon import markdown, results
from mineru_daemon.results import Block, Line, PageResult, Result

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


def listed(*blocks):
    return list(results.content_list(page(3, *blocks)))


def test_content_list_follows_minerus_convention():
    items = listed(
        block("title", "Title", text_level=2),
        block("text", "Text"),
        block("table", "<table><tr><td>1</td></tr></table>"),
        block("equation", "a^2"),
        block("image", None),
    )
    assert [item["type"] for item in items] == ["text", "text", "table", "equation", "image"]
    assert items[0]["text_level"] == 2
    assert "text_level" not in items[1]
    assert items[2]["table_body"].startswith("<table>")
    assert items[2]["table_caption"] == items[2]["table_footnote"] == []
    assert (items[3]["text"], items[3]["text_format"]) == ("$$\na^2\n$$", "latex")
    assert items[4]["image_caption"] == items[4]["image_footnote"] == []
    assert all(item["bbox"] == [100, 200, 500, 250] and item["page_idx"] == 3 for item in items)


def test_content_list_has_what_was_read_in_pictures():
    image, chart = listed(
        block("image", "A harbour."), block("chart", "| x | y |"), block("image_caption", "Fig. 1")
    )
    assert (image["type"], image["content"]) == ("image", "A harbour.")
    assert (chart["type"], chart["content"]) == ("chart", "| x | y |")
    assert chart["chart_footnote"] == []
    assert image["image_caption"] + chart["chart_caption"] == ["Fig. 1"]


def test_content_list_tells_lists_and_code_by_their_kind():
    first, second, third = listed(
        block("list", "one\ntwo"), block("code", "x = 1"), block("algorithm", "1: end")
    )
    assert (first["type"], first["sub_type"]) == ("list", "text")
    assert first["list_items"] == ["one", "two"]
    assert (second["type"], second["sub_type"], second["code_body"]) == ("code", "code", "x = 1")
    assert (third["type"], third["sub_type"], third["code_body"]) == ("code", "algorithm", "1: end")


@pytest.mark.parametrize("kind", ["header", "footer", "page_number", "page_footnote", "ref_text"])
def test_content_list_keeps_what_repeats_under_its_own_type(kind):
    (item,) = listed(block(kind, "7"))
    assert (item["type"], item["text"]) == (kind, "7")


def placed(kind, content, top, left=0.1):
    return Block(type=kind, bbox=(left, top, left + 0.3, top + 0.04), content=content)


def test_captions_and_footnotes_stand_in_the_item_they_belong_to():
    items = listed(
        placed("table_caption", "Table 1", 0.10),
        placed("table", "<table></table>", 0.15),
        placed("table_footnote", "a: estimated", 0.20),
        placed("table_caption", "Table 2", 0.32),
        placed("table", "<table>2</table>", 0.37),
        placed("image", None, 0.6),
        placed("image_caption", "Figure 1", 0.65),
        placed("image_footnote", "from: us", 0.70),
    )
    assert [item["type"] for item in items] == ["table", "table", "image"]
    first, second, picture = items
    assert (first["table_caption"], first["table_footnote"]) == (["Table 1"], ["a: estimated"])
    assert (second["table_caption"], second["table_footnote"]) == (["Table 2"], [])
    assert (picture["image_caption"], picture["image_footnote"]) == (["Figure 1"], ["from: us"])


def test_a_caption_far_from_everything_is_text():
    items = listed(placed("table", "<table></table>", 0.1), placed("table_caption", "Lost", 0.8))
    assert items[0]["table_caption"] == []
    assert (items[1]["type"], items[1]["text"]) == ("text", "Lost")
    beside = listed(placed("image", None, 0.1), placed("image_caption", "Lost", 0.1, left=0.6))
    assert beside[0]["image_caption"] == []


def test_the_list_as_a_file_is_the_list_in_the_result():
    pages = [page(0, block("text", "a")), page(1), page(2, block("title", "b"))]
    stream = io.StringIO()
    results.write_content_list(stream, pages)
    assert json.loads(stream.getvalue()) == written(pages)["content_list"]


@pytest.mark.parametrize("edge", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_box_outside_the_page_is_refused(edge):
    with pytest.raises(ValidationError):
        Block(type="text", bbox=(0, 0, edge, 1), content="")
