"""Sound files of every supported kind, small, to be made hostile by `mutations`.

Each shows a line of text, so that what survives is read by the whole engine.
"""

from __future__ import annotations

import importlib.util
import io
import time
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, features

from mineru_daemon.bench import cases

_SIZE = (240, 40)
_THEN = time.gmtime(0)
"""A PDF tells when it was made; a seed has to make the same file again."""


def originals() -> dict[str, bytes]:
    """By kind; the part before the hyphen names the format."""
    made = {kind: make() for kind, make in _KINDS.items()}
    if "avif" in features.get_supported():
        made["avif"] = _saved(_page(), "AVIF")
    if importlib.util.find_spec("pillow_heif"):
        from pillow_heif import register_heif_opener

        register_heif_opener()
        made["heic"] = _saved(_page(), "HEIF")
    return made


def _page() -> Image.Image:
    return cases.screenshot("Invoice 2041", _SIZE)


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _alpha_palette() -> bytes:
    image = _page().quantize(8)
    return _saved(image, "PNG", transparency=0)


def _grey16() -> bytes:
    deep = np.asarray(_page().convert("L"), np.uint16) * 257
    return _saved(Image.fromarray(deep), "PNG")


def _turned_jpeg() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    image = _page().transpose(Image.Transpose.ROTATE_90)
    return _saved(image, "JPEG", exif=exif, progressive=True, dpi=(150, 150))


def _frames() -> list[Image.Image]:
    return [_page(), _page().transpose(Image.Transpose.ROTATE_180)]


def _compressed_pdf() -> bytes:
    """Objects in an object stream and the table of them in another, as PDF 1.5 has them."""
    inner = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 150 22] /Contents 5 0 R "
        b"/Resources << /Font << /F1 4 0 R >> >> >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    index, body = b"", b""
    for number, one in enumerate(inner, 1):
        index += b"%d %d " % (number, len(body))
        body += one + b" "
    content = zlib.compress(b"BT /F1 8 Tf 6 7 Td (Invoice 2041) Tj ET")
    objects = zlib.compress(index + body)
    out = bytearray(b"%PDF-1.5\n")
    offsets = [len(out)]
    out += b"5 0 obj\n<< /Length %d /Filter /FlateDecode >>\nstream\n" % len(content)
    out += content + b"\nendstream\nendobj\n"
    offsets.append(len(out))
    out += b"6 0 obj\n<< /Type /ObjStm /N 4 /First %d /Length %d " % (len(index), len(objects))
    out += b"/Filter /FlateDecode >>\nstream\n" + objects + b"\nendstream\nendobj\n"
    offsets.append(len(out))
    rows = b"\0\0\0\0\xff" + b"".join(b"\2\0\0\6" + bytes([at]) for at in range(4))
    rows += b"".join(b"\1" + offset.to_bytes(3, "big") + b"\0" for offset in offsets)
    table = zlib.compress(rows)
    out += b"7 0 obj\n<< /Type /XRef /Size 8 /W [1 3 1] /Root 1 0 R /Length %d " % len(table)
    out += b"/Filter /FlateDecode >>\nstream\n" + table + b"\nendstream\nendobj\n"
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % offsets[-1])


_KINDS: dict[str, Callable[[], bytes]] = {
    "pdf-text": lambda: cases.pdf(["Invoice 2041", "Second page"]),
    "pdf-compressed": _compressed_pdf,
    "pdf-image": lambda: _saved(_page(), "PDF", resolution=120, creationDate=_THEN, modDate=_THEN),
    "png": lambda: _saved(_page(), "PNG"),
    "png-palette": _alpha_palette,
    "png-16": _grey16,
    "jpeg": lambda: _saved(_page(), "JPEG"),
    "jpeg-turned": _turned_jpeg,
    "jpeg-cmyk": lambda: _saved(_page().convert("CMYK"), "JPEG"),
    "tiff-lzw": lambda: _saved(
        _frames()[0], "TIFF", save_all=True, append_images=_frames()[1:], compression="tiff_lzw"
    ),
    "tiff-g4": lambda: _saved(_page().convert("1"), "TIFF", compression="group4"),
    "tiff-deflate": lambda: _saved(_page(), "TIFF", compression="tiff_adobe_deflate"),
    "gif": lambda: _saved(_frames()[0], "GIF", save_all=True, append_images=_frames()[1:]),
    "webp": lambda: _saved(_page(), "WEBP"),
    "webp-animated": lambda: _saved(
        _frames()[0], "WEBP", save_all=True, append_images=_frames()[1:], lossless=True
    ),
    "bmp": lambda: _saved(_page(), "BMP"),
}
