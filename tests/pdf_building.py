"""PDFs written by hand for tests: small, plain, and wrong only where a test wants it."""

from __future__ import annotations

import hashlib

from mineru_daemon.samples.pdf_file import pdf_file, stream

PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
"""PDF Reference 1.7, algorithm 3.2."""


def build_pdf(
    *pages: bytes,
    content: bytes = b"BT /F1 24 Tf 20 40 Td (Hello) Tj ET",
    version: bytes = b"1.7",
    trailer: bytes = b"",
    catalog: bytes = b"",
    more: tuple[bytes, ...] = (),
) -> bytes:
    """A PDF with a page for each of `pages`, the entries of their dictionaries.

    Objects: 1 catalog, 2 page tree, 3 font, 4 content of all pages, then the pages, then
    `more`.
    """
    kids = b" ".join(b"%d 0 R" % (5 + number) for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalog,
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        stream(content),
        *(
            b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> %s >>" % page
            for page in pages
        ),
        *more,
    ]
    return pdf_file(objects, b"%%PDF-%s\n" % version, trailer)


def encryption(user_password: bytes) -> bytes:
    """Trailer entries that protect a file (40-bit RC4, revision 2) without a secret text in it.

    The content streams stay as they are, so only files that are not drawn make sense.
    """
    owner = _rc4(hashlib.md5(_padded(b"owner")).digest()[:5], _padded(user_password))
    identifier, permissions = b"0123456789abcdef", -4
    key = hashlib.md5(
        _padded(user_password) + owner + permissions.to_bytes(4, "little", signed=True) + identifier
    ).digest()[:5]
    user = _rc4(key, PADDING)
    return b"/ID [<%s> <%s>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (
        identifier.hex().encode(),
        identifier.hex().encode(),
        owner.hex().encode(),
        user.hex().encode(),
    )


def _padded(password: bytes) -> bytes:
    return (password + PADDING)[:32]


def _rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out = bytearray()
    i = j = 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)
