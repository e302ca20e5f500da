"""Documents for benchmarks: every supported kind, small and of several pages, and bad ones.

All are made here and now, and no two are alike, so that a result tells by its hash which
file it is of.
"""

from __future__ import annotations

import importlib.util
import io
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from mineru_daemon.samples.pdf_file import pdf_file
from mineru_daemon.samples.pdf_file import stream as stream_object

_PRIVATE_TAG = 65000
"""Of TIFF; from 32768 on they belong to whoever wants one (TIFF 6.0, section 8)."""


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


def png(text: str, weight: int = 0) -> bytes:
    """A small screenshot as PNG. `weight` bytes are in it that nobody reads, before the picture:
    quickly read, but slow to deliver."""
    notes = PngInfo()
    if weight:
        notes.add(b"waSt", _ballast(text, weight))
    return _saved(screenshot(text), "PNG", pnginfo=notes)


def tiff(texts: list[str], weight: int = 0) -> bytes:
    """A TIFF with a page for each text; `weight` bytes of it are read by nobody."""
    first, *others = (screenshot(text) for text in texts)
    notes = {_PRIVATE_TAG: _ballast(texts[0], weight)} if weight else {}
    return _saved(first, "TIFF", save_all=True, append_images=others, tiffinfo=notes)


def pdf(texts: list[str], weight: int = 0) -> bytes:
    """A PDF with a page of 150 x 22 points for each text; `weight` bytes are read by nobody."""
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
            stream_object(content),
        ]
    if weight:
        objects.append(stream_object(_ballast(texts[0], weight)))
    return pdf_file(objects)


def scanned_pdf(texts: list[str]) -> bytes:
    """A PDF with a picture for each page, as scanners make them; no font in it."""
    first, *others = (screenshot(text) for text in texts)
    return _saved(first, "PDF", save_all=True, append_images=others)


def locked_pdf(text: str) -> bytes:
    """A PDF that asks for a password which nobody has (PDF 1.7, 7.6.3)."""
    # Any 32 bytes are the check value of some password, and not of the empty one.
    key = _ballast(text, 32).hex().encode()
    lock = b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%b> /U <%b> >>" % (key, key)
    return pdf([text]).replace(
        b"/Root 1 0 R >>", b"/Root 1 0 R /ID [<%b> <%b>] %b >>" % (key, key, lock)
    )


def torn_png(text: str) -> bytes:
    """A PNG that is whole by its structure, with noise where the pixels should be."""
    intact = png(text)
    start = intact.index(b"IDAT") + 4
    noise = _ballast(text, 200)
    checksum = zlib.crc32(b"IDAT" + noise)
    return (
        intact[: start - 8] + len(noise).to_bytes(4, "big") + b"IDAT" + noise
        + checksum.to_bytes(4, "big") + intact[-12:]
    )  # fmt: skip


def unsupported(text: str) -> bytes:
    """A file of no kind that is read: answered without the engine, in a millisecond."""
    return f"Not a document: {text}\n".encode()


def _ballast(text: str, weight: int) -> bytes:
    return random.Random(text).randbytes(weight)  # noqa: S311 - incompressible, not secret


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    if form == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
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

EVERY_KIND = (
    *_KINDS,
    ("webp", "success", lambda text: _saved(screenshot(text), "WEBP", quality=90)),
    ("tif", "success", lambda text: _saved(screenshot(text).convert("1"), "TIFF",
                                           compression="group4", description=text)),
    ("pdf", "success", lambda text: scanned_pdf(_pages(text, 2))),
    ("pdf", "failed", locked_pdf),
    ("png", "failed", torn_png),
    ("jpg", "success", lambda text: _saved(screenshot(text).convert("CMYK"), "JPEG",
                                           comment=text.encode())),
    ("png", "success", lambda text: _saved(screenshot(text).quantize(16), "PNG")),
    *((("heic", "success", lambda text: _saved(screenshot(text), "HEIF", quality=80)),)
      if importlib.util.find_spec("pillow_heif") else ()),
)  # fmt: skip
"""All that is read, more of what is damaged, and HEIC where its plug-in is installed."""

REUSED_NAME = "scan.png"


Kind = tuple[str, str, Callable[[str], bytes]]
"""Suffix, outcome, and what makes a file with this text."""


def stream(
    count: int, seed: int, kinds: Sequence[Kind] = _KINDS, reused: Sequence[str] = (REUSED_NAME,)
) -> Iterator[Case]:
    """`count` files of all kinds in a random order; the same for the same seed.

    One of them is empty; every tenth has a name out of `reused`, as scanners reuse names.
    """
    choice = random.Random(seed)  # noqa: S311 - has to be repeatable, not secret
    order = [kinds[number % len(kinds)] for number in range(count)]
    choice.shuffle(order)
    empty = choice.randrange(count)
    for number, (suffix, outcome, make) in enumerate(order):
        if number == empty:
            yield Case("empty.pdf", b"", "failed")
            continue
        again = reused[number // 10 % len(reused)]
        name = again if number % 10 == 3 else f"{number:04d}.{suffix}"
        yield Case(name, make(f"File {number} of seed {seed}"), outcome)
