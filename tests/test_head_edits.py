"""Heads that compute most of their classes where a line may need them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mineru_daemon import cpu
from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr import recognition
from mineru_daemon.weights import head_edits

CHARACTERS = ["", "a", "b", "一", "三", "二", " "]
NEAR, GROUPS, MARGIN = 3, 2, 5.0

Pixels = npt.NDArray[np.uint8]

# The model reads colours (blue, green and red in -1..1): grey is blank, red an a, green 二 and
# cyan 一, of which the mean with 三 tells nothing.
WEIGHTS = np.array(
    [[0, 0, 0, 40, -40, -200, 0], [0, 0, 0, 40, -40, 200, 0], [0, 30, -30, -40, 40, 0, 0]],
    np.float32,
)
BIAS = np.array([8, 0, 0, -20, -20, -10, -30], np.float32)

BLANK, RED, GREEN, CYAN = (128, 128, 128), (255, 128, 128), (128, 255, 128), (128, 255, 255)


def reader_of_colours(opset: int = 11) -> bytes:
    """A CTC model with a step of 8 pixels whose classes are told by their colours."""
    graph = helper.make_graph(
        [
            helper.make_node(
                "AveragePool", ["x"], ["steps"], kernel_shape=[48, 8], strides=[48, 8]
            ),
            helper.make_node("Squeeze", ["steps"], ["columns"], axes=[2]),
            helper.make_node("Transpose", ["columns"], ["rows"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["rows", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["total"]),
            helper.make_node("Identity", ["total"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["chances"], axis=2),
        ],
        "reader",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 48, "w"])],
        [helper.make_tensor_value_info("chances", TensorProto.FLOAT, [1, "steps", 7])],
        [numpy_helper.from_array(WEIGHTS, "weights"), numpy_helper.from_array(BIAS, "bias")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)]
    content: bytes = helper.make_model(
        graph, opset_imports=opsets, ir_version=8
    ).SerializeToString()
    return content


def line(*colours: tuple[int, int, int]) -> Pixels:
    """A crop with 16 pixels of each colour."""
    return np.repeat(np.array([colours], np.uint8), 16, axis=1).repeat(48, axis=0)


@pytest.fixture(scope="module")
def whole() -> Session:
    return Session(reader_of_colours(), cpu.plan_threads(1))


@pytest.fixture(scope="module")
def screened() -> Session:
    edited = head_edits.screened(reader_of_colours(), NEAR, GROUPS, MARGIN)
    return Session(edited, cpu.plan_threads(1))


def test_a_line_of_near_classes_has_the_chances_among_these(
    whole: Session, screened: Session
) -> None:
    feed = {"x": recognition.planes(line(RED, BLANK, RED))}
    (before,), (after,) = whole.run(feed), screened.run(feed)
    assert after.shape == (1, 6, NEAR + 1)
    assert np.abs(after - before[:, :, [0, 1, 2, 6]]).max() < 1e-3


@pytest.mark.parametrize("colours", [(GREEN, BLANK, GREEN), (RED, BLANK, GREEN)])
def test_a_line_with_a_far_class_has_the_chances_of_all(
    whole: Session, screened: Session, colours: tuple[tuple[int, int, int], ...]
) -> None:
    feed = {"x": recognition.planes(line(*colours))}
    (before,), (after,) = whole.run(feed), screened.run(feed)
    assert after.shape == before.shape
    assert np.abs(after - before).max() < 1e-6


def test_no_line_has_an_infinite_margin(whole: Session, screened: Session) -> None:
    crop = line(RED, BLANK, RED)
    before, after = (
        session.run(recognition.feeds_of(session, crop, every_class=True))[0]
        for session in (whole, screened)
    )
    assert after.shape == before.shape
    assert np.abs(after - before).max() < 1e-6


def test_after_a_line_with_ideographs_all_classes_are_told_on_its_page(screened: Session) -> None:
    reader = recognition.Recogniser(screened, CHARACTERS)

    def read(*colours: tuple[int, int, int]) -> str:
        return reader.read(line(*colours), lambda: None).text

    reader.begin_page()
    missed = read(CYAN, BLANK, CYAN)
    assert missed != "一一"
    assert read(GREEN, BLANK, BLANK) == "二"
    assert read(CYAN, BLANK, CYAN) == missed
    assert read(GREEN, BLANK, GREEN) == "二二"
    assert read(CYAN, BLANK, CYAN) == "一一"
    reader.begin_page()
    assert read(CYAN, BLANK, CYAN) == missed


def test_a_model_with_another_end_is_refused() -> None:
    model = onnx.load_model_from_string(reader_of_colours())
    del model.graph.node[-1]
    model.graph.output[0].name = "scores"
    with pytest.raises(ValueError, match="does not end in a head"):
        head_edits.screened(model.SerializeToString(), NEAR, GROUPS, MARGIN)


def test_a_model_of_a_later_opset_is_refused() -> None:
    with pytest.raises(ValueError, match="of opset 13"):
        head_edits.screened(reader_of_colours(13), NEAR, GROUPS, MARGIN)


def test_groups_are_of_vectors_that_lie_together() -> None:
    rng = np.random.default_rng(3)
    middles = rng.uniform(-1, 1, (4, 6)).astype(np.float32)
    vectors = np.repeat(middles, 50, axis=0) + rng.normal(0, 0.01, (200, 6)).astype(np.float32)
    means = head_edits.grouped(vectors, 4)
    distances = np.linalg.norm(means[:, None] - middles[None], axis=2)
    assert sorted(distances.argmin(0)) == [0, 1, 2, 3]
    assert distances.min(0).max() < 0.01
