"""Lines and regions -> blocks: types, headings, captions, nothing lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from page_building import EM, column, line

from mineru_daemon.engines.ppocr.gutter_lines import split_at_gutter
from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.engines.ppocr.paragraphs import row_text
from mineru_daemon.engines.ppocr.regions import Region
from mineru_daemon.engines.ppocr.structure import to_blocks
from mineru_daemon.results import Block, BlockType

WIDTH, HEIGHT = 1000, 1400


def region(
    kind: BlockType, left: float, top: float, right: float, bottom: float, score: float = 0.95
) -> Region:
    return Region(kind, (left, top, right, bottom), score)


def blocks(lines: Sequence[TextLine], *regions: Region) -> list[Block]:
    return to_blocks(lines, regions, WIDTH, HEIGHT)


def contents(lines: Sequence[TextLine], *regions: Region) -> list[tuple[str, str | None]]:
    return [(block.type, block.content) for block in blocks(lines, *regions)]


def table(left: float, top: float) -> list[TextLine]:
    return [
        line(f"c{row}{cell}", left + 150 * cell, top + 30 * row, 60)
        for row in range(4)
        for cell in range(3)
    ]


def test_lines_outside_all_regions_make_paragraphs() -> None:
    (block,) = blocks(column("a", 50, 300, 4))
    assert block.type == "text"
    assert block.content is not None
    assert block.content.startswith("a0 words")
    assert block.content.endswith("a3 words of a text that goes on and on")
    assert len(block.lines) == 4


def test_boxes_and_polygons_are_fractions_of_the_page() -> None:
    (block,) = blocks([line("text", 100, 140, 500)])
    assert block.bbox == pytest.approx((0.1, 0.1, 0.6, (140 + EM) / HEIGHT))
    assert block.lines[0].polygon[0] == pytest.approx((0.1, 0.1))


def test_no_line_is_lost_or_doubled_whatever_the_regions_say() -> None:
    lines = column("a", 50, 100, 8) + column("b", 480, 100, 8) + table(60, 600)
    odd = [
        region("table", 40, 580, 460, 730),
        region("text", 30, 80, 900, 250),
        region("image", 0, 0, 1000, 1400),
        region("title", 50, 130, 300, 150),
        region("equation", 480, 95, 900, 160),
        region("header", 40, 590, 500, 700),
    ]
    read = sorted(one.text for block in blocks(lines, *odd) for one in block.lines)
    assert read == sorted(one.text for one in lines)


def test_a_table_holds_its_lines_and_leaves_its_content_to_others() -> None:
    lines = [*column("a", 50, 100, 4), *table(60, 300), *column("b", 50, 500, 4)]
    found = blocks(lines, region("table", 50, 290, 460, 420))
    assert [block.type for block in found] == ["text", "table", "text"]
    assert found[1].content is None
    assert len(found[1].lines) == 12
    assert found[1].bbox == pytest.approx((0.05, 290 / HEIGHT, 0.46, 420 / HEIGHT))


def test_a_caption_keeps_its_type_and_place_beside_its_table() -> None:
    lines = [line("Table 1 All of them", 60, 260, 300), *table(60, 300)]
    found = contents(
        lines, region("table", 50, 290, 460, 420), region("table_caption", 50, 255, 400, 285)
    )
    assert found == [("table_caption", "Table 1 All of them"), ("table", None)]


def test_a_table_that_the_model_doubts_stays_text_in_rows() -> None:
    lines = table(60, 300)
    found = contents(lines, region("table", 50, 290, 460, 420, score=0.45))
    assert found[0] == ("text", "c00 c01 c02")


def test_a_page_taken_for_a_picture_as_a_whole_stays_text() -> None:
    lines = [*column("a", 50, 100, 12), *table(60, 600)]
    assert all(
        block.type == "text" for block in blocks(lines, region("image", 0, 0, 1000, 1000, 0.97))
    )


def test_a_picture_of_most_of_the_page_with_text_in_it_stays_text() -> None:
    lines = [*column("a", 50, 100, 4), *column("b", 50, 900, 12)]
    large = region("image", 0, 60, 1000, 860, 0.97)
    assert all(block.type == "text" for block in blocks(lines, large))


def test_words_in_a_picture_stay_with_it() -> None:
    lines = [*column("a", 50, 100, 6), line("label", 200, 500, 80)]
    found = blocks(lines, region("image", 100, 400, 450, 700))
    picture = found[-1]
    assert (picture.type, picture.content) == ("image", None)
    assert [one.text for one in picture.lines] == ["label"]


def test_words_in_a_picture_that_the_model_doubts_stay_text() -> None:
    lines = [*column("a", 50, 100, 6), line("label", 200, 500, 80)]
    found = contents(lines, region("image", 100, 400, 450, 700, score=0.6))
    assert found[-1] == ("text", "label")


def test_a_bare_picture_is_a_block_without_lines() -> None:
    found = blocks(column("a", 50, 100, 6), region("image", 100, 400, 450, 700))
    assert (found[-1].type, found[-1].lines) == ("image", [])


def test_the_model_and_the_size_of_type_make_headings() -> None:
    lines = [
        line("A large one", 50, 60, 500, height=40),
        *column("a", 50, 150, 4),
        line("Small one", 50, 300, 120),
        *column("b", 50, 350, 4),
    ]
    found = blocks(lines, region("title", 45, 295, 175, 325))
    assert [(block.type, block.text_level) for block in found] == [
        ("title", 1),
        ("text", None),
        ("title", 2),
        ("text", None),
    ]


def test_sizes_from_a_text_layer_count_more_than_the_heights_of_boxes() -> None:
    lines = [line("Heading", 50, 60, 120), *column("a", 50, 120, 4)]
    found = to_blocks(lines, [], WIDTH, HEIGHT, sizes=[18.0, *[10.0] * 4])
    assert [block.type for block in found] == ["title", "text"]


def test_headers_and_page_numbers_at_the_edge_are_marked_and_kept() -> None:
    lines = [line("A Journal", 400, 40, 120), *column("a", 50, 150, 30), line("17", 490, 1350, 20)]
    found = blocks(lines, region("header", 395, 35, 525, 65))
    assert [block.type for block in found] == ["header", "text", "page_number"]


def test_a_paragraph_is_no_heading_whatever_the_model_says() -> None:
    lines = column("a", 50, 300, 4, 300)
    (block,) = blocks(lines, region("title", 40, 290, 360, 420))
    assert block.type == "text"


def test_the_first_line_of_a_column_is_no_header_whatever_the_model_says() -> None:
    lines = [*column("a", 50, 40, 6), *column("b", 500, 40, 6)]
    found = blocks(lines, region("header", 45, 38, 455, 62))
    assert "header" not in [block.type for block in found]


def test_a_stamp_that_stands_sideways_at_the_edge_is_no_text_of_the_page() -> None:
    (left, top, right, bottom) = 970, 400, 990, 900
    corners = ((left, bottom), (left, top), (right, top), (right, bottom))
    stamp = TextLine(corners, "Downloaded from an archive", 0.99)
    found = blocks([*column("a", 100, 300, 8, 700), stamp])
    assert {block.content: block.type for block in found}[stamp.text] == "aside_text"
    moved = tuple((x - 400, y) for x, y in corners)
    inside = blocks([line("text", 50, 100, 500), TextLine(moved, stamp.text, 0.99)])
    assert "aside_text" not in [block.type for block in inside]


def test_a_region_on_both_sides_of_a_gap_speaks_against_columns() -> None:
    lines = [line("2016-12-30 issued", 50, 900, 200), line("2017-11-01 in force", 700, 900, 200)]
    lines += [
        line(f"Committee {number} of Standards and their Use", 150, 960 + 30 * number, 420)
        for number in range(5)
    ]
    lines.append(line("ed.", 620, 1035, 40))
    apart = [block.content or "" for block in blocks(lines)]
    together = [block.content or "" for block in blocks(lines, region("text", 140, 950, 670, 1110))]
    assert apart[-1] == "ed."
    assert together[0] == "2016-12-30 issued 2017-11-01 in force"


def test_a_header_below_other_text_is_text() -> None:
    lines = [line("First of all", 50, 20, 200), line("A Journal", 50, 80, 120)]
    lines += column("a", 50, 200, 30)
    found = blocks(lines, region("header", 45, 75, 175, 105))
    assert "header" not in [block.type for block in found]


def test_a_line_over_two_columns_is_split_between_them() -> None:
    columns = [region("text", 50, 90, 450, 400), region("text", 470, 90, 870, 400)]
    whole = line("the left part ends right one goes on", 50, 100, 820)
    left, right = split_at_gutter(whole, columns)
    assert (left.text, right.text) == ("the left part ends", "right one goes on")
    assert left.corners[1][0] == pytest.approx(right.corners[0][0]) == pytest.approx(460)


def test_a_line_inside_one_column_is_not_split() -> None:
    columns = [region("text", 50, 90, 450, 400), region("text", 470, 90, 870, 400)]
    whole = line("only the left column has this line", 50, 100, 400)
    assert split_at_gutter(whole, columns) == [whole]


def test_rows_of_a_table_without_structure_are_lines_of_text() -> None:
    assert row_text(table(60, 300)).splitlines()[:2] == ["c00 c01 c02", "c10 c11 c12"]


def test_an_empty_page_has_no_blocks() -> None:
    assert blocks([]) == []


def test_blocks_made_elsewhere_take_their_place_in_the_order() -> None:
    made = Block(type="table", bbox=(0.05, 0.2, 0.46, 0.3), content="<table></table>")
    lines = [*column("a", 50, 100, 4), *column("b", 50, 500, 4)]
    found = to_blocks(lines, [], WIDTH, HEIGHT, ready=[made])
    assert [block.type for block in found] == ["text", "table", "text"]
    assert found[1] == made


def test_a_block_made_elsewhere_gets_the_lines_in_its_place_and_has_no_rival() -> None:
    made = Block(type="table", bbox=(0.05, 0.2, 0.46, 0.3), content="<table></table>")
    rival = region("table", 60, 290, 450, 410)
    (found,) = to_blocks(table(60, 300), [rival], WIDTH, HEIGHT, ready=[made])
    assert found.content == "<table></table>"
    assert len(found.lines) == 12


def test_lines_set_downwards_are_read_from_right_to_left() -> None:
    texts = ["右から左へ読む文章の一行目であり", "二行目に続いて、", "別の段落がここから始まる。"]
    lines = [line(texts[0], 900, 100, width=EM, height=700)]
    lines += [line(texts[1], 870, 100, width=EM, height=300)]
    lines += [line(texts[2], 780, 100, width=EM, height=600)]
    found = blocks(lines[::-1])
    assert [block.content for block in found] == [texts[0] + texts[1], texts[2]]
    assert found[0].bbox == pytest.approx((0.87, 100 / HEIGHT, 0.92, 800 / HEIGHT))


def test_two_pictures_side_by_side_are_two_blocks() -> None:
    pictures = [
        Region("image", (10, 10, 100, 100), 0.9),
        Region("image", (110, 10, 200, 100), 0.9),
    ]
    found = to_blocks([], pictures, 300, 300)
    assert [block.type for block in found] == ["image", "image"]
    assert found[0].bbox[2] < found[1].bbox[0]
