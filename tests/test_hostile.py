"""Named hostile files, made here: each is read, or refused in a sentence, within its limits.

They are opened as the daemon does it, in the process that may be ended. What is known of sound
files and of single errors is tested in `test_documents`, `test_pdf_pages`, `test_image_pages`.
"""

from __future__ import annotations

import functools
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pdf_building import build_pdf, encryption
from PIL import Image, ImageCms

from mineru_daemon.bench import payloads
from mineru_daemon.documents import Limits
from mineru_daemon.documents.reader import Reader
from mineru_daemon.errors import DocumentError, LimitError

MEMORY = 700 * 1024 * 1024
LIMITS = Limits(max_memory_bytes=MEMORY, render_seconds=30)
A_PAGE = b"/MediaBox [0 0 200 100]"


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as one:
        yield one


def drawn(reader: Reader, path: Path, content: bytes, limits: Limits = LIMITS) -> Image.Image:
    """The first page of a file; the child's memory must have stayed within its limit."""
    path.write_bytes(content)
    with reader.open(path, limits) as document:
        return document.page(0).render().image


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def png_of(width: int, height: int, pixels: bytes) -> bytes:
    """A grey PNG that says so many pixels, with compressed `pixels` of any length."""
    out = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")):
        checksum = zlib.crc32(kind + data)
        out += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
    return out


@functools.cache
def zeros(count: int) -> bytes:
    """`count` zero bytes, deflated; a thousandth of them."""
    squeeze = zlib.compressobj(9)
    block = bytes(1 << 20)
    out = b"".join(squeeze.compress(block) for _ in range(count >> 20))
    return out + squeeze.flush()


def stream_object(entries: bytes, data: bytes) -> bytes:
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (entries, len(data), data)


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (30_000, 30_000), (2**31 - 1, 1)])
def test_a_png_of_too_many_pixels_is_not_unpacked(
    reader: Reader, tmp_path: Path, width: int, height: int
) -> None:
    with pytest.raises(LimitError, match=rf"^bomb\.png has {width:,} x {height:,} pixels, more"):
        drawn(reader, tmp_path / "bomb.png", png_of(width, height, zeros(1 << 28)))


def test_a_png_that_unpacks_to_more_than_it_says_shows_what_it_says(
    reader: Reader, tmp_path: Path
) -> None:
    image = drawn(reader, tmp_path / "more.png", png_of(30, 20, zeros(1 << 30)))
    assert image.size == (30, 20)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_png_whose_remarks_are_a_bomb_is_refused(
    reader: Reader, tmp_path: Path, kind: bytes
) -> None:
    sound = png_of(30, 20, zlib.compress(bytes(31 * 20)))
    remark = b"x\0\0" + zeros(1 << 30)
    chunk = struct.pack(">I", len(remark)) + kind + remark
    chunk += struct.pack(">I", zlib.crc32(kind + remark))
    answered(reader, tmp_path / "remark.png", sound[:33] + chunk + sound[33:])


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "tiff_lzw", "packbits", "group4"])
def test_a_tiff_of_too_many_pixels_is_not_unpacked(
    reader: Reader, tmp_path: Path, compression: str
) -> None:
    mode = "1" if compression == "group4" else "L"
    content = bytearray(saved(Image.new(mode, (64, 64)), "TIFF", compression=compression))
    directory = int.from_bytes(content[4:8], "little")
    for entry in range(int.from_bytes(content[directory : directory + 2], "little")):
        at = directory + 2 + 12 * entry
        if int.from_bytes(content[at : at + 2], "little") in (256, 257):
            content[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 30_000)
    with pytest.raises(LimitError, match=r"^bomb\.tif has 30,000 x 30,000 pixels"):
        drawn(reader, tmp_path / "bomb.tif", bytes(content))


