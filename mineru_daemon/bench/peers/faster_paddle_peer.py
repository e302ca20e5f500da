"""faster-paddle (PP-OCRv6 in Rust) as `serve` runs it. A plain file."""

from __future__ import annotations

import io
from importlib.metadata import version
from typing import Any

from page_images import Reader
from PIL import Image


def load(settings: dict[str, str], threads: int) -> Reader:
    """`settings["model"]` is tiny or small."""
    del threads
    from faster_paddle import OcrEngine

    engine = OcrEngine(model_size=settings["model"])

    def read_page(page: Any) -> str:
        stream = io.BytesIO()
        Image.fromarray(page[:, :, ::-1]).save(stream, "BMP")
        return str(engine.ocr(stream.getvalue())["text"])

    return Reader(
        {"faster-paddle": version("faster-paddle"), "model": settings["model"]}, read_page
    )
