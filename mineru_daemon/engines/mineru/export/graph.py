"""Builds ONNX graphs, their weights streamed to a file beside them.

Knows nodes, initializers and files; which operators make a model is told by `models`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from mineru_daemon.closing import Closing

Array = npt.NDArray[Any]
Made = Array | Callable[[], Array]
"""A weight, or what makes it if it is not there yet."""

OPSET = 24
"""Of ONNX: the first with TensorScatter, which writes into a key-value cache in place."""

IR_VERSION = 11
"""Of the file format; the one that came with this opset."""

CONTRIB = "com.microsoft"
"""Domain of ONNX Runtime's own operators; its ContribOperators.md documents them."""

ALIGNMENT = 4096
"""Bytes to which every weight is aligned in its file, so that it can be memory-mapped."""

INLINE_BYTES = 1024
"""Smaller weights stand in the graph itself: ONNX Runtime needs shapes and axes there."""


class Weights(Protocol):
    """Makes the tensors of a graph."""

    def tensor(self, name: str, array: Made) -> Any:
        """The ONNX tensor that stands for a weight."""
        ...


class MemoryWeights:
    """Weights that stay where they are; a session is given them beside the graph."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        """By name, without those that stand in the graph itself."""

    def tensor(self, name: str, array: Made) -> Any:
        """The ONNX tensor that stands for the weight."""
        made = _made(array)
        if made.nbytes < INLINE_BYTES:
            return numpy_helper.from_array(made, name)
        self.arrays[name] = made
        return _outside(name, made, {"location": "memory"})


class WeightFile(Closing):
    """A file of weights, for one graph or for several that have weights in common.

    A name stands for one array: of the second one by that name nothing is written.
    """

    def __init__(self, path: Path) -> None:
        """Begin the file `path`; graphs that use it must lie beside it."""
        self._name = path.name
        self._file = path.open("wb")
        self._tensors: dict[str, Any] = {}

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def tensor(self, name: str, array: Made) -> Any:
        """The ONNX tensor that stands for the weight, written into the file or small."""
        if name not in self._tensors:
            self._tensors[name] = self._written(name, _made(array))
        return self._tensors[name]

    def _written(self, name: str, array: Array) -> Any:
        if array.nbytes < INLINE_BYTES:
            return numpy_helper.from_array(array, name)
        self._file.write(bytes(-self._file.tell() % ALIGNMENT))
        place: dict[str, str | int] = {
            "location": self._name,
            "offset": self._file.tell(),
            "length": array.nbytes,
        }
        self._file.write(array.reshape(-1).view(np.uint8).data)
        return _outside(name, array, place)


def _outside(name: str, array: Array, place: Mapping[str, str | int]) -> Any:
    """An ONNX tensor whose numbers lie elsewhere."""
    tensor = TensorProto()
    tensor.name = name
    tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.dims.extend(array.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor


class Graph:
    """A graph in the making, until `model` or `save`."""

    FLOAT = TensorProto.FLOAT
    INT64 = TensorProto.INT64

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, shape: Sequence[int | str], dtype: npt.DTypeLike = "f4") -> str:
        """Declare an input; names in `shape` are free dimensions."""
        self._inputs.append(_value(name, shape, dtype))
        return name

    def output(
        self, name: str, value: str, shape: Sequence[int | str] | None, dtype: npt.DTypeLike = "f4"
    ) -> None:
        """Make `value` an output called `name`; a `shape` of None is left open."""
        if value != name:
            self.op("Identity", [value], outputs=[name])
        self._outputs.append(_value(name, shape, dtype))

    def weight(self, name: str, array: Made) -> str:
        """Add an initializer once; a second one of the same name is the first."""
        if name not in self._initializers:
            self._initializers[name] = self._weights.tensor(name, array)
        return name

    def constant(self, values: Any, dtype: npt.DTypeLike = "i8") -> str:
        """A small constant, named by its value."""
        array = np.asarray(values, dtype)
        return self.weight(f"const.{array.dtype.str[1:]}.{array.tolist()}", array)

    def number(self, value: float) -> str:
        """A float32 constant, named by its value."""
        return self.constant(value, np.float32)

    def made(self, name: str) -> bool:
        """Whether an operator gives a value of this name."""
        return any(name in node.output for node in self._nodes)

    def op(
        self,
        kind: str,
        inputs: Sequence[str],
        *,
        domain: str = "",
        outputs: Sequence[str] | None = None,
        **attributes: Any,
    ) -> str:
        """Add an operator; returns its first output, named after it unless `outputs` are."""
        return self.ops(kind, inputs, 1, domain=domain, outputs=outputs, **attributes)[0]

    def ops(
        self,
        kind: str,
        inputs: Sequence[str],
        count: int,
        *,
        domain: str = "",
        outputs: Sequence[str] | None = None,
        **attributes: Any,
    ) -> list[str]:
        """Add an operator with `count` outputs; an input "" is left out."""
        name = f"{kind}_{len(self._nodes)}"
        made = list(outputs or [f"{name}.{number}" for number in range(count)])
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        self._nodes.append(
            helper.make_node(kind, given, made, name=name, domain=domain, **attributes)
        )
        return made

    def model(self) -> bytes:
        """The graph as an ONNX model."""
        graph = helper.make_graph(
            self._nodes,
            "model",
            self._inputs,
            self._outputs,
            list(self._initializers.values()),
        )
        versions = (helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1))
        made = helper.make_model(graph, opset_imports=versions, ir_version=IR_VERSION)
        return bytes(made.SerializeToString())

    def save(self, path: Path) -> None:
        """Write the graph; its weights are in their file already."""
        path.write_bytes(self.model())


def _made(array: Made) -> Array:
    return np.ascontiguousarray(array() if callable(array) else array)


def _value(name: str, shape: Sequence[int | str] | None, dtype: npt.DTypeLike) -> Any:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
    )
