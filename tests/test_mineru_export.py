"""Linear layers, smoothing and the graphs of the decoder, each against plain NumPy or another."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from checkpoint_building import SMALL_WITH_TEXT

from mineru_daemon import cpu
from mineru_daemon.bench import random_checkpoint
from mineru_daemon.engines.mineru import rope
from mineru_daemon.engines.mineru.architecture import TextArchitecture, VisionArchitecture
from mineru_daemon.engines.mineru.export import (
    checkpoint,
    export,
    layers,
    linear,
    models,
    smoothing,
    steps,
)
from mineru_daemon.engines.mineru.export.calibrate import LOOKS, Calibration
from mineru_daemon.engines.mineru.export.graph import ALIGNMENT, Graph, MemoryWeights, WeightFile
from mineru_daemon.engines.onnx import Session

PLAN = cpu.plan_threads(1, 1)
Float = npt.NDArray[Any]

TEXT = TextArchitecture(
    layers=1,
    hidden_size=64,
    heads=4,
    kv_heads=2,
    head_dim=16,
    intermediate_size=96,
    vocabulary=50,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    mrope_section=(2, 3, 3),
    max_positions=64,
    tied=True,
)
VISION = VisionArchitecture(
    depth=1,
    embed_dim=64,
    heads=4,
    mlp_dim=128,
    patch_size=2,
    spatial_merge_size=2,
    temporal_patch_size=2,
    channels=3,
    out_dim=64,
)


@pytest.fixture
def numbers() -> np.random.Generator:
    return np.random.default_rng(7)


def drawn(numbers: np.random.Generator, *shape: int) -> Float:
    made: Float = numbers.standard_normal(shape, np.float32)
    return made


def session_of(write: Callable[[Graph], None]) -> Session:
    """A session of the graph that `write` makes."""
    weights = MemoryWeights()
    graph = Graph(weights)
    write(graph)
    return Session(graph.model(), PLAN, weights=weights.arrays)


def product(kind: models.Linear, x: Float, weight: Float, bias: Float | None) -> Float:
    """What a linear layer makes of `x` [rows, in]."""

    def write(graph: Graph) -> None:
        graph.input("x", ["S", weight.shape[1]])
        graph.output("y", kind(graph, "x", "layer", weight, bias), None)

    y: Float = session_of(write).run({"x": x})[0]
    return y


def cosine(one: Float, other: Float) -> float:
    return float(np.vdot(one, other) / np.linalg.norm(one) / np.linalg.norm(other))


# --- linear layers -----------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        (linear.exact, 0.9999999),
        (linear.half, 0.999999),
        (linear.int8, 0.9998),
        (linear.blocks(8, 32), 0.9999),
        (linear.blocks(4, 32), 0.99),
    ],
)
def test_every_linear_layer_computes_the_product(
    numbers: np.random.Generator, kind: models.Linear, least: float
) -> None:
    x, weight, bias = drawn(numbers, 5, 192), drawn(numbers, 80, 192), drawn(numbers, 80)
    expected = x @ weight.T
    assert cosine(product(kind, x, weight, None), expected) > least
    assert cosine(product(kind, x, weight, bias), expected + bias) > least


def test_a_row_in_int8_does_not_depend_on_the_rows_beside_it(numbers: np.random.Generator) -> None:
    x, weight = drawn(numbers, 6, 192), drawn(numbers, 80, 192)
    x[1] *= 1000
    x[2] = 0
    together = product(linear.int8, x, weight, None)
    for place in range(6):
        alone = product(linear.int8, x[place : place + 1], weight, None)
        np.testing.assert_array_equal(together[place], alone[0])
    assert cosine(together[0], weight @ x[0]) > 0.999


def test_a_row_of_zeros_in_int8_gives_the_bias(numbers: np.random.Generator) -> None:
    weight, bias = drawn(numbers, 80, 192), drawn(numbers, 80)
    y = product(linear.int8, np.zeros((2, 192), np.float32), weight, bias)
    np.testing.assert_array_equal(y, [bias, bias])


def test_sums_in_int8_do_not_saturate_where_all_is_large(numbers: np.random.Generator) -> None:
    # Equal signs throughout: the worst for kernels that add neighbours in 16 bits.
    x = np.abs(drawn(numbers, 4, 256)) + 1
    weight = np.abs(drawn(numbers, 64, 256)) + 0.5
    y = product(linear.int8, x, weight, None)
    np.testing.assert_allclose(y, x @ weight.T, rtol=0.02)


@pytest.mark.parametrize(("bits", "error"), [(8, 0.005), (4, 0.08)])
def test_blocks_hold_every_weight_within_half_a_step(
    numbers: np.random.Generator, bits: int, error: float
) -> None:
    weight = drawn(numbers, 3, 80)
    made = linear.to_blocks(weight, bits, 32)
    assert made.scales.shape == (3, 3)
    levels = made.packed.astype(np.int16)
    if bits == 4:
        levels = np.stack([levels & 15, levels >> 4], axis=-1).reshape(3, 3, 32)
    back = ((levels - (1 << bits - 1)) * made.scales[..., None]).reshape(3, -1)[:, :80]
    assert np.abs(back - weight).max() < error * np.abs(weight).max() * 1.01


# --- smoothing ---------------------------------------------------------------


def decoder_layer(numbers: np.random.Generator) -> dict[str, Any]:
    rows = (TEXT.heads + 2 * TEXT.kv_heads) * TEXT.head_dim
    return {
        "norm1.weight": 1 + drawn(numbers, 64) / 10,
        "qkv.weight": drawn(numbers, rows, 64) / 8,
        "qkv.bias": drawn(numbers, rows) / 8,
        "o.weight": drawn(numbers, 64, 64) / 8,
        "norm2.weight": 1 + drawn(numbers, 64) / 10,
        "gate_up.weight": drawn(numbers, 192, 64) / 8,
        "down.weight": drawn(numbers, 64, 96) / 8,
    }


def vision_layer(numbers: np.random.Generator) -> dict[str, Any]:
    sizes = {"qkv": (192, 64), "proj": (64, 64), "fc1": (128, 64), "fc2": (64, 128)}
    made: dict[str, Any] = {}
    for part, (out, width) in sizes.items():
        made[f"{part}.weight"] = drawn(numbers, out, width) / 8
        made[f"{part}.bias"] = drawn(numbers, out) / 8
    for part in ("norm1", "norm2"):
        made[f"{part}.weight"] = 1 + drawn(numbers, 64) / 10
        made[f"{part}.bias"] = drawn(numbers, 64) / 10
    return made


def run_decoder_layer(
    layer: layers.Layer, x: Float, kind: models.Linear = linear.exact
) -> tuple[Float, dict[str, Float]]:
    """The layer's output for a prompt [1, S, hidden], and the peaks of its linear inputs."""
    seen: dict[str, str] = {}

    def write(graph: Graph) -> None:
        def watched(graph: Graph, x: str, name: str, weight: Float, bias: Float | None) -> str:
            seen[name.rpartition(".")[2]] = x
            return kind(graph, x, name, weight, bias)

        models.decoder_inputs(graph, TEXT, 1)
        attend = models.attend_prompt
        made = models.decoder_layer(graph, layer, 0, ("inputs_embeds", None), TEXT, attend, watched)
        graph.output("out", graph.op("Add", [one for one in made if one]), None)
        for part, name in seen.items():
            graph.output(f"in.{part}", name, None)

    session = session_of(write)
    out, *inputs = session.run(prompt_feeds(x), ["out", *(f"in.{part}" for part in seen)])
    peaks = [np.abs(one).reshape(-1, one.shape[-1]).max(axis=0) for one in inputs]
    return out, dict(zip(seen, peaks, strict=True))


