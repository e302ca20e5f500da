"""Bytes -> pages, within limits. The only part that opens untrusted bytes.

`sniff` tells the kind of a file, `check_complete` whether all of it has arrived, and
`open_document` gives its pages, a `reader.Reader` does the same in a process that can be
ended. What is on a page is read by `engines`; where files lie
and when they are looked at is decided by `inbox`, `check` and `worker`.
"""

from __future__ import annotations

import os
from pathlib import Path

from mineru_daemon.documents.completeness import check_complete, may_be_continued
from mineru_daemon.documents.images import ImageDocument
from mineru_daemon.documents.page import Document, Limits, Page, Rendering, TextPage
from mineru_daemon.documents.pdf import PDFIUM_LOCK, PdfDocument, PdfPage
from mineru_daemon.documents.sniff import HEAD_BYTES, install_advice, open_regular, sniff
from mineru_daemon.errors import (
    EmptyError,
    IncompleteError,
    LimitError,
    StorageError,
    UnsupportedError,
)
from mineru_daemon.printable import printable

__all__ = [
    "PDFIUM_LOCK",
    "Document",
    "Limits",
    "Page",
    "PdfPage",
    "Rendering",
    "TextPage",
    "check_complete",
    "may_be_continued",
    "open_document",
    "sniff",
]


def open_document(path: Path, limits: Limits, pdf_dpi: float = 200.0) -> Document:
    """Open a file for reading page by page; close it, or use it in a `with` statement.

    `pdf_dpi` is the resolution in pixels per inch at which PDF pages are drawn; images
    keep their own. 200 is enough for 6 pt print and draws A4 as 1654 x 2339 pixels.

    Raises `UnsupportedError`, `EmptyError`, `EncryptedError`, `LimitError`,
    `IncompleteError` (nothing but zero bytes has arrived), `DocumentError` (damaged), and
    `StorageError` where the disk refuses. Each message is one sentence with the file's name.
    """
    try:
        return _open(path, limits, pdf_dpi)
    except OSError as error:
        raise StorageError(
            f"{printable(path.name)} cannot be opened: {error.strerror or error}."
        ) from error


def _open(path: Path, limits: Limits, pdf_dpi: float) -> Document:
    name = printable(path.name)
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        head = stream.read(HEAD_BYTES)
    if not size:
        raise EmptyError(f"{name} has no content; deliver it again.")
    if size > limits.max_file_bytes:
        raise LimitError(
            f"{name} has {size:,} bytes, more than the {limits.max_file_bytes:,} allowed; "
            "split it or raise max_file_bytes."
        )
    media_type = sniff(head)
    if media_type is None:
        if not head.strip(b"\0"):
            raise IncompleteError(
                f"{name} begins with zero bytes only, its content never arrived; deliver it again."
            )
        raise UnsupportedError(
            f"{name} is of no kind that is read here; deliver it as PDF, PNG, JPEG, TIFF, WebP, "
            "BMP, GIF or HEIC."
        )
    advice = install_advice(media_type)
    if advice:
        raise UnsupportedError(f"{name} is an {media_type} file; to read such files, {advice}.")
    if media_type == "application/pdf":
        return PdfDocument(path, limits, pdf_dpi)
    return ImageDocument(path, limits, media_type)
