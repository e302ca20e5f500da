"""Pages that the tests draw, turned and skewed, and set upright again."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mineru_daemon import cpu, weights
from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr import orientation, skew
from mineru_daemon.engines.ppocr.detection import Pixels, Quads
from mineru_daemon.engines.ppocr.line_reader import Found
from mineru_daemon.engines.ppocr.orientation import Orientation, Turn
from mineru_daemon.results import Angle, Block, Line

TURNS: list[Angle] = [0, 90, 180, 270]


def drawn(text: str, top: int = 60, lines: int = 24, size: tuple[int, int] = (800, 1100)) -> Pixels:
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=26)
    for number in range(lines):
        pen.text((60, top + number * 40), f"{text} {number}", fill="black", font=font)
    return np.array(image)


LETTER = drawn("The quick brown fox jumps over the lazy dog, day by day")


@pytest.fixture(scope="module")
def model() -> Orientation:
    return Orientation(Session(weights.locate(weights.ORIENTATION), cpu.plan_threads(1)))


@pytest.mark.parametrize("angle", TURNS)
def test_a_turned_page_is_set_upright_by_the_turn_that_is_told(
    model: Orientation, angle: Angle
) -> None:
    lying = orientation.turned(LETTER, angle)
    turn = model.detect(lying)
    assert turn.angle == (360 - angle) % 360
    assert np.array_equal(orientation.turned(lying, turn.angle), LETTER)


@pytest.mark.parametrize("angle", TURNS)
def test_a_page_with_text_at_its_head_alone_is_set_upright(
    model: Orientation, angle: Angle
) -> None:
    note = drawn("Please call me back before Friday noon", lines=4)
    assert model.detect(orientation.turned(note, angle)).angle == (360 - angle) % 360


def test_an_empty_page_stays_as_it_is(model: Orientation) -> None:
    turn = model.detect(np.full((600, 400, 3), 255, np.uint8))
    assert turn.angle == 0
    assert turn.confidence < orientation.LOWEST_TO_TURN


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 2000, 3), (2000, 3, 3), (40, 40, 3)])
def test_a_page_of_any_shape_is_answered(model: Orientation, shape: tuple[int, int, int]) -> None:
    assert model.detect(np.zeros(shape, np.uint8)).angle in TURNS


def test_a_page_that_is_clear_costs_one_run(model: Orientation) -> None:
    runs: list[str] = []
    model.detect(LETTER, lambda: runs.append("orientation"))
    assert len(runs) == 1


def test_blank_windows_do_not_outvote_one_with_text() -> None:
    blank = [0.26, 0.25, 0.24, 0.25]
    sure = [0.02, 0.03, 0.92, 0.03]
    turn = orientation.decided(np.array([blank, blank, sure], np.float32))
    assert turn.angle == 180
    assert turn.confidence > 0.9


def crops(count: int) -> list[Pixels]:
    # Darker on top than below: whoever reads it knows which way is up.
    one = np.repeat(np.arange(48, dtype=np.uint8)[:, None, None], 200, axis=1).repeat(3, axis=2)
    return [one] * count


def test_lines_lean_to_the_way_they_read_better() -> None:
    def score(crop: Pixels) -> float:
        return 0.9 if crop[0, 0, 0] < crop[-1, 0, 0] else 0.5

    upright = orientation.lean(crops(9), score)
    assert upright == pytest.approx(0.4)
    assert orientation.lean([crop[::-1] for crop in crops(9)], score) == pytest.approx(-0.4)
    assert orientation.lean([], score) is None


def test_half_a_turn_is_undone_unless_the_lines_confirm_it() -> None:
    assert orientation.upright_after(Turn(180, 0.92), 0.4) == 180
    assert orientation.upright_after(Turn(180, 0.92), 0.03) == 0
    assert orientation.upright_after(Turn(180, 0.92), -0.4) == 0


def test_a_quarter_turn_the_wrong_way_is_made_the_other_way() -> None:
    assert orientation.upright_after(Turn(90, 0.92), 0.4) == 90
    assert orientation.upright_after(Turn(90, 0.92), 0.03) == 90
    assert orientation.upright_after(Turn(90, 0.92), -0.4) == 270
    assert orientation.upright_after(Turn(270, 0.92), -0.4) == 90
    assert orientation.upright_after(Turn(0, 0.92), None) == 0


def sloping(degrees: float, lines: int = 10) -> Quads:
    rise = math.tan(math.radians(degrees))
    corners = [
        [[50, y], [750, y + 700 * rise], [750, y + 20 + 700 * rise], [50, y + 20]]
        for y in range(50, 50 + 60 * lines, 60)
    ]
    return np.array(corners, np.float32)


@pytest.mark.parametrize("degrees", [-4.0, -1.0, 0.0, 1.5, 8.0])
def test_skew_is_the_slope_of_the_lines(degrees: float) -> None:
    assert math.degrees(skew.measured(sloping(degrees))) == pytest.approx(degrees, abs=0.05)


def test_a_page_whose_lines_disagree_has_no_skew() -> None:
    assert skew.measured(np.concatenate([sloping(6.0, 5), sloping(-6.0, 5)])) == 0
    assert skew.measured(np.zeros((0, 4, 2), np.float32)) == 0
    assert skew.measured(sloping(2.0, 1)) == 0


def test_text_set_at_an_angle_is_no_skew() -> None:
    assert skew.measured(sloping(30.0)) == 0


def test_only_skew_that_can_be_seen_is_worth_a_turn() -> None:
    page = np.full((1100, 800, 3), 255, np.uint8)
    assert skew.corrected(Found(page, sloping(0.5)))[1] == 0
    turned, angle = skew.corrected(Found(page, sloping(-2.0)))
    assert math.degrees(angle) == pytest.approx(-2, abs=0.05)
    assert skew.measured(turned.quads) == pytest.approx(0, abs=0.002)


def test_blocks_stand_where_they_are_on_the_page_as_it_came() -> None:
    quads = sloping(3.0)
    straight = skew.straightened(quads, math.radians(3), 800, 1100)[0] / [800, 1100]
    polygon = [(float(x), float(y)) for x, y in straight]
    block = Block(
        type="text",
        bbox=(0.1, 0.1, 0.2, 0.2),
        content="a",
        lines=[Line(text="a", polygon=polygon, score=1.0)],
    )
    back = skew.put_back(block, math.radians(3), 800, 1100)
    assert np.array(back.lines[0].polygon) == pytest.approx(quads[0] / [800, 1100], abs=0.001)
    assert back.bbox[0] == pytest.approx(min(x for x, _ in back.lines[0].polygon))
    picture = Block(type="image", bbox=(0.2, 0.2, 0.4, 0.4), content=None)
    left, top, right, bottom = skew.put_back(picture, math.radians(3), 800, 1100).bbox
    assert right - left > 0.2
    assert bottom - top > 0.2
    assert skew.put_back(block, 0.0, 800, 1100) == block


def test_a_deskewed_page_is_straight_and_its_corners_follow() -> None:
    matrix = cv2.getRotationMatrix2D((400, 550), -3.0, 1.0)
    skewed = np.asarray(
        cv2.warpAffine(LETTER, matrix, (800, 1100), borderValue=(255,) * 3), np.uint8
    )
    straight = skew.deskewed(skewed, math.radians(3))
    inner = (slice(200, 900), slice(150, 650))
    difference = np.abs(straight[inner].astype(int) - LETTER[inner]).mean()
    assert difference < np.abs(skewed[inner].astype(int) - LETTER[inner]).mean() / 3
    moved = skew.straightened(sloping(3.0), math.radians(3), 800, 1100)
    assert skew.measured(moved) == pytest.approx(0, abs=0.002)


def test_a_strip_is_looked_at_in_little_memory() -> None:
    for shape in ((3, 20_000, 3), (20_000, 3, 3)):
        small = orientation._shrunk(np.zeros(shape, np.uint8))
        assert min(small.shape[:2]) == orientation.SHORT_SIDE
        assert small.nbytes < 16_000_000
