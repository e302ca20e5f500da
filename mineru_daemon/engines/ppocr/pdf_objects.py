"""What is drawn on a PDF page beside its text: rulings, filled boxes, images, links.

Reads PDFium's page objects, without drawing. Their meaning is left to `digital_tables` and
`textlayer`. Callers hold `PDFIUM_LOCK`.
"""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import dataclass, field
from typing import Any

import pypdfium2.raw as pdfium_c

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.pdf_text import Frame

MAX_OBJECTS = 60_000
"""Page objects looked at. Maps and plots have tens of thousands and no tables in them."""
MAX_SEGMENTS = 30_000
"""Path segments looked at on a page, for the same reason."""
MAX_PATH_SEGMENTS = 4_000
"""Segments of one path. A table drawn as one path has some hundreds."""
MAX_QUADS = 50
"""Lines of one link."""
MAX_FORM_DEPTH = 8
"""Forms within forms that are followed; real files stay below 4."""

RULING_WIDTH = 3.0
"""Points up to which a filled box is a line."""
MIN_RULING_LENGTH = 4.0
"""Points. Shorter strokes are parts of drawings, dashes and ticks."""
STRAIGHT = 0.8
"""Points by which a ruling may stray from level or plumb."""

Matrix = tuple[float, float, float, float, float, float]
_UNITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Ruling:
    """A level or plumb line, in points of the upright page."""

    x0: float
    y0: float
    x1: float
    y1: float
    width: float

    @property
    def level(self) -> bool:
        """Whether it runs from left to right."""
        return self.x1 - self.x0 >= self.y1 - self.y0


@dataclass(frozen=True, slots=True)
class Fill:
    """A filled box, and its colour (red, green, blue in 0..255)."""

    box: Box
    colour: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image on the page."""

    box: Box
    width_px: int
    height_px: int
    bits: int
    """Bits per pixel; 1 for black and white, as scanners for text send it."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link annotation to somewhere outside the document."""

    box: Box
    uri: str


@dataclass
class Drawing:
    """What lies on a page."""

    rulings: list[Ruling] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    truncated: bool = False


def read_drawing(page: Any, document: Any, frame: Frame) -> Drawing:
    """Rulings, fills, images and links of `page`, on the upright page, cut to it.

    `page` and `document` are pypdfium2's. Order is that of the file.
    """
    drawing = Drawing()
    reader = _Reader(frame, drawing)
    count = pdfium_c.FPDFPage_CountObjects(page)
    for index in range(max(0, count)):
        if not reader.take(pdfium_c.FPDFPage_GetObject(page, index), _UNITY, 0):
            drawing.truncated = True
            break
    drawing.links = _links(page, document, frame)
    return drawing


