"""Has all of a file arrived? Told by its structure, without decoding a pixel.

Every format says somewhere where it ends; the walk to that place costs milliseconds and
needs neither Pillow nor PDFium, so that the inbox never waits for a page that is being
drawn. What is complete but damaged, encrypted or too large is told by `open_document`;
when to look again is the inbox's business.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from mineru_daemon.documents import tiff
from mineru_daemon.documents.page import Limits
from mineru_daemon.documents.sniff import (
    HEAD_BYTES,
    install_advice,
    may_become_known,
    open_regular,
    sniff,
)
from mineru_daemon.documents.tiff import CutError
from mineru_daemon.errors import EmptyError, IncompleteError
from mineru_daemon.printable import printable

Tick = Callable[[], None]

_CHUNK = 1 << 20
"""Bytes read at once: large enough for a share, small enough to be of no weight."""

_TAIL = 1 << 16
"""Bytes at the end of a PDF in which its end mark is looked for. Some senders append
mail footers or padding; readers look back a few kilobytes at most."""

_MAX_PIECES = 1_000_000
"""Chunks, segments or blocks that are walked: some seconds. A real file has some thousands; one
of more was made to cost time, and counts as complete."""

_FONT = b"/Font"

_HOLE = 512
"""So many zero bytes where compressed data should end are data that did not arrive yet:
the size was announced first, the content follows, in blocks of at least a disk sector."""

_HOLE_SHARE = 8
"""They must also be this part of all data (one eighth): a blank page as lossy WebP ends in
zeros by itself, in 5 % of its length (measured for pages of 1 to 81 million pixels)."""


def check_complete(path: Path, limits: Limits, tick: Tick = lambda: None) -> None:
    """Return when the file is complete, or when waiting for more of it cannot help.

    `tick` is called between the pieces of longer work; what it raises passes through.

    Raises `IncompleteError` when the content ends before its end, `EmptyError` for no
    bytes at all, OSError when the file cannot be read (it may have gone away).
    """
    name = printable(path.name)
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if not size:
            raise EmptyError(f"{name} has no content; deliver it again.")
        if size > limits.max_file_bytes:
            return
        try:
            _walk(stream, size, limits, tick)
        except CutError:
            raise IncompleteError(
                f"{name} ends before its end, it is still being written or was cut off; "
                "deliver it again if it stays so."
            ) from None


def is_cut_pdf(path: Path) -> bool:
    """Whether a PDF's end is missing, so that a reader has to guess where its objects are."""
    with open_regular(path) as stream:
        try:
            _pdf(stream, os.fstat(stream.fileno()).st_size)
        except CutError:
            return True
    return False


def may_be_continued(path: Path) -> bool:
    """Whether a scanner may go on with this file though it looks complete.

    Scanners add pages to a TIFF one by one, and rewrite a PDF of images page by page; the
    file is whole after each. A PDF that shows a font was made by a program, in one go.
    Raises OSError.
    """
    with open_regular(path) as stream:
        kind = sniff(stream.read(HEAD_BYTES))
        if kind != "application/pdf":
            return kind == "image/tiff"
        stream.seek(0)
        seen = b""
        while chunk := stream.read(_CHUNK):
            if _FONT in (seen + chunk):
                return False
            seen = chunk[-len(_FONT) :]
        return True


def _walk(stream: BinaryIO, size: int, limits: Limits, tick: Tick) -> None:
    head = stream.read(HEAD_BYTES)
    media_type = sniff(head)
    if media_type is None:
        if may_become_known(head):
            raise CutError
        return
    if install_advice(media_type):
        return
    stream.seek(0)
    match media_type:
        case "application/pdf":
            _pdf(stream, size)
        case "image/png":
            _png(stream, size, tick)
        case "image/jpeg":
            _jpeg(stream, tick)
        case "image/tiff":
            _tiff(stream, limits, tick)
        case "image/gif":
            _gif(stream, tick)
        case "image/webp":
            _webp(stream, size, head)
        case "image/bmp":
            _bmp(size, head)
        case _:
            _iso_media(stream, size, tick)


def _pdf(stream: BinaryIO, size: int) -> None:
    """The end mark must be there, and nothing of a document behind it.

    Both a linearised file and one with appended changes hold earlier end marks; when such
    a file is cut, what follows the last of them are objects.
    """
    linearised = re.search(rb"/Linearized\b.{0,200}?/L\s+(\d{1,12})\b", stream.read(2048), re.S)
    if linearised and int(linearised[1]) > size:
        raise CutError
    stream.seek(max(0, size - _TAIL))
    _, mark, behind = stream.read().rpartition(b"%%EOF")
    if not mark or re.search(rb"\d\s+obj\b|endobj|endstream", behind):
        raise CutError


def _png(stream: BinaryIO, size: int, tick: Tick) -> None:
    """Every chunk with its checksum, up to IEND.

    A wrong checksum counts as incomplete: data that arrives out of order leaves such holes.
    """
    position = 8
    kind = b""
    for _ in range(_MAX_PIECES):
        if kind == b"IEND":
            return
        tick()
        stream.seek(position)
        header = _exactly(stream, 8)
        length, kind = int.from_bytes(header[:4], "big"), header[4:]
        if position + 12 + length > size:
            raise CutError
        checksum = zlib.crc32(kind)
        for start in range(0, length, _CHUNK):
            checksum = zlib.crc32(_exactly(stream, min(_CHUNK, length - start)), checksum)
            tick()
        if checksum != int.from_bytes(_exactly(stream, 4), "big"):
            raise CutError
        position += 12 + length


