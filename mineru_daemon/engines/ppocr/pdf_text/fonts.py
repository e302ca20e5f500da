"""How text of a PDF is set: font, weight, slant, colour, size, direction.

Reads PDFium's text objects; characters themselves are left to `glyphs`. Callers hold
`PDFIUM_LOCK`.
"""

from __future__ import annotations

import ctypes
import math
import re
from dataclasses import dataclass
from typing import Any

import pypdfium2.raw as pdfium_c

from mineru_daemon.engines.ppocr.pdf_text.frame import Frame, direction

_BOLD = re.compile(r"bold|black|heavy|demi(?!l)|[-,]bd", re.IGNORECASE)
_ITALIC = re.compile(r"italic|oblique|slanted|[-,]it\b", re.IGNORECASE)
_FLAG_ITALIC = 1 << 6
_FLAG_FORCE_BOLD = 1 << 18
"""Font descriptor flags: ISO 32000-1, table 123."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a stretch of text is set."""

    font: str
    bold: bool
    italic: bool
    invisible: bool
    colour: tuple[int, int, int] | None
    """Red, green and blue in 0..255; None where the fill is no plain colour."""
    angle: int
    """Degrees clockwise by which the text is turned on the upright page."""
    ascent: float
    descent: float
    """Of the font, in em; both 0 where it does not tell. Descent is negative."""
    size: float
    """Type size in points, as set, along the line's height."""


@dataclass(frozen=True, slots=True)
class Font:
    """A font of the file; ascent and descent in em."""

    address: int
    name: str
    ascent: float
    descent: float
    bold: bool
    italic: bool


def _font(handle: Any, address: int) -> Font:
    buffer = ctypes.create_string_buffer(128)
    length = pdfium_c.FPDFFont_GetBaseFontName(handle, buffer, 128)
    name = buffer.value.decode("utf-8", "replace") if 0 < length <= 128 else ""
    # A subset's name begins with six letters and a plus sign: ISO 32000-1, 9.6.4.
    name = re.sub(r"^[A-Z]{6}\+", "", name)
    ascent, descent = ctypes.c_float(), ctypes.c_float()
    pdfium_c.FPDFFont_GetAscent(handle, 1.0, ctypes.byref(ascent))
    pdfium_c.FPDFFont_GetDescent(handle, 1.0, ctypes.byref(descent))
    flags = max(0, pdfium_c.FPDFFont_GetFlags(handle))
    weight = pdfium_c.FPDFFont_GetWeight(handle)
    bold = bool(_BOLD.search(name) or flags & _FLAG_FORCE_BOLD or (not name and weight >= 700))
    italic = bool(_ITALIC.search(name) or flags & _FLAG_ITALIC)
    return Font(address, name, ascent.value, descent.value, bold, italic)


def style_of(
    text_page: Any, index: int, address: int, frame: Frame, fonts: dict[int, Font]
) -> tuple[Style, Font]:
    """How the character number `index` is set, and its font.

    `address` is that of its text object, `fonts` those met so far by their addresses.
    """
    handle = ctypes.cast(address, pdfium_c.FPDF_PAGEOBJECT)
    font_handle = pdfium_c.FPDFTextObj_GetFont(handle)
    key = ctypes.cast(font_handle, ctypes.c_void_p).value or 0
    font = fonts.get(key)
    if font is None:
        font = fonts[key] = _font(font_handle, key)
    mode = pdfium_c.FPDFTextObj_GetTextRenderMode(handle)
    red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
    plain = pdfium_c.FPDFPageObj_GetFillColor(handle, red, green, blue, alpha)
    matrix = pdfium_c.FS_MATRIX()
    pdfium_c.FPDFText_GetMatrix(text_page, index, matrix)
    size = pdfium_c.FPDFText_GetFontSize(text_page, index)
    stroked = mode in (
        pdfium_c.FPDF_TEXTRENDERMODE_FILL_STROKE,
        pdfium_c.FPDF_TEXTRENDERMODE_FILL_STROKE_CLIP,
    )
    style = Style(
        font=font.name,
        bold=font.bold or stroked,
        italic=font.italic,
        invisible=mode
        in (pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE, pdfium_c.FPDF_TEXTRENDERMODE_CLIP)
        or bool(plain and alpha.value == 0),
        colour=(red.value, green.value, blue.value) if plain else None,
        angle=direction(matrix.a, matrix.b, frame.rotation),
        ascent=font.ascent,
        descent=font.descent,
        size=abs(size) * math.hypot(matrix.c, matrix.d) * frame.unit,
    )
    return style, font