class _Reader:
    """Walks page objects into a `Drawing`, within bounds."""

    def __init__(self, frame: Frame, drawing: Drawing) -> None:
        self._frame = frame
        self._drawing = drawing
        self._objects = 0
        self._segments = 0

    def take(self, handle: Any, outer: Matrix, depth: int) -> bool:
        """Look at one object; False when the page has too many."""
        self._objects += 1
        if self._objects > MAX_OBJECTS or self._segments > MAX_SEGMENTS:
            return False
        match pdfium_c.FPDFPageObj_GetType(handle):
            case pdfium_c.FPDF_PAGEOBJ_PATH:
                self._path(handle, outer)
            case pdfium_c.FPDF_PAGEOBJ_IMAGE:
                self._image(handle, outer)
            case pdfium_c.FPDF_PAGEOBJ_FORM if depth < MAX_FORM_DEPTH:
                inner = _product(_matrix(handle), outer)
                for index in range(max(0, pdfium_c.FPDFFormObj_CountObjects(handle))):
                    child = pdfium_c.FPDFFormObj_GetObject(handle, index)
                    if not self.take(child, inner, depth + 1):
                        return False
        return True

    def _image(self, handle: Any, outer: Matrix) -> None:
        # An image fills the unit square of its own space.
        box = self._cut(_box_of(_product(_matrix(handle), outer), 0.0, 0.0, 1.0, 1.0, self._frame))
        if box is None:
            return
        width, height = ctypes.c_uint(), ctypes.c_uint()
        pdfium_c.FPDFImageObj_GetImagePixelSize(handle, width, height)
        pixels = width.value * height.value
        bits = 0
        if pixels:
            metadata = pdfium_c.FPDF_IMAGEOBJ_METADATA()
            if pdfium_c.FPDFImageObj_GetImageMetadata(handle, None, metadata):
                bits = metadata.bits_per_pixel
        self._drawing.pictures.append(Picture(box, width.value, height.value, bits))

    def _path(self, handle: Any, outer: Matrix) -> None:
        count = pdfium_c.FPDFPath_CountSegments(handle)
        if not 2 <= count <= MAX_PATH_SEGMENTS:
            return
        fill, stroke = ctypes.c_int(), ctypes.c_int()
        pdfium_c.FPDFPath_GetDrawMode(handle, fill, stroke)
        if not (fill.value or stroke.value):
            return
        self._segments += count
        matrix = _product(_matrix(handle), outer)
        width = ctypes.c_float()
        pdfium_c.FPDFPageObj_GetStrokeWidth(handle, width)
        thickness = width.value * _scale(matrix) * self._frame.unit
        colour = _fill_colour(handle) if fill.value else None
        for points, closed in self._subpaths(handle, count, matrix):
            box = _rectangle(points)
            if box is not None and fill.value and colour is not None:
                self._filled(box, colour)
            elif fill.value and not stroke.value and len(points) == 2:
                continue
            if stroke.value:
                ends = [*points, points[0]] if closed and len(points) > 2 else points
                for (xa, ya), (xb, yb) in itertools.pairwise(ends):
                    self._ruling(xa, ya, xb, yb, thickness)

    def _subpaths(
        self, handle: Any, count: int, matrix: Matrix
    ) -> list[tuple[list[tuple[float, float]], bool]]:
        """Corners on the page of the parts made of straight lines, and whether closed."""
        a, b, c, d, e, f = matrix
        x, y = ctypes.c_float(), ctypes.c_float()
        parts: list[tuple[list[tuple[float, float]], bool]] = []
        points: list[tuple[float, float]] = []
        straight = True
        closed = False

        def end() -> None:
            if straight and len(points) >= 2:
                parts.append((points, closed))

        for index in range(count):
            segment = pdfium_c.FPDFPath_GetPathSegment(handle, index)
            kind = pdfium_c.FPDFPathSegment_GetType(segment)
            if kind == pdfium_c.FPDF_SEGMENT_MOVETO:
                end()
                points, straight, closed = [], True, False
            elif kind != pdfium_c.FPDF_SEGMENT_LINETO:
                straight = False
            if straight:
                pdfium_c.FPDFPathSegment_GetPoint(segment, x, y)
                points.append(
                    self._frame.point(a * x.value + c * y.value + e, b * x.value + d * y.value + f)
                )
                closed = closed or bool(pdfium_c.FPDFPathSegment_GetClose(segment))
        end()
        return parts

    def _filled(self, box: Box, colour: tuple[int, int, int]) -> None:
        x0, y0, x1, y1 = box
        across, down = x1 - x0, y1 - y0
        if min(across, down) <= RULING_WIDTH:
            if across >= down:
                self._ruling(x0, (y0 + y1) / 2, x1, (y0 + y1) / 2, down)
            else:
                self._ruling((x0 + x1) / 2, y0, (x0 + x1) / 2, y1, across)
            return
        cut = self._cut(box)
        if cut is not None:
            self._drawing.fills.append(Fill(cut, colour))

    def _ruling(self, xa: float, ya: float, xb: float, yb: float, width: float) -> None:
        x0, x1 = min(xa, xb), max(xa, xb)
        y0, y1 = min(ya, yb), max(ya, yb)
        if min(x1 - x0, y1 - y0) > STRAIGHT or max(x1 - x0, y1 - y0) < MIN_RULING_LENGTH:
            return
        x0, x1 = max(x0, 0.0), min(x1, self._frame.width)
        y0, y1 = max(y0, 0.0), min(y1, self._frame.height)
        if x0 > x1 or y0 > y1:
            return
        if x1 - x0 >= y1 - y0:
            y0 = y1 = (y0 + y1) / 2
        else:
            x0 = x1 = (x0 + x1) / 2
        self._drawing.rulings.append(Ruling(x0, y0, x1, y1, width))

    def _cut(self, box: Box) -> Box | None:
        x0, y0 = max(box[0], 0.0), max(box[1], 0.0)
        x1, y1 = min(box[2], self._frame.width), min(box[3], self._frame.height)
        return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _matrix(handle: Any) -> Matrix:
    matrix = pdfium_c.FS_MATRIX()
    if not pdfium_c.FPDFPageObj_GetMatrix(handle, matrix):
        return _UNITY
    return matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f


