"""Pages of PDF with a text layer, written by hand, and what is read from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pdf_building import build_pdf

from mineru_daemon.documents import Limits, open_document
from mineru_daemon.documents.pdf import PdfPage
from mineru_daemon.engines.ppocr import textlayer
from mineru_daemon.engines.ppocr.textlayer import PdfMode, TextLayer

LETTER = b"/MediaBox [0 0 600 400]"
IMAGE = (
    b"<< /Type /XObject /Subtype /Image /Width 2 /Height 2 /BitsPerComponent 8 "
    b"/ColorSpace /DeviceGray /Length 4 >>\nstream\n\x00\xff\xff\x00\nendstream"
)
WITH_IMAGE = b"/Resources << /Font << /F1 3 0 R >> /XObject << /Im 6 0 R >> >>"
SENTENCE = "The quick brown fox jumps over the lazy dog and finds a warm place"


def read_layer(
    folder: Path, content: bytes, page: bytes = LETTER, mode: PdfMode = "auto", **more: Any
) -> TextLayer:
    """Read page 0 of a PDF with this content; further arguments go to `build_pdf`."""
    path = folder / "page.pdf"
    path.write_bytes(build_pdf(page, content=content, **more))
    with open_document(path, Limits()) as document:
        opened = document.page(0)
        assert isinstance(opened, PdfPage)
        return textlayer.read(opened, mode)


def shown(text: str, x: float, y: float, size: float = 12, font: str = "F1") -> bytes:
    return f"BT /{font} {size} Tf {x} {y} Td ({text}) Tj ET\n".encode()


def texts(layer: TextLayer) -> list[str]:
    return [line.text for line in layer.lines]
