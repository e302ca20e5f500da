"""Characters of a PDF page -> words -> lines, without drawing the page.

Reads PDFium's text page and puts characters on the upright page. What else is on the
page is told by `pdf_objects`, whether its text may be trusted by `textlayer`, in which
order lines are read by others. Callers hold `PDFIUM_LOCK` while `read_glyphs` runs; the
rest is pure.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import pypdfium2.raw as pdfium_c

from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.results import Angle

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in points of the upright page, origin at the top left."""

MAX_CHARACTERS = 200_000
"""Characters read of a page. A newspaper page has 50 000; more was made to cost time."""

SPACE_GAP = 0.17
"""Gap in em from which two characters are two words. TeX's word space is 0.333 em and
may shrink to 0.222 (The TeXbook, ch. 12); kerning stays below 0.1."""
MARKED_SPACE_GAP = 0.04
"""The same where PDFium put a space of its own."""
OVERHANG = 0.1
"""Em by which slanted letters, and f, may reach over the space after them."""
CJK_SPACE_GAP = 0.45
"""The same between two ideographs, which carry white space inside their squares."""
RUN_GAP = 1.3
"""Gap in em up to which characters that follow each other in the file share a line."""
MERGE_GAP = 0.75
"""Gap in em up to which pieces that stand side by side share a line. Less than the
space between columns, which is 1 em or more."""
SAME_LINE_OVERLAP = 0.45
"""Share of the lower piece's height by which pieces of one line overlap at least."""
OPEN_ROWS = 12
"""Rows that a piece of text is compared with, from the last one up."""
UPRIGHT_TOLERANCE = 3.0
"""Degrees by which text may lean and still count as set at a right angle."""

_HYPHENS = {0x02, 0xAD, 0xFFFE}
"""A hyphen at a line's end: PDFium's code, the soft hyphen, PDFium's code as exported."""
_SPACES = {0x09, 0x0A, 0x0D, 0x20, 0xA0, 0x2002, 0x2003, 0x2009, 0x202F, 0x3000}
_IGNORED = {0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF}
_REPLACEMENT = "\ufffd"
_BOLD = re.compile(r"bold|black|heavy|demi(?!l)|[-,]bd", re.IGNORECASE)
_ITALIC = re.compile(r"italic|oblique|slanted|[-,]it\b", re.IGNORECASE)
_FLAG_ITALIC = 1 << 6
_FLAG_FORCE_BOLD = 1 << 18
"""Font descriptor flags: ISO 32000-1, table 123."""


