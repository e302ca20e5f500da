"""The finished graphs beside the same model in full precision, on the page of calibration.

What it finds is printed at the end of an export and kept in the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mineru_daemon import cpu
from mineru_daemon.engines.mineru import kernels
from mineru_daemon.engines.mineru.architecture import Architecture
from mineru_daemon.engines.mineru.export.calibrate import Calibration, Feeds, Sample
from mineru_daemon.engines.mineru.export.layers import Float
from mineru_daemon.engines.onnx import Session


def compare(folder: Path, architecture: Architecture, calibration: Calibration) -> dict[str, Any]:
    """Cosine and largest difference of each graph's output to float32, the worst of all samples.

    Each graph is given the exact output of the one before it. A difference is a share of the
    largest number there is. `calibration` has run through all layers.
    """
    samples = calibration.samples
    vision = _session(folder / "vision.onnx")
    tokens = [
        vision.run({"patches": one.patches, **calibration.vision_places(one)})[0] for one in samples
    ]
    vision.close()
    found = {"vision": _worst(tokens, [one.tokens for one in samples])}
    exact = [one.logits for one in samples]
    names = [f"{number}.{kind}" for number in range(architecture.text.layers) for kind in "kv"]
    prefill = _session(folder / "prefill.onnx")
    read = [
        prefill.run(_prompt(calibration, one), ["logits", *(f"present.{name}" for name in names)])
        for one in samples
    ]
    prefill.close()
    found["prefill"] = _worst([logits[0] for logits, *_ in read], exact)
    for name in ("decode", "decode_fused", "decode_blocks"):
        if not (folder / f"{name}.onnx").exists():
            continue
        decode = _session(folder / f"{name}.onnx")
        steps = []
        for one, (_, *kept) in zip(samples, read, strict=True):
            cache = dict(zip((f"past.{name}" for name in names), kept, strict=True))
            steps.append(decode.run({**_last_step(calibration, one), **cache}, ["logits"])[0][0])
        decode.close()
        found[name] = _worst(steps, exact)
    return found


def _session(path: Path) -> Session:
    return Session(
        path,
        cpu.granted_threads(),
        shrinking=True,
        as_written=True,
        constants=kernels.constants(),
    )


def _prompt(calibration: Calibration, sample: Sample) -> Feeds:
    """A sample as one prompt, without the cache's place in it."""
    last = np.array([[len(sample.ids) - 1]], np.int64)
    return {**calibration.decoder_feeds(sample, sample.embeds[None]), "last": last}


def _last_step(calibration: Calibration, sample: Sample) -> Feeds:
    """A sample's last token once more, as a step behind all others."""
    return {
        **_prompt(calibration, sample),
        "inputs_embeds": sample.embeds[None, -1:],
        "positions": np.array([[len(sample.ids) - 1]], np.int64),
        "last": np.array([[0]], np.int64),
    }


def _worst(made: Sequence[Float], exact: Sequence[Float]) -> dict[str, float]:
    pairs = list(zip(made, exact, strict=True))
    cosines = [
        np.vdot(one, other) / np.linalg.norm(one) / np.linalg.norm(other) for one, other in pairs
    ]
    differences = [np.abs(one - other).max() / np.abs(other).max() for one, other in pairs]
    return {"cosine": float(min(cosines)), "difference": float(max(differences))}