@pytest.mark.parametrize("tag", [256, 257])
def test_a_frame_of_a_tiff_without_pixels_fails_alone(
    reader: Reader, tmp_path: Path, tag: int
) -> None:
    frame = Image.new("L", (64, 64))
    content = bytearray(saved(frame, "TIFF", save_all=True, append_images=[frame]))
    entries = payloads.tiff_entries(bytes(content))
    second = [entry for entry in entries if content[entry : entry + 2] == struct.pack("<H", tag)][1]
    content[second + 8 : second + 12] = bytes(4)
    path = tmp_path / "none.tif"
    path.write_bytes(content)
    with reader.open(path, LIMITS) as document:
        assert document.page(0).render().size == (64, 64)
        with pytest.raises(DocumentError, match=r"^page 2 of none\.tif cannot be decoded"):
            document.page(1)


def test_an_image_in_a_pdf_that_unpacks_to_a_gigabyte_stays_within_memory(
    reader: Reader, tmp_path: Path
) -> None:
    image = stream_object(
        b"/Type /XObject /Subtype /Image /Width 32000 /Height 32000 /BitsPerComponent 8 "
        b"/ColorSpace /DeviceGray /Filter /FlateDecode",
        zeros(1 << 30),
    )
    content = build_pdf(
        A_PAGE + b" /Resources << /XObject << /I 6 0 R >> >>",
        content=b"q 200 0 0 100 0 0 cm /I Do Q",
        more=(image,),
    )
    answered(reader, tmp_path / "image.pdf", content)


def test_a_stream_of_drawing_that_unpacks_to_a_gigabyte_stays_within_memory(
    reader: Reader, tmp_path: Path
) -> None:
    bomb = stream_object(b"/Filter /FlateDecode", zeros(1 << 30))
    content = build_pdf(A_PAGE + b" /Contents 6 0 R", more=(bomb,))
    answered(reader, tmp_path / "drawing.pdf", content)


def test_filters_upon_filters_stay_within_memory(reader: Reader, tmp_path: Path) -> None:
    twice = zlib.compress(zeros(1 << 30), 9)
    bomb = stream_object(b"/Filter [/FlateDecode /FlateDecode]", twice)
    answered(reader, tmp_path / "twice.pdf", build_pdf(A_PAGE + b" /Contents 6 0 R", more=(bomb,)))


def test_an_object_stream_that_is_a_bomb_stays_within_memory(
    reader: Reader, tmp_path: Path
) -> None:
    objects = zlib.compress(b"2 0 << /Type /Pages /Kids [] /Count 1 >>" + bytes(1 << 28), 9)
    rows = b"\0\0\0\0\xff" + b"\1\0\0\x09\0" + b"\2\0\0\3\0"
    out = b"%PDF-1.5\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n"
    at = len(out)
    out += b"3 0 obj\n" + stream_object(
        b"/Type /ObjStm /N 1 /First 4 /Filter /FlateDecode", objects
    )
    out += b"\nendobj\n"
    rows += b"\1" + at.to_bytes(3, "big") + b"\0"
    table = len(out)
    rows += b"\1" + table.to_bytes(3, "big") + b"\0"
    out += b"4 0 obj\n" + stream_object(b"/Type /XRef /Size 5 /W [1 3 1] /Root 1 0 R", rows)
    out += b"\nendobj\nstartxref\n%d\n%%%%EOF\n" % table
    answered(reader, tmp_path / "objects.pdf", out)


def jbig2_page(width: int, height: int) -> bytes:
    """A JBIG2 stream as PDF embeds it (ITU-T T.88, 7.4.8): an empty page of this size."""
    page = struct.pack(">IIIIBH", width, height, 0, 0, 0, 0)
    return struct.pack(">IBBBI", 0, 48, 0, 1, len(page)) + page


@pytest.mark.parametrize("side", [30_000, 0xFFFFFFFF])
def test_a_jbig2_page_of_any_size_stays_within_memory(
    reader: Reader, tmp_path: Path, side: int
) -> None:
    image = stream_object(
        b"/Type /XObject /Subtype /Image /Width %d /Height %d /BitsPerComponent 1 "
        b"/ColorSpace /DeviceGray /Filter /JBIG2Decode" % (min(side, 60_000), min(side, 60_000)),
        jbig2_page(side, side),
    )
    content = build_pdf(
        A_PAGE + b" /Resources << /XObject << /I 6 0 R >> >>",
        content=b"q 200 0 0 100 0 0 cm /I Do Q",
        more=(image,),
    )
    answered(reader, tmp_path / "jbig2.pdf", content)


