"""How a linear layer is computed: in float32, from int8 rows, or from blocks of 4 bits.

Each function here is a `models.Linear`, or makes one. Which layer gets which is decided by
`precision`; what was done to the weights before, by `smoothing`.

int8. Weights have one scale for each output channel. Activations have one for each row
(token), found anew for every row while the model runs: a row never depends on the other rows
of its batch, and a token with huge activations does not coarsen the others, as one scale for
the whole tensor (DynamicQuantizeMatMul) does.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.mineru import kernels
from mineru_daemon.engines.mineru.export import rounding
from mineru_daemon.engines.mineru.export.graph import CONTRIB, Graph
from mineru_daemon.engines.mineru.export.layers import Float
from mineru_daemon.engines.mineru.export.models import Linear

Inputs = Mapping[str, rounding.Seen]
"""What calibration saw the parts of a layer read: `qkv`, `down`, …"""

WEIGHT_LEVELS = 127
ACTIVATION_LEVELS = 95
"""Levels on each side of zero; of activations, more where `kernels.constants` says so. CPUs
without VNNI add two neighbouring products in 16 bits, which saturate, and activations are unsigned,
so that zero is a large number too. Fewer levels of activations keep almost all sums below that.
Cosine of the logits to float32, random weights of the full model on Zen 3, each weight rounded by
itself, activations/weights: 127/127 0.990, 127/96 0.998, 95/127 0.998,
63/127 0.997; 127/127 with kernels that do not saturate but take longer 0.9986."""


def exact(graph: Graph, x: str, name: str, weight: Float, bias: Float | None) -> str:
    """In float32."""
    y = _transposed_product(graph, x, graph.weight(f"{name}.weight", weight))
    return _with_bias(graph, y, name, bias)


def half(graph: Graph, x: str, name: str, weight: Float, bias: Float | None) -> str:
    """In float32, from weights that are stored as float16.

    ONNX Runtime's CPU kernels multiply no float16 on x86: the weights are converted when the
    model is loaded, so that only the file is smaller.
    """
    stored = graph.weight(f"{name}.weight", lambda: weight.astype(np.float16))
    y = _transposed_product(graph, x, graph.op("Cast", [stored], to=graph.FLOAT))
    return _with_bias(graph, y, name, bias)


def _transposed_product(graph: Graph, x: str, weight: str) -> str:
    """x @ weight.T; the weight is packed once, when the model is loaded, whichever way it lies."""
    return graph.op("FusedMatMul", [x, weight], domain=CONTRIB, transB=1)


class Rows(NamedTuple):
    """A weight in 8 bits, one scale for each row."""

    levels: npt.NDArray[np.int8]
    """[out, in]"""
    scales: Float
    """[out]"""


def to_rows(weight: Float, inputs: rounding.Seen | None = None) -> Rows:
    """Round a weight [out, in] to `WEIGHT_LEVELS`, for inputs if some are known."""
    bounds, columns = (-WEIGHT_LEVELS, WEIGHT_LEVELS), weight.shape[1]
    if inputs is None:
        levels, scales = rounding.nearest(weight, *bounds, columns)
    else:
        levels, scales = inputs.rounded(weight, *bounds, columns)
    return Rows(levels.astype(np.int8), scales[:, 0])


def int8(graph: Graph, x: str, name: str, weight: Float, bias: Float | None) -> str:
    """From int8 weights and activations, each row of them with its own scale."""
    return _int8(graph, x, name, weight, bias, None)


def int8_for(inputs: Inputs) -> Linear:
    """The same from weights that are rounded for these inputs."""

    def linear(graph: Graph, x: str, name: str, weight: Float, bias: Float | None) -> str:
        return _int8(graph, x, name, weight, bias, inputs[_part(name)])

    return linear


def _part(name: str) -> str:
    """Of a layer, by the beginning of its weights' names."""
    return name.rpartition(".")[2]


def _int8(
    graph: Graph, x: str, name: str, weight: Float, bias: Float | None, inputs: rounding.Seen | None
) -> str:
    step, levels = _quantised(graph, x)
    y = graph.op("Mul", [_product(graph, levels, name, weight, inputs), step])
    return _with_bias(graph, y, name, bias)


