"""Markdown of a document: a rendering of the same blocks that stand in its JSON.

Pure functions over the result schema. Text of a block is written as it is; what is added
are the marks that tell headings, tables, formulas and code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html.parser import HTMLParser
from typing import IO
from urllib.parse import quote

from mineru_daemon.results import FURNITURE, Block, Link, PageResult


def write(stream: IO[str], pages: Iterable[PageResult], *, pictures: bool = False) -> None:
    """Write the document's Markdown, page after page; `pictures` links those of its images."""
    first = True
    for page in pages:
        text = of_page(page, pictures=pictures)
        if not text:
            continue
        stream.write(text if first else f"\n\n{text}")
        first = False
    if not first:
        stream.write("\n")


def of_page(page: PageResult, *, pictures: bool = False) -> str:
    """The page's blocks as Markdown: paragraphs apart by a blank line, no trailing newline.

    What stands around the text (headers, footers, page numbers, stamps) is left out.
    """
    parts = (_of_block(block, pictures) for block in page.blocks if block.type not in FURNITURE)
    return "\n\n".join(part for part in parts if part)


def _of_block(block: Block, pictures: bool) -> str:
    text = _text_of_block(block)
    if pictures and block.image and block.type in ("image", "chart"):
        return f"![]({_destination(block.image)})\n\n{text}".rstrip()
    return text


def _text_of_block(block: Block) -> str:
    content = (block.content or "").strip()
    if not content:
        return ""
    if block.type == "title":
        return f"{'#' * (block.text_level or 1)} {linked(content, block.links)}"
    if block.type == "table":
        # Markdown within HTML would not be seen as such.
        pipes = to_pipe_table(content)
        return linked(pipes, block.links) if pipes else content
    if block.type == "list":
        return linked(_list(content), block.links)
    if block.type == "equation" and not block.lines:
        return f"$$\n{content}\n$$"
    if block.type in ("code", "algorithm"):
        return f"```\n{content}\n```"
    return linked(content, block.links)


def _list(content: str) -> str:
    """Entries as Markdown knows them: those that it does not number stand apart."""
    entries = [_BULLET.sub("- ", entry) for entry in content.splitlines()]
    return ("\n" if all(map(_KNOWN_ENTRY.match, entries)) else "\n\n").join(entries)


_BULLET = re.compile(r"^[•●○◦▪■□►·・*–—-]\s*")
_KNOWN_ENTRY = re.compile(r"- |\d{1,9}[.)] ")


def linked(content: str, links: Sequence[Link]) -> str:
    """Text with its links as Markdown links, each where its text is first found whole.

    Two links with the same text are found one after the other; one whose text is not
    found is left out.
    """
    places: list[tuple[int, int, str]] = []
    searched: dict[str, int] = {}
    for link in links:
        for found in _whole(link.text).finditer(content, searched.get(link.text, 0)):
            start, end = found.span()
            searched[link.text] = end
            if all(end <= other or start >= last for other, last, _ in places):
                places.append((start, end, link.uri))
                break
        else:
            searched[link.text] = len(content)
    for start, end, uri in sorted(places, reverse=True):
        text = _ESCAPED.sub(_with_brackets_escaped, content[start:end])
        content = f"{content[:start]}[{text}]({_destination(uri)}){content[end:]}"
    return content


_ESCAPED = re.compile(r"\\[\\|<]|\\?[\[\]]")
"""What `_cell` has escaped already, or a bracket."""


def _with_brackets_escaped(found: re.Match[str]) -> str:
    if found[0][-1] in "[]":
        return "".join(f"\\{sign}" for sign in found[0])
    return found[0]


def _whole(text: str) -> re.Pattern[str]:
    """Finds a text where it does not go on as a word of an alphabet."""
    if not re.search(r"\w", text):
        return re.compile(r"(?!)")
    before = r"(?<![^\W\u2e80-\uffff])" if re.match(r"\w", text) else ""
    after = r"(?![^\W\u2e80-\uffff])" if re.search(r"\w$", text) else ""
    return re.compile(before + re.escape(text) + after)


def _destination(uri: str) -> str:
    """A URI without what would end the link, the cell of a table, or begin a tag."""
    return re.sub(r"[\s()<>\\|]", lambda found: quote(found[0]), uri)


def to_pipe_table(source: str) -> str | None:
    """HTML of a table as a Markdown pipe table; None when it must stay HTML.

    That is when cells span rows or columns, hold other elements (line breaks among
    them), or rows are of different lengths. The first row becomes the heading, which
    Markdown demands.
    """
    rows = _PlainRows.of(source)
    if not rows or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
        return None
    written = ["| " + " | ".join(_cell(text) for text in row) + " |" for row in rows]
    written.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(written)


def _cell(text: str) -> str:
    """Text of a cell so that Markdown neither ends the cell nor sees a tag in it."""
    text = text.replace("\\", "\\\\").replace("|", "\\|")
    return re.sub(r"<(?=[A-Za-z/!?])", r"\\<", text)


class _PlainRows(HTMLParser):
    """Rows of cells of a table without spans and without elements in its cells."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.plain = True
        self._open = False

    @classmethod
    def of(cls, source: str) -> list[list[str]] | None:
        parser = cls()
        parser.feed(source)
        parser.close()
        return (
            [[" ".join(cell.split()) for cell in row] for row in parser.rows]
            if parser.plain
            else None
        )

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._open = True
            if any(name.endswith("span") and (count or "1") != "1" for name, count in attrs):
                self.plain = False
        elif tag not in ("table", "thead", "tbody"):
            self.plain = False

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.rows[-1][-1] += data
