"""OCRmyPDF as `serve` runs it: the text of a file that it makes a searchable PDF of. A plain file.

Pages are turned and set straight, and recognised even where they have a text layer.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pypdfium2
from page_images import DPI, pages
from tesseract_peer import languages, largest


def load(settings: dict[str, str], threads: int) -> Reader:
    """With the given number of threads."""
    del threads
    return Reader(settings["threads"])


class Reader:
    """Its settings."""

    def __init__(self, jobs: str) -> None:
        self._jobs = jobs
        self.facts = {"ocrmypdf": version("ocrmypdf")}

    def read(self, meter: Any, file: str, lang: str | None) -> dict[str, Any]:
        """Text and number of pages."""
        meter.start()
        with tempfile.TemporaryDirectory(prefix="ocrmypdf-") as name:
            folder = Path(name)
            if Path(file).suffix.lower() == ".pdf":
                texts = [self._text(Path(file), folder, lang)]
                document = pypdfium2.PdfDocument(file)
                count = len(document)
                document.close()
            else:
                texts = []
                for number, page in enumerate(pages(file)):
                    image = folder / f"{number}.png"
                    page.save(image, dpi=(DPI, DPI), compress_level=1)
                    texts.append(self._text(image, folder, lang))
                count = len(texts)
        meter.stop()
        return {"text": "\n".join(texts), "pages": count, **largest()}

    def _text(self, file: Path, folder: Path, lang: str | None) -> str:
        text = folder / "text.txt"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ocrmypdf", "--quiet", "--force-ocr"),
                *("--rotate-pages", "--deskew", "--output-type", "pdf", "--optimize", "0"),
                *("--jobs", self._jobs, "--language", languages(lang), "--sidecar", str(text)),
                *(str(file), str(folder / "out.pdf")),
            ],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode("utf-8", "replace").strip()[-300:])
        return text.read_text("utf-8")
