"""Evens out the inputs of quantised layers, without changing what the model computes.

Some channels of a transformer's activations are a hundred times larger than the others, and
would take all levels of an 8-bit number for themselves. Their scale is moved into the weights
that read them: what makes a channel is divided, the column that reads it multiplied by the
same number (SmoothQuant, arXiv:2211.10438, with its migration strength of one half). What
makes a channel is the normalisation before the layer, the value rows of attention, or the
up rows of a gated MLP; behind a GELU, which is not linear, an operator is added for it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mineru_daemon.engines.mineru.architecture import TextArchitecture, VisionArchitecture
from mineru_daemon.engines.mineru.export.layers import Float, Layer

STRENGTH = 0.5
"""Share of a channel's scale that moves into the weights; 0 moves none, 1 all."""

SMALLEST = 1e-5
"""Channels and columns below this count as this, lest nothing be divided by nothing."""

Peaks = Mapping[str, Float]
"""Largest absolute value of each channel, by the layer that reads it: `qkv` [in], …"""


def peaks_of(inputs: Mapping[str, Float]) -> Peaks:
    """Of what was read, [tokens, in] each."""
    return {part: np.abs(one).max(axis=0) for part, one in inputs.items()}


def smooth_vision(layer: Layer, peaks: Peaks, architecture: VisionArchitecture) -> None:
    """Move scales within a layer of the encoder, in place."""
    for part, norm in (("qkv", "norm1"), ("fc1", "norm2")):
        divide = _divisors(peaks[part], layer[f"{part}.weight"])
        _read(layer, part, divide)
        layer[f"{norm}.weight"] = layer[f"{norm}.weight"] / divide
        layer[f"{norm}.bias"] = layer[f"{norm}.bias"] / divide
    width = architecture.embed_dim
    divide = _divisors(peaks["proj"], layer["proj.weight"])
    _read(layer, "proj", divide)
    _made_by_rows(layer, "qkv", slice(2 * width, 3 * width), divide)
    _divide_before(layer, "fc2", peaks)


def smooth_merger(layer: Layer, peaks: Peaks) -> None:
    """Move scales between the merger's normalisation and its first product, in place.

    The product reads several patches at once, each normalised by the same gains.
    """
    width = len(layer["norm.weight"])
    columns = np.abs(layer["fc1.weight"]).max(axis=0).reshape(-1, width).max(axis=0)
    divide = _ratio(peaks["fc1"].reshape(-1, width).max(axis=0), columns)
    _read(layer, "fc1", np.tile(divide, len(peaks["fc1"]) // width))
    layer["norm.weight"] = layer["norm.weight"] / divide
    layer["norm.bias"] = layer["norm.bias"] / divide
    _divide_before(layer, "fc2", peaks)


def smooth_head(layer: Layer, peaks: Peaks) -> None:
    """Move scales between the last normalisation and the language-model head, in place."""
    divide = _divisors(peaks["lm"], layer["lm.weight"])
    _read(layer, "lm", divide)
    layer["norm.weight"] = layer["norm.weight"] / divide


def smooth_decoder(layer: Layer, peaks: Peaks, architecture: TextArchitecture) -> dict[str, Float]:
    """Move scales within a layer of the decoder, in place; what the inputs of each of its parts
    are divided by, [in]."""
    divided = {}
    for part, norm in (("qkv", "norm1"), ("gate_up", "norm2")):
        divide = divided[part] = _divisors(peaks[part], layer[f"{part}.weight"])
        _read(layer, part, divide)
        layer[f"{norm}.weight"] = layer[f"{norm}.weight"] / divide
    # A value channel is read by all queries of its group: they share one divisor.
    groups = (architecture.kv_heads, -1, architecture.head_dim)
    shared = peaks["o"].reshape(groups).max(axis=1)
    columns = np.abs(layer["o.weight"]).max(axis=0).reshape(groups).max(axis=1)
    divide = _ratio(shared, columns)
    read = np.repeat(divide[:, None], architecture.heads // architecture.kv_heads, axis=1)
    divided["o"] = read.reshape(-1)
    _read(layer, "o", divided["o"])
    count = architecture.kv_heads * architecture.head_dim
    rows = len(layer["qkv.weight"])
    _made_by_rows(layer, "qkv", slice(rows - count, rows), divide.reshape(-1))
    divide = divided["down"] = _divisors(peaks["down"], layer["down.weight"])
    _read(layer, "down", divide)
    half = architecture.intermediate_size
    _made_by_rows(layer, "gate_up", slice(half, 2 * half), divide)
    return divided


def _divide_before(layer: Layer, part: str, peaks: Peaks) -> None:
    """Have the channels divided by an operator of their own, as nothing before them can."""
    divide = _divisors(peaks[part], layer[f"{part}.weight"])
    _read(layer, part, divide)
    layer[f"{part}.divide"] = divide


def _divisors(peaks: Float, weight: Float) -> Float:
    return _ratio(peaks, np.abs(weight).max(axis=0))


def _ratio(peaks: Float, columns: Float) -> Float:
    """What each channel is divided by, float32."""
    made = np.maximum(peaks, SMALLEST) ** STRENGTH
    made /= np.maximum(columns, SMALLEST) ** (1 - STRENGTH)
    return made.astype(np.float32)


def _read(layer: Layer, part: str, divide: Float) -> None:
    layer[f"{part}.weight"] = layer[f"{part}.weight"] * divide


def _made_by_rows(layer: Layer, part: str, rows: slice, divide: Float) -> None:
    """Divide the rows of `part` that make the channels."""
    weight = layer[f"{part}.weight"].copy()
    weight[rows] /= divide[:, None]
    layer[f"{part}.weight"] = weight
    if f"{part}.bias" in layer:
        bias = layer[f"{part}.bias"].copy()
        bias[rows] /= divide
        layer[f"{part}.bias"] = bias