_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""A marker with a segment, or the end; not a stuffed byte, a restart, or filling
(ITU-T T.81, B.1.1)."""

_JPEG_END = b"\xff\xd9"


def _jpeg(stream: BinaryIO, tick: Tick) -> None:
    """From marker to marker up to the end of image; a preview's own end lies in a segment."""
    base, window = 0, stream.read(_CHUNK)
    position = 2
    for _ in range(_MAX_PIECES):
        found = _JPEG_MARKER.search(window, position - base)
        if found and found[0] == _JPEG_END:
            return
        if found and found.end() + 2 <= len(window):
            length = int.from_bytes(window[found.end() : found.end() + 2], "big")
            position = base + found.end() + length
            continue
        if len(window) < _CHUNK:
            raise CutError
        # The last byte of a window may be the first of a marker.
        position = base + found.start() if found else max(position, base + len(window) - 1)
        stream.seek(position)
        base, window = position, stream.read(_CHUNK)
        tick()


def _tiff(stream: BinaryIO, limits: Limits, tick: Tick) -> None:
    """Every frame's strips or tiles lie within the file."""
    for index, frame in enumerate(tiff.frames(stream)):
        if index > limits.max_pages:
            return
        if frame.compressed:
            _no_hole(stream, frame.end - frame.last_length, frame.end)
        tick()


def _gif(stream: BinaryIO, tick: Tick) -> None:
    """Every block, up to the trailer. Only the first image is read later, but what comes
    behind it would be written into a file that has already been taken away."""
    header = _exactly(stream, 13)
    _skip_colours(stream, header[10])
    images = pieces = 0
    while pieces < _MAX_PIECES:
        introducer = stream.read(1)
        if introducer == b";":
            return
        if introducer == b"!":
            _exactly(stream, 1)
        elif introducer == b",":
            _skip_colours(stream, _exactly(stream, 9)[8])
            _exactly(stream, 1)
            images += 1
        elif images and introducer.strip(b"\0"):
            return  # Not GIF any more, yet the image is there.
        else:
            raise CutError
        while length := _exactly(stream, 1)[0]:
            stream.seek(length, os.SEEK_CUR)
            pieces += 1
            if pieces % 1000 == 0:
                tick()
            if pieces == _MAX_PIECES:
                return
        pieces += 1
        tick()


def _skip_colours(stream: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        _exactly(stream, 3 << ((flags & 7) + 1))


def _webp(stream: BinaryIO, size: int, head: bytes) -> None:
    end = 8 + int.from_bytes(head[4:8], "little")
    if end > size:
        raise CutError
    _no_hole(stream, 12, end)


def _bmp(size: int, head: bytes) -> None:
    """As long as its pixels need; the length in the file header is often left at 0."""
    data_offset = int.from_bytes(head[10:14], "little")
    header_bytes = int.from_bytes(head[14:18], "little")
    if len(head) < 14 + header_bytes:
        raise CutError
    if header_bytes == 12:
        width, height = (int.from_bytes(head[at : at + 2], "little") for at in (18, 20))
        bits, compression = int.from_bytes(head[24:26], "little"), 0
    else:
        width, height = (
            abs(int.from_bytes(head[at : at + 4], "little", signed=True)) for at in (18, 22)
        )
        bits = int.from_bytes(head[28:30], "little")
        compression = int.from_bytes(head[30:34], "little") if header_bytes > 16 else 0
    if compression in (1, 2):
        pixels = int.from_bytes(head[34:38], "little")
    else:
        pixels = (width * bits + 31) // 32 * 4 * height
    if data_offset + pixels > size:
        raise CutError


def _iso_media(stream: BinaryIO, size: int, tick: Tick) -> None:
    """Every box of the outermost level, the one with the coded picture among them."""
    position, seen = 0, set()
    while position < size:
        stream.seek(position)
        header = _exactly(stream, 8)
        length, kind = int.from_bytes(header[:4], "big"), header[4:]
        if length == 1:
            length = int.from_bytes(_exactly(stream, 8), "big")
        if not kind.strip(b"\0"):
            raise CutError
        if length == 0:
            length = size - position
        elif length < 8:
            return
        if position + length > size:
            raise CutError
        if kind == b"mdat":
            _no_hole(stream, position + 8, position + length)
        seen.add(kind)
        position += length
        tick()
    if b"mdat" not in seen:
        raise CutError


def _no_hole(stream: BinaryIO, start: int, end: int) -> None:
    """Compressed data from `start` to `end` must not end in zero bytes."""
    for length in (_HOLE, (end - start) // _HOLE_SHARE):
        if length > end - start:
            return
        stream.seek(end - length)
        if stream.read(length).strip(b"\0"):
            return
    raise CutError


def _exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise CutError
    return data
