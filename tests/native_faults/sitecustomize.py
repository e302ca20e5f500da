"""Faults of native libraries, for processes that have this folder in PYTHONPATH.

PDFium's calls are replaced by ones that really crash, loop in C or fill memory, but only for
pages of the widths below and for files of the names below; everything else is PDFium's.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

CRASH_ONCE, CRASH, LOOP, SWELL, LOOP_IN_TEXT = 55, 66, 77, 88, 99
"""Widths of pages in points."""

FLAG = "NATIVE_FAULTS_FLAG"
"""Names a file that is made by a crash that happens only once."""


def crash() -> None:
    ctypes.string_at(0)


def loop() -> None:
    """For years, in C, without letting any other thread or signal in."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def swell() -> None:
    """A picture that unpacks to more and more."""
    pieces = []
    while True:
        pieces.append(b"x" * (16 << 20))


def crash_once() -> None:
    flag = Path(os.environ[FLAG])
    if not flag.exists():
        flag.touch()
        crash()


RENDER: dict[int, Callable[[], None]] = {
    CRASH_ONCE: crash_once,
    CRASH: crash,
    LOOP: loop,
    SWELL: swell,
}


def replace(raw: ModuleType) -> None:
    render, text = raw.FPDF_RenderPageBitmap_Start, raw.FPDFText_LoadPage
    load = raw.FPDF_LoadDocument

    def hostile_render(bitmap: Any, page: Any, *rest: Any) -> Any:
        RENDER.get(round(raw.FPDF_GetPageWidthF(page)), lambda: None)()
        return render(bitmap, page, *rest)

    def hostile_text(page: Any) -> Any:
        if round(raw.FPDF_GetPageWidthF(page)) == LOOP_IN_TEXT:
            loop()
        return text(page)

    def hostile_load(path: bytes, password: Any) -> Any:
        if b"crash-on-open" in path:
            crash()
        if b"loop-on-open" in path:
            loop()
        return load(path, password)

    raw.FPDF_RenderPageBitmap_Start = hostile_render  # type: ignore[attr-defined]
    raw.FPDFText_LoadPage = hostile_text  # type: ignore[attr-defined]
    raw.FPDF_LoadDocument = hostile_load  # type: ignore[attr-defined]


class Finder:
    """Replaces PDFium's calls once they are imported."""

    @staticmethod
    def find_spec(name: str, path: Any, target: Any = None) -> Any:
        if name != "pypdfium2.raw":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec
        assert spec.loader
        run = spec.loader.exec_module

        def run_and_replace(module: ModuleType) -> None:
            run(module)
            replace(module)

        spec.loader.exec_module = run_and_replace  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Finder)