def prompt_feeds(x: Float, capacity: int | None = None) -> dict[str, npt.NDArray[Any]]:
    count = x.shape[1]
    cos, sin = rope.text_angles(np.tile(np.arange(capacity or count), (3, 1)), TEXT)
    empty = np.zeros((1, TEXT.kv_heads, capacity or count, TEXT.head_dim), np.float32)
    return {
        "inputs_embeds": x,
        "positions": np.arange(count)[None],
        "cos": cos,
        "sin": sin,
        "seqlens_k": np.array([count - 1], np.int32),
        "total_len": np.array(count, np.int32),
        "past.0.k": empty,
        "past.0.v": empty,
    }


def with_outliers(layer: layers.Layer, gains: dict[str, list[str]]) -> None:
    """Make a few channels of each norm a hundred times larger, and what reads them smaller."""
    for norm, readers in gains.items():
        for part in readers:
            layer[f"{part}.weight"][:, 3:6] /= 100
        for kind in ("weight", "bias"):
            if f"{norm}.{kind}" in layer:
                layer[f"{norm}.{kind}"][3:6] *= 100


def test_smoothing_changes_nothing_that_a_decoder_layer_computes(
    numbers: np.random.Generator,
) -> None:
    layer, x = decoder_layer(numbers), drawn(numbers, 1, 7, 64)
    with_outliers(layer, {"norm1": ["qkv"], "norm2": ["gate_up"]})
    before, peaks = run_decoder_layer(layer, x)
    smoothing.smooth_decoder(layer, peaks, TEXT)
    after, evened = run_decoder_layer(layer, x)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    for part in ("qkv", "gate_up"):
        assert peaks[part].max() > 50 * np.median(peaks[part])
        assert evened[part].max() < 5 * np.median(evened[part])


