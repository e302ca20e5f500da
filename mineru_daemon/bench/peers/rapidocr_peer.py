"""RapidOCR (PP-OCRv6 small on ONNX Runtime) as `serve` runs it. A plain file.

Out of the box it is `RapidOCR()`. Tuned for little CPU and memory it does not ask which way
lines are turned, looks for them on at most 960 pixels of the longer side, and has the given
number of threads and no arena.
"""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import Any

from page_images import Reader


def load(settings: dict[str, str], threads: int) -> Reader:
    """`settings` may have `tuned`; `threads` are all CPUs it may use."""
    del threads
    from rapidocr import RapidOCR

    name = "EngineConfig.onnxruntime"
    tuned = {
        "Global.use_cls": False,
        "Det.limit_type": "max",
        "Det.limit_side_len": 960,
        f"{name}.intra_op_num_threads": int(settings["threads"]),
        f"{name}.inter_op_num_threads": 1,
        f"{name}.enable_cpu_mem_arena": False,
    }
    engine = RapidOCR(params=tuned if "tuned" in settings else None)
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)

    def read_page(page: Any) -> str:
        return "\n".join(engine(page).txts or ())

    return Reader(
        {"rapidocr": version("rapidocr"), "onnxruntime": version("onnxruntime")}, read_page
    )
