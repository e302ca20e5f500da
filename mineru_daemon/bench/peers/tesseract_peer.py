"""Tesseract's command line as `serve` runs it. A plain file.

One process for each page, of the given number of threads; the languages are those of the file.
"""

from __future__ import annotations

import io
import os
import resource
import subprocess
from typing import Any

from page_images import DPI, pages

WIDE = {"zh": "chi_sim", "ja": "jpn", "cjk": "chi_sim"}
"""Tesseract's names of languages; all are read together with English, if installed."""


def load(settings: dict[str, str], threads: int) -> Reader:
    """`settings["psm"]` is the mode of page segmentation: 3 is its own choice, 1 turns pages."""
    del threads
    return Reader(settings["psm"], settings["threads"])


class Reader:
    """Its settings."""

    def __init__(self, psm: str, threads: str) -> None:
        self._psm = psm
        self._environment = os.environ | {"OMP_THREAD_LIMIT": threads}
        told = _output("tesseract", "--version").decode().splitlines()
        self.facts = {"tesseract": told[0].split()[-1], "psm": psm}

    def read(self, meter: Any, file: str, lang: str | None) -> dict[str, Any]:
        """Text and number of pages."""
        meter.start()
        texts = [self._page(page, lang) for page in pages(file)]
        meter.stop()
        return {"text": "\n".join(texts), "pages": len(texts), **largest()}

    def _page(self, page: Any, lang: str | None) -> str:
        stream = io.BytesIO()
        page.save(stream, "PPM")
        done = subprocess.run(
            [
                *("tesseract", "stdin", "stdout", "--dpi", str(DPI)),
                *("-l", languages(lang), "--psm", self._psm),
            ],
            input=stream.getvalue(),
            capture_output=True,
            check=True,
            env=self._environment,
        )
        return done.stdout.decode("utf-8", "replace")


def languages(lang: str | None) -> str:
    """Tesseract's names of what a file is written in."""
    other = WIDE.get(lang or "")
    have = _output("tesseract", "--list-langs").decode().split()
    return f"{other}+eng" if other in have else "eng"


def largest() -> dict[str, float]:
    """The largest program that this process has waited for, MiB, or itself if larger."""
    sizes = (
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {"peak_mib": max(sizes) / 1024}


def _output(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout
