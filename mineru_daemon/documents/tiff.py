"""The skeleton of TIFF files: how many frames there are and where their data lies.

Follows TIFF 6.0 and the BigTIFF extension. Decoding is left to Pillow, which finds the
number of frames only by walking all of them, however many a hostile file pretends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

_COMPRESSION = 259
_OFFSETS = (273, 324)
_LENGTHS = (279, 325)
"""Tags of strips and of tiles: where they begin and how many bytes they have."""

_VALUE_TYPES = {3: "u2", 4: "u4", 16: "u8"}
"""Field types that carry offsets: SHORT, LONG, LONG8."""

_TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
    16: 8, 17: 8, 18: 8,
}  # fmt: skip
"""Bytes of one value of each field type (TIFF 6.0, section 2; BigTIFF)."""

_MAX_TAGS = 0xFFFF
"""Tags of a frame: more does not fit into a classic TIFF, and no BigTIFF needs more."""

_MAX_PIECES = 1_000_000
"""Strips or tiles of one frame that are looked at; a frame of more is taken as it is."""


class CutError(Exception):
    """The file ends before something that its header announces."""


@dataclass(frozen=True)
class Frame:
    """One image in the file."""

    compressed: bool
    end: int
    """Offset in bytes just behind the last strip or tile; 0 when the frame names none."""
    last_length: int
    """Bytes of that last strip or tile."""


def frames(stream: BinaryIO) -> Iterator[Frame]:
    """Walk the frames. Raises `CutError` where the walk leaves the file."""
    size = os.fstat(stream.fileno()).st_size
    order = "<" if _read(stream, 0, 2) == b"II" else ">"
    big = _number(_read(stream, 2, 2), order) == 43
    word = 8 if big else 4
    offset = _number(_read(stream, 8 if big else 4, word), order)
    if not offset:
        # Writers fill this in last.
        raise CutError
    seen: set[int] = set()
    while offset and offset not in seen:
        seen.add(offset)
        count_bytes, entry_bytes = (8, 20) if big else (2, 12)
        count = _number(_read(stream, offset, count_bytes), order)
        if count > _MAX_TAGS:
            return
        if not count:
            # Every frame has tags; this is room that was kept for them.
            raise CutError
        table = _read(stream, offset + count_bytes, count * entry_bytes + word)
        entries = {
            _number(table[at : at + 2], order): table[at + 2 : at + entry_bytes]
            for at in range(0, count * entry_bytes, entry_bytes)
        }
        if any(_end(entry, order, word) > size for entry in entries.values()):
            # Some writers put what describes the picture behind it.
            raise CutError
        yield _frame(stream, size, entries, order, word)
        offset = _number(table[-word:], order)


def _frame(stream: BinaryIO, size: int, entries: dict[int, bytes], order: str, word: int) -> Frame:
    compression = _values(stream, entries.get(_COMPRESSION), order, word)
    compressed = len(compression) > 0 and int(compression[0]) != 1
    for offsets_tag, lengths_tag in zip(_OFFSETS, _LENGTHS, strict=True):
        offsets = _values(stream, entries.get(offsets_tag), order, word)
        lengths = _values(stream, entries.get(lengths_tag), order, word)
        if not len(offsets) or len(offsets) != len(lengths):
            continue
        # A length of 0 marks a tile that was left out on purpose.
        ends = np.where(lengths > 0, offsets + lengths, 0)
        last = int(np.argmax(ends))
        if int(ends[last]) > size or bool((offsets > size).any()):
            raise CutError
        return Frame(compressed, int(ends[last]), int(lengths[last]))
    return Frame(compressed, 0, 0)


def _values(
    stream: BinaryIO, entry: bytes | None, order: str, word: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Values of a tag; float64 holds every offset of a real file and cannot wrap around."""
    nothing = np.zeros(0)
    if entry is None:
        return nothing
    kind = _VALUE_TYPES.get(_number(entry[:2], order))
    count = _number(entry[2 : 2 + word], order)
    if kind is None or count > _MAX_PIECES:
        return nothing
    dtype = np.dtype(order + kind)
    length = count * dtype.itemsize
    data = entry[2 + word :]
    if length > word:
        data = _read(stream, _number(data, order), length)
    return np.frombuffer(data[:length], dtype).astype(np.float64)


def _end(entry: bytes, order: str, word: int) -> int:
    """Offset just behind a tag's values, where they do not lie in the entry itself."""
    length = _TYPE_BYTES.get(_number(entry[:2], order), 0) * _number(entry[2 : 2 + word], order)
    return _number(entry[2 + word :], order) + length if length > word else 0


def _number(data: bytes, order: str) -> int:
    return int.from_bytes(data, "little" if order == "<" else "big")


def _read(stream: BinaryIO, offset: int, length: int) -> bytes:
    if offset + length > os.fstat(stream.fileno()).st_size:
        raise CutError
    stream.seek(offset)
    data = stream.read(length)
    if len(data) < length:
        raise CutError
    return data
