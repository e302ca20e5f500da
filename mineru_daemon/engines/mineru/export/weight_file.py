"""One safetensors file: its header checked, its tensors memory-mapped.

Layout (the format's description in the safetensors repository): the header's length as
a little-endian 64-bit number, the header as JSON, then the tensors' bytes without gaps.
Which tensors a model needs is `checkpoint`'s business.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mineru_daemon.closing import Closing
from mineru_daemon.errors import ModelError

Float = npt.NDArray[np.float32]
Array = npt.NDArray[Any]

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that Git LFS puts where the real one was not fetched."""

_LONGEST_HEADER = 100_000_000
"""Bound of the safetensors library."""

_LENGTH_BYTES = 8

_STORED = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}
"""NumPy has no bfloat16; its bits are the upper half of a float32's."""

Dtype = Literal["bfloat16", "float16", "float32"]
_NAMES: dict[str, Dtype] = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}

_FORGET_FROM_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies in the file: bytes `begin` to `end`."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class WeightFile(Closing):
    """An open file. Close it when no view of `raw` is used any more."""

    def __init__(self, path: Path) -> None:
        """Raises ModelError when the file is cut off, damaged, or no safetensors file."""
        self.path = path
        try:
            with path.open("rb") as stream:
                self.bytes = os.fstat(stream.fileno()).st_size
                self.entries = self._entries(stream.read(_LENGTH_BYTES), stream)
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise ModelError(
                f"{path} cannot be read: {error.strerror}; check the disk and the file's mode."
            ) from error

    def close(self) -> None:
        """Give the file back."""
        # Views that are still in use keep the mapping alive; it goes with the last of them.
        with contextlib.suppress(BufferError):
            self._map.close()

    def raw(self, name: str) -> tuple[Array, Dtype]:
        """A view of a tensor as it is stored, and its dtype: bfloat16 (as uint16), float16
        or float32."""
        entry = self.entries[name]
        kind = np.dtype(_STORED[entry.dtype])
        view = np.frombuffer(
            self._map, kind, (entry.end - entry.begin) // kind.itemsize, entry.begin
        )
        return view.reshape(entry.shape), _NAMES[entry.dtype]

    def tensor(self, name: str) -> Float:
        """A float32 copy of a tensor, of its own memory."""
        view, dtype = self.raw(name)
        if dtype == "bfloat16":
            wide = view.astype(np.uint32)
            wide <<= 16
            copy: Float = wide.view(np.float32)
        else:
            copy = view.astype(np.float32)
        self._forget(self.entries[name])
        return copy

    def _forget(self, entry: Entry) -> None:
        """Pages that were read once do not stay in this process's memory."""
        begin = -(-entry.begin // mmap.PAGESIZE) * mmap.PAGESIZE
        if entry.end - begin >= _FORGET_FROM_BYTES:
            self._map.madvise(mmap.MADV_DONTNEED, begin, entry.end - begin)

    def _entries(self, start: bytes, stream: Any) -> dict[str, Entry]:
        if not start:
            raise ModelError(f"{self.path} is empty; download it again.")
        length = int.from_bytes(start, "little")
        text = stream.read(min(length, _LONGEST_HEADER))
        if (start + text).startswith(LFS_POINTER):
            raise lfs_pointer(self.path)
        if length > _LONGEST_HEADER or (text and not text.startswith(b"{")):
            raise ModelError(
                f"{self.path} is no safetensors file, whatever its name; download it again."
            )
        if len(text) < length or len(start) < _LENGTH_BYTES:
            raise self._cut_off(_LENGTH_BYTES + length)
        try:
            header = json.loads(text)
            header.pop("__metadata__", None)
            entries = {name: _entry(one, _LENGTH_BYTES + length) for name, one in header.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ModelError(
                f"The header of {self.path} is damaged ({error}); download it again."
            ) from error
        for name, entry in entries.items():
            if entry.dtype not in _STORED:
                raise ModelError(
                    f"The tensor {name} in {self.path} is of type {entry.dtype}; only BF16, F16 "
                    "and F32 can be exported: take the checkpoint as published, not a quantised "
                    "one."
                )
            if entry.end - entry.begin != math.prod(entry.shape) * _itemsize(entry):
                raise ModelError(
                    f"The header of {self.path} is damaged (the size of {name}); download it again."
                )
        end = max((entry.end for entry in entries.values()), default=_LENGTH_BYTES + length)
        if self.bytes < end:
            raise self._cut_off(end)
        if self.bytes > end:
            raise ModelError(
                f"{self.path} goes on after its last tensor ({self.bytes} bytes instead of "
                f"{end}); download it again."
            )
        return entries

    def _cut_off(self, wanted: int) -> ModelError:
        return ModelError(
            f"{self.path} is cut off: it has {self.bytes} bytes instead of {wanted}; download it "
            "again."
        )


def lfs_pointer(path: Path) -> ModelError:
    """The error for a file that Git LFS has not fetched."""
    return ModelError(
        f"{path} is only the pointer of Git LFS, not the file itself; fetch it with `git lfs "
        "pull`, or download the checkpoint with `mineru-daemon model pull`."
    )


def _entry(one: Any, base: int) -> Entry:
    begin, end = (_count(value) for value in one["data_offsets"])
    if begin > end:
        raise ValueError(f"offsets {begin} to {end}")
    shape = tuple(_count(side) for side in one["shape"])
    return Entry(str(one["dtype"]), shape, base + begin, base + end)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value


def _itemsize(entry: Entry) -> int:
    return np.dtype(_STORED[entry.dtype]).itemsize
