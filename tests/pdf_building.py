"""PDFs written by hand for tests: small, plain, and wrong only where a test wants it."""

from __future__ import annotations

import hashlib

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
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        *(
            b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> %s >>" % page
            for page in pages
        ),
        *more,
    ]
    out = bytearray(b"%%PDF-%s\n" % version)
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R %s >>\n" % (len(objects) + 1, trailer)
    out += b"startxref\n%d\n%%%%EOF\n" % table
    return bytes(out)


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
