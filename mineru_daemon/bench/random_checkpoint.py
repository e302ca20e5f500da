"""A checkpoint of the published shapes with random weights: `bench checkpoint`.

Responsible for the folder that a download of MinerU2.5-2509-1.2B would be (tensor names,
shapes and types, `config.json`, generation and image processor settings), so that export,
engine and peers can be measured where the real one cannot be had. Its tokenizer is made by
`byte_tokenizer`. Needs NumPy alone; one tensor is in memory at a time, large ones in parts.

The weights are drawn as transformers initialises this architecture: normal with standard
deviation 0.02. Biases are drawn like that too, and gains of norms around 1 (standard
deviation 0.1), so that an export that loses or confuses them gives other numbers. Each
tensor has a generator of its own, seeded with its name: the same seed gives the same
bytes, whatever else is drawn.

Outliers. Trained transformers have a few channels whose activations are about a hundred
times as large as the others', and random ones have none, so that a quantisation that one
such channel breaks would pass. With a factor F, `CHANNELS` channels of the input of every
linear layer are made F times as large:

- of what follows a norm (qkv and the MLP's first layers of both towers, the merger's first
  layer, the language-model head): channels of the norm's gain are multiplied by F;
- of what follows an attention (`attn.proj`, `o_proj`): rows of the value projection and
  their biases; one row of a key-value head is shared by all the query heads of its group,
  so that one row of `v_proj` makes seven channels;
- of what follows an activation (`fc2`, the merger's second layer) or a product
  (`down_proj`): rows of the layer before (`fc1`, the merger's first, `up_proj`) and their
  biases. Behind an activation the large values are those that it lets through.

The channels are other ones in each layer. The patch embedding keeps its input: pixels have
no outliers. The weights that read an outlier channel are divided by F, so that its share
in what the layer computes is no larger than before, and a scale that it dictates loses all
the others. Without that division (measured with F = 100) the attention's scores become so
large that noise of 0.001 in the pixels left a cosine of 0.52 between the logits: such a
network tells nothing about quantisation. With it the cosine was 1.00000. The head shares
its weights with the token embedding and is not divided.
"""

from __future__ import annotations

import json
import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mineru_daemon.bench import byte_tokenizer
from mineru_daemon.errors import ConfigError

STD = 0.02
"""`initializer_range` of Qwen2-VL."""

GAIN_STD = 0.1
"""Of the norms' gains around 1; chosen here."""

CHANNELS = 6
"""Outlier channels in the input of each linear layer; chosen here."""

PART_ELEMENTS = 1 << 22
"""Drawn and rounded at once: 16 MiB in float32."""


@dataclass(frozen=True)
class Shapes:
    """The architecture's numbers; the defaults are the published checkpoint's."""

    hidden: int = 896
    layers: int = 24
    heads: int = 14
    kv_heads: int = 2
    intermediate: int = 4864
    vocabulary: int = 151_936
    rope_sections: tuple[int, int, int] = (8, 12, 12)
    """Of time, height and width; their sum is half of the head's size."""
    vision_width: int = 1280
    vision_depth: int = 32
    vision_heads: int = 16
    mlp_ratio: int = 4
    patch: int = 14
    temporal_patch: int = 2
    merge: int = 2
    positions: int = 16_384

    @property
    def head(self) -> int:
        """Size of a head of the decoder."""
        return self.hidden // self.heads


@dataclass(frozen=True)
class Tensor:
    """One tensor of the checkpoint and what is done to it for outliers."""

    name: str
    shape: tuple[int, ...]
    norm: bool = False
    """A gain: drawn around 1."""
    raised: NDArray[np.int64] | None = None
    """Indices along the first axis that are multiplied by the factor."""
    lowered: NDArray[np.int64] | None = None
    """Indices along the last axis that are divided by it."""


def run(folder: Path, seed: int, outliers: float) -> int:
    """Write the checkpoint and say what it is. Raises ConfigError where something lies."""
    began = time.monotonic()
    size = write(folder, seed, outliers)
    shape = "no outliers"
    if outliers > 1:
        shape = f"{CHANNELS} outlier channels of {outliers:g}x for each linear layer"
    print(
        f"{folder}: random weights of MinerU2.5-2509-1.2B's shapes, {size / 1e9:.2f} GB, "
        f"seed {seed}, {shape}; {time.monotonic() - began:.1f} s"
    )
    return 0


