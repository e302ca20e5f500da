"""Reads with the tiny checkpoint as the published one is read: transformers and torch.

What the engine has to agree with: the official client on the official model code, in float32.
Importing this module needs torch, transformers and mineru-vl-utils.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mineru_vl_utils import MinerUClient
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor

from tiny_mineru import LAYOUT_SIZE

_Processor: Any = Qwen2VLProcessor


class ImageTextProcessor(_Processor):  # type: ignore[misc]
    """Qwen2-VL's processor without the part for videos, which would need torchvision."""

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None):
        self.image_token = "<|image_pad|>"
        self.video_token = "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        super(_Processor, self).__init__(image_processor, tokenizer, chat_template=chat_template)


def load_processor(folder: Path) -> ImageTextProcessor:
    """The processor of a checkpoint's folder; images go through Pillow and numpy."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = Qwen2VLImageProcessorPil.from_pretrained(folder)
    return ImageTextProcessor(images, tokenizer, chat_template=tokenizer.chat_template)


def load_model(folder: Path) -> Any:
    """The model of a checkpoint's folder in float32, ready to generate."""
    model = Qwen2VLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    )
    return model.eval()


def make_client(folder: Path, **options: Any) -> MinerUClient:
    """The official client on this checkpoint; options go to `MinerUClient`."""
    options.setdefault("layout_image_size", (LAYOUT_SIZE, LAYOUT_SIZE))
    return MinerUClient(
        backend="transformers",
        model=load_model(folder),
        processor=load_processor(folder),
        batch_size=1,
        use_tqdm=False,
        **options,
    )
