"""The numbers of a Qwen2-VL checkpoint, read from its `config.json`.

What the model computes with them is told by `export.graphs`; what it is fed by `image`,
`rope` and `prompt`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mineru_daemon.errors import EngineError

NAME = "Qwen2VLForConditionalGeneration"
"""The only architecture that is read: of MinerU2.5 and of Qwen2-VL itself."""

LAYER_NORM_EPSILON = 1e-6
"""Of the vision encoder; fixed in the reference implementation, not in `config.json`."""

VISION_ROPE_THETA = 10_000.0
"""Base of the vision encoder's rotary embedding; fixed in the reference implementation."""


@dataclass(frozen=True)
class VisionArchitecture:
    """The NaViT encoder and the merger behind it."""

    depth: int
    embed_dim: int
    heads: int
    mlp_dim: int
    patch_size: int
    """Pixels of a patch's side."""
    spatial_merge_size: int
    """Patches of a side that the merger makes one token."""
    temporal_patch_size: int
    channels: int
    out_dim: int
    """Length of an image token, the decoder's `hidden_size`."""

    @property
    def head_dim(self) -> int:
        """Length of a head's query."""
        return self.embed_dim // self.heads

    @property
    def patch_dim(self) -> int:
        """Numbers in a patch: channels x temporal x side x side."""
        return self.channels * self.temporal_patch_size * self.patch_size**2


@dataclass(frozen=True)
class TextArchitecture:
    """The Qwen2 decoder."""

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocabulary: int
    rms_norm_eps: float
    rope_theta: float
    mrope_section: tuple[int, int, int]
    """Rotary frequencies that turn with time, height and width; together half a head."""
    max_positions: int
    tied: bool
    """Whether the token embedding is the language-model head too."""


@dataclass(frozen=True)
class Architecture:
    """All that export and run time need to know of a checkpoint's shape."""

    vision: VisionArchitecture
    text: TextArchitecture
    image_token_id: int
    vision_start_token_id: int
    vision_end_token_id: int

    @classmethod
    def read(cls, path: Path) -> Architecture:
        """Read a `config.json`, as published (flat) or as transformers 5 writes it (nested).

        Raises EngineError when it is missing, no JSON, or of another architecture.
        """
        try:
            config = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise EngineError(
                f"{path} cannot be read: {error.strerror}; name the folder of a checkpoint."
            ) from error
        except ValueError as error:
            raise EngineError(f"{path} is not valid JSON: {error}; download it again.") from error
        if not isinstance(config, dict) or config.get("model_type") != "qwen2_vl":
            kind = config.get("model_type") if isinstance(config, dict) else None
            raise EngineError(
                f"{path} describes a model of type {kind!r}; only Qwen2-VL ('qwen2_vl'), the "
                "architecture of MinerU2.5, can be used."
            )
        try:
            return cls(
                vision=_vision(config),
                text=_text(config),
                image_token_id=int(config["image_token_id"]),
                vision_start_token_id=int(config["vision_start_token_id"]),
                vision_end_token_id=int(config["vision_end_token_id"]),
            )
        except KeyError as error:
            raise EngineError(
                f"{path} does not say {error.args[0]!r}; download it again."
            ) from error
        except (TypeError, ValueError) as error:
            raise EngineError(f"{path} cannot be used: {error}.") from error


def _vision(config: Mapping[str, Any]) -> VisionArchitecture:
    vision = config["vision_config"]
    _expect(vision, "hidden_act", "quick_gelu")
    embed_dim = int(vision["embed_dim"])
    return VisionArchitecture(
        depth=int(vision["depth"]),
        embed_dim=embed_dim,
        heads=int(vision["num_heads"]),
        mlp_dim=int(embed_dim * vision.get("mlp_ratio", 4)),
        patch_size=int(vision.get("patch_size", vision.get("spatial_patch_size", 14))),
        spatial_merge_size=int(vision.get("spatial_merge_size", 2)),
        temporal_patch_size=int(vision.get("temporal_patch_size", 2)),
        channels=int(vision.get("in_channels", vision.get("in_chans", 3))),
        out_dim=int(vision["hidden_size"]),
    )


def _text(config: Mapping[str, Any]) -> TextArchitecture:
    text = {**config, **config.get("text_config", {})}
    _expect(text, "hidden_act", "silu")
    # transformers 5 writes `rope_parameters` where 4 wrote `rope_scaling` and `rope_theta`.
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    heads, hidden_size = int(text["num_attention_heads"]), int(text["hidden_size"])
    head_dim = int(text.get("head_dim") or hidden_size // heads)
    time, height, width = (int(part) for part in rope["mrope_section"])
    if 2 * (time + height + width) != head_dim:
        raise ValueError(f"mrope_section {[time, height, width]} does not fill half of {head_dim}")
    return TextArchitecture(
        layers=int(text["num_hidden_layers"]),
        hidden_size=hidden_size,
        heads=heads,
        kv_heads=int(text["num_key_value_heads"]),
        head_dim=head_dim,
        intermediate_size=int(text["intermediate_size"]),
        vocabulary=int(text["vocab_size"]),
        rms_norm_eps=float(text["rms_norm_eps"]),
        rope_theta=float(text.get("rope_theta") or rope["rope_theta"]),
        mrope_section=(time, height, width),
        max_positions=int(text["max_position_embeddings"]),
        tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
    )


def _expect(config: Mapping[str, Any], key: str, value: str) -> None:
    if config.get(key, value) != value:
        raise ValueError(f"its {key} is {config[key]!r}, only {value!r} is known")
