"""Build-time edits of recognition models: most of a head's classes are computed where needed.

Never part of an installed package, as `build`, which calls it: it needs the package onnx.
Of the classes that PP-OCRv6 tells apart nine in ten are ideographs, kana and hangul, whose
scores are an eighth of a line's time, and hardly any line in Latin script has one. The edited
head computes the other classes, the near ones, and the means of groups of the far ones. Where the
best group comes near to the best of the near classes at any step of the line, it computes all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Floats = npt.NDArray[np.float32]
Whole = npt.NDArray[np.float64]
"""Whole numbers below 2 ** 53: sums and products of them are exact in any order."""

LATEST_OPSET = 12
"""Later ones have the parts of a Split and the axes of a Reduce elsewhere."""

MARGIN = "margin"
"""Name of the model's input that stands in for the margin."""

LEVELS = 2047
"""Steps from zero to the largest weight, when weights are grouped."""

ROUNDS = 12
"""Of sorting weights into groups; what changes later is little."""


def screened_tiny(content: bytes) -> bytes:
    """PP-OCRv6 tiny, `screened`: its classes up to 616 are those below U+2E80.

    Of 1,900 lines of receipts, scans and screenshots without ideographs .964 are read by the near
    classes; of 678 lines with ideographs 10, and 5 where all is computed on a page with two in a
    line: four rules of a receipt and a misread letter.
    """
    return screened(content, near=617, groups=512, margin=8.0)


def screened_small(content: bytes) -> bytes:
    """PP-OCRv6 small, `screened`: its classes up to 1748 are those below U+2E80.

    Of the words and lines that it reads of these, .938 without ideographs are read by the near
    classes; of 441 with ideographs 6, and 4 as above: dashes.
    """
    return screened(content, near=1749, groups=1024, margin=8.0)


def screened(content: bytes, near: int, groups: int, margin: float) -> bytes:
    """A CTC model, input (1, 3, h, w), that tells of far classes only where they are near.

    The first `near` classes and the last one, a space, are computed for every line, and so are
    the means of `groups` of all others. If at each of its steps the best of the former is more
    than `margin` above the best of the latter (logits), the output is (1, steps, near + 1), the
    space last; else it is what it was, (1, steps, classes). A second input "margin", a number,
    stands in for `margin` where it is given. Raises ValueError if the model does not end in a
    product with weights, a bias and a softmax, or is of an opset after 12.
    """
    model = onnx.load_model_from_string(content)
    (opset,) = (one for one in model.opset_import if not one.domain)
    if opset.version > LATEST_OPSET:
        raise ValueError(f"the model is of opset {opset.version}, later than {LATEST_OPSET}")
    graph = model.graph
    tensors = {one.name: one for one in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    last, ended = graph.output[0].name, []
    for kind in ("Softmax", "Identity", "Add", "MatMul"):
        node = makers.get(last)
        if node is None or node.op_type != kind:
            raise ValueError(f"the model does not end in a head: no {kind} makes {last}")
        ended.append(node)
        last = node.input[0]
    product, bias = ended[3].input[1], ended[2].input[1]
    if product not in tensors or bias not in tensors:
        raise ValueError("weights or bias of the model's head are no constants")
    weights = numpy_helper.to_array(tensors[product])
    # The bias is one more weight, of an input that is always 1.
    weights = np.vstack([weights, numpy_helper.to_array(tensors[bias])[None]])
    far = weights[:, near:-1]
    means = grouped(far.T, groups).T
    constants = {
        "head.near": np.hstack([weights[:, :near], weights[:, -1:], means]),
        "head.far": far,
        "head.padding": np.array([0, 0, 0, 0, 0, 1]),
        "head.one": np.array(1, np.float32),
        MARGIN: np.array(margin, np.float32),
    }
    kept = {id(node) for node in graph.node} - {id(node) for node in ended}
    nodes = [node for node in graph.node if id(node) in kept]
    output = graph.output[0].name
    nodes += [
        _node("Pad", [last, "head.padding", "head.one"], ["head.input"], mode="constant"),
        _node("MatMul", ["head.input", "head.near"], ["head.first"]),
        _node(
            "Split", ["head.first"], ["head.letters", "head.space", "head.groups"],
            axis=2, split=[near, 1, groups],
        ),
        _node("Concat", ["head.letters", "head.space"], ["head.scores"], axis=2),
        _node("ReduceMax", ["head.scores"], ["head.best"], axes=[2], keepdims=0),
        _node("ReduceMax", ["head.groups"], ["head.best_group"], axes=[2], keepdims=0),
        _node("Sub", ["head.best", "head.best_group"], ["head.above"]),
        _node("ReduceMin", ["head.above"], ["head.least"], keepdims=0),
        _node("Greater", ["head.least", MARGIN], ["head.is_near"]),
        _node(
            "If", ["head.is_near"], [output],
            then_branch=_branch([_node("Softmax", ["head.scores"], ["head.near_chances"], axis=2)]),
            else_branch=_branch([
                _node("MatMul", ["head.input", "head.far"], ["head.rest"]),
                _node(
                    "Concat", ["head.letters", "head.rest", "head.space"], ["head.all"], axis=2
                ),
                _node("Softmax", ["head.all"], ["head.chances"], axis=2),
            ]),
        ),
    ]  # fmt: skip
    del graph.node[:]
    graph.node.extend(nodes)
    for name in (product, bias):
        graph.initializer.remove(tensors[name])
    graph.initializer.extend(
        numpy_helper.from_array(value.copy(order="C"), name) for name, value in constants.items()
    )
    # A constant that is an input too is one that may be given.
    graph.input.append(helper.make_tensor_value_info(MARGIN, onnx.TensorProto.FLOAT, []))
    classes = graph.output[0].type.tensor_type.shape.dim[2]
    classes.Clear()
    classes.dim_param = "classes"
    edited: bytes = model.SerializeToString(deterministic=True)
    return edited


def _node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes)


def _branch(nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
    output = helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)
    return helper.make_graph(nodes, nodes[-1].output[0], [], [output])


def grouped(vectors: Floats, count: int) -> Floats:
    """Means of `count` groups of vectors that lie together: (n, d) -> (count, d).

    Lloyd's algorithm ("Least squares quantization in PCM", 1982), from vectors at even
    distances, in whole numbers, so that every computer finds the same.
    """
    step = float(np.abs(vectors).max()) / LEVELS
    points: Whole = np.rint(vectors.astype(np.float64) / step)
    means = points[np.linspace(0, len(points) - 1, count).astype(int)]
    for _ in range(ROUNDS):
        # Of the squared distance what differs from one mean to the other.
        nearest = (np.square(means).sum(1) - 2 * (points @ means.T)).argmin(1)
        sizes = np.bincount(nearest, minlength=count)
        sums = np.zeros_like(means)
        np.add.at(sums, nearest, points)
        used = sizes > 0
        means[used] = np.rint(sums[used] / sizes[used, None])
    return np.asarray(means * step, np.float32)
