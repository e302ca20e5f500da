"""Which linear layer is computed how, in each precision that a model can have.

How each way of computing works is told in `linear`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mineru_daemon.engines.mineru.export import linear
from mineru_daemon.engines.mineru.export.graph import Graph
from mineru_daemon.engines.mineru.export.layers import Float
from mineru_daemon.engines.mineru.export.models import Linear
from mineru_daemon.engines.mineru.folder import Precision

BLOCK = 32
"""Inputs that share a scale in weights of 8 bits of MatMulNBits."""

COARSE_BLOCK = 128
"""The same in weights of 4 bits, as usual with GPTQ. Cosine of the logits, and time of a step with
one and with eight sequences (random weights of the full model, Zen 5): 32 inputs 0.9968, 1 and 1;
64 inputs 0.9952, 0.93 and 0.94; 128 inputs 0.9944, 0.90 and 0.82."""


ForLayer = Callable[[linear.Inputs], Linear]
"""How the linear layers of one layer are computed, when it is known what they read."""


@dataclass(frozen=True)
class Plan:
    """How the graphs of a model are computed."""

    vision: Linear
    prefill: ForLayer
    decode: ForLayer
    head: Linear
    """In all graphs of the decoder."""
    smooth: bool
    """Whether activations are quantised, so that it helps to even them out."""
    decode_blocks: ForLayer | None = None
    """Another way to decode; which one is faster is found out where the model is loaded."""


def _always(way: Linear) -> ForLayer:
    """The same for all layers, whatever they read."""
    return lambda _: way


def _mixed(inputs: linear.Inputs) -> Linear:
    """4 bits for the MLP, which has nearly nine tenths of a layer's weights, and 8 for attention.

    The loss is unequal: cosine of the logits with 4 bits in attention alone 0.944, in the MLP's
    first product alone 0.965, in its second 0.985, everywhere 0.898 (random weights of the full
    model, each rounded by itself, 8-bit blocks elsewhere).
    """
    fine, coarse = linear.blocks(8, BLOCK), linear.blocks(4, COARSE_BLOCK, inputs)

    def mixed(graph: Graph, x: str, name: str, weight: Float, bias: Float | None) -> str:
        way = fine if name.endswith((".qkv", ".o")) else coarse
        return way(graph, x, name, weight, bias)

    return mixed


_EXACT, _HALF = _always(linear.exact), _always(linear.half)


PLANS: dict[Precision, Plan] = {
    "fp32": Plan(linear.exact, _EXACT, _EXACT, linear.exact, smooth=False),
    "fp16": Plan(linear.half, _HALF, _HALF, linear.half, smooth=False),
    "int8": Plan(
        linear.int8,
        linear.int8_for,
        linear.int8_for,
        linear.int8,
        smooth=True,
        decode_blocks=_always(linear.blocks(8, BLOCK)),
    ),
    "int4": Plan(linear.int8, linear.int8_for, _mixed, linear.int8, smooth=True),
}
