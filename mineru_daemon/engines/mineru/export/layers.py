"""A layer's weights, taken out of a checkpoint and joined as the graphs want them.

Pure arrays under plain names, so that `smoothing` can move scales between them before
`models` writes them; which operators use them is the business of `models`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.mineru.architecture import TextArchitecture

Float = npt.NDArray[np.float32]
Source = Callable[[str], Float]
"""Gives a checkpoint's tensor by its canonical name."""

Layer = dict[str, Float]
"""Weights of one layer: `norm1.weight`, `qkv.weight` [out, in], `qkv.bias`, …"""


def vision_layer(source: Source, number: int) -> Layer:
    """Keys: norm1, qkv, proj, norm2, fc1, fc2; each `.weight` and `.bias`."""
    prefix = f"visual.blocks.{number}."
    parts = {
        "norm1": "norm1",
        "qkv": "attn.qkv",
        "proj": "attn.proj",
        "norm2": "norm2",
        "fc1": "mlp.fc1",
        "fc2": "mlp.fc2",
    }
    return {
        f"{part}.{kind}": source(f"{prefix}{name}.{kind}")
        for part, name in parts.items()
        for kind in ("weight", "bias")
    }


def merger(source: Source) -> Layer:
    """Keys: norm, fc1, fc2; each `.weight` and `.bias`."""
    parts = {"norm": "ln_q", "fc1": "mlp.0", "fc2": "mlp.2"}
    return {
        f"{part}.{kind}": source(f"visual.merger.{name}.{kind}")
        for part, name in parts.items()
        for kind in ("weight", "bias")
    }


def head(source: Source, architecture: TextArchitecture) -> Layer:
    """Keys: norm, lm; each `.weight`. The head is often the token embedding once more."""
    name = "model.embed_tokens.weight" if architecture.tied else "lm_head.weight"
    return {"norm.weight": source("model.norm.weight"), "lm.weight": source(name)}


def decoder_layer(source: Source, number: int) -> Layer:
    """Keys: norm1, norm2, o, gate_up, down and qkv, each `.weight`; qkv.bias.

    Queries, keys and values are one matrix, gate and up another: fewer, larger products.
    """
    prefix = f"model.layers.{number}."

    def joined(*names: str) -> Any:
        return np.concatenate([source(prefix + name) for name in names])

    return {
        "norm1.weight": source(f"{prefix}input_layernorm.weight"),
        "qkv.weight": joined(*(f"self_attn.{one}_proj.weight" for one in "qkv")),
        "qkv.bias": joined(*(f"self_attn.{one}_proj.bias" for one in "qkv")),
        "o.weight": source(f"{prefix}self_attn.o_proj.weight"),
        "norm2.weight": source(f"{prefix}post_attention_layernorm.weight"),
        "gate_up.weight": joined("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        "down.weight": source(f"{prefix}mlp.down_proj.weight"),
    }
