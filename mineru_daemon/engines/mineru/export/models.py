"""The vision encoder and the decoder as ONNX graphs, layer by layer.

Says which operators make the model, with fused attention and normalisation; how a linear
layer is computed is left to the `Linear` that is given, and what becomes of the files to
`graph`. Each layer is a function of its own, so that calibration runs the very same one.

Interface of the graphs (float32 in and out, whatever the weights; N patches, B rows, S
tokens, P capacity of the cache):

vision: patches [N, channels*temporal*side*side], pos int64 [1, N] (0..N-1), cos and sin
[N, head_dim/2] -> image_embeds [N/merge², hidden].

decoder: inputs_embeds [B, S, hidden] (S is 1 with `attend_step`), positions int64 [B, S], cos
and sin [C, head_dim/2], seqlens_k int32 [B] (tokens in the cache after this run, less one),
total_len int32 [] (the largest of them plus one), last int64 [B, 1] (whose logits are wanted),
past.{l}.k and past.{l}.v [B, kv_heads, P, head_dim] -> logits [B, vocabulary], present.{l}.k
and .v: the same buffers. M-RoPE is exact: rows of cos and sin are picked by `positions` and
already mix the frequencies of time, height and width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from mineru_daemon.engines.mineru.architecture import (
    LAYER_NORM_EPSILON,
    TextArchitecture,
    VisionArchitecture,
)
from mineru_daemon.engines.mineru.export.graph import CONTRIB, Graph
from mineru_daemon.engines.mineru.export.layers import Float, Layer, Source

QUICK_GELU_ALPHA = 1.702
"""x * sigmoid(1.702 x): the activation of CLIP's encoders."""

SILU_ALPHA = 1.0
"""The same operator computes SiLU."""

MASKED = -1e9
"""Added to the scores of places that hold no token yet."""


class Linear(Protocol):
    """Writes y = x @ weight.T + bias into a graph and returns y's name."""

    def __call__(self, graph: Graph, x: str, name: str, weight: Float, bias: Float | None) -> str:
        """`name` begins the names of the layer's weights in the graph."""
        ...


class Attention(Protocol):
    """Writes one layer's attention into a graph and returns what it attends to.

    `qkv` [B, S, (heads + 2 kv_heads) * head_dim]; reads and writes the layer's cache.
    """

    def __call__(self, graph: Graph, qkv: str, number: int, architecture: TextArchitecture) -> str:
        """`number` is the layer's."""
        ...


Stream = tuple[str, str | None]
"""The residual stream between layers: what it is so far, and what is still to be added to
it (None: nothing), as the next normalisation adds both in one operator."""


# --- vision encoder -----------------------------------------------------------


