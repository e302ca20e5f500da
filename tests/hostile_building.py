"""What tests of hostile files share: faults in native libraries, and pages that meet them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from native_faults.sitecustomize import CRASH, CRASH_ONCE, FLAG, LOOP, LOOP_IN_TEXT, SWELL
from pdf_building import build_pdf

__all__ = ["CRASH", "CRASH_ONCE", "LOOP", "LOOP_IN_TEXT", "SWELL", "faults", "page"]

FAULTS = Path(__file__).with_name("native_faults")


def page(width: int) -> bytes:
    """Entries of a page, for `build_pdf`; 200 points wide it is an honest one."""
    return b"/MediaBox [0 0 %d 100]" % width


def pages(*widths: int) -> bytes:
    """A PDF with pages of these widths."""
    return build_pdf(*map(page, widths))


def faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have processes that are started from now on meet the faults."""
    search = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAULTS), *([search] if search else [])]))
    monkeypatch.setenv(FLAG, str(tmp_path / "crashed-once"))