@dataclass(frozen=True, slots=True)
class Frame:
    """From a page's user space to points of the upright page."""

    left: float
    bottom: float
    right: float
    top: float
    rotation: Angle
    unit: float
    """Points per unit of user space."""

    @property
    def width(self) -> float:
        """Width of the upright page in points."""
        turned = self.rotation in (90, 270)
        return (self.top - self.bottom if turned else self.right - self.left) * self.unit

    @property
    def height(self) -> float:
        """Height of the upright page in points."""
        turned = self.rotation in (90, 270)
        return (self.right - self.left if turned else self.top - self.bottom) * self.unit

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point of user space on the upright page."""
        match self.rotation:
            case 0:
                across, down = x - self.left, self.top - y
            case 90:
                across, down = y - self.bottom, x - self.left
            case 180:
                across, down = self.right - x, y - self.bottom
            case _:
                across, down = self.top - y, self.right - x
        return across * self.unit, down * self.unit

    def box(self, left: float, bottom: float, right: float, top: float) -> Box:
        """A rectangle of user space on the upright page."""
        x0, y0 = self.point(left, bottom)
        x1, y1 = self.point(right, top)
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


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


@dataclass(frozen=True, slots=True)
class Word:
    """Characters without white space between them."""

    text: str
    box: Box
    size: float
    bold: bool


@dataclass(frozen=True)
class PrintedLine(TextLine):
    """A line of a text layer; corners in points of the upright page, score 1."""

    words: tuple[Word, ...] = ()
    size: float = 0.0
    """Type size in points of most of its characters."""
    font: str = ""
    bold: bool = False
    italic: bool = False
    invisible: bool = False
    colour: tuple[int, int, int] | None = None
    angle: int = 0
    """Degrees clockwise by which the line is turned on the upright page."""
    vertical: bool = False
    """Set from top to bottom with upright characters, as Chinese and Japanese may be."""

    @property
    def box(self) -> Box:
        """Its upright bounding box in points."""
        across, down = zip(*self.corners, strict=True)
        return min(across), min(down), max(across), max(down)


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
    fonts: dict[int, _Font] = {}
    errors: dict[tuple[int, int], bool] = {}
    total = pdfium_c.FPDFText_CountChars(text_page)
    found.truncated = total > MAX_CHARACTERS
    last: int | None = None
    piece = spaced = 0
    style: Style | None = None
    font = _Font(0, "", 0.0, 0.0, False, False)
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
            style, font = _style(text_page, index, address, frame, fonts)
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
            u0, v0, u1, v1 = _along(style.angle, (x0, y0, x1, y1), width, height)
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


@dataclass(frozen=True, slots=True)
class _Font:
    address: int
    name: str
    ascent: float
    descent: float
    bold: bool
    italic: bool


def _font(handle: Any, address: int) -> _Font:
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
    return _Font(address, name, ascent.value, descent.value, bold, italic)


def _style(
    text_page: Any, index: int, address: int, frame: Frame, fonts: dict[int, _Font]
) -> tuple[Style, _Font]:
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
        angle=_turn(matrix.a, matrix.b, frame.rotation),
        ascent=font.ascent,
        descent=font.descent,
        size=abs(size) * math.hypot(matrix.c, matrix.d) * frame.unit,
    )
    return style, font


def _turn(across: float, up: float, rotation: int) -> int:
    """Degrees clockwise on the upright page of a direction in user space."""
    degrees = (rotation - math.degrees(math.atan2(up, across))) % 360
    nearest = round(degrees / 90) * 90
    if abs(degrees - nearest) <= UPRIGHT_TOLERANCE:
        return nearest % 360
    return round(degrees) % 360


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


def _along(angle: int, box: Box, width: float, height: float) -> Box:
    """A box of the upright page, in the frame in which text turned by `angle` runs right."""
    x0, y0, x1, y1 = box
    match angle:
        case 0:
            return box
        case 90:
            return y0, width - x1, y1, width - x0
        case 180:
            return width - x1, height - y1, width - x0, height - y0
        case _:
            return height - y1, x0, height - y0, x1


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


def _onto_page(
    angle: int, box: Box, width: float, height: float
) -> tuple[tuple[float, float], ...]:
    """Corners on the upright page, clockwise from where reading begins at the top."""
    u0, v0, u1, v1 = box
    corners = ((u0, v0), (u1, v0), (u1, v1), (u0, v1))
    match angle:
        case 0:
            return corners
        case 90:
            return tuple((width - v, u) for u, v in corners)
        case 180:
            return tuple((width - u, height - v) for u, v in corners)
        case 270:
            return tuple((v, height - u) for u, v in corners)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return tuple((u * cosine - v * sine, u * sine + v * cosine) for u, v in corners)


# --- characters -> lines ------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Run:
    """Characters that follow each other in the file and on the page."""

    glyphs: list[Glyph]
    u0: float
    v0: float
    u1: float
    v1: float
    em: float
    doubled: bool = False

    def text(self) -> str:
        return "".join(glyph.text for glyph in self.glyphs)


def build_lines(glyphs: Glyphs, width: float, height: float) -> list[PrintedLine]:
    """Lines in the order in which they begin in the file; page size in points."""
    lines: list[PrintedLine] = []
    for angle, members in glyphs.by_angle.items():
        rows, columns = _split_vertical(members, width) if angle == 0 else (members, [])
        lines += _lines_of(rows, angle, width, height, vertical=False)
        lines += _lines_of(columns, 90, width, height, vertical=True)
    return lines


def _split_vertical(glyphs: list[Glyph], width: float) -> tuple[list[Glyph], list[Glyph]]:
    """Characters set in rows, and ideographs set one below the other.

    The latter come back in the frame of text turned by 90 degrees.
    """
    below = [False] * len(glyphs)
    for number in range(1, len(glyphs)):
        before, glyph = glyphs[number - 1], glyphs[number]
        if _is_cjk(before.text) and _is_cjk(glyph.text):
            em = glyph.em
            step = (glyph.v0 + glyph.v1 - before.v0 - before.v1) / 2
            aside = abs(glyph.u0 + glyph.u1 - before.u0 - before.u1) / 2
            below[number] = 0.8 * em <= step <= 1.25 * em and aside <= 0.15 * em
    if sum(below) < 3:
        return glyphs, []
    rows: list[Glyph] = []
    columns: list[Glyph] = []
    start = 0
    for number in range(1, len(glyphs) + 1):
        if number < len(glyphs) and below[number]:
            continue
        group = glyphs[start:number]
        # Three signs below each other may be a column of a table.
        if len(group) >= 4:
            for one in group:
                one.u0, one.v0, one.u1, one.v1 = one.v0, width - one.u1, one.v1, width - one.u0
            columns += group
        else:
            rows += group
        start = number
    return rows, columns


def _lines_of(
    glyphs: list[Glyph], angle: int, width: float, height: float, *, vertical: bool
) -> list[PrintedLine]:
    runs = _drop_doubles(_runs(glyphs))
    return [
        line
        for group in _merge(runs)
        if (line := _line(group, angle, width, height, vertical)) is not None
    ]


def _runs(glyphs: Iterable[Glyph]) -> list[_Run]:
    runs: list[_Run] = []
    run: _Run | None = None
    before: Glyph | None = None
    for glyph in glyphs:
        if run is not None and before is not None and _continues(run, before, glyph):
            if (
                glyph.piece != before.piece
                and glyph.text == before.text
                and abs(glyph.u0 - before.u0) < 0.2 * glyph.em
            ):
                run.doubled = True
                continue
            run.glyphs.append(glyph)
            run.u0 = min(run.u0, glyph.u0)
            run.u1 = max(run.u1, glyph.u1)
            run.v0 = min(run.v0, glyph.v0)
            run.v1 = max(run.v1, glyph.v1)
            run.em = max(run.em, glyph.em)
        else:
            run = _Run([glyph], glyph.u0, glyph.v0, glyph.u1, glyph.v1, glyph.em)
            runs.append(run)
        before = glyph
    return runs


def _continues(run: _Run, before: Glyph, glyph: Glyph) -> bool:
    lower = min(run.v1 - run.v0, glyph.v1 - glyph.v0)
    if min(run.v1, glyph.v1) - max(run.v0, glyph.v0) < SAME_LINE_OVERLAP * lower:
        return False
    em = max(before.em, glyph.em)
    if _is_right_to_left(glyph.text) and _is_right_to_left(before.text):
        return -0.5 * em <= before.u0 - glyph.u1 <= RUN_GAP * em
    return glyph.u0 >= before.u0 - 0.3 * em and glyph.u0 - before.u1 <= RUN_GAP * em


def _drop_doubles(runs: list[_Run]) -> list[_Run]:
    """Without text printed twice, a little apart, to look bold or to cast a shadow."""
    kept: list[_Run] = []
    # By text and height, lest a page of equal signs takes time by their square.
    seen: dict[tuple[str, int], list[_Run]] = {}
    for run in runs:
        text, row = run.text(), round(run.v0 / 4)
        tolerance = 0.2 * run.em
        for other in itertools.chain.from_iterable(
            seen.get((text, near), ()) for near in (row - 1, row, row + 1)
        ):
            if (
                abs(other.u0 - run.u0) < tolerance
                and abs(other.v0 - run.v0) < tolerance
                and abs(other.u1 - run.u1) < 2 * tolerance
            ):
                other.doubled = True
                break
        else:
            seen.setdefault((text, row), []).append(run)
            kept.append(run)
    return kept


def _merge(runs: list[_Run]) -> list[list[_Run]]:
    """Runs that stand side by side on one line, each group from left to right."""
    rows: list[list[_Run]] = []
    # Rows that may still grow, with the run of each that stands for its height.
    open_rows: list[tuple[_Run, list[_Run]]] = []
    for run in sorted(runs, key=lambda one: one.v0 + one.v1):
        best: tuple[float, int] | None = None
        for number, (main, _) in enumerate(open_rows):
            lower = min(main.v1 - main.v0, run.v1 - run.v0)
            overlap = min(main.v1, run.v1) - max(main.v0, run.v0)
            if overlap >= SAME_LINE_OVERLAP * lower and (best is None or overlap > best[0]):
                best = overlap, number
        if best is None:
            members = [run]
            rows.append(members)
            main = run
        else:
            main, members = open_rows.pop(best[1])
            members.append(run)
            if run.em * (run.u1 - run.u0) > main.em * (main.u1 - main.u0):
                main = run
        open_rows = [*open_rows[-OPEN_ROWS:], (main, members)]
    groups: list[list[_Run]] = []
    for row in rows:
        row.sort(key=lambda one: one.u0)
        group: list[_Run] = []
        for run in row:
            if group and _joins(group[-1], run):
                group.append(run)
            else:
                group = [run]
                groups.append(group)
    order = {id(run): number for number, run in enumerate(runs)}
    groups.sort(key=lambda group: min(order[id(run)] for run in group))
    return groups


def _joins(left: _Run, right: _Run) -> bool:
    gap = right.u0 - left.u1
    em = max(left.em, right.em)
    lower = min(left.v1 - left.v0, right.v1 - right.v0)
    level = min(left.v1, right.v1) - max(left.v0, right.v0) >= 0.2 * lower
    return level and -0.5 * em <= gap <= MERGE_GAP * min(em, 1.5 * min(left.em, right.em))


def _line(
    runs: list[_Run], angle: int, width: float, height: float, vertical: bool
) -> PrintedLine | None:
    groups = [group for run in runs for group in _words(run.glyphs)]
    joined: list[list[Glyph]] = []
    starts = {id(run.glyphs[0]) for run in runs[1:]}
    for group in groups:
        if joined and id(group[0]) in starts and not _apart(joined[-1][-1], group[0], SPACE_GAP):
            joined[-1] = joined[-1] + group
        else:
            joined.append(group)
    words = []
    for group in joined:
        text = unicodedata.normalize("NFC", "".join(glyph.text for glyph in group))
        if not text.strip():
            continue
        corners = _onto_page(angle, _bounds(group), width, height)
        across, down = zip(*corners, strict=True)
        box = (min(across), min(down), max(across), max(down))
        style = group[len(group) // 2].style
        words.append(Word(text, box, median(glyph.em for glyph in group), style.bold))
    if not words:
        return None
    glyphs = [glyph for group in joined for glyph in group]
    main = glyphs[0].style
    if any(glyph.style is not main for glyph in glyphs):
        counts: dict[int, int] = {}
        for glyph in glyphs:
            counts[id(glyph.style)] = counts.get(id(glyph.style), 0) + 1
        top = max(counts, key=lambda one: counts[one])
        main = next(glyph.style for glyph in glyphs if id(glyph.style) == top)
    bold = sum(glyph.style.bold for glyph in glyphs) * 2 > len(glyphs)
    doubled = sum(len(run.glyphs) for run in runs if run.doubled) * 2 > len(glyphs)
    return PrintedLine(
        corners=_onto_page(angle, _bounds(glyphs), width, height),
        text=" ".join(word.text for word in words),
        score=1.0,
        words=tuple(words),
        size=median(glyph.em for glyph in glyphs),
        font=main.font,
        bold=bold or doubled,
        italic=main.italic,
        invisible=main.invisible,
        colour=main.colour,
        angle=0 if vertical else angle,
        vertical=vertical,
    )


def _bounds(glyphs: Sequence[Glyph]) -> Box:
    return (
        min(glyph.u0 for glyph in glyphs),
        min(glyph.v0 for glyph in glyphs),
        max(glyph.u1 for glyph in glyphs),
        max(glyph.v1 for glyph in glyphs),
    )


def _words(glyphs: list[Glyph]) -> list[list[Glyph]]:
    """Characters of a run, parted where there is white space."""
    words = _parted(glyphs, SPACE_GAP, MARKED_SPACE_GAP)
    singles = sum(len(word) == 1 and not _is_cjk(word[0].text) for word in words)
    if len(glyphs) >= 6 and singles > 0.7 * len(words) and singles >= 5:
        # L e t t e r s set apart: words are parted by more than the usual distance.
        gaps = [
            _gap(left, right) / max(left.em, right.em) for left, right in itertools.pairwise(glyphs)
        ]
        usual = median(gaps) + SPACE_GAP
        if sum(gap > usual for gap in gaps) < len(gaps) / 3:
            return _parted(glyphs, usual, usual, trust_file=False)
    return words


def _parted(
    glyphs: list[Glyph], threshold: float, marked: float, *, trust_file: bool = True
) -> list[list[Glyph]]:
    words = [[glyphs[0]]]
    for before, glyph in itertools.pairwise(glyphs):
        limit = marked if glyph.spaced else threshold
        if glyph.spaced and (before.style.italic or before.text == "f"):
            limit -= OVERHANG
        if _apart(before, glyph, limit) or (
            trust_file and glyph.spaced == 2 and not (_is_cjk(before.text) and _is_cjk(glyph.text))
        ):
            words.append([glyph])
        else:
            words[-1].append(glyph)
    return words


def _apart(before: Glyph, glyph: Glyph, threshold: float) -> bool:
    if _is_cjk(before.text) and _is_cjk(glyph.text):
        threshold = max(threshold, CJK_SPACE_GAP)
    return _gap(before, glyph) > threshold * min(max(before.em, glyph.em), 1.5 * glyph.em)


def _gap(before: Glyph, glyph: Glyph) -> float:
    if _is_right_to_left(glyph.text) and glyph.u0 < before.u0:
        return before.u0 - glyph.u1
    return glyph.u0 - before.u1


def _is_cjk(text: str) -> bool:
    """Set in a square: ideographs, kana, hangul, full-width forms."""
    return (
        "\u2e80" <= text <= "\u9fff"
        or "\uac00" <= text <= "\ud7af"
        or ("\uf900" <= text <= "\ufaff" or "\uff00" <= text <= "\uffef" or text >= "\U00020000")
    )


def _is_right_to_left(text: str) -> bool:
    return (
        "\u0590" <= text <= "\u08ff" or "\ufb1d" <= text <= "\ufdff" or "\ufe70" <= text <= "\ufefc"
    )
