"""The reference: transformers on torch, float32 on the CPU, as `serve` runs it.

Needs torch, transformers, Pillow and NumPy. Stages that write text go through `generate` as
the official client does it, greedy and with n-grams of 100 tokens that may not repeat
(transformers knows no presence and frequency penalty). Its steps are timed by a stopping
criterion, which `generate` asks after every token.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from mineru_daemon.bench.peers.serve import Meter, Moment

# By name: they are not installed wherever this file is checked.
torch: Any = importlib.import_module("torch")
transformers: Any = importlib.import_module("transformers")

SYSTEM = "You are a helpful assistant."
NGRAM = 100


def load(settings: dict[str, Any], threads: int) -> Engine:
    """Load `settings["checkpoint"]`, a Hugging Face folder."""
    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    return Engine(settings["checkpoint"])


class Engine:
    """The model, its tokenizer and image processor."""

    def __init__(self, checkpoint: str) -> None:
        self.facts = {"transformers": transformers.__version__, "torch": torch.__version__}
        # Not AutoProcessor: it wants torchvision for videos, which nothing here shows.
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(
            checkpoint, padding_side="left"
        )
        self._images = transformers.AutoImageProcessor.from_pretrained(checkpoint, backend="pil")
        self._model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(
            checkpoint, dtype=torch.float32
        ).eval()
        self._kinds = "mm_token_type_ids" in inspect.signature(self._model.forward).parameters

    # --- stages --------------------------------------------------------------

    def vision(self, meter: Meter, image: str, seed: int) -> dict[str, Any]:
        """The encoder alone; `seed` is of other peers' use."""
        del seed
        shown = self._images(images=[_open(image)], return_tensors="pt")
        meter.start()
        with torch.inference_mode():
            self._model.model.visual(shown["pixel_values"], grid_thw=shown["image_grid_thw"])
        meter.stop()
        return {"tokens": int(shown["image_grid_thw"].prod()) // 4}

    def prefill(self, meter: Meter, tokens: int, seed: int) -> dict[str, Any]:
        """Read a text of `tokens` tokens; the logits of its last."""
        ids = self._random(1, tokens, seed)
        meter.start()
        with torch.inference_mode():
            self._model(input_ids=ids, use_cache=True, logits_to_keep=1)
        meter.stop()
        return {"tokens": tokens}

    def decode(self, meter: Meter, rows: int, context: int, tokens: int, seed: int) -> Any:
        """Write `tokens` tokens to each of `rows` texts of `context` tokens."""
        ids = self._random(rows, context, seed)
        moments = self._generate(meter, tokens, input_ids=ids, attention_mask=torch.ones_like(ids))
        meter.add(moments[0], moments[-1])
        return {"tokens": rows * (tokens - 1)}

    def page(
        self, meter: Meter, layout: str, crops: list[str], tokens: int, rows: int
    ) -> dict[str, Any]:
        """The layout, then the crops, `rows` together; `tokens` tokens to each."""
        meter.start()
        self._read(meter, [layout], "\nLayout Detection:", tokens)
        after_layout = meter.now()
        for first in range(0, len(crops), rows):
            self._read(meter, crops[first : first + rows], "\nText Recognition:", tokens)
        end = meter.now()
        meter.stop()
        return {"tokens": tokens * (1 + len(crops)), "crops_wall": end[0] - after_layout[0]}

    # --- the model -----------------------------------------------------------

    def _random(self, rows: int, tokens: int, seed: int) -> Any:
        """Ids of single characters."""
        return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (rows, tokens)))

    def _read(self, meter: Meter, paths: list[str], question: str, tokens: int) -> None:
        shown = self._images(images=[_open(path) for path in paths], return_tensors="pt")
        mark = "<|image_pad|>"
        content = [{"type": "image"}, {"type": "text", "text": question}]
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
        template = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        prompts = [
            template.replace(mark, mark * (int(grid.prod()) // 4))
            for grid in shown["image_grid_thw"]
        ]
        text = self._tokenizer(prompts, padding=True, return_tensors="pt")
        if self._kinds:
            image_token = self._tokenizer.convert_tokens_to_ids(mark)
            text["mm_token_type_ids"] = (text["input_ids"] == image_token).long()
        self._generate(meter, tokens, **text, **shown)

    def _generate(self, meter: Meter, tokens: int, **inputs: Any) -> list[Moment]:
        """When each step was done."""
        moments: list[Moment] = []

        def clock(ids: Any, *_: Any, **__: Any) -> Any:
            moments.append(meter.now())
            return torch.zeros(len(ids), dtype=torch.bool)

        self._model.generate(
            **inputs,
            use_cache=True,
            do_sample=False,
            no_repeat_ngram_size=NGRAM,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            stopping_criteria=transformers.StoppingCriteriaList([clock]),
        )
        return moments


def _open(path: str) -> Image.Image:
    return Image.open(path).convert("RGB")
