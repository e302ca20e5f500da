"""Runs a checkpoint layer by layer in float32, on a page that ships with the package.

That gives two things: what each linear layer reads, for `smoothing` and `rounding`, and what the
model answers in full precision, for the comparison at the end of an export, which has a part of
the page too that nothing was calibrated on. One layer is in memory at a time; each is the very
graph that `models` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from mineru_daemon import cpu, samples
from mineru_daemon.engines.mineru import prompt, rope
from mineru_daemon.engines.mineru.export import layers, models
from mineru_daemon.engines.mineru.export.checkpoint import Checkpoint
from mineru_daemon.engines.mineru.export.graph import Graph, MemoryWeights
from mineru_daemon.engines.mineru.export.layers import Float, Layer
from mineru_daemon.engines.mineru.export.linear import exact
from mineru_daemon.engines.mineru.image import Grid, ImageProcessor
from mineru_daemon.engines.mineru.loading import SYSTEM_PROMPT
from mineru_daemon.engines.mineru.prompt import Tokenizer
from mineru_daemon.engines.onnx import Session

PAGE_SIZE = (336, 336)
"""Pixels of the page that is looked at: 576 patches, where a layout has 5476."""

CROP_SIZE = (448, 112)
"""Of parts of the page that are looked at more closely."""

Feeds = dict[str, npt.NDArray[Any]]
Inputs = dict[str, Float]
"""What the parts of a layer read, [tokens, in] each: `qkv`, `down`, …"""


class Look(NamedTuple):
    """One look at a part of the page."""

    part: tuple[float, float, float, float]
    """Left, top, right and bottom, in fractions of the page."""
    size: tuple[int, int]
    question: str
    answer: str
    """For the decoder to go on with, so that it is calibrated on text as well as on images."""
    held_out: bool = False


LOOKS = (
    Look((0.0, 0.0, 1.0, 1.0), PAGE_SIZE, "\nLayout Detection:", ""),
    Look(
        (0.0, 0.0, 0.55, 0.16),
        CROP_SIZE,
        "\nText Recognition:",
        "Order desk: 12 rolls of chart paper, 6.25 each, 75.00. Shipped on 14 March.",
    ),
    Look(
        (0.3, 0.5, 1.0, 0.7),
        CROP_SIZE,
        "\nTable Recognition:",
        "<fcel>Größe<fcel>价格 (元)<nl><fcel>A4, 80 g/m²<fcel>1.234,50<nl>",
    ),
    Look(
        (0.0, 0.3, 0.6, 0.5),
        CROP_SIZE,
        "\nText Recognition:",
        "All of it arrived within a week, and nobody had to ask twice.",
        held_out=True,
    ),
)


@dataclass
class Sample:
    """One prompt with its image, and how far on its way through the model it is."""

    patches: Float
    grid: Grid
    ids: list[int]
    stream: Float
    """Of the encoder [1, N, width], later of the decoder [1, S, hidden]."""
    tokens: Float
    """Image tokens [M, hidden], once the encoder has run."""
    embeds: Float
    """What the decoder reads [S, hidden], from then on."""
    logits: Float
    """Of the last token [vocabulary], at the end."""
    held_out: bool
    """Nothing is calibrated on it."""


class Calibration:
    """The samples on their way: first through the whole encoder, then through the decoder."""

    def __init__(self, checkpoint: Checkpoint, plan: cpu.ThreadPlan) -> None:
        self._checkpoint = checkpoint
        self._plan = plan
        self._architecture = checkpoint.architecture
        self.samples = list(_samples(checkpoint))

    def vision_layers(self) -> Iterator[tuple[Layer, Inputs]]:
        """Each layer of the encoder, the merger last, with what its parts read."""
        source, vision = self._checkpoint.tensor, self._architecture.vision

        def patches(graph: Graph, _linear: models.Linear) -> str:
            return models.vision_patches(graph, source, vision)[0]

        self._run(patches, lambda sample: {"patches": sample.patches})
        for number in range(vision.depth):
            layer = layers.vision_layer(source, number)
            yield layer, self._run_vision_layer(layer)
        layer = layers.merger(source)

        def merger(graph: Graph, linear: models.Linear) -> str:
            graph.input("stream", [1, "N", vision.embed_dim])
            return models.vision_merger(graph, layer, ("stream", None), vision, linear)

        yield layer, self._run(merger, lambda sample: {"stream": sample.stream})
        for sample in self.samples:
            sample.tokens = sample.stream

    def _run_vision_layer(self, layer: Layer) -> Inputs:
        vision = self._architecture.vision

        def write(graph: Graph, linear: models.Linear) -> str:
            models.vision_inputs(graph, vision)
            graph.input("stream", [1, "N", vision.embed_dim])
            x, more = models.vision_layer(graph, layer, "layer", ("stream", None), vision, linear)
            return graph.op("Add", [x, more or x])

        return self._run(write, lambda one: {"stream": one.stream, **self.vision_places(one)})

    def vision_places(self, sample: Sample) -> Feeds:
        """What the encoder reads of a sample besides its stream."""
        cos, sin = rope.vision_angles(sample.grid, self._architecture.vision)
        pos = np.arange(sample.grid.patches, dtype=np.int64)[None]
        return {"pos": pos, "cos": cos, "sin": sin}

    def decoder_layers(self) -> Iterator[tuple[Layer, Inputs]]:
        """Each layer of the decoder, with what its parts read; after `vision_layers`."""
        embedding = self._checkpoint.tensor("model.embed_tokens.weight")
        for sample in self.samples:
            sample.embeds = embedding[sample.ids]
            place = sample.ids.index(self._architecture.image_token_id)
            sample.embeds[place : place + len(sample.tokens)] = sample.tokens
            sample.stream = sample.embeds[None]
        del embedding
        for number in range(self._architecture.text.layers):
            layer = layers.decoder_layer(self._checkpoint.tensor, number)
            yield layer, self._run_decoder_layer(layer)

    def _run_decoder_layer(self, layer: Layer) -> Inputs:
        text = self._architecture.text

        def write(graph: Graph, linear: models.Linear) -> str:
            models.decoder_inputs(graph, text, 1)
            stream = ("inputs_embeds", None)
            attend = models.attend_prompt
            x, more = models.decoder_layer(graph, layer, 0, stream, text, attend, linear)
            return graph.op("Add", [x, more or x])

        return self._run(write, lambda sample: self.decoder_feeds(sample, sample.stream, 1))

    def decoder_feeds(self, sample: Sample, stream: Float, count: int | None = None) -> Feeds:
        """All inputs of `count` layers (None: of all) that read a sample from its beginning."""
        text = self._architecture.text
        places, _ = rope.positions(sample.ids, self._architecture.image_token_id, sample.grid)
        cos, sin = rope.text_angles(places, text)
        tokens = len(sample.ids)
        empty = np.zeros((1, text.kv_heads, tokens, text.head_dim), np.float32)
        return {
            "inputs_embeds": stream,
            "positions": np.arange(tokens, dtype=np.int64)[None],
            "cos": cos,
            "sin": sin,
            "seqlens_k": np.array([tokens - 1], np.int32),
            "total_len": np.array(tokens, np.int32),
            **{
                f"past.{number}.{kind}": empty
                for number in range(text.layers if count is None else count)
                for kind in "kv"
            },
        }

    def head(self) -> tuple[Layer, Inputs]:
        """The language-model head and what it reads; after `decoder_layers`."""
        text = self._architecture.text
        layer = layers.head(self._checkpoint.tensor, text)

        def write(graph: Graph, linear: models.Linear) -> str:
            graph.input("stream", ["B", text.hidden_size])
            return models.decoder_head(graph, layer, ("stream", None), text, linear)

        inputs = self._run(write, lambda sample: {"stream": sample.stream[:, -1]})
        for sample in self.samples:
            sample.logits = sample.stream[0]
        return layer, inputs

    def _run(
        self, write: Callable[[Graph, models.Linear], str], feeds: Callable[[Sample], Feeds]
    ) -> Inputs:
        """Send every sample through what `write` makes; what all linear layers read."""
        parts: list[str] = []

        def watched(graph: Graph, x: str, name: str, weight: Float, bias: Float | None) -> str:
            part = name.rpartition(".")[2]
            if part not in parts:  # Several products may read the same input.
                parts.append(part)
                width = weight.shape[1]
                rows = graph.op("Reshape", [x, graph.constant([-1, width])])
                graph.output(f"input.{part}", rows, ["T", width])
            return exact(graph, x, name, weight, bias)

        weights = MemoryWeights()
        graph = Graph(weights)
        graph.output("out", write(graph, watched), None)
        session = Session(graph.model(), self._plan, as_written=True, weights=weights.arrays)
        wanted = ["out", *(f"input.{part}" for part in parts)]
        read: list[list[Float]] = []
        for sample in self.samples:
            sample.stream, *found = session.run(feeds(sample), wanted)
            if not sample.held_out:
                read.append(found)
        session.close()
        return dict(zip(parts, map(np.concatenate, zip(*read, strict=True)), strict=True))


def _samples(checkpoint: Checkpoint) -> Iterator[Sample]:
    """`LOOKS` at the sample page."""
    processor = ImageProcessor.read(checkpoint.path / "preprocessor_config.json")
    tokenizer = Tokenizer(checkpoint.path, checkpoint.architecture)
    with Image.open(samples.paths()[1]) as opened:
        page = opened.convert("RGB")
    empty = np.empty(0, np.float32)
    for look in LOOKS:
        edges = [edge * side for edge, side in zip(look.part, page.size * 2, strict=True)]
        crop = page.crop((round(edges[0]), round(edges[1]), round(edges[2]), round(edges[3])))
        patches, grid = processor(crop.resize(look.size))
        asked = prompt.chat(SYSTEM_PROMPT, look.question, image=True)
        ids = tokenizer.encode(asked + look.answer, grid.tokens)
        yield Sample(patches, grid, ids, empty, empty, empty, empty, look.held_out)
