"""PDFs written by hand: a file of given objects, with the table of where they stand."""

from __future__ import annotations

from collections.abc import Sequence


def pdf_file(objects: Sequence[bytes], head: bytes = b"%PDF-1.4\n", trailer: bytes = b"") -> bytes:
    """A file of `objects`, numbered from 1; the first is the catalog.

    `head` is what stands before them, `trailer` what else the trailer's dictionary holds
    (PDF 1.7, 7.5).
    """
    out = bytearray(head)
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    more = b" " + trailer if trailer else b""
    out += b"trailer\n<< /Size %d /Root 1 0 R%s >>\n" % (len(objects) + 1, more)
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % table)


def stream(content: bytes) -> bytes:
    """An object that holds `content` as it is."""
    return b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content)
