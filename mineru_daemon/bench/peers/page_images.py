"""Pages of a file as RGB images, the same for every peer that reads images. A plain file.

PDF pages are drawn by PDFium at 200 dpi with their rotation; images keep their pixels, their
EXIF orientation is applied, each frame is a page. Nothing is bounded: a set for measuring is
trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
from PIL import Image, ImageOps

DPI = 200

Image.MAX_IMAGE_PIXELS = None


def pages(path: str) -> Iterator[Image.Image]:
    """The pages of a PDF or an image, one at a time."""
    if Path(path).suffix.lower() == ".pdf":
        document = pypdfium2.PdfDocument(path)
        for page in document:
            yield page.render(scale=DPI / 72).to_pil().convert("RGB")
            page.close()
        document.close()
        return
    with Image.open(path) as image:
        for frame in range(getattr(image, "n_frames", 1)):
            image.seek(frame)
            yield ImageOps.exif_transpose(image).convert("RGB")


class Reader:
    """A peer that reads one page image at a time; its stage is `read`."""

    def __init__(self, facts: dict[str, str], read_page: Callable[[Any], str]) -> None:
        """`read_page` takes a BGR array (H, W, 3) of bytes."""
        self.facts = facts
        self._read_page = read_page

    def read(self, meter: Any, file: str, lang: str | None) -> dict[str, Any]:
        """Text and number of pages of a file; `lang` is of other peers' use."""
        del lang
        meter.start()
        texts = [
            self._read_page(np.ascontiguousarray(np.asarray(page)[:, :, ::-1]))
            for page in pages(file)
        ]
        meter.stop()
        return {"text": "\n".join(texts), "pages": len(texts)}
