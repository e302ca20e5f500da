"""The folder format of the published checkpoint in small: configuration, tokenizer, weights.

Says what the files are called and what is in them, with the names and the nesting that
`opendatalab/MinerU2.5-2509-1.2B` has. What the weights are worth is the business of `train`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import ByteLevel
from tokenizers.trainers import BpeTrainer

from mineru_daemon.bench import byte_tokenizer

_MINERU_TOKENS = (
    "<|ref_start|>",
    "<|ref_end|>",
    "<ecel>",
    "<fcel>",
    "<lcel>",
    "<ucel>",
    "<xcel>",
    "<nl>",
    "<|rotate_up|>",
    "<|rotate_down|>",
    "<|rotate_left|>",
    "<|rotate_right|>",
    "<|txt_contd_tgt|>",
    "<|txt_contd_src|>",
    "<|class_start|>",
    "<|class_end|>",
    "<|sub_class_start|>",
    "<|sub_class_end|>",
    "<|caption_start|>",
    "<|caption_end|>",
    "<|content_start|>",
    "<|content_end|>",
)
SPECIAL_TOKENS = byte_tokenizer.SPECIAL + _MINERU_TOKENS

MERGES = 384
"""Merges of the byte pairs: frequent words are one token, others several."""

_MAX_POSITIONS = 4096
"""A layout prompt is 1369 image tokens and some twenty others."""

CHAT_TEMPLATE = (
    "{%- if messages[0].role != 'system' -%}"
    "{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' -}}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\n' -}}"
    "{%- if message.content is string -%}"
    "{{- message.content -}}"
    "{%- else -%}"
    "{%- for part in message.content -%}"
    "{%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- elif part.type == 'video' or 'video' in part -%}"
    "{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}"
    "{%- else -%}"
    "{{- part.text -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{{- '<|im_end|>\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
"""Renders what Qwen2-VL's template renders for the messages of the client."""


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A byte-level BPE of Qwen2's kind with merges learned from these texts.

    Special tokens come after the merges, as in the published vocabulary.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(byte_tokenizer.WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=len(alphabet) + MERGES,
        min_frequency=1,
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    marks = "|".join(re.escape(token) for token in SPECIAL_TOKENS)
    tokenizer.train_from_iterator((p for text in texts for p in re.split(marks, text)), trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return tokenizer


def model_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """`config.json`: the text part flat at the top, as published; 1.0 M parameters."""
    token = {name: tokenizer.token_to_id(name) for name in SPECIAL_TOKENS}
    return {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "attention_dropout": 0.0,
        "bos_token_id": token["<|endoftext|>"],
        "eos_token_id": token["<|im_end|>"],
        "hidden_act": "silu",
        "hidden_size": 128,
        "image_token_id": token["<|image_pad|>"],
        "initializer_range": 0.02,
        "intermediate_size": 256,
        "max_position_embeddings": _MAX_POSITIONS,
        "max_window_layers": 4,
        "model_type": "qwen2_vl",
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_section": [4, 6, 6], "rope_type": "default", "type": "default"},
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "video_token_id": token["<|video_pad|>"],
        "vision_config": {
            "depth": 3,
            "embed_dim": 64,
            "hidden_act": "quick_gelu",
            "hidden_size": 128,
            "in_channels": 3,
            "in_chans": 3,
            "mlp_ratio": 4,
            "model_type": "qwen2_vl",
            "num_heads": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
        },
        "vision_end_token_id": token["<|vision_end|>"],
        "vision_start_token_id": token["<|vision_start|>"],
        "vision_token_id": token["<|vision_pad|>"],
        # Rounded up, as the published table has more rows than there are tokens.
        "vocab_size": -(-tokenizer.get_vocab_size() // 64) * 64,
    }


def write_settings(folder: Path, tokenizer: Tokenizer) -> None:
    """Everything but the weights."""
    token = {name: tokenizer.token_to_id(name) for name in SPECIAL_TOKENS}
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder / "config.json", model_config(tokenizer))
    _write(
        folder / "generation_config.json",
        {
            "bos_token_id": token["<|endoftext|>"],
            "do_sample": False,
            "eos_token_id": [token["<|im_end|>"], token["<|endoftext|>"]],
            "pad_token_id": token["<|endoftext|>"],
        },
    )
    _write(
        folder / "preprocessor_config.json",
        {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_processor_type": "Qwen2VLImageProcessor",
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "max_pixels": 1605632,
            "merge_size": 2,
            "min_pixels": 3136,
            "patch_size": 14,
            "processor_class": "Qwen2VLProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "temporal_patch_size": 2,
        },
    )
    _write(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    _write(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": {
                str(token[name]): {
                    "content": name,
                    "lstrip": False,
                    "normalized": False,
                    "rstrip": False,
                    "single_word": False,
                    "special": True,
                }
                for name in SPECIAL_TOKENS
            },
            "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
            "bos_token": None,
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": _MAX_POSITIONS,
            "pad_token": "<|endoftext|>",
            "processor_class": "Qwen2VLProcessor",
            "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        },
    )


def write_weights(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """`model.safetensors` in bfloat16, named as published; the tied head is left out."""
    named = {
        _published_name(name): tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in weights.items()
        if name != "lm_head.weight"
    }
    save_file(named, folder / "model.safetensors", {"format": "pt"})


def _published_name(name: str) -> str:
    """transformers 5 nests the parts one level deeper than the published file."""
    name = name.replace("model.language_model.", "model.")
    return name.removeprefix("model.") if name.startswith("model.visual.") else name


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
