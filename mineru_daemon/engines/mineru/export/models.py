"""The vision encoder and the decoder as ONNX graphs, layer by layer.

Says which operators make the model, with fused attention and normalisation; how a linear
layer is computed is left to the `Linear` that is given, and what becomes of the files to
`graph`. Each layer is a function of its own, so that calibration runs the very same one.

Interface of the graphs (float32 in and out, whatever the weights; N patches, B rows, S
tokens, P capacity of the cache):

vision: patches [N, channels*temporal*side*side], pos int64 [1, N] (0..N-1), cos and sin
[N, head_dim/2] -> image_embeds [N/merge², hidden].

decoder: inputs_embeds [B, S, hidden], positions int64 [B, S], cos and sin [C, head_dim/2],
seqlens_k int32 [B] (tokens in the cache after this run, less one), total_len int32 [] (the
largest of them plus one), last int64 [B, 1] (whose logits are wanted), past.{l}.k and
past.{l}.v [B, kv_heads, P, head_dim] -> logits [B, vocabulary], present.{l}.k and .v: the
same buffers. M-RoPE is exact: rows of cos and sin are picked by `positions` and already
mix the frequencies of time, height and width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

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


class Linear(Protocol):
    """Writes y = x @ weight.T + bias into a graph and returns y's name."""

    def __call__(self, graph: Graph, x: str, name: str, weight: Float, bias: Float | None) -> str:
        """`name` begins the names of the layer's weights in the graph."""
        ...


Stream = tuple[str, str | None]
"""The residual stream between layers: what it is so far, and what is still to be added to
it (None: nothing), as the next normalisation adds both in one operator."""


def exact(graph: Graph, x: str, name: str, weight: Float, bias: Float | None) -> str:
    """A linear layer in float32."""
    y = graph.op("MatMul", [x, graph.weight(f"{name}.weight", weight.T)])
    return y if bias is None else graph.op("Add", [y, graph.weight(f"{name}.bias", bias)])


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
    heads, width = architecture.heads, architecture.embed_dim

    def apply(x: str, part: str) -> str:
        return linear(graph, x, f"{prefix}.{part}", layer[f"{part}.weight"], layer[f"{part}.bias"])

    n, x = _layer_norm(graph, stream, layer, f"{prefix}.norm1", "norm1")
    split = graph.constant([width] * 3)
    q, k, v = graph.ops("Split", [apply(n, "qkv"), split], 3, axis=-1)
    q, k = (
        graph.op("RotaryEmbedding", [one, "pos", "cos", "sin"], domain=CONTRIB, num_heads=heads)
        for one in (q, k)
    )
    attended = graph.op("MultiHeadAttention", [q, k, v], domain=CONTRIB, num_heads=heads)
    n, x = _layer_norm(graph, (x, apply(attended, "proj")), layer, f"{prefix}.norm2", "norm2")
    f = graph.op("QuickGelu", [apply(n, "fc1")], domain=CONTRIB, alpha=QUICK_GELU_ALPHA)
    return x, apply(f, "fc2")


def vision_merger(
    graph: Graph,
    source: Source,
    stream: Stream,
    architecture: VisionArchitecture,
    linear: Linear,
) -> str:
    """Four neighbouring patches become one image token."""
    weights = {
        f"{part}.{kind}": source(f"visual.merger.{part}.{kind}")
        for part in ("ln_q", "mlp.0", "mlp.2")
        for kind in ("weight", "bias")
    }
    n, _ = _layer_norm(graph, stream, weights, "merger.ln_q", "ln_q")
    joined = architecture.embed_dim * architecture.spatial_merge_size**2
    n = graph.op("Reshape", [n, graph.constant([-1, joined])])
    for part in ("mlp.0", "mlp.2"):
        bias = weights[f"{part}.bias"]
        n = linear(graph, n, f"merger.{part}", weights[f"{part}.weight"], bias)
        if part == "mlp.0":
            n = graph.op("Gelu", [n], domain=CONTRIB)
    return n


def write_vision(
    graph: Graph,
    source: Source,
    layers: Iterable[Layer],
    architecture: VisionArchitecture,
    linear: Linear,
) -> None:
    """The whole encoder; `layers` are taken one after the other and not kept."""
    stream = vision_patches(graph, source, architecture)
    vision_inputs(graph, architecture)
    for number, layer in enumerate(layers):
        stream = vision_layer(graph, layer, f"blocks.{number}", stream, architecture, linear)
    tokens = vision_merger(graph, source, stream, architecture, linear)
    graph.output("image_embeds", tokens, ["M", architecture.out_dim])
    graph.save()


# --- decoder -----------------------------------------------------------------


