"""Characters of a PDF page, by ctypes from PDFium's text page.

Puts each character on the upright page, in the frame of its own direction of reading.
How it is set is told by `fonts`, what it makes with its neighbours by `words` and `runs`.
Callers hold `PDFIUM_LOCK`.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pypdfium2.raw as pdfium_c

from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.pdf_text.fonts import Font, Style, style_of
from mineru_daemon.engines.ppocr.pdf_text.frame import Frame, along

MAX_CHARACTERS = 200_000
"""Characters read of a page. A newspaper page has 50 000; more was made to cost time."""
_HYPHENS = {0x02, 0xAD, 0xFFFE}
"""A hyphen at a line's end: PDFium's code, the soft hyphen, PDFium's code as exported."""
_SPACES = {0x09, 0x0A, 0x0D, 0x20, 0xA0, 0x2002, 0x2003, 0x2009, 0x202F, 0x3000}
_IGNORED = {0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF}
_REPLACEMENT = "\ufffd"


@dataclass(slots=True, eq=False)
class Glyph:
    """One character, in points along (u) and across (v) its own direction of reading."""

    text: str
    u0: float
    v0: float
    u1: float
    v1: float
    em: float
    style: Style
    piece: int
    """Number of the text object it comes from."""
    spaced: int
    """White space before it: 0 none, 1 put there by PDFium, 2 in the file."""


@dataclass
class Glyphs:
    """Characters by direction of reading, and what was met on the way."""

    by_angle: dict[int, list[Glyph]] = field(default_factory=dict)
    characters: int = 0
    """Printing characters inside the page."""
    invisible: int = 0
    unmapped: int = 0
    """Characters that stand for no Unicode character, or for a private one."""
    truncated: bool = False


def read_glyphs(page: Any, frame: Frame) -> Glyphs:
    """The characters inside the crop box of `page`, a `pypdfium2.PdfPage`."""
    text_page = pdfium_c.FPDFText_LoadPage(page)
    if not text_page:
        return Glyphs()
    try:
        return _read(text_page, frame)
    finally:
        pdfium_c.FPDFText_ClosePage(text_page)


def _address_call(function: Any) -> Callable[[Any, int], int | None]:
    """`function` of (handle, index), giving a plain address instead of a pointer object."""
    address = ctypes.cast(function, ctypes.c_void_p).value
    prototype = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
    return prototype(address)  # type: ignore[arg-type]


def _read(text_page: Any, frame: Frame) -> Glyphs:
    # Three calls a character, hence local names: a dense page has 6000 of them.
    handle = ctypes.cast(text_page, ctypes.c_void_p)
    unicode_at = pdfium_c.FPDFText_GetUnicode
    loose_box = pdfium_c.FPDFText_GetLooseCharBox
    object_at = _address_call(pdfium_c.FPDFText_GetTextObject)
    rectangle = pdfium_c.FS_RECTF()
    reference = ctypes.byref(rectangle)
    width, height = frame.width, frame.height
    found = Glyphs()
    fonts: dict[int, Font] = {}
    errors: dict[tuple[int, int], bool] = {}
    total = pdfium_c.FPDFText_CountChars(text_page)
    found.truncated = total > MAX_CHARACTERS
    last: int | None = None
    piece = spaced = 0
    style: Style | None = None
    font = Font(0, "", 0.0, 0.0, False, False)
    sink: list[Glyph] = []
    for index in range(min(total, MAX_CHARACTERS)):
        code = unicode_at(text_page, index)
        if code in _SPACES:
            loose_box(text_page, index, reference)
            spaced = max(spaced, 1 if rectangle.left == rectangle.right else 2)
            continue
        if code in _IGNORED:
            continue
        address = object_at(handle, index)
        if not address:
            continue
        if address != last:
            last = address
            piece += 1
            style, font = style_of(text_page, index, address, frame, fonts)
            sink = found.by_angle.setdefault(style.angle, [])
        assert style is not None
        loose_box(text_page, index, reference)
        x0, y0 = frame.point(rectangle.left, rectangle.bottom)
        x1, y1 = frame.point(rectangle.right, rectangle.top)
        if x0 > x1:
            x0, x1 = x1, x0
        if y0 > y1:
            y0, y1 = y1, y0
        middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
        if not (0 <= middle_x <= width and 0 <= middle_y <= height):
            continue
        text = "-" if code in _HYPHENS else chr(code) if code < 0x110000 else _REPLACEMENT
        known = errors.get((font.address, code))
        if known is None:
            known = errors[font.address, code] = _is_unmapped(text_page, index, code)
        if code < 0x20 and code not in _HYPHENS:
            text = _REPLACEMENT
        found.characters += 1
        found.unmapped += known
        found.invisible += style.invisible
        if style.angle % 90:
            origin = _origin(text_page, index)
            u0, v0, u1, v1 = _leaning_box(frame.point(*origin), style, x1 - x0, y1 - y0)
        else:
            u0, v0, u1, v1 = along(style.angle, (x0, y0, x1, y1), width, height)
        em = style.size
        span = style.ascent - style.descent
        if span and not style.angle % 90:
            em = (v1 - v0) / span
            if not 0.6 <= span <= 1.4:
                # Fonts with odd metrics: keep the base line, take usual letters' height.
                base = v0 + em * style.ascent
                v0, v1 = base - 0.8 * em, base + 0.2 * em
        sink.append(Glyph(text, u0, v0, u1, v1, em, style, piece, spaced))
        spaced = 0
    return found


def _is_unmapped(text_page: Any, index: int, code: int) -> bool:
    if code in _HYPHENS:
        return False
    if code < 0x20 or code == 0xFFFD or 0x7F <= code < 0xA0 or 0xE000 <= code < 0xF900:
        return True
    return bool(pdfium_c.FPDFText_HasUnicodeMapError(text_page, index) == 1)


def _origin(text_page: Any, index: int) -> tuple[float, float]:
    x, y = ctypes.c_double(), ctypes.c_double()
    pdfium_c.FPDFText_GetCharOrigin(text_page, index, x, y)
    return x.value, y.value


def _leaning_box(origin: tuple[float, float], style: Style, across: float, down: float) -> Box:
    """The box of a leaning character from its origin; its width by its upright box."""
    x, y = origin
    turn = math.radians(style.angle)
    cosine, sine = math.cos(turn), math.sin(turn)
    u, v = x * cosine + y * sine, y * cosine - x * sine
    # A box of w by h turned by t is w cos + h sin wide: solved for w, h being 1 em or so.
    height = style.size * ((style.ascent - style.descent) or 1.0)
    slant = abs(cosine) if abs(cosine) >= abs(sine) else abs(sine)
    other = abs(sine) if abs(cosine) >= abs(sine) else abs(cosine)
    spread = across if abs(cosine) >= abs(sine) else down
    width = min(max((spread - height * other) / slant, 0.2 * style.size), style.size)
    return u, v - 0.8 * style.size, u + width, v + 0.2 * style.size