def _product(inner: Matrix, outer: Matrix) -> Matrix:
    """First `inner`, then `outer`."""
    if outer is _UNITY:
        return inner
    a, b, c, d, e, f = inner
    p, q, r, s, t, u = outer
    return (
        a * p + b * r,
        a * q + b * s,
        c * p + d * r,
        c * q + d * s,
        e * p + f * r + t,
        e * q + f * s + u,
    )


def _scale(matrix: Matrix) -> float:
    a, b, c, d, _, _ = matrix
    return float(abs(a * d - b * c) ** 0.5)


def _box_of(
    matrix: Matrix, left: float, bottom: float, right: float, top: float, frame: Frame
) -> Box:
    a, b, c, d, e, f = matrix
    corners = [
        frame.point(a * x + c * y + e, b * x + d * y + f)
        for x, y in ((left, bottom), (right, bottom), (right, top), (left, top))
    ]
    return boxes.around(corners)


def _rectangle(points: list[tuple[float, float]]) -> Box | None:
    """The box that a closed path of straight lines fills, if it is a box."""
    if not 4 <= len(points) <= 5:
        return None
    x0, y0, x1, y1 = boxes.around(points)
    for x, y in points:
        if min(x - x0, x1 - x) > STRAIGHT or min(y - y0, y1 - y) > STRAIGHT:
            return None
    return x0, y0, x1, y1


def _fill_colour(handle: Any) -> tuple[int, int, int] | None:
    """The colour, or None where nothing is seen of the filling."""
    red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
    if not pdfium_c.FPDFPageObj_GetFillColor(handle, red, green, blue, alpha):
        return 0, 0, 0
    return (red.value, green.value, blue.value) if alpha.value else None


def _links(page: Any, document: Any, frame: Frame) -> list[Link]:
    links = []
    position = ctypes.c_int(0)
    link = pdfium_c.FPDF_LINK()
    for _ in range(MAX_OBJECTS):
        if not pdfium_c.FPDFLink_Enumerate(page, position, link):
            break
        action = pdfium_c.FPDFLink_GetAction(link)
        if not action or pdfium_c.FPDFAction_GetType(action) != pdfium_c.PDFACTION_URI:
            continue
        length = pdfium_c.FPDFAction_GetURIPath(document, action, None, 0)
        rectangle = pdfium_c.FS_RECTF()
        if not 1 < length < 8192 or not pdfium_c.FPDFLink_GetAnnotRect(link, rectangle):
            continue
        buffer = ctypes.create_string_buffer(length)
        pdfium_c.FPDFAction_GetURIPath(document, action, buffer, length)
        uri = buffer.value.decode("utf-8", "replace").strip()
        box = frame.box(rectangle.left, rectangle.bottom, rectangle.right, rectangle.top)
        if uri:
            links += [Link(one, uri) for one in _quads(link, frame) or [box]]
    return links


def _quads(link: Any, frame: Frame) -> list[Box]:
    """Boxes of a link that runs over several lines, if it has them."""
    found = []
    quad = pdfium_c.FS_QUADPOINTSF()
    for number in range(min(pdfium_c.FPDFLink_CountQuadPoints(link), MAX_QUADS)):
        if not pdfium_c.FPDFLink_GetQuadPoints(link, number, quad):
            continue
        across, down = (
            [getattr(quad, f"{axis}{corner}") for corner in range(1, 5)] for axis in "xy"
        )
        found.append(frame.box(min(across), min(down), max(across), max(down)))
    return found