def _quantised(graph: Graph, x: str) -> tuple[str, str]:
    """The step of each row of `x` [..., 1], and `x` in such steps, uint8; once for all its readers.

    A row of zeros has a step of zero; whatever 0 / 0 is rounded to is multiplied by it later.
    """
    step, levels = f"{x}.step", f"{x}.levels"
    if not graph.made(levels):
        largest = graph.op("ReduceMax", [graph.op("Abs", [x]), graph.constant([-1])], keepdims=1)
        graph.op("Mul", [largest, _share(graph)], outputs=[step])
        scaled = graph.op("Div", [x, step])
        graph.op("QuantizeLinear", [scaled, _one(graph), _zero(graph)], outputs=[levels])
    return step, levels


def _product(
    graph: Graph, levels: str, name: str, weight: Float, inputs: rounding.Seen | None
) -> str:
    """Quantised activations times weights, in steps of the activations."""
    rows = functools.cache(lambda: to_rows(weight, inputs))
    matrix = graph.weight(f"{name}.levels", lambda: rows().levels.T)
    scales = graph.weight(f"{name}.scales", lambda: rows().scales)
    # Stated, though they are zero: without them the kernel that packs its weights beforehand
    # is not taken, and a product takes ten times as long.
    zeros = graph.weight(f"{name}.zeros", np.zeros(len(weight), np.int8))
    given = [levels, matrix, _one(graph), scales, _zero(graph), zeros]
    return graph.op("MatMulIntegerToFloat", given, domain=CONTRIB)


def _one(graph: Graph) -> str:
    return graph.number(1.0)


def _share(graph: Graph) -> str:
    return graph.weight(kernels.SHARE, np.array(1 / ACTIVATION_LEVELS, np.float32))


def _zero(graph: Graph) -> str:
    return graph.weight(kernels.ZERO, np.array(ACTIVATION_LEVELS + 1, np.uint8))


class Blocks(NamedTuple):
    """A weight in blocks along its inputs, as MatMulNBits wants it."""

    packed: npt.NDArray[np.uint8]
    """[out, blocks, bytes of a block]"""
    scales: Float
    """[out, blocks]"""


def to_blocks(weight: Float, bits: int, size: int, inputs: rounding.Seen | None = None) -> Blocks:
    """Round a weight [out, in] in blocks of `size` inputs to `bits` (4 or 8) bits, for inputs
    if some are known.
    """
    middle = 1 << (bits - 1)
    bounds = -middle, middle - 1
    if inputs is None:
        levels, scales = rounding.nearest(weight, *bounds, size)
    else:
        levels, scales = inputs.rounded(weight, *bounds, size)
    numbers = (levels + middle).astype(np.uint8).reshape(*scales.shape, -1)
    if bits == 4:
        numbers = np.bitwise_or(numbers[..., 0::2], numbers[..., 1::2] << 4, dtype=np.uint8)
    return Blocks(numbers, scales)


def blocks(bits: int, size: int, inputs: Inputs | None = None) -> Linear:
    """From weights in blocks of `size` inputs, a power of two, or fewer where a layer has not so
    many; the activations are rounded to int8 in the same blocks."""

    def linear(graph: Graph, x: str, name: str, weight: Float, bias: Float | None) -> str:
        seen = None if inputs is None else inputs[_part(name)]
        fitting = min(size, 1 << (weight.shape[1].bit_length() - 1))
        made = to_blocks(weight, bits, fitting, seen)
        given = [
            x,
            graph.weight(f"{name}.blocks", made.packed),
            graph.weight(f"{name}.block_scales", made.scales),
        ]
        if bias is not None:
            given += ["", "", graph.weight(f"{name}.bias", bias)]
        return graph.op(
            "MatMulNBits",
            given,
            domain=CONTRIB,
            N=weight.shape[0],
            K=weight.shape[1],
            bits=bits,
            block_size=fitting,
            accuracy_level=INT8_ACTIVATIONS,
        )

    return linear


INT8_ACTIVATIONS = 4
"""`accuracy_level` of MatMulNBits at which it multiplies in int8."""


def _with_bias(graph: Graph, y: str, name: str, bias: Float | None) -> str:
    return y if bias is None else graph.op("Add", [y, graph.weight(f"{name}.bias", bias)])
