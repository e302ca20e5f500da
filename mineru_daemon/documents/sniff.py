"""The kind of a file, told by its first bytes and never by its name.

Whether the rest of the file is any good is found out by `completeness`, `images` and
`pdf`.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import stat
from pathlib import Path
from typing import BinaryIO

from PIL import features

HEAD_BYTES = 1024
"""As many bytes decide on the kind. PDF readers accept a header that begins anywhere in
the first 1024 bytes (PDF Reference 1.7, appendix H, implementation note 13)."""

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0\x08\0\0\0", "image/tiff"),
    (b"MM\0+\0\x08\0\0", "image/tiff"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)

_BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""Lengths of the bitmap headers that exist; the two letters "BM" alone also begin texts."""

_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "image/heic"),
    **dict.fromkeys((b"mif1", b"msf1"), "image/heif"),
}
"""Brands of ISO/IEC 23008-12 and of the AVIF specification."""


def sniff(head: bytes) -> str | None:
    """Media type of the file that begins with `head` (best `HEAD_BYTES` of it), or None."""
    for signature, media_type in _SIGNATURES:
        if head.startswith(signature):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES:
        return "image/bmp"
    if head[4:8] == b"ftyp":
        return _iso_media_type(head)
    if b"%PDF-" in head[:HEAD_BYTES]:
        return "application/pdf"
    return None


def _iso_media_type(head: bytes) -> str | None:
    """Kind of an ISO media file: the major brand, made precise by the compatible ones."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]
    kinds = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
    precise = [kind for kind in kinds if kind != "image/heif"]
    return next(iter(precise or kinds), None)


def may_become_known(head: bytes) -> bool:
    """Whether `head`, the whole of a file so far, could be the start of a known kind."""
    if not head.strip(b"\0"):
        return True
    starts = [signature for signature, _ in _SIGNATURES]
    starts += [b"%PDF-", b"RIFF", b"BM"]
    if any(start.startswith(head) for start in starts):
        return True
    if len(head) < 18 and head[:2] == b"BM":
        return True
    if len(head) < 12 and head[:4] == b"RIFF":
        return True
    return len(head) < 12 and head[:3] == b"\0\0\0" and b"ftyp".startswith(head[4:8])


def install_advice(media_type: str) -> str | None:
    """What must be installed before files of this kind can be read; None when nothing."""
    if media_type in ("image/heic", "image/heif"):
        if importlib.util.find_spec("pillow_heif") is None:
            return "run: pip install 'mineru-daemon[heic]'"
    elif media_type == "image/avif" and "avif" not in features.get_supported():
        return "install a Pillow built with AVIF (the wheels from 11.3 on are)"
    elif media_type == "image/webp" and "webp" not in features.get_supported():
        return "install a Pillow built with WebP (its wheels are)"
    return None


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; a pipe, device or folder raises OSError instead of blocking."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return os.fdopen(descriptor, "rb")
