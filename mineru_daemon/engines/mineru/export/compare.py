"""The finished graphs beside the same model in full precision, on the page of calibration.

What it finds is printed at the end of an export and kept in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mineru_daemon import cpu
from mineru_daemon.engines.mineru.architecture import Architecture
from mineru_daemon.engines.mineru.export.calibrate import Calibration
from mineru_daemon.engines.mineru.export.layers import Float
from mineru_daemon.engines.onnx import Session


def compare(folder: Path, architecture: Architecture, calibration: Calibration) -> dict[str, Any]:
    """Cosine and largest difference of each graph's output to float32, the worst of all samples.

    Each graph is given the exact output of the one before it. A difference is a share of the
    largest number there is. `calibration` has run through all layers.
    """
    plan = cpu.granted_threads()
    samples = calibration.samples
    vision = Session(folder / "vision.onnx", plan, shrinking=True)
    tokens = [
        vision.run({"patches": one.patches, **calibration.vision_places(one)})[0] for one in samples
    ]
    vision.close()
    found = {"vision": _worst(zip(tokens, [one.tokens for one in samples], strict=True))}
    logits = [one.logits for one in samples]
    layers = architecture.text.layers
    cache = [f"{number}.{kind}" for number in range(layers) for kind in "kv"]
    prefill = Session(folder / "prefill.onnx", plan, shrinking=True)
    read = [
        prefill.run(
            {
                **calibration.decoder_feeds(one, one.embeds[None], layers),
                "last": np.array([[len(one.ids) - 1]], np.int64),
            },
            ["logits", *(f"present.{name}" for name in cache)],
        )
        for one in samples
    ]
    prefill.close()
    found["prefill"] = _worst((one[0][0], exact) for one, exact in zip(read, logits, strict=True))
    decode = Session(folder / "decode.onnx", plan, shrinking=True)
    # The last token once more, as a step behind all others.
    steps = [
        decode.run(
            {
                **calibration.decoder_feeds(one, one.embeds[None], layers),
                "inputs_embeds": one.embeds[None, -1:],
                "positions": np.array([[len(one.ids) - 1]], np.int64),
                "last": np.array([[0]], np.int64),
                **{f"past.{name}": kept for name, kept in zip(cache, known, strict=True)},
            },
            ["logits"],
        )[0][0]
        for one, (_, *known) in zip(samples, read, strict=True)
    ]
    decode.close()
    found["decode"] = _worst(zip(steps, logits, strict=True))
    return found


def _worst(pairs: Iterable[tuple[Float, Float]]) -> dict[str, float]:
    made = [
        (
            float(np.vdot(one, exact) / np.linalg.norm(one) / np.linalg.norm(exact)),
            float(np.abs(one - exact).max() / np.abs(exact).max()),
        )
        for one, exact in pairs
    ]
    return {
        "cosine": min(cosine for cosine, _ in made),
        "difference": max(difference for _, difference in made),
    }
