"""What holds for every kind of file: the kind is told by content, errors are one sentence."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pdf_building import build_pdf, encryption
from PIL import Image

from mineru_daemon.documents import Limits, open_document, sniff
from mineru_daemon.errors import (
    DocumentError,
    EmptyError,
    EncryptedError,
    IncompleteError,
    LimitError,
    StorageError,
    UnsupportedError,
)

LIMITS = Limits()
A_PAGE = b"/MediaBox [0 0 200 100]"


def image_bytes(
    format: str, mode: str = "RGB", size: tuple[int, int] = (30, 20), **options: object
) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, format, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (build_pdf(A_PAGE), "application/pdf"),
        (b"\xef\xbb\xbf\r\n" + bytes(900) + build_pdf(A_PAGE), "application/pdf"),
        (image_bytes("PNG"), "image/png"),
        (image_bytes("JPEG"), "image/jpeg"),
        (image_bytes("TIFF"), "image/tiff"),
        (image_bytes("TIFF", "I;16B"), "image/tiff"),
        (image_bytes("TIFF", big_tiff=True), "image/tiff"),
        (image_bytes("WEBP"), "image/webp"),
        (image_bytes("BMP"), "image/bmp"),
        (image_bytes("GIF"), "image/gif"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "image/heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "image/avif"),
        (b"\0\0\0\x14ftypmif1\0\0\0\0mif1heic", "image/heif"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", None),
        (b"RIFF\x24\0\0\0WAVEfmt ", None),
        (b"BMW is a maker of cars", None),
        (bytes(1100) + build_pdf(A_PAGE), None),
        (b"hello", None),
        (b"", None),
    ],
)
def test_the_kind_is_told_by_content(content: bytes, media_type: str | None) -> None:
    assert sniff(content[:2048]) == media_type


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "really.pdf"
    path.write_bytes(image_bytes("PNG"))
    with open_document(path, LIMITS) as document:
        assert (document.media_type, document.page_count) == ("image/png", 1)
        assert document.page(0).render().image.size == (30, 20)


ERRORS: list[tuple[str, bytes, type[DocumentError], Limits, str]] = [
    ("text", b"hello\n", UnsupportedError, LIMITS, "is of no kind that is read here"),
    ("heic", b"\0\0\0\x18ftypheic\0\0\0\0", UnsupportedError, LIMITS, "pip install 'mineru-"),
    ("nothing", b"", EmptyError, LIMITS, "has no content"),
    ("zeros", bytes(5000), IncompleteError, LIMITS, "begins with zero bytes only"),
    ("no-pages", build_pdf(), EmptyError, LIMITS, "has no pages"),
    (
        "locked",
        build_pdf(A_PAGE, trailer=encryption(b"secret")),
        EncryptedError,
        LIMITS,
        "is protected by a password",
    ),
    ("heavy", build_pdf(A_PAGE), LimitError, Limits(max_file_bytes=99), "has .* bytes, more than"),
    ("long", build_pdf(A_PAGE, A_PAGE), LimitError, Limits(max_pages=1), "has 2 pages, more than"),
    (
        "long-tiff",
        image_bytes("TIFF", save_all=True, append_images=[Image.new("L", (9, 9))] * 2),
        LimitError,
        Limits(max_pages=2),
        "has more than the 2 pages",
    ),
    (
        "bomb",
        image_bytes("PNG"),
        LimitError,
        Limits(max_page_pixels=599),
        "has 30 x 20 pixels, more than the 599 allowed",
    ),
    ("cut", build_pdf(A_PAGE)[:20], IncompleteError, LIMITS, "was cut off before its end"),
    ("broken", b"%PDF-1.7\n%%EOF\n", DocumentError, LIMITS, "the PDF is damaged"),
    ("broken-image", b"\x89PNG\r\n\x1a\n" + bytes(99), DocumentError, LIMITS, "cannot be decoded"),
    ("broken-tiff", b"II*\0\x08\0\0\0\xff\xff", DocumentError, LIMITS, "cannot be decoded"),
]


@pytest.mark.parametrize(
    ("content", "kind", "limits", "words"),
    [case[1:] for case in ERRORS],
    ids=[case[0] for case in ERRORS],
)
def test_each_error_is_one_sentence_with_the_name_and_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    kind: type[DocumentError],
    limits: Limits,
    words: str,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    path = tmp_path / "bad\nname.xyz"
    path.write_bytes(content)
    with pytest.raises(kind) as caught, open_document(path, limits):
        pass
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.startswith(r"bad\nname.xyz ")
    assert re.search(words, message)
    assert re.fullmatch(r"[^\n]*[;,:] [^\n]*\.", message), "what happened; what to do"
    assert len(re.findall(r"\.\s", message)) == 0, "one sentence"


def test_what_the_system_refuses_is_no_fault_of_the_document(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.pdf", tmp_path):
        with pytest.raises(StorageError, match="cannot be opened"):
            open_document(path, LIMITS)


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pdf")
    with pytest.raises(StorageError, match="not a regular file"):
        open_document(tmp_path / "pipe.pdf", LIMITS)


@pytest.mark.parametrize("content", [build_pdf(A_PAGE), image_bytes("JPEG")], ids=["pdf", "jpeg"])
def test_names_that_are_no_text_are_read(tmp_path: Path, content: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe\xc3\xa4.x"))
    path.write_bytes(content)
    with open_document(path, LIMITS) as document:
        assert document.page(0).render().image.size


def test_a_page_that_fails_leaves_the_others_readable(tmp_path: Path) -> None:
    path = tmp_path / "three.tif"
    frames = [Image.new("L", (40, 30), shade) for shade in (10, 20, 30)]
    frames[0].save(path, save_all=True, append_images=frames[1:], compression="tiff_lzw")
    content = path.read_bytes()
    with Image.open(path) as image:
        image.seek(1)
        offset = image.tag_v2[273][0]  # type: ignore[attr-defined]
    path.write_bytes(content[:offset] + b"\xff" * 20 + content[offset + 20 :])
    with open_document(path, LIMITS) as document:
        assert document.page_count == 3
        assert document.page(0).render().image.getpixel((0, 0)) == (10, 10, 10)
        with pytest.raises(DocumentError, match=r"^page 2 of three\.tif cannot be decoded"):
            document.page(1).render()
        assert document.page(2).render().image.getpixel((0, 0)) == (30, 30, 30)


def test_nothing_is_said_on_standard_error(tmp_path: Path) -> None:
    damaged = {
        "fax.tif": (image_bytes("TIFF", "1", compression="group4"), 8, 20),
        "deflate.tif": (image_bytes("TIFF", compression="tiff_adobe_deflate"), 8, 20),
        "tags.tif": (image_bytes("TIFF")[:150], 0, 0),
        "exif.jpg": (image_bytes("JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff"), 0, 0),
        "large.png": (image_bytes("PNG", "1", (13_000, 7_000)), 0, 0),
        "form.pdf": (build_pdf(A_PAGE, catalog=b"/AcroForm << /XFA (x) /Fields [] >>"), 0, 0),
    }
    for name, (content, start, length) in damaged.items():
        (tmp_path / name).write_bytes(content[:start] + bytes(length) + content[start + length :])
    program = """
import pathlib, sys
from mineru_daemon.documents import Limits, check_complete, open_document
from mineru_daemon.errors import DocumentError
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    for attempt in (
        lambda: check_complete(path, Limits()),
        lambda: open_document(path, Limits()).page(0).render(100),
    ):
        try:
            attempt()
        except DocumentError:
            pass
"""
    run = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True
    )
    assert (run.stdout, run.stderr) == ("", "")
