"""The engine of the house, as `serve` runs it: the modules that read pages, on a model folder.

Stages go through the same `Generator` as pages do; its own calls of `progress`, before
every run of a model, tell where one stage ends and the next begins. No token ends a text
before its time. A page is read as the engine does it, without what a layout of random
weights makes impossible: the layout's text is not parsed, the crops are given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnxruntime
from PIL import Image

from mineru_daemon import __version__, cpu
from mineru_daemon.engines.mineru import folder, loading, prompt, scale
from mineru_daemon.engines.mineru.generate import Generator, Prompt
from mineru_daemon.engines.mineru.loading import SYSTEM_PROMPT
from mineru_daemon.engines.mineru.sampling import Sampling
from mineru_daemon.engines.timing import Timings

if TYPE_CHECKING:
    from mineru_daemon.bench.peers.serve import Meter, Moment

LAYOUT = Sampling(no_repeat_ngram_size=100)
CONTENT = Sampling(no_repeat_ngram_size=100, presence_penalty=1.0, frequency_penalty=0.05)
"""What the official client asks for."""


def load(settings: dict[str, Any], threads: int) -> Engine:
    """Load `settings["model"]`, a model folder."""
    return Engine(Path(settings["model"]), cpu.plan_threads(threads))


class Engine:
    """A loaded model."""

    def __init__(self, path: Path, plan: cpu.ThreadPlan) -> None:
        cv2.setNumThreads(1)
        found = folder.load(path)
        self.facts = {
            "mineru-daemon": __version__,
            "onnxruntime": onnxruntime.__version__,
            "precision": found.manifest.precision,
        }
        self._model = loading.load(found, plan)

    # --- stages --------------------------------------------------------------

    def vision(self, meter: Meter, image: str, seed: int) -> dict[str, Any]:
        """The encoder alone; `seed` is of other peers' use."""
        del seed
        patches, grid = self._model.processor(_open(image))
        meter.start()
        self._model.vision(patches, grid, lambda: None)
        meter.stop()
        return {"tokens": grid.tokens}

    def prefill(self, meter: Meter, tokens: int, seed: int) -> dict[str, Any]:
        """Read a text of `tokens` tokens and choose the one after it."""
        one = Sampling(max_new_tokens=1)
        begins, end = self._generate(meter, 1, [_random(tokens, seed)], one)
        meter.add(begins["inference.prefill"][0], end)
        return {"tokens": tokens}

    def decode(self, meter: Meter, rows: int, context: int, tokens: int, seed: int) -> Any:
        """Write `tokens` tokens to each of `rows` texts of `context` tokens."""
        texts = [_random(context, seed * rows + row) for row in range(rows)]
        begins, end = self._generate(meter, rows, texts, replace(CONTENT, max_new_tokens=tokens))
        meter.add(begins["inference.decode"][0], end)
        return {"tokens": rows * len(begins["inference.decode"])}

    def page(
        self,
        meter: Meter,
        layout: str,
        crops: list[str],
        tokens: int,
        rows: int,
        preset: scale.Preset = "quality",
    ) -> dict[str, Any]:
        """The layout, then the crops, `rows` together; `tokens` tokens to each."""
        generator = self._generator(rows)
        timings: Timings = defaultdict(float)
        marks: list[tuple[str, Moment]] = []

        def mark(stage: str) -> None:
            marks.append((stage, meter.now()))

        meter.start()
        shown = _open(layout)
        side = min(scale.layout_side(preset, 0), shown.width)
        shown = shown.resize((side, side), Image.Resampling.BICUBIC)
        sampling = replace(LAYOUT, max_new_tokens=tokens)
        first = self._prompt(shown, shown.size, "\nLayout Detection:", sampling)
        made = generator.generate([first], mark, timings)
        after_layout = meter.now()
        sampling = replace(CONTENT, max_new_tokens=tokens)
        prompts = []
        for crop in map(_open, crops):
            size = scale.crop_size(crop, "text", preset, 0)
            prompts.append(self._prompt(crop, size, "\nText Recognition:", sampling))
        made += generator.generate(prompts, mark, timings, logprobs=True)
        end = meter.now()
        meter.stop()
        return {
            "tokens": sum(len(one.tokens) for one in made),
            "crops_wall": end[0] - after_layout[0],
            "prompt_tokens": sum(len(one.ids) for one in [first, *prompts]),
            "stages": dict(timings),
            "stages_cpu": _between(marks, end),
        }

    def postprocess(self, meter: Meter, texts: list[str]) -> dict[str, Any]:
        """Make blocks of the texts of a page's crops, as the engine does."""
        from mineru_vl_utils.structs import ContentBlock

        from mineru_daemon.engines.mineru import blocks, client

        official = client.mineru_client(client.OnnxVlmClient(self._model))
        step = 1 / max(1, len(texts))
        found = [
            ContentBlock("text", [0.1, n * step, 0.9, (n + 1) * step], 0, text)
            for n, text in enumerate(texts)
        ]
        for block in found:
            block.update(score=1.0, warnings=[])
        meter.start()
        made = blocks.to_blocks(official.helper.post_process(found))
        meter.stop()
        return {"blocks": len(made)}

    # --- the model -----------------------------------------------------------

    def _prompt(
        self, image: Image.Image, size: tuple[int, int], question: str, sampling: Sampling
    ) -> Prompt:
        text = prompt.chat(SYSTEM_PROMPT, question, image=True)
        ids = self._model.tokenizer.encode(text, self._model.processor.tokens(*size))
        return Prompt(ids, lambda: self._model.processor(image, size), sampling)

    def _generator(self, rows: int) -> Generator:
        """The model's own, but for `rows` rows, and with no token that ends a text."""
        model = self._model
        text = model.tokenizer.encode(prompt.chat(SYSTEM_PROMPT, "", image=True))
        return Generator(
            model.architecture,
            model.vision,
            model.decoder,
            frozenset(),
            prefix=text[: text.index(model.architecture.image_token_id)],
            batch=rows,
        )

    def _generate(
        self, meter: Meter, rows: int, texts: Sequence[list[int]], sampling: Sampling
    ) -> tuple[dict[str, list[Moment]], Moment]:
        """When each run of each stage began, and when all was done."""
        begins: dict[str, list[Moment]] = defaultdict(list)
        prompts = [Prompt(ids, None, sampling) for ids in texts]
        self._generator(rows).generate(
            prompts, lambda stage: begins[stage].append(meter.now()), defaultdict(float)
        )
        return begins, meter.now()


def _random(tokens: int, seed: int) -> list[int]:
    """Ids of single characters."""
    return [int(one) for one in np.random.default_rng(seed).integers(0, 256, tokens)]


def _between(marks: Sequence[tuple[str, Moment]], end: Moment) -> dict[str, float]:
    """CPU seconds of each stage: from where it was begun until another one was, or the end."""
    spent: defaultdict[str, float] = defaultdict(float)
    for (stage, begin), (_, next_begin) in zip(marks, [*marks[1:], ("", end)], strict=True):
        spent[stage] += next_begin[1] - begin[1]
    return dict(spent)


def _open(path: str) -> Image.Image:
    return Image.open(path).convert("RGB")
