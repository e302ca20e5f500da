"""A byte-level BPE of Qwen2-VL's size and ids whose merges are made, not learned.

Its files are `tokenizer.json`, `tokenizer_config.json` and `chat_template.json`. It reads
and writes any text, loads as slowly as a real one and has the special tokens at the
published ids; only its words mean nothing. Needs the standard library alone.
"""

from __future__ import annotations

import json
from itertools import chain, product
from pathlib import Path
from string import ascii_lowercase

ORDINARY = 151_643
"""Entries before the special tokens, of Qwen2's vocabulary."""

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Of Qwen2-VL, from id 151,643 on. What MinerU adds behind them has no entry here."""

MATCHED = {
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": True,
}
"""How a special token is found in a text: exactly as it is written."""

BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": False,
    "use_regex": False,
}
"""Bytes as letters, without cutting: `WORDS` has done that."""

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where Qwen2's tokenizer cuts a text before it merges."""

CHAT = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML with Qwen2-VL's marks around an image, and its system prompt where none is given."""


def write(folder: Path) -> None:
    """The three files, into an existing folder."""
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(), ensure_ascii=False))
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "additional_special_tokens": list(SPECIAL[1:]),
        "bos_token": None,
        "chat_template": CHAT,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 16_384,
        "pad_token": "<|endoftext|>",
        "processor_class": "Qwen2VLProcessor",
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
        "added_tokens_decoder": {
            str(ORDINARY + index): {"content": text, **MATCHED}
            for index, text in enumerate(SPECIAL)
        },
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": CHAT}) + "\n")


def tokenizer() -> dict[str, object]:
    """`tokenizer.json` as the `tokenizers` library reads it."""
    vocabulary, merges = entries()
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ORDINARY + index, "content": text, **MATCHED}
            for index, text in enumerate(SPECIAL)
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": WORDS},
                    "behavior": "Isolated",
                    "invert": False,
                },
                BYTE_LEVEL,
            ],
        },
        "post_processor": BYTE_LEVEL,
        "decoder": BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: index for index, text in enumerate(vocabulary)},
            "merges": merges,
        },
    }


def entries() -> tuple[list[str], list[str]]:
    """The ordinary entries by id, and the merges ("left right") that make those of two or more.

    Single bytes, then pairs of printable ASCII, then three and four lower-case letters until
    the vocabulary is full. So what a model of random weights says is, as with a real
    vocabulary, nearly always text: llama.cpp's client has every token checked to be UTF-8,
    and searches the whole vocabulary for another when one is not.
    """
    letters = byte_letters()
    vocabulary = list(letters)
    merges = []
    printable = [letters[byte] for byte in range(0x20, 0x7F)]
    pairs = [left + right for left, right in product(ascii_lowercase, ascii_lowercase)]
    for left, right in chain(
        product(printable, printable), product(pairs, ascii_lowercase), product(pairs, pairs)
    ):
        if len(vocabulary) == ORDINARY:
            break
        vocabulary.append(left + right)
        merges.append(f"{left} {right}")
    return vocabulary, merges


def byte_letters() -> list[str]:
    """The printable letter that stands for each byte, as in GPT-2's byte-level BPE.

    Bytes that are printable in Latin-1 stand for themselves, the others for the letters
    from U+0100 on, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte if byte in printable else 0x100 + others.index(byte)) for byte in range(256)]
