"""Where bytes of a file can be changed so that it still ends where it says: its payloads.

What is changed there gets past the look at whether all of a file has arrived, and reaches the
decoders. Positions are found as long as a file was changed in its payloads alone;
lengths, offsets and marks between payloads stay as they are.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Callable, Iterator

Span = tuple[int, int]
"""Begin and end, in bytes from the file's begin."""


def spans(form: str, content: bytes) -> list[Span]:
    """Payloads of a file of this format, none of them empty; those up to where it is broken."""
    found: list[Span] = []
    with contextlib.suppress(IndexError):
        found.extend(_SPANS[form](content))
    return [(start, end) for start, end in found if start < end <= len(content)]


def png_chunks(content: bytes) -> Iterator[tuple[bytes, Span]]:
    """Kind and data of each chunk; checksums are made anew by `mutations.checked`."""
    at = 8
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        yield content[at + 4 : at + 8], (at + 8, at + 8 + length)
        at += 12 + length


def tiff_entries(content: bytes) -> Iterator[int]:
    """Where the entries of all directories begin, 12 bytes each, of a little-endian TIFF."""
    offset, seen = int.from_bytes(content[4:8], "little"), set[int]()
    while 0 < offset <= len(content) - 2 and offset not in seen:
        seen.add(offset)
        count = min(100, int.from_bytes(content[offset : offset + 2], "little"))
        behind = min(offset + 2 + 12 * count, len(content) - 11)
        yield from range(offset + 2, behind, 12)
        offset = int.from_bytes(content[offset + 2 + 12 * count :][:4], "little")


def _png(content: bytes) -> Iterator[Span]:
    return (span for _, span in png_chunks(content))


_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What ends the compressed data of a JPEG: a marker that is neither a stuffed byte nor a
restart (ITU-T T.81, B.1.1)."""


def _jpeg(content: bytes) -> Iterator[Span]:
    """What is in the segments, and the compressed data behind a start of scan."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xD9:
        kind, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        yield at + 4, at + 2 + length
        at += 2 + length
        if kind == 0xDA:
            found = _SCAN_END.search(content, at)
            end = found.start() if found else len(content)
            yield at, end
            at = end


def _tiff(content: bytes) -> Iterator[Span]:
    """The strips. A number of one strip stands in the entry itself, others elsewhere."""
    values: dict[int, int] = {}
    for entry in tiff_entries(content):
        tag, _, count, value = struct.unpack_from("<HHII", content, entry)
        if tag in (273, 279) and count == 1:
            values[tag] = value
        if len(values) == 2:
            yield values[273], values[273] + values[279]
            values.clear()


def _gif(content: bytes) -> Iterator[Span]:
    """Colours and the data of all blocks, whose lengths stand between them."""

    def colours(at: int, flags: int) -> int:
        return at + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)

    at = colours(13, content[10])
    yield 13, at
    while at < len(content) and content[at : at + 1] in (b"!", b","):
        if content[at : at + 1] == b"!":
            at += 2
        else:
            behind = colours(at + 10, content[at + 9])
            yield at + 10, behind
            at = behind + 1
        while at < len(content) and (length := content[at]):
            yield at + 1, at + 1 + length
            at += 1 + length
        at += 1


def _webp(content: bytes) -> Iterator[Span]:
    """The data of each chunk."""
    at = 12
    while at + 8 <= len(content):
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        yield at + 8, at + 8 + length
        at += 8 + length + length % 2


def _bmp(content: bytes) -> Iterator[Span]:
    yield int.from_bytes(content[10:14], "little"), len(content)


def _iso_media(content: bytes) -> Iterator[Span]:
    """What is in the boxes of the outermost level, but that which names the kind."""
    at = 0
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        if length < 8:
            return
        if content[at + 4 : at + 8] != b"ftyp":
            yield at + 8, at + length
        at += length


def _pdf(content: bytes) -> Iterator[Span]:
    """The data of all streams."""
    for found in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
        yield found.span(1)


_SPANS: dict[str, Callable[[bytes], Iterator[Span]]] = {
    "png": _png,
    "jpeg": _jpeg,
    "tiff": _tiff,
    "gif": _gif,
    "webp": _webp,
    "bmp": _bmp,
    "avif": _iso_media,
    "heic": _iso_media,
    "pdf": _pdf,
}
