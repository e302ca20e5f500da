"""Markdown: what of a page's blocks it shows, and how."""

from __future__ import annotations

import io
import time

import pytest
from result_building import block, page

from mineru_daemon import markdown
from mineru_daemon.markdown import to_pipe_table
from mineru_daemon.results import Link


def test_markdown_shows_blocks_and_leaves_running_headers_out():
    text = markdown.of_page(
        page(
            0,
            block("header", "Running head"),
            block("title", "Title", text_level=2),
            block("text", "Some text"),
            block("equation", "a^2"),
            block("code", "x = 1"),
            block("image", None),
            block("page_number", "7"),
        )
    )
    assert text == "## Title\n\nSome text\n\n$$\na^2\n$$\n\n```\nx = 1\n```"


def test_markdown_of_several_pages_has_a_blank_line_between_and_a_newline_at_the_end():
    stream = io.StringIO()
    pages = [page(0, block("text", "a")), page(1), page(2, block("text", "b"))]
    markdown.write(stream, pages)
    assert stream.getvalue() == "a\n\nb\n"
    empty = io.StringIO()
    markdown.write(empty, [page(0)])
    assert empty.getvalue() == ""


def test_a_table_is_a_pipe_table_where_pipes_can_tell_it_and_html_elsewhere():
    simple = block("table", "<table><tr><td>a</td></tr><tr><td>1</td></tr></table>")
    spanned = block("table", '<table><tr><td colspan="2">a</td></tr></table>')
    text = markdown.of_page(page(0, simple, spanned))
    assert text == f"| a |\n| --- |\n| 1 |\n\n{spanned.content}"


def test_a_simple_table_becomes_a_pipe_table() -> None:
    html = "<table><tr><td>a|b</td><td>c &lt; d</td></tr><tr><td>1</td><td></td></tr></table>"
    assert to_pipe_table(html) == "| a\\|b | c < d |\n| --- | --- |\n| 1 |  |"


def test_a_tag_in_a_pipe_table_stays_text() -> None:
    assert to_pipe_table("<table><tr><td>&lt;b&gt;</td></tr></table>") == "| \\<b> |\n| --- |"


@pytest.mark.parametrize(
    "html",
    [
        '<table><tr><td colspan="2">a</td></tr></table>',
        '<table><tr><td rowspan="2">a</td></tr><tr></tr></table>',
        "<table><tr><td>a<br>b</td></tr></table>",
        "<table><tr><td>a</td></tr><tr><td>b</td><td>c</td></tr></table>",
        "<table></table>",
        "",
    ],
)
def test_a_table_that_pipes_cannot_tell_stays_html(html: str) -> None:
    assert to_pipe_table(html) is None


def with_links(content, *links, kind="text"):
    return block(kind, content, links=[Link(text=text, uri=uri) for text, uri in links])


def shown(one):
    return markdown.of_page(page(0, one))


def test_a_link_stands_where_its_text_does():
    text = shown(with_links("See our site today.", ("our site", "https://a.example/")))
    assert text == "See [our site](https://a.example/) today."
    title = with_links("Our site", ("site", "https://a.example/"), kind="title")
    assert shown(title) == "# Our [site](https://a.example/)"


def test_the_same_text_is_linked_once_for_each_link():
    links = [("here", "https://a.example/"), ("here", "https://b.example/")]
    text = shown(with_links("where: here, here, here", *links))
    assert text == "where: [here](https://a.example/), [here](https://b.example/), here"


def test_links_do_not_lie_within_each_other():
    links = [("our site", "https://a.example/"), ("site", "https://b.example/")]
    assert shown(with_links("our site", *links)) == "[our site](https://a.example/)"


def test_a_link_whose_text_is_not_in_the_block_is_left_out():
    assert shown(with_links("Some text", ("other", "https://a.example/"))) == "Some text"
    assert shown(with_links("a - b", ("-", "https://a.example/"))) == "a - b"


def test_a_link_in_chinese_text_needs_no_spaces_around():
    text = shown(with_links("请看网站吧", ("网站", "https://a.example/")))
    assert text == "请看[网站](https://a.example/)吧"


def test_brackets_and_what_would_end_a_link_are_escaped():
    uri = "https://a.example/x_(y)|<z>\\"
    text = shown(with_links("[1] a\\]b", ("[1]", uri), ("a\\]b", "mailto:a@b.example")))
    assert text == (
        "[\\[1\\]](https://a.example/x_%28y%29%7C%3Cz%3E%5C) [a\\\\\\]b](mailto:a@b.example)"
    )


def test_links_stand_in_pipe_tables_and_not_in_html():
    simple = "<table><tr><td>a\\</td></tr><tr><td>[b]</td></tr></table>"
    text = shown(with_links(simple, ("[b]", "https://a.example/|"), kind="table"))
    assert text.splitlines()[2] == "| [\\[b\\]](https://a.example/%7C) |"
    spanned = '<table><tr><td colspan="2">a</td></tr></table>'
    assert shown(with_links(spanned, ("a", "https://a.example/"), kind="table")) == spanned


def test_thousands_of_equal_links_cost_no_more_than_others():
    links = [("a", "https://a.example/")] * 2_000
    began = time.perf_counter()
    shown(with_links("a " * 20_000, *links))
    assert time.perf_counter() - began < 5