def vision_inputs(graph: Graph, architecture: VisionArchitecture) -> None:
    """Declare what every part of the encoder reads besides its stream."""
    graph.input("pos", [1, "N"], "i8")
    for name in ("cos", "sin"):
        graph.input(name, ["N", architecture.head_dim // 2])


def vision_patches(graph: Graph, source: Source, architecture: VisionArchitecture) -> Stream:
    """Patch embedding: the convolution over whole patches is one matrix product."""
    graph.input("patches", ["N", architecture.patch_dim])
    kernel = source("visual.patch_embed.proj.weight").reshape(architecture.embed_dim, -1)
    x = graph.op("MatMul", ["patches", graph.weight("patch_embed.weight", kernel.T)])
    return graph.op("Unsqueeze", [x, graph.constant([0])]), None


def vision_layer(
    graph: Graph,
    layer: Layer,
    prefix: str,
    stream: Stream,
    architecture: VisionArchitecture,
    linear: Linear,
) -> Stream:
    """Attention over all patches, then the MLP."""
    heads = architecture.heads

    def apply(x: str, part: str) -> str:
        return linear(graph, x, f"{prefix}.{part}", layer[f"{part}.weight"], layer[f"{part}.bias"])

    n, x = _layer_norm(graph, stream, layer, f"{prefix}.norm1", "norm1")
    q, k, v = _products(graph, n, layer, prefix, "qkv", 3, linear)
    q, k = (
        graph.op("RotaryEmbedding", [one, "pos", "cos", "sin"], domain=CONTRIB, num_heads=heads)
        for one in (q, k)
    )
    attended = graph.op("MultiHeadAttention", [q, k, v], domain=CONTRIB, num_heads=heads)
    n, x = _layer_norm(graph, (x, apply(attended, "proj")), layer, f"{prefix}.norm2", "norm2")
    f = graph.op("QuickGelu", [apply(n, "fc1")], domain=CONTRIB, alpha=QUICK_GELU_ALPHA)
    return x, apply(_divided(graph, f, layer, prefix), "fc2")


def vision_merger(
    graph: Graph,
    layer: Layer,
    stream: Stream,
    architecture: VisionArchitecture,
    linear: Linear,
) -> str:
    """Four neighbouring patches become one image token."""

    def apply(x: str, part: str) -> str:
        return linear(graph, x, f"merger.{part}", layer[f"{part}.weight"], layer[f"{part}.bias"])

    n, _ = _layer_norm(graph, stream, layer, "merger.norm", "norm")
    joined = architecture.embed_dim * architecture.spatial_merge_size**2
    n = graph.op("Reshape", [n, graph.constant([-1, joined])])
    f = graph.op("Gelu", [apply(n, "fc1")], domain=CONTRIB)
    return apply(_divided(graph, f, layer, "merger"), "fc2")


def _divided(graph: Graph, x: str, layer: Layer, prefix: str) -> str:
    """The input of `fc2`, its channels divided where the layer says so."""
    if "fc2.divide" not in layer:
        return x
    return graph.op("Mul", [x, graph.weight(f"{prefix}.fc2.factors", 1 / layer["fc2.divide"])])


def write_vision(
    graph: Graph,
    source: Source,
    layers: Iterable[Layer],
    architecture: VisionArchitecture,
    linear: Linear,
) -> None:
    """The whole encoder; `layers`, the merger last, are taken one by one and not kept."""
    stream = vision_patches(graph, source, architecture)
    vision_inputs(graph, architecture)
    tokens = ""
    for number, layer in enumerate(layers):
        if number < architecture.depth:
            stream = vision_layer(graph, layer, f"blocks.{number}", stream, architecture, linear)
        else:
            tokens = vision_merger(graph, layer, stream, architecture, linear)
    graph.output("image_embeds", tokens, ["M", architecture.out_dim])


# --- decoder -----------------------------------------------------------------


def decoder_inputs(graph: Graph, architecture: TextArchitecture, layers: int) -> None:
    """Declare what the layers read besides their stream: places, lengths, and the cache."""
    graph.input("inputs_embeds", ["B", "S", architecture.hidden_size])
    graph.input("positions", ["B", "S"], "i8")
    for name in ("cos", "sin"):
        graph.input(name, ["C", architecture.head_dim // 2])
    graph.input("seqlens_k", ["B"], "i4")
    graph.input("total_len", [], "i4")
    for number in range(layers):
        for name in _cache("past", number):
            graph.input(name, _cache_shape(architecture))


def decoder_layer(
    graph: Graph,
    layer: Layer,
    number: int,
    stream: Stream,
    architecture: TextArchitecture,
    attend: Attention,
    linear: Linear,
    *,
    ends: bool = False,
) -> Stream:
    """Attention over the cache, then the gated MLP.

    Behind the layer that `ends` the decoder nothing but the position `last` of each row is
    asked for: the stream is [B, hidden] from its attention on.
    """
    prefix = f"layers.{number}"

    def apply(x: str, part: str) -> str:
        bias = layer.get(f"{part}.bias")
        return linear(graph, x, f"{prefix}.{part}", layer[f"{part}.weight"], bias)

    n, x = _rms_norm(graph, stream, layer["norm1.weight"], f"{prefix}.norm1", architecture)
    attended = attend(graph, apply(n, "qkv"), number, architecture)
    for name in _cache("present", number):
        graph.output(name, name, _cache_shape(architecture))
    if ends:
        graph.input("last", ["B", 1], "i8")
        x, attended = (graph.op("GatherND", [one, "last"], batch_dims=1) for one in (x, attended))
    stream = x, apply(attended, "o")
    n, x = _rms_norm(graph, stream, layer["norm2.weight"], f"{prefix}.norm2", architecture)
    gate, up = _products(graph, n, layer, prefix, "gate_up", 2, linear)
    gate = graph.op("QuickGelu", [gate], domain=CONTRIB, alpha=SILU_ALPHA)
    return x, apply(graph.op("Mul", [gate, up]), "down")


def attend_prompt(graph: Graph, qkv: str, number: int, architecture: TextArchitecture) -> str:
    """Causal attention of any number of tokens: one fused operator that skips what is masked."""
    given = [*_cache("past", number), "seqlens_k", "total_len", "cos", "sin", "positions"]
    return graph.ops(
        "GroupQueryAttention",
        [qkv, "", "", *given],
        3,
        domain=CONTRIB,
        outputs=[f"layers.{number}.attended", *_cache("present", number)],
        num_heads=architecture.heads,
        kv_num_heads=architecture.kv_heads,
        do_rotary=1,
    )[0]


def attend_step(graph: Graph, qkv: str, number: int, architecture: TextArchitecture) -> str:
    """Attention of one token in each row, over all places of the cache.

    The fused operator reads the keys once for every query head; two products that share them
    within a group took half its time on Zen 3, with one row of 1500 tokens as with eight rows.
    On Zen 5 with AVX-512 steps with the fused one were up to 15 % faster.
    """
    heads, kv_heads, dim = architecture.heads, architecture.kv_heads, architecture.head_dim
    widths = [heads * dim, kv_heads * dim, kv_heads * dim]
    q, k, v = graph.ops("Split", [qkv, graph.constant(widths)], 3, axis=-1)

    def turned(x: str, count: int) -> str:
        places = ["positions", "cos", "sin"]
        return graph.op("RotaryEmbedding", [x, *places], domain=CONTRIB, num_heads=count)

    def shaped(x: str, queries: int) -> str:
        return graph.op("Reshape", [x, graph.constant([-1, kv_heads, queries, dim])])

    q = shaped(turned(q, heads), heads // kv_heads)
    fresh = shaped(turned(k, kv_heads), 1), shaped(v, 1)
    index, mask = _step_mask(graph)
    keys, values = (
        graph.op("TensorScatter", [past, one, index], axis=2, outputs=[present])
        for past, one, present in zip(
            _cache("past", number), fresh, _cache("present", number), strict=True
        )
    )
    scores = graph.op("FusedMatMul", [q, keys], domain=CONTRIB, transB=1, alpha=dim**-0.5)
    weights = graph.op("Softmax", [graph.op("Add", [scores, mask])], axis=-1)
    attended = graph.op("MatMul", [weights, values])
    return graph.op("Reshape", [attended, graph.constant([-1, 1, heads * dim])])


def _step_mask(graph: Graph) -> tuple[str, str]:
    """Place of the new token in the cache, int64 [B], and what is added to the scores
    [B, 1, 1, P]; the same for all layers."""
    index, mask = "step.index", "step.mask"
    if not graph.made(mask):
        graph.op("Cast", ["seqlens_k"], to=graph.INT64, outputs=[index])
        shape = graph.op("Shape", [_cache("past", 0)[0]], start=2, end=3)
        capacity = graph.op("Squeeze", [shape, graph.constant([0])])
        places = graph.op("Range", [graph.constant(0), capacity, graph.constant(1)])
        last = graph.op("Unsqueeze", [index, graph.constant([1])])
        seen = graph.op("LessOrEqual", [places, last])
        added = graph.op("Where", [seen, graph.number(0.0), graph.number(MASKED)])
        graph.op("Unsqueeze", [added, graph.constant([1, 2])], outputs=[mask])
    return index, mask


def _cache(when: str, number: int) -> list[str]:
    """Names of a layer's keys and values."""
    return [f"{when}.{number}.{kind}" for kind in "kv"]


def _cache_shape(architecture: TextArchitecture) -> list[int | str]:
    return ["B", architecture.kv_heads, "P", architecture.head_dim]


def decoder_head(
    graph: Graph,
    layer: Layer,
    stream: Stream,
    architecture: TextArchitecture,
    linear: Linear,
) -> str:
    """Logits of a stream [B, hidden]: the head is a quarter of the decoder's weights."""
    n, _ = _rms_norm(graph, stream, layer["norm.weight"], "norm", architecture)
    return linear(graph, n, "head.lm", layer["lm.weight"], None)


class DecoderWriter:
    """Writes a decoder into a graph, layer after layer; none is kept."""

    def __init__(self, graph: Graph, architecture: TextArchitecture, attend: Attention) -> None:
        decoder_inputs(graph, architecture, architecture.layers)
        self._graph = graph
        self._architecture = architecture
        self._attend = attend
        self._stream: Stream = ("inputs_embeds", None)
        self._count = 0

    def add(self, layer: Layer, linear: Linear) -> None:
        """Write the next layer."""
        self._stream = decoder_layer(
            self._graph,
            layer,
            self._count,
            self._stream,
            self._architecture,
            self._attend,
            linear,
            ends=self._count == self._architecture.layers - 1,
        )
        self._count += 1

    def finish(self, layer: Layer, head: Linear) -> Graph:
        """Write the head; the whole graph."""
        graph, architecture = self._graph, self._architecture
        logits = decoder_head(graph, layer, self._stream, architecture, head)
        graph.output("logits", logits, ["B", architecture.vocabulary])
        return graph


def _products(
    graph: Graph, x: str, layer: Layer, prefix: str, part: str, count: int, linear: Linear
) -> list[str]:
    """Products with `count` equal parts of a weight's rows: to take one product apart afterwards
    would copy it."""
    weights = np.split(layer[f"{part}.weight"], count)
    bias = layer.get(f"{part}.bias")
    biases = [None] * count if bias is None else np.split(bias, count)
    return [
        linear(graph, x, f"{prefix}.{number}.{part}", weight, one)
        for number, (weight, one) in enumerate(zip(weights, biases, strict=True))
    ]


# --- normalisation -----------------------------------------------------------


def _layer_norm(
    graph: Graph, stream: Stream, weights: Layer, name: str, part: str
) -> tuple[str, str]:
    """Normalised stream, and the stream itself.

    Not by SkipLayerNormalization, which took five times as long as both operators.
    """
    x, more = stream
    if more is not None:
        x = graph.op("Add", [x, more])
    gain = graph.weight(f"{name}.weight", weights[f"{part}.weight"])
    bias = graph.weight(f"{name}.bias", weights[f"{part}.bias"])
    given = [x, gain, bias]
    return graph.op("LayerNormalization", given, axis=-1, epsilon=LAYER_NORM_EPSILON), x


def _rms_norm(
    graph: Graph, stream: Stream, gain: Float, name: str, architecture: TextArchitecture
) -> tuple[str, str]:
    """The same with root mean squares."""
    x, more = stream
    weight, epsilon = graph.weight(f"{name}.weight", gain), architecture.rms_norm_eps
    kind = "SimplifiedLayerNormalization"
    if more is None:
        return graph.op(kind, [x, weight], axis=-1, epsilon=epsilon), x
    made = graph.ops(f"Skip{kind}", [more, x, weight], 4, domain=CONTRIB, epsilon=epsilon)
    return made[0], made[3]