def write(
    folder: Path,
    seed: int = 0,
    outliers: float = 1.0,
    shapes: Shapes = Shapes(),
) -> int:
    """A checkpoint in the new folder `folder`; the bytes of its weights.

    The folder appears when it is whole. Raises ConfigError if it exists.
    """
    if folder.exists():
        raise ConfigError(f"{folder} exists already; name a new folder for the checkpoint.")
    made = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    size = _write_weights(made / "model.safetensors", seed, outliers, shapes)
    for name, content in (
        ("config.json", config(shapes)),
        ("generation_config.json", GENERATION),
        ("preprocessor_config.json", preprocessor(shapes)),
    ):
        (made / name).write_text(json.dumps(content, indent=2) + "\n")
    byte_tokenizer.write(made)
    made.rename(folder)
    return size


# --- weights -----------------------------------------------------------------


def tensors(shapes: Shapes, seed: int = 0) -> Iterator[Tensor]:
    """All tensors in the file's order; `seed` chooses the outlier channels."""
    yield Tensor(
        "visual.patch_embed.proj.weight",
        (shapes.vision_width, 3, shapes.temporal_patch, shapes.patch, shapes.patch),
    )
    for layer in range(shapes.vision_depth):
        yield from _vision_block(shapes, f"visual.blocks.{layer}.", seed)
    yield from _merger(shapes, seed)
    yield Tensor("model.embed_tokens.weight", (shapes.vocabulary, shapes.hidden))
    for layer in range(shapes.layers):
        yield from _text_layer(shapes, f"model.layers.{layer}.", seed)
    last = "model.norm.weight"
    yield Tensor(last, (shapes.hidden,), True, _channels(seed, last, shapes.hidden))


def _vision_block(shapes: Shapes, prefix: str, seed: int) -> Iterator[Tensor]:
    width = shapes.vision_width
    inner = width * shapes.mlp_ratio
    first = _channels(seed, prefix + "norm1", width)
    second = _channels(seed, prefix + "norm2", width)
    value = _channels(seed, prefix + "attn.qkv", width)
    activated = _channels(seed, prefix + "mlp.fc1", inner)
    yield Tensor(prefix + "norm1.weight", (width,), True, first)
    yield Tensor(prefix + "norm1.bias", (width,))
    # Query, key and value are stacked in this order.
    rows = 2 * width + value
    yield Tensor(prefix + "attn.qkv.weight", (3 * width, width), False, rows, first)
    yield Tensor(prefix + "attn.qkv.bias", (3 * width,), False, rows)
    yield Tensor(prefix + "attn.proj.weight", (width, width), lowered=value)
    yield Tensor(prefix + "attn.proj.bias", (width,))
    yield Tensor(prefix + "norm2.weight", (width,), True, second)
    yield Tensor(prefix + "norm2.bias", (width,))
    yield Tensor(prefix + "mlp.fc1.weight", (inner, width), False, activated, second)
    yield Tensor(prefix + "mlp.fc1.bias", (inner,), False, activated)
    yield Tensor(prefix + "mlp.fc2.weight", (width, inner), lowered=activated)
    yield Tensor(prefix + "mlp.fc2.bias", (width,))


def _merger(shapes: Shapes, seed: int) -> Iterator[Tensor]:
    width, prefix = shapes.vision_width, "visual.merger."
    patches = shapes.merge**2
    merged = width * patches
    normed = _channels(seed, prefix + "ln_q", width)
    activated = _channels(seed, prefix + "mlp.0", merged)
    # The norm's channels come once for each of the patches that are merged.
    read = (np.arange(patches)[:, None] * width + normed).reshape(-1)
    yield Tensor(prefix + "ln_q.weight", (width,), True, normed)
    yield Tensor(prefix + "ln_q.bias", (width,))
    yield Tensor(prefix + "mlp.0.weight", (merged, merged), False, activated, read)
    yield Tensor(prefix + "mlp.0.bias", (merged,), False, activated)
    yield Tensor(prefix + "mlp.2.weight", (shapes.hidden, merged), lowered=activated)
    yield Tensor(prefix + "mlp.2.bias", (shapes.hidden,))


def _text_layer(shapes: Shapes, prefix: str, seed: int) -> Iterator[Tensor]:
    hidden, inner = shapes.hidden, shapes.intermediate
    keys = shapes.kv_heads * shapes.head
    first = _channels(seed, prefix + "input_layernorm", hidden)
    second = _channels(seed, prefix + "post_attention_layernorm", hidden)
    value = _channels(seed, prefix + "self_attn.v_proj", keys)[:1]
    multiplied = _channels(seed, prefix + "mlp.up_proj", inner)
    # A key-value head serves a group of neighbouring query heads.
    group = shapes.heads // shapes.kv_heads
    heads = value // shapes.head * group + np.arange(group)
    read = heads * shapes.head + value % shapes.head
    attention = prefix + "self_attn."
    yield Tensor(prefix + "input_layernorm.weight", (hidden,), True, first)
    yield Tensor(attention + "q_proj.weight", (hidden, hidden), lowered=first)
    yield Tensor(attention + "q_proj.bias", (hidden,))
    yield Tensor(attention + "k_proj.weight", (keys, hidden), lowered=first)
    yield Tensor(attention + "k_proj.bias", (keys,))
    yield Tensor(attention + "v_proj.weight", (keys, hidden), False, value, first)
    yield Tensor(attention + "v_proj.bias", (keys,), False, value)
    yield Tensor(attention + "o_proj.weight", (hidden, hidden), lowered=read)
    yield Tensor(prefix + "post_attention_layernorm.weight", (hidden,), True, second)
    yield Tensor(prefix + "mlp.gate_proj.weight", (inner, hidden), lowered=second)
    yield Tensor(prefix + "mlp.up_proj.weight", (inner, hidden), False, multiplied, second)
    yield Tensor(prefix + "mlp.down_proj.weight", (hidden, inner), lowered=multiplied)