def test_int8_survives_outliers_because_of_smoothing(numbers: np.random.Generator) -> None:
    layer, x = decoder_layer(numbers), drawn(numbers, 1, 7, 64)
    with_outliers(layer, {"norm1": ["qkv"], "norm2": ["gate_up"]})
    layer["qkv.weight"][-TEXT.kv_heads * TEXT.head_dim :: 16] *= 100
    layer["o.weight"].reshape(64, 4, 16)[:, :, 0] /= 100
    exact, peaks = run_decoder_layer(layer, x)
    rough, _ = run_decoder_layer(layer, x, linear.int8)
    smoothing.smooth_decoder(layer, peaks, TEXT)
    smooth, _ = run_decoder_layer(layer, x, linear.int8)
    made = exact - x
    assert cosine(smooth - x, made) > 0.997
    assert cosine(rough - x, made) < 0.95


def test_smoothing_changes_nothing_that_a_layer_of_the_encoder_computes(
    numbers: np.random.Generator,
) -> None:
    layer, x, angles = vision_layer(numbers), drawn(numbers, 1, 12, 64), drawn(numbers, 12, 8)
    with_outliers(layer, {"norm1": ["qkv"], "norm2": ["fc1"]})

    def run(kind: models.Linear) -> Float:
        def write(graph: Graph) -> None:
            models.vision_inputs(graph, VISION)
            graph.input("x", [1, "N", 64])
            made = models.vision_layer(graph, layer, "b", ("x", None), VISION, kind)
            graph.output("out", graph.op("Add", [one for one in made if one]), None)

        feeds = {"x": x, "pos": np.arange(12)[None], "cos": np.cos(angles), "sin": np.sin(angles)}
        out: Float = session_of(write).run(feeds)[0]
        return out

    before = run(linear.exact)
    rough = run(linear.int8)
    peaks = {
        "qkv": np.where(np.arange(64) // 3 == 1, 300, 3).astype(np.float32),
        "fc1": np.where(np.arange(64) // 3 == 1, 300, 3).astype(np.float32),
        "proj": np.full(64, 2, np.float32),
        "fc2": np.full(128, 2, np.float32),
    }
    smoothing.smooth_vision(layer, peaks, VISION)
    np.testing.assert_allclose(run(linear.exact), before, rtol=1e-3, atol=1e-4)
    assert cosine(run(linear.int8) - x, before - x) > 0.997
    assert cosine(rough - x, before - x) < 0.95


# --- the decoder's two ways to attend ----------------------------------------


def attention(attend: models.Attention) -> Session:
    width = (TEXT.heads + 2 * TEXT.kv_heads) * TEXT.head_dim

    def write(graph: Graph) -> None:
        models.decoder_inputs(graph, TEXT, 1)
        graph.input("qkv", ["B", "S", width])
        graph.output("out", attend(graph, "qkv", 0, TEXT), None)
        for kind in "kv":
            graph.output(f"present.0.{kind}", f"present.0.{kind}", None)

    return session_of(write)


def test_a_step_attends_to_the_cache_as_a_prompt_does(numbers: np.random.Generator) -> None:
    width = (TEXT.heads + 2 * TEXT.kv_heads) * TEXT.head_dim
    prompt, step = attention(models.attend_prompt), attention(models.attend_step)
    lengths, capacity = (9, 4), 16
    given = [drawn(numbers, 1, length, width) for length in lengths]
    whole, caches = [], []
    for qkv in given:
        feeds = prompt_feeds(np.zeros((1, qkv.shape[1], 64), np.float32), capacity)
        out, *cache = prompt.run({**feeds, "qkv": qkv})
        whole.append(out[0, -1])
        caches.append(cache)
    # The last token of both once more, as one step of a batch of unequal rows.
    feeds = prompt_feeds(np.zeros((1, 1, 64), np.float32), capacity)
    feeds |= {
        "inputs_embeds": np.zeros((2, 1, 64), np.float32),
        "positions": np.array([[length - 1] for length in lengths]),
        "seqlens_k": np.array(lengths, np.int32) - 1,
        "total_len": np.array(max(lengths), np.int32),
        "past.0.k": np.concatenate([keys for keys, _ in caches]),
        "past.0.v": np.concatenate([values for _, values in caches]),
    }
    for row, length in enumerate(lengths):
        for kind in "kv":
            feeds[f"past.0.{kind}"][row, :, length - 1 :] = 7
    last = np.concatenate([qkv[:, -1:] for qkv in given])
    out, keys, _ = step.run({**feeds, "qkv": last})
    np.testing.assert_allclose(out[:, 0], whole, rtol=1e-5, atol=1e-6)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(keys[row, :, :length], caches[row][0][0, :, :length], atol=1e-6)


def test_the_last_layer_goes_on_with_nothing_but_the_position_asked_for(
    numbers: np.random.Generator,
) -> None:
    weights = decoder_layer(numbers)

    def layer(ends: bool) -> Session:
        def write(graph: Graph) -> None:
            models.decoder_inputs(graph, TEXT, 1)
            x, more = models.decoder_layer(
                graph,
                weights,
                0,
                ("inputs_embeds", None),
                TEXT,
                models.attend_prompt,
                linear.exact,
                ends=ends,
            )
            graph.output("out", graph.op("Add", [x, more or x]), None)

        return session_of(write)

    embeds = drawn(numbers, 1, 7, TEXT.hidden_size)
    feeds = prompt_feeds(embeds, 16)
    whole = layer(ends=False).run(feeds, ["out"])[0]
    for position in (6, 2):
        one = layer(ends=True).run({**feeds, "last": np.array([[position]])}, ["out"])[0]
        np.testing.assert_allclose(one, whole[:, position], rtol=1e-5, atol=1e-6)


# --- files -------------------------------------------------------------------


def test_graphs_share_the_weights_that_they_have_in_common(
    tmp_path: Path, numbers: np.random.Generator
) -> None:
    shared, own = drawn(numbers, 40, 40), drawn(numbers, 30, 30)
    with WeightFile(tmp_path / "w.data") as weights:
        for name in ("one", "two"):
            graph = Graph(weights)
            x = graph.input("x", [1, 40])
            graph.output("y", graph.op("MatMul", [x, graph.weight("shared", shared)]), None)
            graph.weight(f"{name}.own", own)
            graph.save(tmp_path / f"{name}.onnx")
    assert (tmp_path / "w.data").stat().st_size <= 3 * 2 * ALIGNMENT
    offsets = []
    for name in ("one", "two"):
        model = onnx.load(tmp_path / f"{name}.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            place = {entry.key: entry.value for entry in tensor.external_data}
            assert int(place["offset"]) % ALIGNMENT == 0
            if tensor.name == "shared":
                offsets.append(place["offset"])
        row = drawn(numbers, 1, 40)
        y = Session(tmp_path / f"{name}.onnx", PLAN).run({"x": row})[0]
        np.testing.assert_allclose(y, row @ shared, rtol=1e-4, atol=1e-4)
    assert offsets[0] == offsets[1]


# --- whole exports -----------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "small"
    random_checkpoint.write(path, shapes=SMALL_WITH_TEXT)
    return path


@pytest.mark.parametrize(
    ("precision", "least"), [("fp32", 0.999999), ("fp16", 0.99999), ("int8", 0.999), ("int4", 0.9)]
)
def test_an_export_is_what_it_says_and_tells_its_progress(
    small: Path, tmp_path: Path, precision: str, least: float
) -> None:
    told: list[int] = []
    with checkpoint.opened(small) as source:
        found = export(source, tmp_path, precision, told.append)  # type: ignore[arg-type]
        assert sum(told) == steps(source)
    ways = {"int8": {"decode_blocks"}, "int4": {"decode_fused"}}.get(precision, set())
    assert set(found) == {"vision", "prefill", "decode"} | ways
    for part in found.values():
        assert least < part["cosine"] <= 1.000001
    assert {path.name for path in tmp_path.iterdir()} >= {
        "vision.onnx",
        "prefill.onnx",
        "decode.onnx",
        "embedding.bin",
        "config.json",
        "tokenizer.json",
        "preprocessor_config.json",
    }
    assert not [path for path in tmp_path.iterdir() if re.search("layer|part|tmp", path.name)]


def test_outliers_in_every_input_cost_int8_next_to_nothing(
    tmp_path: Path,
) -> None:
    random_checkpoint.write(tmp_path / "outliers", outliers=100, shapes=SMALL_WITH_TEXT)
    out = tmp_path / "out"
    out.mkdir()
    with checkpoint.opened(tmp_path / "outliers") as source:
        found = export(source, out, "int8", lambda _count: None)
    assert found["vision"]["cosine"] > 0.999
    assert found["decode"]["cosine"] > 0.99


def test_calibration_sees_every_linear_layer(small: Path) -> None:
    with checkpoint.opened(small) as source:
        calibration = Calibration(source, PLAN)
        encoder = [set(inputs) for _, inputs in calibration.vision_layers()]
        decoder = [set(inputs) for _, inputs in calibration.decoder_layers()]
        _, head = calibration.head()
    assert encoder == [{"qkv", "proj", "fc1", "fc2"}] * 2 + [{"fc1", "fc2"}]
    assert decoder == [{"qkv", "o", "gate_up", "down"}] * 2
    assert set(head) == {"lm"}
    assert [sample.logits.shape for sample in calibration.samples] == [
        (SMALL_WITH_TEXT.vocabulary,)
    ] * len(LOOKS)