def decoder_inputs(graph: Graph, architecture: TextArchitecture) -> None:
    """Declare what every layer reads besides its stream and its cache."""
    graph.input("inputs_embeds", ["B", "S", architecture.hidden_size])
    graph.input("positions", ["B", "S"], "i8")
    for name in ("cos", "sin"):
        graph.input(name, ["C", architecture.head_dim // 2])
    graph.input("seqlens_k", ["B"], "i4")
    graph.input("total_len", [], "i4")


def decoder_layer(
    graph: Graph,
    layer: Layer,
    number: int,
    stream: Stream,
    architecture: TextArchitecture,
    linear: Linear,
) -> Stream:
    """Attention over the cache, then the gated MLP."""
    prefix = f"layers.{number}"
    cache: list[int | str] = ["B", architecture.kv_heads, "P", architecture.head_dim]

    def apply(x: str, part: str) -> str:
        bias = layer.get(f"{part}.bias")
        return linear(graph, x, f"{prefix}.{part}", layer[f"{part}.weight"], bias)

    n, x = _rms_norm(graph, stream, layer["norm1.weight"], f"{prefix}.norm1", architecture)
    past = [graph.input(f"past.{number}.{kind}", cache) for kind in "kv"]
    fed = [apply(n, "qkv"), "", "", *past, "seqlens_k", "total_len", "cos", "sin", "positions"]
    present = [f"present.{number}.{kind}" for kind in "kv"]
    attended, *_ = graph.ops(
        "GroupQueryAttention",
        fed,
        3,
        domain=CONTRIB,
        outputs=[f"{prefix}.attended", *present],
        num_heads=architecture.heads,
        kv_num_heads=architecture.kv_heads,
        do_rotary=1,
    )
    for name in present:
        graph.output(name, name, cache)
    stream = x, apply(attended, "o")
    n, x = _rms_norm(graph, stream, layer["norm2.weight"], f"{prefix}.norm2", architecture)
    halves = graph.constant([architecture.intermediate_size] * 2)
    gate, up = graph.ops("Split", [apply(n, "gate_up"), halves], 2, axis=-1)
    gate = graph.op("QuickGelu", [gate], domain=CONTRIB, alpha=SILU_ALPHA)
    return x, apply(graph.op("Mul", [gate, up]), "down")


def decoder_head(
    graph: Graph,
    source: Source,
    stream: Stream,
    architecture: TextArchitecture,
    linear: Linear,
) -> str:
    """Logits of one position in each row: the head is a quarter of the decoder's weights."""
    graph.input("last", ["B", 1], "i8")
    x, more = stream
    if more is not None:
        x = graph.op("Add", [x, more])
    x = graph.op("GatherND", [x, "last"], batch_dims=1)
    norm = source("model.norm.weight")
    n, _ = _rms_norm(graph, (x, None), norm, "norm", architecture)
    name = "model.embed_tokens.weight" if architecture.tied else "lm_head.weight"
    return linear(graph, n, "lm_head", source(name), None)


def write_decoder(
    graph: Graph,
    source: Source,
    layers: Iterable[Layer],
    architecture: TextArchitecture,
    linear: Linear,
    head: Linear,
) -> None:
    """The whole decoder; `layers` are taken one after the other and not kept."""
    decoder_inputs(graph, architecture)
    stream: Stream = ("inputs_embeds", None)
    for number, layer in enumerate(layers):
        stream = decoder_layer(graph, layer, number, stream, architecture, linear)
    logits = decoder_head(graph, source, stream, architecture, head)
    graph.output("logits", logits, ["B", architecture.vocabulary])
    graph.save()


# --- normalisation -----------------------------------------------------------


def _layer_norm(
    graph: Graph, stream: Stream, weights: Layer, name: str, part: str
) -> tuple[str, str]:
    """Normalised stream, and the stream itself."""
    gain = graph.weight(f"{name}.weight", weights[f"{part}.weight"])
    bias = graph.weight(f"{name}.bias", weights[f"{part}.bias"])
    return _norm(graph, stream, [gain, bias], "LayerNormalization", "", epsilon=LAYER_NORM_EPSILON)


def _rms_norm(
    graph: Graph, stream: Stream, gain: Float, name: str, architecture: TextArchitecture
) -> tuple[str, str]:
    weight = graph.weight(f"{name}.weight", gain)
    epsilon = architecture.rms_norm_eps
    return _norm(graph, stream, [weight], "SimplifiedLayerNormalization", "", epsilon=epsilon)


def _norm(
    graph: Graph, stream: Stream, weights: list[str], kind: str, domain: str, epsilon: float
) -> tuple[str, str]:
    x, more = stream
    if more is None:
        return graph.op(kind, [x, *weights], domain=domain, axis=-1, epsilon=epsilon), x
    made = graph.ops(f"Skip{kind}", [more, x, *weights], 4, domain=CONTRIB, epsilon=epsilon)
    return made[0], made[3]