def answered(reader: Reader, path: Path, content: bytes) -> None:
    """The file gives a page, or a sentence that names it; then the next file is read."""
    said = None
    try:
        drawn(reader, path, content)
    except DocumentError as error:
        said = str(error)
    assert said is None or re.fullmatch(rf"(page 1 of )?{path.name} [^\n]+\.", said)
    next_one = drawn(reader, path.with_name("next.png"), saved(Image.new("L", (9, 5)), "PNG"))
    assert next_one.size == (9, 5)


def test_ten_thousand_pages_are_counted_and_refused(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "many.pdf"
    path.write_bytes(build_pdf(*[A_PAGE] * 10_000))
    with pytest.raises(LimitError, match=r"^many\.pdf has 10,000 pages, more than the 2,000"):
        reader.open(path, LIMITS)
    with reader.open(path, Limits(max_pages=10_000)) as document:
        assert document.page(9_999).render(100).size == (100, 50)


def test_pages_that_are_only_pretended_fail_one_by_one(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "pretended.pdf"
    path.write_bytes(build_pdf(A_PAGE).replace(b"/Count 1", b"/Count 9"))
    with reader.open(path, LIMITS) as document:
        assert document.page(0).render(100).size == (100, 50)
        for index in range(1, document.page_count):
            with pytest.raises(DocumentError):
                document.page(index).render(100)


def test_a_page_of_14_400_inches_is_drawn_within_the_pixels_allowed(
    reader: Reader, tmp_path: Path
) -> None:
    side = 14_400 * 72
    image = drawn(reader, tmp_path / "wall.pdf", build_pdf(b"/MediaBox [0 0 %d %d]" % (side, side)),
                  Limits(max_page_pixels=4_000_000, max_memory_bytes=MEMORY))  # fmt: skip
    assert image.width * image.height <= 4_000_000


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PDF"])
def test_one_pixel_is_a_page(reader: Reader, tmp_path: Path, form: str) -> None:
    image = drawn(reader, tmp_path / "dot", saved(Image.new("RGB", (1, 1), "red"), form))
    assert min(image.size) >= 1


def test_colour_profiles_do_no_harm(reader: Reader, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for hostile in (profile, profile[:40], b"\xff" * 500, bytes(100_000)):
        for form in ("PNG", "JPEG", "TIFF", "WEBP"):
            content = saved(Image.new("RGB", (30, 20), "white"), form, icc_profile=hostile)
            image = drawn(reader, tmp_path / "icc", content)
            assert image.getpixel((5, 5)) == (255, 255, 255)


def test_a_file_of_two_kinds_is_what_it_begins_with(reader: Reader, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("evil.txt", "x" * 1000)
    pdf, gif = build_pdf(A_PAGE), saved(Image.new("P", (30, 20)), "GIF")
    for name, content, kind in (
        ("a.zip", pdf + archive.getvalue(), "application/pdf"),
        ("a.js", gif + b"/*" + pdf + b"*/", "image/gif"),
        ("a.pdf", saved(Image.new("L", (30, 20)), "PNG") + pdf, "image/png"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with reader.open(path, LIMITS) as document:
            assert document.media_type == kind
    answered(reader, tmp_path / "b.gif", b"GIF89a=1;" + pdf)


def test_a_password_is_needed_only_where_it_is_not_empty(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "locked.pdf"
    path.write_bytes(build_pdf(A_PAGE, trailer=encryption(b"")))
    with reader.open(path, LIMITS) as document:
        assert document.page_count == 1
    path.write_bytes(build_pdf(A_PAGE, trailer=encryption(b"secret")))
    with pytest.raises(DocumentError, match=r"^locked\.pdf is protected by a password"):
        reader.open(path, LIMITS)
