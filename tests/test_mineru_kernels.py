"""Which decoding graph is taken on which CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_building import SMALL_WITH_TEXT
from mineru_building import build_folder

from mineru_daemon import cpu
from mineru_daemon.bench import random_checkpoint
from mineru_daemon.engines.mineru import decoder, kernels, loading
from mineru_daemon.engines.mineru.export import linear
from mineru_daemon.engines.mineru.export.graph import Graph, MemoryWeights
from mineru_daemon.engines.mineru.folder import Graphs
from mineru_daemon.engines.onnx import Session

BOTH = Graphs(
    vision="vision.onnx",
    prefill="prefill.onnx",
    decode="decode.onnx",
    decode_fused="decode_fused.onnx",
    decode_blocks="decode_blocks.onnx",
)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2", "fma"}, ["decode.onnx"]),
        ({"avx2", "avx_vnni"}, ["decode.onnx", "decode_blocks.onnx"]),
        ({"asimd", "asimddp"}, ["decode.onnx", "decode_blocks.onnx"]),
        ({"avx2", "avx512f"}, ["decode_fused.onnx"]),
        ({"avx512f", "avx512_vnni"}, ["decode_fused.onnx"]),
    ],
)
def test_graphs_that_are_tried_are_those_that_suit_the_cpu(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: list[str]
) -> None:
    monkeypatch.setattr(cpu, "flags", lambda: frozenset(flags))
    assert kernels.candidates(BOTH) == expected


@pytest.mark.parametrize(("flags", "levels"), [({"avx2", "fma"}, 95), ({"avx512_vnni"}, 127)])
def test_activations_have_as_many_levels_as_the_cpu_adds_without_saturation(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], levels: int
) -> None:
    monkeypatch.setattr(cpu, "flags", lambda: frozenset(flags))
    numbers = np.random.default_rng(3)
    # Its largest weight stands beside a zero: no two neighbours saturate on any CPU.
    weight = numbers.uniform(-0.3, 0.3, (24, 64)).astype(np.float32)
    weight[:, 0], weight[:, 1] = 1, 0
    x = numbers.standard_normal((5, 64), np.float32)
    weights = MemoryWeights()
    graph = Graph(weights)
    graph.input("x", ["S", 64])
    graph.output("y", linear.int8(graph, "x", "layer", weight, None), None)
    session = Session(
        graph.model(),
        cpu.plan_threads(1),
        weights=weights.arrays,
        constants=kernels.constants(),
    )
    step = np.abs(x).max(axis=1, keepdims=True) / levels
    rows = linear.to_rows(weight)
    expected = (np.rint(x / step) * step) @ (rows.levels * rows.scales[:, None]).T
    np.testing.assert_allclose(session.run({"x": x})[0], expected, rtol=1e-4, atol=1e-5)


def test_flags_are_read_from_what_the_kernel_says(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\n\nprocessor\t: 1\n")
    assert cpu.flags(cpuinfo) == {"fpu", "avx2", "avx512_vnni"}
    assert cpu.flags(tmp_path / "none") == frozenset()


@pytest.mark.parametrize("slow", ["decode.onnx", "decode_blocks.onnx"])
def test_the_faster_graph_is_taken_and_the_other_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    random_checkpoint.write(tmp_path / "checkpoint", shapes=SMALL_WITH_TEXT)
    folder = build_folder(tmp_path / "checkpoint", tmp_path / "model", "int8")
    monkeypatch.setattr(cpu, "flags", lambda: frozenset({"avx_vnni"}))
    clock = 0.0
    closed: list[str] = []

    # Time is told by the graph, not by this machine.
    class Timed(decoder.Decoder):
        def decode(self, *given: Any) -> Any:
            nonlocal clock
            clock += 2.0 if self._decode.name == slow else 1.0
            return super().decode(*given)

    monkeypatch.setattr(kernels, "Decoder", Timed)
    monkeypatch.setattr(kernels, "perf_counter", lambda: clock)
    monkeypatch.setattr(Session, "close", lambda self: closed.append(self.name))
    loaded = loading.load(folder, cpu.plan_threads(1))
    assert closed == [slow]
    assert loaded.decoder._decode.name not in closed


@pytest.mark.parametrize(("precision", "unpacked"), [("int8", set()), ("int4", {"prefill.onnx"})])
def test_only_int4_saves_the_memory_of_packed_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Any, unpacked: set[str]
) -> None:
    random_checkpoint.write(tmp_path / "checkpoint", shapes=SMALL_WITH_TEXT)
    folder = build_folder(tmp_path / "checkpoint", tmp_path / "model", precision)
    # Where there are int8 dot products, a second graph of int8 is opened too.
    monkeypatch.setattr(cpu, "flags", lambda: frozenset({"avx2"}))
    opened: dict[str, bool] = {}

    class Seen(Session):
        def __init__(self, model: Any, plan: Any, *, packing: bool = True, **options: Any) -> None:
            opened[model.name] = packing
            super().__init__(model, plan, packing=packing, **options)

    monkeypatch.setattr(loading, "Session", Seen)
    loaded = loading.load(folder, cpu.plan_threads(2))
    loaded.close()
    assert {name for name, packed in opened.items() if not packed} == unpacked
    # How many graphs are tried is up to the CPU.
    graphs = folder.manifest.graphs
    assert set(opened) == {graphs.vision, graphs.prefill, *kernels.candidates(graphs)}


@pytest.mark.parametrize(
    ("precision", "flags", "expected"),
    [
        ("int8", {"avx2"}, "decode.onnx"),
        ("int8", {"avx512f", "avx512_vnni"}, "prefill.onnx"),
        ("int4", {"avx2", "avx512f"}, "decode_fused.onnx"),
    ],
)
def test_no_more_graphs_are_opened_than_decode(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: Any,
    flags: set[str],
    expected: str,
) -> None:
    random_checkpoint.write(tmp_path / "checkpoint", shapes=SMALL_WITH_TEXT)
    folder = build_folder(tmp_path / "checkpoint", tmp_path / "model", precision)
    monkeypatch.setattr(cpu, "flags", lambda: frozenset(flags))
    opened: list[str] = []

    class Seen(Session):
        def __init__(self, model: Any, plan: Any, **options: Any) -> None:
            opened.append(model.name)
            super().__init__(model, plan, **options)

    monkeypatch.setattr(loading, "Session", Seen)
    loaded = loading.load(folder, cpu.plan_threads(1))
    assert loaded.decoder._decode.name == expected
    assert sorted(opened) == sorted({"vision.onnx", "prefill.onnx", expected})
    loaded.close()
