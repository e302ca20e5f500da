from __future__ import annotations

import io
import random
import struct
import sys
import zlib
from pathlib import Path

import pytest
from pdf_building import build_pdf, encryption
from PIL import Image, ImageDraw, features

from mineru_daemon.documents import Limits, check_complete, may_be_continued, tiff
from mineru_daemon.errors import EmptyError, IncompleteError

LIMITS = Limits()
UNCOMPRESSED = {"bmp", "bmp of 1 bit", "tiff", "big-endian tiff", "bigtiff", "multi-page tiff"}
"""What is missing of these looks like black."""


def drawing(mode: str = "RGB", size: tuple[int, int] = (320, 200)) -> Image.Image:
    """Some text on noise, so that compressed data are long and nowhere zero."""
    noise = random.Random(7).randbytes(size[0] * size[1] * 3)
    image = Image.frombytes("RGB", size, noise).resize((size[0] // 4, size[1] // 4)).resize(size)
    ImageDraw.Draw(image).text((20, 20), "Order 2065", "black")
    return image.convert(mode)


def saved(format: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    drawing(mode).save(stream, format, **options)
    return stream.getvalue()


KINDS: dict[str, bytes] = {
    "pdf": build_pdf(b"/MediaBox [0 0 200 100]"),
    "png": saved("PNG"),
    "jpeg": saved("JPEG"),
    "progressive jpeg": saved("JPEG", progressive=True),
    "jpeg with preview": saved("JPEG", exif=b"Exif\0\0" + saved("JPEG")),
    "tiff": saved("TIFF"),
    "tiff with deflate": saved("TIFF", compression="tiff_adobe_deflate"),
    "fax tiff": saved("TIFF", "1", compression="group4"),
    "described tiff": saved("TIFF", "1", compression="group4", description="Order 2065 " * 9),
    "big-endian tiff": saved("TIFF", "I;16B"),
    "bigtiff": saved("TIFF", big_tiff=True),
    "multi-page tiff": saved("TIFF", save_all=True, append_images=[drawing(), drawing("L")]),
    "gif": saved("GIF"),
    "animated gif": saved("GIF", save_all=True, append_images=[drawing("L")]),
    "webp": saved("WEBP"),
    "lossless webp": saved("WEBP", lossless=True),
    "bmp": saved("BMP"),
    "bmp of 1 bit": saved("BMP", "1"),
}
if "avif" in features.get_supported():
    KINDS["avif"] = saved("AVIF")


@pytest.fixture(params=KINDS, ids=[name.replace(" ", "-") for name in KINDS])
def content(request: pytest.FixtureRequest) -> bytes:
    return KINDS[request.param]


def check(tmp_path: Path, content: bytes, limits: Limits = LIMITS) -> None:
    path = tmp_path / "scan"
    path.write_bytes(content)
    check_complete(path, limits)


def test_a_whole_file_is_complete(tmp_path: Path, content: bytes) -> None:
    check(tmp_path, content)


@pytest.mark.parametrize("part", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_part_of_a_file_is_incomplete(tmp_path: Path, content: bytes, part: float) -> None:
    with pytest.raises(IncompleteError):
        check(tmp_path, content[: int(len(content) * part)])


@pytest.mark.parametrize("missing", [2, 3, 8, 40])
def test_a_file_without_its_last_bytes_is_incomplete(
    tmp_path: Path, content: bytes, missing: int
) -> None:
    if content is KINDS["multi-page tiff"]:
        content = content.rstrip(b"\0")  # its writer fills up to a multiple of 16
    with pytest.raises(IncompleteError):
        check(tmp_path, content[:-missing])


@pytest.mark.parametrize("length", range(1, 13))
def test_the_first_bytes_of_a_file_are_incomplete_rather_than_unsupported(
    tmp_path: Path, content: bytes, length: int
) -> None:
    with pytest.raises(IncompleteError):
        check(tmp_path, content[:length])


def test_a_file_of_which_only_the_size_is_there_is_incomplete(
    tmp_path: Path, content: bytes
) -> None:
    with pytest.raises(IncompleteError):
        check(tmp_path, bytes(len(content)))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - UNCOMPRESSED))
def test_a_file_whose_size_was_announced_before_its_content_is_incomplete(
    tmp_path: Path, kind: str, part: float
) -> None:
    content = KINDS[kind]
    arrived = int(len(content) * part)
    with pytest.raises(IncompleteError):
        check(tmp_path, content[:arrived] + bytes(len(content) - arrived))


@pytest.mark.parametrize("kind", ["jpeg", "png", "pdf", "webp", "gif"])
def test_bytes_behind_the_end_do_no_harm(tmp_path: Path, kind: str) -> None:
    check(tmp_path, KINDS[kind] + b"\r\n-- sent by a scanner --" + bytes(3000))


def test_no_bytes_at_all_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(EmptyError, match=r"^scan has no content; deliver it again\.$"):
        check(tmp_path, b"")


def test_the_sentence_names_the_file_and_hides_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2J\nb.png"
    path.write_bytes(KINDS["png"][:-5])
    with pytest.raises(IncompleteError) as caught:
        check_complete(path, LIMITS)
    assert str(caught.value) == (
        r"a\x1b[2J\nb.png ends before its end, it is still being written or was cut off; "
        "deliver it again if it stays so."
    )


@pytest.mark.parametrize(
    "content",
    [
        b"number;customer\n2061;Northfield\n",
        b"PK\x03\x04 some archive",
        b"BMW is a maker of cars",
        b"I",
    ],
    ids=["table", "archive", "text like BMP", "too short"],
)
def test_waiting_is_not_asked_for_where_it_cannot_help(tmp_path: Path, content: bytes) -> None:
    if content == b"I":
        with pytest.raises(IncompleteError):  # may become a TIFF
            check(tmp_path, content)
    else:
        check(tmp_path, content)


def test_a_heic_nobody_can_read_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check(tmp_path, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0\0\xff\xffmdat")


def test_a_heic_is_followed_box_by_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    whole = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0\0\0\x10metaabcdefgh\0\0\0\x10mdatabcdefgh"
    check(tmp_path, whole)
    for length in (24, 30, 40, 55):
        with pytest.raises(IncompleteError):
            check(tmp_path, whole[:length])


def test_an_encrypted_pdf_is_complete(tmp_path: Path) -> None:
    check(tmp_path, build_pdf(b"/MediaBox [0 0 9 9]", trailer=encryption(b"secret")))


def test_a_damaged_pdf_with_an_end_is_complete(tmp_path: Path) -> None:
    check(tmp_path, b"%PDF-1.3\nThis is nothing of the kind\n%%EOF\n")


def test_a_pdf_cut_within_appended_changes_is_incomplete(tmp_path: Path) -> None:
    whole = KINDS["pdf"]
    with pytest.raises(IncompleteError):
        check(tmp_path, whole + b"9 0 obj\n<< /Type /Annot >>\nendo")


def test_a_linearised_pdf_cut_right_behind_its_first_end_mark_is_incomplete(
    tmp_path: Path,
) -> None:
    start = b"%%PDF-1.7\n1 0 obj\n<< /Linearized 1 /L %d /N 2 >>\nendobj\nstartxref\n0\n%%%%EOF\n"
    with pytest.raises(IncompleteError):
        check(tmp_path, start % 5000)
    check(tmp_path, start % 60)


def test_a_pdf_behind_a_mail_header_is_complete(tmp_path: Path) -> None:
    check(tmp_path, b"X-Scanner: 7\r\n\r\n" + KINDS["pdf"])


def test_a_png_with_a_hole_in_it_is_incomplete(tmp_path: Path) -> None:
    content = bytearray(KINDS["png"])
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    with pytest.raises(IncompleteError):
        check(tmp_path, bytes(content))


def test_a_tiff_whose_first_frame_is_not_linked_yet_is_incomplete(tmp_path: Path) -> None:
    with pytest.raises(IncompleteError):
        check(tmp_path, b"II*\0\0\0\0\0" + b"pixels" * 100)


def test_a_tiff_that_points_back_at_itself_ends(tmp_path: Path) -> None:
    tag = b"\x03\x01\x03\0\x01\0\0\0\x01\0\0\0"
    check(tmp_path, b"II*\0\x08\0\0\0" + b"\x01\0" + tag + b"\x08\0\0\0")


@pytest.mark.parametrize("format", ["WEBP", "PNG", "GIF", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("shade", [0, 255])
def test_a_blank_page_is_complete(tmp_path: Path, format: str, shade: int) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (3000, 3000), (shade, shade, shade)).save(stream, format)
    check(tmp_path, stream.getvalue())


def test_compressed_strips_of_zeros_have_not_arrived_yet(tmp_path: Path) -> None:
    def tag(number: int, value: int) -> bytes:
        return struct.pack("<HHII", number, 4, 1, value)

    group4 = b"II*\0\x08\0\0\0\x03\0" + tag(259, 4) + tag(273, 64) + tag(279, 2000) + bytes(4)
    check(tmp_path, group4.ljust(64) + b"\x26\xa1" * 1000)
    with pytest.raises(IncompleteError):
        check(tmp_path, group4.ljust(64) + b"\x26\xa1" * 500 + bytes(1000))


def test_a_tiff_of_absurdly_many_tags_or_strips_is_left_to_the_decoder(tmp_path: Path) -> None:
    path = tmp_path / "absurd.tif"
    tags = struct.pack("<HHHQQ", 43, 8, 0, 16, 70_000) + bytes(20 * 70_000 + 8)
    path.write_bytes(b"II" + tags)
    with path.open("rb") as stream:
        assert list(tiff.frames(stream)) == []
    strips = struct.pack("<HIHHHIIHHIII", 42, 8, 2, 273, 3, 1_000_001, 38, 279, 3, 1_000_001, 38, 0)
    path.write_bytes(b"II" + strips + b"\xff" * 2_000_002)
    with path.open("rb") as stream:
        assert list(tiff.frames(stream)) == [tiff.Frame(compressed=False, end=0, last_length=0)]


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    check(tmp_path, KINDS["png"][:-5], Limits(max_file_bytes=100))


def test_long_work_ticks_and_can_be_given_up(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(KINDS["png"])

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_complete(path, LIMITS, stop)


def test_a_jpeg_longer_than_what_is_read_at_once_is_followed_over_the_seams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = KINDS["progressive jpeg"]
    for chunk in (4, 5, 7, 64, 1000):
        monkeypatch.setattr("mineru_daemon.documents.completeness._CHUNK", chunk)
        check(tmp_path, content)
        with pytest.raises(IncompleteError):
            check(tmp_path, content[:-1])


def test_a_missing_file_and_a_folder_are_errors_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check_complete(tmp_path / "gone.pdf", LIMITS)
    with pytest.raises(OSError, match="not a regular file"):
        check_complete(tmp_path, LIMITS)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"\x89PNG\r\n\x1a\n", b"\0\0\0\0teXt" + struct.pack(">I", zlib.crc32(b"teXt"))),
        (b"\xff\xd8", b"\xff\xe1\0\2"),
        (b"GIF89a" + bytes(7) + b"!\xff", b"\1x"),
        (b"GIF89a" + bytes(7), b"!\xff\0"),
    ],
    ids=["png", "jpeg", "gif", "gif extensions"],
)
def test_a_file_of_endless_pieces_is_not_walked_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes, piece: bytes
) -> None:
    monkeypatch.setattr("mineru_daemon.documents.completeness._MAX_PIECES", 3000)
    check(tmp_path, start + piece * 3500)
    with pytest.raises(IncompleteError):
        check(tmp_path, start + piece * 2500)


@pytest.mark.parametrize("filling", [0, 900, 70_000])
@pytest.mark.parametrize("font", [True, False])
def test_a_pdf_that_shows_no_font_anywhere_may_be_continued(
    tmp_path: Path, font: bool, filling: int
) -> None:
    path = tmp_path / "page.pdf"
    told = b"<< /Type /Font >>" if font else b"<< /Type /XObject >>"
    path.write_bytes(b"%PDF-1.4\n%" + b"x" * filling + b"\n1 0 obj\n" + told + b"\nendobj\n%%EOF\n")
    assert may_be_continued(path) != font
