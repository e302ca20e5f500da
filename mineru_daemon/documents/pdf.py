"""PDF files -> upright RGB pages, drawn by PDFium.

PDFium may be used by one thread at a time: every call into it is made under
`PDFIUM_LOCK`, which is held for one call and never for the lifetime of a document. Text
that a PDF already holds is read by others, from `PdfPage.pdfium_page` under the same lock.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from mineru_daemon.documents.completeness import is_cut_pdf
from mineru_daemon.documents.page import (
    Answer,
    Document,
    Limits,
    Pixels,
    Rendering,
    TextPage,
    label,
)
from mineru_daemon.errors import (
    DocumentError,
    EmptyError,
    EncryptedError,
    IncompleteError,
    LimitError,
    MineruError,
    StorageError,
)
from mineru_daemon.printable import printable
from mineru_daemon.results import Angle

PDFIUM_LOCK = threading.RLock()
"""Held around every call into PDFium."""

# It warns of form features its build lacks; nobody who reads the daemon's log can help that.
logging.getLogger("pypdfium2").setLevel(logging.ERROR)

_POINTS_PER_INCH = 72.0
_USER_UNIT_SINCE = 16
"""PDF version (times 10) that introduced /UserUnit."""


class PdfDocument(Document):
    """An open PDF."""

    media_type = "application/pdf"

    def __init__(self, path: Path, limits: Limits, dpi: float) -> None:
        """Raises `EncryptedError`, `EmptyError`, `LimitError`, `DocumentError`."""
        self._path = path
        self._limits = limits
        self._dpi = dpi
        self._cut = is_cut_pdf(path)
        name = printable(path.name)
        with PDFIUM_LOCK:
            self._document = pdfium.PdfDocument(_load(path, name, cut=self._cut))
            # Forms are drawn only when prepared before the first page is loaded.
            with suppress(pdfium.PdfiumError):
                self._document.init_forms()
            self.page_count = len(self._document)
            self._has_user_units = (self._document.get_version() or 0) >= _USER_UNIT_SINCE
        try:
            if self.page_count < 1:
                raise EmptyError(f"{name} has no pages; make it anew and deliver it again.")
            if self.page_count > limits.max_pages:
                raise LimitError(
                    f"{name} has {self.page_count:,} pages, more than the {limits.max_pages:,} "
                    "allowed; split it or raise max_pages."
                )
        except MineruError:
            self.close()
            raise

    def page(self, index: int) -> PdfPage:
        """Page `index`, loaded and measured, not drawn."""
        name = label(self._path, index, self.page_count)
        with PDFIUM_LOCK:
            try:
                page = self._document[index]
            except pdfium.PdfiumError as error:
                raise _damaged(name) from error
            user_unit = _user_unit(self._document, index) if self._has_user_units else 1.0
        try:
            return PdfPage(page, index, name, user_unit, self._dpi, self._limits, cut=self._cut)
        except DocumentError:
            with PDFIUM_LOCK:
                page.close()
            raise

    def close(self) -> None:
        """Close the file and pages that are still open."""
        with PDFIUM_LOCK:
            self._document.close()


class PdfPage(TextPage):
    """A loaded page of a PDF."""

    pdfium_page: pdfium.PdfPage
    """For reading what else is on the page, under `PDFIUM_LOCK`, until `close`. Its
    coordinates are in user units: multiply by `user_unit` for points."""

    def __init__(
        self,
        pdfium_page: pdfium.PdfPage,
        index: int,
        name: str,
        user_unit: float,
        dpi: float,
        limits: Limits,
        *,
        cut: bool,
    ) -> None:
        self.pdfium_page = pdfium_page
        self.index = index
        self.user_unit = user_unit
        self.warnings: list[str] = []
        if cut:
            self.warnings.append("The file's end is missing; some of the page may be, too.")
        self._name = name
        self._dpi = dpi
        self._limits = limits
        with PDFIUM_LOCK:
            # PDFium has cut to the crop box and applied /Rotate; not the user unit.
            width, height = pdfium_page.get_size()
            turned = pdfium_c.FPDFPage_GetRotation(pdfium_page)
        if not (0 < width < math.inf and 0 < height < math.inf):
            raise _damaged(name)
        self.rotation: Angle = (0, 90, 180, 270)[turned % 4]
        self.width_pt: float = width * user_unit
        self.height_pt: float = height * user_unit

    def render(self, longest_side: int = 0) -> Rendering:
        """Draw the page once, at the size that is wanted; see `Page.render`."""
        scale = self._dpi / _POINTS_PER_INCH
        if longest_side:
            scale = min(scale, longest_side / max(self.width_pt, self.height_pt))
        bound = math.sqrt(self._limits.max_page_pixels / (self.width_pt * self.height_pt))
        if bound < scale:
            scale = bound
            warning = (
                f"The page is too large for {self._dpi:g} dpi; it was drawn at "
                f"{scale * _POINTS_PER_INCH:.3g} dpi."
            )
            if warning not in self.warnings:
                self.warnings.append(warning)
        width, height = (
            max(1, math.floor(side * scale + 1e-6)) for side in (self.width_pt, self.height_pt)
        )
        if width * height > self._limits.max_page_pixels:
            raise LimitError(
                f"{self._name} is too long and narrow to be drawn within the "
                f"{self._limits.max_page_pixels:,} pixels allowed; raise max_page_pixels."
            )
        pixels = np.full((height, width, 3), 255, np.uint8)
        with PDFIUM_LOCK:
            self._draw(pixels)
        return Rendering(pixels, scale * _POINTS_PER_INCH)

    def ask(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """What `function(self, *arguments)` returns."""
        return function(self, *arguments)

    def _draw(self, pixels: Pixels) -> None:
        """Draw into `pixels`, uint8 of shape (height, width, 3), giving up after a while."""
        height, width, _ = pixels.shape
        deadline = time.monotonic() + self._limits.render_seconds
        pause = pdfium_c.IFSDK_PAUSE(version=1)
        # PDFium asks between the objects of a page; a pause that is never ended is a stop.
        pause.NeedToPauseNow = type(pause.NeedToPauseNow)(lambda _: time.monotonic() > deadline)
        flags = pdfium_c.FPDF_ANNOT | pdfium_c.FPDF_REVERSE_BYTE_ORDER
        bitmap = pdfium_c.FPDFBitmap_CreateEx(
            width,
            height,
            pdfium_c.FPDFBitmap_BGR,
            pixels.ctypes.data_as(ctypes.c_void_p),
            pixels.strides[0],
        )
        if not bitmap:
            raise _damaged(self._name)
        area = (0, 0, width, height, 0)
        try:
            status = pdfium_c.FPDF_RenderPageBitmap_Start(
                bitmap, self.pdfium_page, *area, flags, ctypes.byref(pause)
            )
            pdfium_c.FPDF_RenderPage_Close(self.pdfium_page)
            if status == pdfium_c.FPDF_RENDER_TOBECONTINUED:
                raise LimitError(
                    f"{self._name} takes more than {self._limits.render_seconds:g} s to draw; "
                    "print it to a simpler PDF and deliver that."
                )
            if status != pdfium_c.FPDF_RENDER_DONE:
                raise _damaged(self._name)
            if self.pdfium_page.formenv:
                pdfium_c.FPDF_FFLDraw(
                    self.pdfium_page.formenv, bitmap, self.pdfium_page, *area, flags
                )
        finally:
            pdfium_c.FPDFBitmap_Destroy(bitmap)

    def close(self) -> None:
        """Unload the page."""
        with PDFIUM_LOCK:
            self.pdfium_page.close()


def _load(path: Path, name: str, *, cut: bool) -> Any:
    """PDFium's handle of the file. By its bytes, as names need not be valid UTF-8."""
    handle = pdfium_c.FPDF_LoadDocument(os.fsencode(path), None)
    if handle:
        return handle
    match pdfium_c.FPDF_GetLastError():
        case pdfium_c.FPDF_ERR_PASSWORD | pdfium_c.FPDF_ERR_SECURITY:
            raise EncryptedError(
                f"{name} is protected by a password; remove the protection and deliver it again."
            )
        case pdfium_c.FPDF_ERR_FILE:
            raise StorageError(f"{name} cannot be read from the disk.")
        case _ if cut:
            raise IncompleteError(f"{name} was cut off before its end; deliver it again.")
        case _:
            raise _damaged(name)


def _damaged(name: str) -> DocumentError:
    return DocumentError(
        f"{name} cannot be read, the PDF is damaged; make it anew and deliver it again."
    )


class _UserUnitSearch:
    """A sink for a PDF written by PDFium that keeps nothing but the page's /UserUnit."""

    _ENTRY = re.compile(rb"/UserUnit\s+(\d*\.?\d+)[\s/>]")

    def __init__(self) -> None:
        self.value = 1.0
        self._seam = b""

    def write(self, data: bytes) -> int:
        """Look through one block, and over its seam with the block before."""
        found = self._ENTRY.search(self._seam + bytes(data))
        if found:
            self.value = float(found[1]) or 1.0
        self._seam = bytes(data[-64:])
        return len(data)


def _user_unit(document: pdfium.PdfDocument, index: int) -> float:
    """Points per unit of the page's coordinates.

    PDFium does not tell; but a copy of the page, written out, holds it in plain text.
    """
    search = _UserUnitSearch()
    copy = pdfium.PdfDocument.new()
    try:
        copy.import_pages(document, [index])
        copy.save(search)
    except pdfium.PdfiumError:
        return 1.0
    finally:
        copy.close()
    return search.value
