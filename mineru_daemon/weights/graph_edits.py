"""Build-time edits of model graphs: the same numbers, in operators that run faster.

Never part of an installed package, as `build`, which calls it: it needs the package onnx.
Every edit takes the content of a model file and returns that of the edited one.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import helper, numpy_helper

HARD_SWISH_OPSET = 14
"""The first set of ONNX operators that has HardSwish."""


def fuse_hard_swish(content: bytes) -> bytes:
    """Each x * clip(x + 3, 0, 6) / 6 becomes one HardSwish.

    Four operators that ONNX Runtime does not join, and that force a change of memory
    layout before and after each of them; HardSwish becomes part of the convolution before.
    Raises ValueError if the model has no such formula or is of another opset than 13: from
    13 to 14 no operator of such a network changed its meaning.
    """
    model = onnx.load_model_from_string(content)
    (opset,) = (one for one in model.opset_import if not one.domain)
    if opset.version != HARD_SWISH_OPSET - 1:
        raise ValueError(f"the model is of opset {opset.version}, not {HARD_SWISH_OPSET - 1}")
    graph = model.graph
    numbers = _numbers(graph)
    makers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    replaced: dict[str, onnx.NodeProto] = {}
    dropped: set[str] = set()
    for last in graph.node:
        inner = _formula(last, makers, numbers)
        if inner is None or any(uses[node.output[0]] != 1 for node in inner):
            continue
        (argument,) = (name for name in inner[0].input if name not in numbers)
        output = last.output[0]
        replaced[output] = helper.make_node("HardSwish", [argument], [output], name=output)
        dropped.update(node.output[0] for node in inner)
    if not replaced:
        raise ValueError("the model has no formula of HardSwish")
    nodes = [
        replaced.get(node.output[0], node) for node in graph.node if node.output[0] not in dropped
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    opset.version = HARD_SWISH_OPSET
    edited: bytes = model.SerializeToString(deterministic=True)
    return edited


def _formula(
    last: onnx.NodeProto, makers: dict[str, onnx.NodeProto], numbers: dict[str, float]
) -> list[onnx.NodeProto] | None:
    """Sum, clip and product whose sixth `last` is, if they are the formula of HardSwish."""
    if last.op_type != "Div" or numbers.get(last.input[1]) != 6:
        return None
    product = makers.get(last.input[0])
    if product is None or product.op_type != "Mul":
        return None
    for argument, clipped in (product.input, reversed(product.input)):
        clip = makers.get(clipped)
        if clip is None or clip.op_type != "Clip":
            continue
        if [numbers.get(bound) for bound in clip.input[1:]] != [0, 6]:
            continue
        total = makers.get(clip.input[0])
        if total is None or total.op_type != "Add" or argument not in total.input:
            continue
        if 3 in (numbers.get(name) for name in total.input):
            return [total, clip, product]
    return None


def _numbers(graph: onnx.GraphProto) -> dict[str, float]:
    """Constants of the graph that are single numbers, by name."""
    tensors = {one.name: one for one in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    return {
        name: float(np.ravel(numpy_helper.to_array(tensor))[0])
        for name, tensor in tensors.items()
        if int(np.prod(tensor.dims)) == 1
    }
