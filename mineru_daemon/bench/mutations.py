"""Sound files -> damaged and hostile ones: blindly, cut at every twentieth, and by structure.

Most of what is not cut stays whole from outside, so that decoders meet it; where its bytes can be
changed for that is told by `payloads`.

Pure functions of bytes and a random generator, so that a seed makes the same files again.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from random import Random

from mineru_daemon.bench import payloads

Mutation = Callable[[bytes, Random], bytes]

CUTS = range(5, 100, 5)
"""Per cent of the length at which every original is cut off."""

BREAKING_SHARE = 0.25
"""Of the mutated files: what tells whether a file has arrived is to meet damage, too."""

_EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

_MOST_INFLATED = 1 << 22
"""Bytes of unpacked data that are changed."""


def stream(originals: Mapping[str, bytes], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` files, kind and content, no two alike: the cuts among mutations first, then
    mutations alone."""
    seen: set[bytes] = set()
    for number, (kind, content) in enumerate(_endless(originals, Random(seed))):  # noqa: S311
        if len(seen) == count or number > 20 * count:
            return
        if content not in seen:
            seen.add(content)
            yield kind, content


def _endless(originals: Mapping[str, bytes], choice: Random) -> Iterator[tuple[str, bytes]]:
    for cut in CUTS:
        for kind, content in originals.items():
            yield kind, content[: max(1, len(content) * cut // 100)]
            yield kind, mutated(kind, content, choice)
    while True:
        for kind, content in originals.items():
            yield kind, mutated(kind, content, choice)


def mutated(kind: str, content: bytes, choice: Random) -> bytes:
    """One to three mutations of a file: any, or only such as leave it whole from outside."""
    form = kind.partition("-")[0]
    mutations: list[Mutation] = [functools.partial(_within, form), *WHOLE.get(form, ())]
    breaking = choice.random() < BREAKING_SHARE
    if breaking:
        mutations += [*BLIND, *BREAKING.get(form, ())]
    for _ in range(choice.randint(1, 3)):
        content = choice.choice(mutations)(content, choice)
    # Checksums would keep all else from ever being looked at.
    return content if form != "png" or (breaking and choice.random() < 0.5) else checked(content)


def _within(form: str, content: bytes, choice: Random) -> bytes:
    """A blind mutation in one of the file's payloads, which keeps its length."""
    spans = payloads.spans(form, content)
    if not spans:
        return content
    start, end = choice.choice(spans)
    old = content[start:end]
    new = choice.choice(BLIND)(old, choice)
    new = (new + old[len(new) :])[: len(old)]
    if form == "jpeg":
        # A marker would be taken for the begin of a segment.
        new = re.sub(rb"\xff(?![\x00\xd0-\xd7])", b"\xfe", new)
    return content[:start] + new + content[end:]


# --- blind ------------------------------------------------------------------


def flip_bits(content: bytes, choice: Random) -> bytes:
    """Some bits, behind the first bytes, by which the kind is told."""
    out = bytearray(content)
    for _ in range(choice.randint(1, 16)):
        out[choice.randrange(min(8, len(out) - 1), len(out))] ^= 1 << choice.randrange(8)
    return bytes(out)


def _block(content: bytes, choice: Random) -> tuple[int, int]:
    start = choice.randrange(len(content))
    return start, min(len(content), start + choice.randint(1, max(1, len(content) // 4)))


def copy_block(content: bytes, choice: Random) -> bytes:
    """A block once more, somewhere else."""
    start, end = _block(content, choice)
    at = choice.randrange(len(content))
    return content[:at] + content[start:end] + content[at:]


def delete_block(content: bytes, choice: Random) -> bytes:
    """Without a block."""
    start, end = _block(content, choice)
    return content[:start] + content[end:] or b"\0"


def blank_block(content: bytes, choice: Random) -> bytes:
    """A block of zeros, or of ones."""
    start, end = _block(content, choice)
    return content[:start] + choice.choice((b"\0", b"\xff")) * (end - start) + content[end:]


def extreme_number(content: bytes, choice: Random) -> bytes:
    """A length, size or offset that is as small or as large as can be, wherever it falls."""
    width = choice.choice((1, 2, 4))
    number = choice.choice(_EXTREMES) & ((1 << 8 * width) - 1)
    at = choice.randrange(max(1, len(content) - width))
    order = "little" if choice.random() < 0.5 else "big"
    return content[:at] + number.to_bytes(width, order) + content[at + width :]  # type: ignore[arg-type]


BLIND: tuple[Mutation, ...] = (flip_bits, copy_block, delete_block, blank_block, extreme_number)


# --- PNG --------------------------------------------------------------------


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    return [(kind, content[start:end]) for kind, (start, end) in payloads.png_chunks(content)]


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        for kind, data in chunks
    )


def checked(content: bytes) -> bytes:
    """A PNG whose chunks all have right lengths and checksums, whatever is in them."""
    return _png(_chunks(content))


def png_header(content: bytes, choice: Random) -> bytes:
    """Another width, height, depth, colour type or method."""
    chunks = _chunks(content)
    for place, (kind, data) in enumerate(chunks):
        if kind == b"IHDR" and len(data) == 13:
            at = choice.randrange(13)
            new = choice.choice((0, 1, 2, 3, 4, 6, 8, 16, 0x40, 0xFF))
            chunks[place] = kind, data[:at] + bytes([new]) + data[at + 1 :]
    return _png(chunks)


def png_order(content: bytes, choice: Random) -> bytes:
    """Chunks swapped, doubled, dropped, or with pixels of another length."""
    chunks = _chunks(content)
    if len(chunks) < 3:
        return content
    # The last one tells that all has arrived.
    one, other = choice.sample(range(len(chunks) - 1), 2)
    match choice.randrange(4):
        case 0:
            chunks[one], chunks[other] = chunks[other], chunks[one]
        case 1:
            chunks.insert(one, chunks[other])
        case 2:
            del chunks[one]
        case _:
            more = zlib.compress(bytes(choice.choice((0, 10, 1 << 20, 1 << 24))))
            chunks[one] = choice.choice((b"IDAT", b"iCCP", b"zTXt", b"eXIf", b"PLTE")), more
    return _png(chunks)


def png_pixels(content: bytes, choice: Random) -> bytes:
    """Other rows of pixels, and other numbers of filters before them, well compressed."""
    chunks = _chunks(content)
    for place, (kind, data) in enumerate(chunks):
        rows = _inflated(data) if kind == b"IDAT" else b""
        if rows:
            chunks[place] = kind, zlib.compress(choice.choice(BLIND)(rows, choice))
    return _png(chunks)


def _inflated(data: bytes) -> bytes:
    """What deflated data holds, as far as it can be read; nothing if it is none."""
    try:
        return zlib.decompressobj().decompress(data, _MOST_INFLATED)
    except zlib.error:
        return b""


# --- JPEG, TIFF, GIF, BMP -----------------------------------------------------


def jpeg_segment(content: bytes, choice: Random) -> bytes:
    """A segment with another marker, another length or other first bytes."""
    places = [found.start() for found in re.finditer(rb"(?<!^)\xff[\xc0-\xfe]", content)]
    if not places:
        return content
    out, at = bytearray(content), choice.choice(places)
    match choice.randrange(3):
        case 0:
            out[at + 1] = choice.randrange(0xC0, 0xFF)
        case 1:
            out[at + 2 : at + 4] = choice.choice(_EXTREMES[:6]).to_bytes(2, "big")
        case _:
            where = at + 4 + choice.randrange(8)
            out[where : where + 1] = bytes([choice.randrange(256)])
    return bytes(out)


def tiff_tag(content: bytes, choice: Random) -> bytes:
    """A tag with another name, type, number of values or value."""
    entries = list(payloads.tiff_entries(content))
    if not entries:
        return content
    at, width = choice.choice(((0, 2), (2, 2), (4, 4), (8, 4)))
    number = choice.choice((*_EXTREMES, choice.randrange(255, 340), entries[0]))
    return _set(content, choice.choice(entries) + at, width, number)


_TIFF_PLACES = frozenset({273, 279, 324, 325})
"""Tags that tell where strips or tiles lie, and how long they are."""


def tiff_value(content: bytes, choice: Random) -> bytes:
    """A tag with another value: sizes, depths, compressions; strips stay where they are."""
    entries = [
        entry
        for entry in payloads.tiff_entries(content)
        if int.from_bytes(content[entry : entry + 2], "little") not in _TIFF_PLACES
        and content[entry + 4 : entry + 8] == b"\1\0\0\0"
    ]
    if not entries:
        return content
    known = (2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 32773, 32946, 34712, 50001)
    return _set(content, choice.choice(entries) + 8, 4, choice.choice((*_EXTREMES, *known)))


def _set(content: bytes, at: int, width: int, number: int) -> bytes:
    """With a little-endian number of so many bytes."""
    number &= (1 << 8 * width) - 1
    return content[:at] + number.to_bytes(width, "little") + content[at + width :]


def gif_screen(content: bytes, choice: Random) -> bytes:
    """Another size of the screen, another ground; or of an image, if one begins so."""
    image = content.find(b",\0\0\0\0")
    begin = image + 1 if image > 0 and choice.random() < 0.5 else 6
    return _set(content, begin + choice.randrange(0, 4 if begin == 6 else 8, 2), 2,
                choice.choice((*_EXTREMES[:6], 2, 100, 300)))  # fmt: skip


def bmp_header(content: bytes, choice: Random) -> bytes:
    """Another size, depth, compression, or number of colours."""
    at, width, numbers = choice.choice(
        (
            (18, 4, (0, 1, 7, 239, 0x80000000, 0xFFFFFFFF)),
            (22, 4, (0, 1, 39, 0xFFFFFFFF, 0xFFFFFFD8, 0x80000000)),
            (26, 2, _EXTREMES[:6]),
            (28, 2, (0, 1, 2, 4, 8, 16)),
            (30, 4, (1, 2, 3, 4, 5, 6, 11, 0xFFFFFFFF)),
            (46, 4, _EXTREMES),
        )
    )
    return _set(content, at, width, choice.choice(numbers))


# --- PDF ----------------------------------------------------------------------


def pdf_stream(content: bytes, choice: Random) -> bytes:
    """Other data within a compressed stream: drawing, pixels, objects or the table of them."""
    streams = [
        (span, data)
        for span in payloads.spans("pdf", content)
        if (data := _inflated(content[slice(*span)]))
    ]
    if not streams:
        return content
    (start, end), data = choice.choice(streams)
    changed = choice.choice((pdf_number, pdf_name, *BLIND))(data, choice)
    packed = zlib.compress(changed, 9)
    # The length stays, and with it all that tells where objects lie.
    new = packed.ljust(end - start, b"\0") if len(packed) <= end - start else packed
    return content[:start] + new + content[end:]


def pdf_number(content: bytes, choice: Random) -> bytes:
    """A number of the file's structure that lies, whether a size, a count or a reference."""
    found = list(
        re.finditer(rb"(?<=[\s\[])-?\d+(?=[\s\]/>])|(?<=/Length )\d+|(?<=/Count )\d+", content)
    )
    if not found:
        return content
    one = choice.choice(found)
    number = choice.choice(
        (b"0", b"-1", b"1", b"2", b"3", b"5", b"14400", b"2147483647", b"4294967296", b"1e99", b"")
    )
    return content[: one.start()] + number + content[one.end() :]


def pdf_name(content: bytes, choice: Random) -> bytes:
    """A name that is another one's: filters, keys and types in wrong places."""
    found = list(re.finditer(rb"/[A-Za-z0-9]+", content))
    if not found:
        return content
    one = choice.choice(found)
    names = [other[0] for other in found] + [
        b"/FlateDecode", b"/LZWDecode", b"/DCTDecode", b"/JBIG2Decode", b"/JPXDecode",
        b"/CCITTFaxDecode", b"/RunLengthDecode", b"/ASCII85Decode", b"/Crypt", b"/ObjStm",
        b"/XRef", b"/Encrypt", b"/Pattern", b"/Type3", b"/UserUnit 1000", b"/Rotate 90",
    ]  # fmt: skip
    return content[: one.start()] + choice.choice(names) + content[one.end() :]


WHOLE: dict[str, tuple[Mutation, ...]] = {
    "png": (png_header, png_order, png_pixels),
    "tiff": (tiff_value,),
    "gif": (gif_screen,),
    "bmp": (bmp_header,),
    "pdf": (pdf_number, pdf_name, pdf_stream),
}
"""By format: what leaves a file whole from outside."""

BREAKING: dict[str, tuple[Mutation, ...]] = {"jpeg": (jpeg_segment,), "tiff": (tiff_tag,)}
"""By format: what may move the end of a file."""
