"""Documents for benchmarks: every supported kind, small and of several pages, and bad ones.

All are made here and now, and no two are alike, so that a result tells by its hash which
file it is of.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont


@dataclass(frozen=True)
class Case:
    """A file to deliver, and how it has to come out."""

    name: str
    content: bytes
    outcome: str
    """`success` or `failed`."""


def screenshot(text: str, size: tuple[int, int] = (420, 60)) -> Image.Image:
    """A line of text as a screen shows it, RGB."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).text((12, 16), text, "black", ImageFont.load_default(22))
    return image


def png(text: str) -> bytes:
    """A small screenshot as PNG."""
    return _saved(screenshot(text), "PNG")


def tiff(texts: list[str]) -> bytes:
    """A TIFF with a page for each text."""
    first, *others = (screenshot(text) for text in texts)
    return _saved(first, "TIFF", save_all=True, append_images=others)


def pdf(texts: list[str]) -> bytes:
    """A PDF with a page of 150 x 22 points for each text."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(texts)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(texts)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(texts):
        content = f"BT /F1 8 Tf 6 7 Td ({text}) Tj ET".encode("ascii")
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 150 22] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * number),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        ]
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % table)


def unsupported(text: str) -> bytes:
    """A file of no kind that is read: answered without the engine, in a millisecond."""
    return f"Not a document: {text}\n".encode()


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _pages(text: str, count: int) -> list[str]:
    return [f"{text} page {number + 1}" for number in range(count)]


_KINDS: tuple[tuple[str, str, Callable[[str], bytes]], ...] = (
    # Most are tiny pictures: what is proved is about files, not about reading them.
    ("png", "success", png),
    ("jpg", "success", lambda text: _saved(screenshot(text), "JPEG", comment=text.encode())),
    ("bmp", "success", lambda text: _saved(screenshot(text), "BMP")),
    ("gif", "success", lambda text: _saved(screenshot(text), "GIF")),
    ("webp", "success", lambda text: _saved(screenshot(text), "WEBP", lossless=True)),
    ("png", "success", png),
    ("tif", "success", lambda text: tiff(_pages(text, 3))),
    ("pdf", "success", lambda text: pdf([text])),
    ("txt", "failed", unsupported),
    ("png", "success", png),
    ("pdf", "success", lambda text: pdf(_pages(text, 6))),
    ("png", "failed", lambda text: png(text)[:-20]),
    ("pdf", "failed", lambda text: pdf([text])[:-40]),
)

REUSED_NAME = "scan.png"


def stream(count: int, seed: int) -> Iterator[Case]:
    """`count` files of all kinds in a random order; the same for the same seed.

    One of them is empty; every tenth is called `scan.png`, as scanners reuse names.
    """
    choice = random.Random(seed)  # noqa: S311 - has to be repeatable, not secret
    kinds = [_KINDS[number % len(_KINDS)] for number in range(count)]
    choice.shuffle(kinds)
    empty = choice.randrange(count)
    for number, (suffix, outcome, make) in enumerate(kinds):
        if number == empty:
            yield Case("empty.pdf", b"", "failed")
            continue
        name = REUSED_NAME if number % 10 == 3 else f"{number:04d}.{suffix}"
        yield Case(name, make(f"File {number} of seed {seed}"), outcome)
