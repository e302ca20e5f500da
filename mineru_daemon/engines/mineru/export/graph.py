"""Builds one ONNX graph, its weights streamed to a file beside it.

Knows nodes, initializers and files; which operators make a model is told by `models`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper, save_model

Array = npt.NDArray[Any]

OPSET = 21
"""Of ONNX: the first whose QuantizeLinear and MatMulNBits-era types ONNX Runtime 1.22 has."""

IR_VERSION = 10

CONTRIB = "com.microsoft"
"""Domain of ONNX Runtime's own operators; its ContribOperators.md documents them."""

ALIGNMENT = 4096
"""Bytes to which every weight is aligned in its file, so that it can be memory-mapped."""

INLINE_BYTES = 1024
"""Smaller weights stand in the graph itself: ONNX Runtime needs shapes and axes there."""


class Graph:
    """A graph in the making. `save` writes it; left without, its data file is removed."""

    def __init__(self, path: Path) -> None:
        """Begin `path`; weights go to `path` + ".data" as they are added."""
        self._path = path
        self._data_path = path.with_name(path.name + ".data")
        self._data = self._data_path.open("wb")
        self._nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._saved = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._data.close()
        if not self._saved:
            self._data_path.unlink(missing_ok=True)

    def input(self, name: str, shape: Sequence[int | str], dtype: npt.DTypeLike = "f4") -> str:
        """Declare an input; names in `shape` are free dimensions."""
        self._inputs.append(_value(name, shape, dtype))
        return name

    def output(
        self, name: str, value: str, shape: Sequence[int | str], dtype: npt.DTypeLike = "f4"
    ) -> None:
        """Make `value` an output called `name`."""
        if value != name:
            self.op("Identity", [value], outputs=[name])
        self._outputs.append(_value(name, shape, dtype))

    def weight(self, name: str, array: Array) -> str:
        """Add an initializer once; a second one of the same name is the first."""
        if name in self._initializers:
            return name
        array = np.ascontiguousarray(array)
        if array.nbytes < INLINE_BYTES:
            tensor = numpy_helper.from_array(array, name)
        else:
            tensor = TensorProto()
            tensor.name = name
            tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
            tensor.dims.extend(array.shape)
            tensor.data_location = TensorProto.EXTERNAL
            self._data.write(bytes(-self._data.tell() % ALIGNMENT))
            place = {"offset": self._data.tell(), "length": array.nbytes}
            for key, value in {"location": self._data_path.name, **place}.items():
                entry = tensor.external_data.add()
                entry.key, entry.value = key, str(value)
            self._data.write(array.reshape(-1).view(np.uint8).data)
        self._initializers[name] = tensor
        return name

    def constant(self, values: Any, dtype: npt.DTypeLike = "i8") -> str:
        """A small constant, named by its value."""
        array = np.asarray(values, dtype)
        return self.weight(f"const.{array.dtype.str[1:]}.{array.tolist()}", array)

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

    def save(self) -> None:
        """Write the graph; its weights are in their file already."""
        graph = helper.make_graph(
            self._nodes,
            self._path.stem,
            self._inputs,
            self._outputs,
            list(self._initializers.values()),
        )
        versions: Iterable[Any] = (
            helper.make_opsetid("", OPSET),
            helper.make_opsetid(CONTRIB, 1),
        )
        self._data.close()
        save_model(
            helper.make_model(graph, opset_imports=versions, ir_version=IR_VERSION), self._path
        )
        self._saved = True


def _value(name: str, shape: Sequence[int | str], dtype: npt.DTypeLike) -> Any:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape)
    )