def _channels(seed: int, name: str, size: int) -> NDArray[np.int64]:
    """`CHANNELS` different indices below `size`, always the same for this seed and name."""
    return np.sort(_generator(seed, f"channels of {name}").permutation(size)[:CHANNELS])


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode())]))


def _write_weights(path: Path, seed: int, outliers: float, shapes: Shapes) -> int:
    """The tensors as one safetensors file in bfloat16; the file's bytes.

    The format: length of the header (64 bits, little-endian), the header as JSON padded
    with spaces to eight bytes, then the tensors at the header's offsets.
    """
    listed = list(tensors(shapes, seed))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in listed:
        start, end = end, end + 2 * int(np.prod(tensor.shape))
        header[tensor.name] = {
            "dtype": "BF16",
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in listed:
            _write_tensor(file, tensor, seed, outliers)
    return path.stat().st_size


def _write_tensor(file: BinaryIO, tensor: Tensor, seed: int, outliers: float) -> None:
    generator = _generator(seed, tensor.name)
    rows = tensor.shape[0]
    width = int(np.prod(tensor.shape[1:]))
    raised = np.zeros(rows, bool)
    if tensor.raised is not None:
        raised[tensor.raised] = True
    step = max(1, PART_ELEMENTS // width)
    for start in range(0, rows, step):
        part = generator.standard_normal((min(step, rows - start), width), np.float32)
        if tensor.norm:
            part = 1 + np.float32(GAIN_STD) * part
        else:
            part *= np.float32(STD)
        part[raised[start : start + step]] *= np.float32(outliers)
        if tensor.lowered is not None:
            part[:, tensor.lowered] /= np.float32(outliers)
        file.write(bfloat16(part).data)


def bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves of finite float32 numbers, rounded to the nearest, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype(np.uint16)


# --- settings ----------------------------------------------------------------

GENERATION = {
    "bos_token_id": 151643,
    "do_sample": False,
    "eos_token_id": [151645, 151643],
    "pad_token_id": 151643,
}


def config(shapes: Shapes) -> dict[str, object]:
    """`config.json` in the published, flat form (transformers 5 would nest the text's)."""
    return {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "hidden_act": "silu",
        "hidden_size": shapes.hidden,
        "image_token_id": 151655,
        "initializer_range": STD,
        "intermediate_size": shapes.intermediate,
        "max_position_embeddings": shapes.positions,
        "max_window_layers": shapes.layers,
        "model_type": "qwen2_vl",
        "num_attention_heads": shapes.heads,
        "num_hidden_layers": shapes.layers,
        "num_key_value_heads": shapes.kv_heads,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_section": list(shapes.rope_sections), "type": "mrope"},
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "video_token_id": 151656,
        "vision_config": {
            "depth": shapes.vision_depth,
            "embed_dim": shapes.vision_width,
            "hidden_act": "quick_gelu",
            "hidden_size": shapes.hidden,
            "in_channels": 3,
            "mlp_ratio": shapes.mlp_ratio,
            "model_type": "qwen2_vl",
            "num_heads": shapes.vision_heads,
            "patch_size": shapes.patch,
            "spatial_merge_size": shapes.merge,
            "temporal_patch_size": shapes.temporal_patch,
        },
        "vision_end_token_id": 151653,
        "vision_start_token_id": 151652,
        "vision_token_id": 151654,
        "vocab_size": shapes.vocabulary,
    }


def preprocessor(shapes: Shapes) -> dict[str, object]:
    """`preprocessor_config.json`; mean and deviation are CLIP's, sizes Qwen2-VL's."""
    return {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "max_pixels": 12845056,
        "merge_size": shapes.merge,
        "min_pixels": 3136,
        "patch_size": shapes.patch,
        "processor_class": "Qwen2VLProcessor",
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"longest_edge": 12845056, "shortest_edge": 3136},
        "temporal_patch_size": shapes.temporal_patch,
    }
