"""The embedded engine reads pages that the tests draw themselves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pdf_building import build_pdf
from PIL import Image, ImageDraw, ImageFont

from mineru_daemon import cpu
from mineru_daemon.documents import Limits, Rendering, open_document
from mineru_daemon.engines.base import Engine, PageReading
from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr import detection, recognition
from mineru_daemon.engines.ppocr.engine import PPOCREngine
from mineru_daemon.errors import CancelledError, EngineError
from mineru_daemon.reading import read_page
from mineru_daemon.results import Angle

Placed = tuple[int, int, str]


class DrawnPage:
    """A page whose image is in memory already."""

    index = 0
    width_pt: float | None = None
    height_pt: float | None = None
    rotation: Angle = 0

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.warnings: list[str] = []

    def close(self) -> None:
        self.image.close()

    def render(self, longest_side: int = 0) -> Rendering:
        image = self.image.copy()
        if longest_side:
            image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
        return Rendering(image, None)


def drawn(texts: Sequence[Placed], size: tuple[int, int] = (800, 600)) -> Image.Image:
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=28)
    for x, y, text in texts:
        pen.text((x, y), text, fill="black", font=font)
    return image


INVOICE: list[Placed] = [
    (60, 60, "Invoice 2024-117"),
    (60, 160, "Green apples"),
    (560, 160, "12.50"),
    (60, 220, "Brown bread"),
    (560, 220, "3.80"),
    (60, 320, "Thank you for your visit"),
]


@pytest.fixture(scope="module")
def engine() -> PPOCREngine:
    return PPOCREngine(cpu.plan_threads(1))


def read(engine: Engine, image: Image.Image) -> PageReading:
    return engine.read(DrawnPage(image), lambda stage: None)


def texts(reading: PageReading) -> list[str]:
    return [line.text for block in reading.blocks for line in block.lines]


def test_lines_are_read_from_top_to_bottom_and_from_left_to_right(engine: PPOCREngine) -> None:
    assert texts(read(engine, drawn(INVOICE))) == [text for _, _, text in INVOICE]


def test_a_line_lies_where_it_was_drawn(engine: PPOCREngine) -> None:
    block = read(engine, drawn([(200, 300, "Somewhere")])).blocks[0]
    x0, y0, x1, y1 = block.bbox
    assert x0 == pytest.approx(200 / 800, abs=0.02)
    assert y0 == pytest.approx(305 / 600, abs=0.03)
    assert x1 > x0
    assert y1 > y0
    (line,) = block.lines
    assert len(line.polygon) == 4
    assert line.text == block.content == "Somewhere"
    assert line.score is not None
    assert 0.8 < line.score <= 1


def test_a_page_tells_how_surely_it_was_read(engine: PPOCREngine) -> None:
    clear = read(engine, drawn(INVOICE)).confidence
    assert clear is not None
    assert clear.characters == sum(len(text.replace(" ", "")) for _, _, text in INVOICE)
    assert clear.mean_score > 0.95
    assert clear.low_share == 0
    assert read(engine, drawn([])).confidence is None


def test_a_word_that_cannot_be_made_out_is_marked(engine: PPOCREngine) -> None:
    over_each_other = [(60, 60, "Clear words and  smudged  ones at the end"), (276, 60, "HEKVMWX")]
    reading = read(engine, drawn(over_each_other))
    (line,) = (line for block in reading.blocks for line in block.lines)
    assert len(line.low) == 1
    assert line.low[0][0] == len("Clear words and ")
    assert reading.confidence is not None
    assert reading.confidence.low_share > 0


@pytest.mark.parametrize(
    ("content", "mode", "origin", "words"),
    [
        (b"BT /F1 24 Tf 20 40 Td (Hello) Tj ET", "auto", "text-layer", "has text"),
        (b"0 0 m 10 10 l S", "auto", "ocr", "no text layer"),
        (b"BT /F1 24 Tf 20 40 Td (\x01\x02\x03\x04) Tj ET", "auto", "ocr", "fonts"),
        (b"BT /F1 24 Tf 20 40 Td (Hello) Tj ET", "ocr", "ocr", "settings"),
    ],
)
def test_a_pdf_page_says_why_its_text_comes_from_there(
    engine: PPOCREngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    content: bytes, mode: str, origin: str, words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(engine, "_pdf_mode", mode)
    path = tmp_path / "page.pdf"
    path.write_bytes(build_pdf(b"/MediaBox [0 0 200 100]", content=content))
    with open_document(path, Limits()) as document:
        page = read_page(engine, document, 0, lambda stage: None)
    assert page.origin == origin
    assert page.origin_reason is not None
    assert words in page.origin_reason


def test_a_page_of_an_image_needs_no_reason(engine: PPOCREngine) -> None:
    assert read(engine, drawn(INVOICE)).origin_reason is None


def test_a_leaning_page_keeps_its_rows(engine: PPOCREngine) -> None:
    leaning = drawn(INVOICE).rotate(5, Image.Resampling.BICUBIC, fillcolor="white")
    assert texts(read(engine, leaning)) == [text for _, _, text in INVOICE]


def test_a_line_turned_by_90_degrees_is_read(engine: PPOCREngine) -> None:
    page = drawn([(60, 60, "An ordinary line of text")])
    page.paste(drawn([(10, 10, "Sideways note")], (260, 60)).transpose(Image.Transpose.ROTATE_270))
    assert "Sideways note" in texts(read(engine, page))


def test_print_on_a_long_page_is_read(engine: PPOCREngine) -> None:
    page = drawn([(40, 4000, "The terms and conditions apply")], (600, 8000))
    assert texts(read(engine, page)) == ["The terms and conditions apply"]


def test_an_empty_page_has_no_blocks(engine: PPOCREngine) -> None:
    reading = read(engine, drawn([]))
    assert reading.blocks == []
    assert (reading.width_px, reading.height_px) == (800, 600)


@pytest.mark.parametrize("size", [(1, 1), (7, 3000), (3000, 7)])
def test_a_page_of_an_odd_size_is_read_without_an_error(
    engine: PPOCREngine, size: tuple[int, int]
) -> None:
    assert read(engine, Image.new("RGB", size, "white")).blocks == []


def test_a_page_of_noise_ends(engine: PPOCREngine) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    assert len(read(engine, Image.fromarray(noise)).blocks) < 50


def test_a_small_image_is_read_with_a_warning(engine: PPOCREngine) -> None:
    reading = read(engine, drawn([(20, 20, "Tiny")], (399, 120)))
    assert texts(reading) == ["Tiny"]
    (warning,) = reading.warnings
    assert "399 x 120 pixels" in warning


def test_an_image_of_400_pixels_has_no_warning(engine: PPOCREngine) -> None:
    assert read(engine, drawn([(20, 20, "Tiny")], (400, 120))).warnings == []


def test_warnings_of_the_page_are_kept(engine: PPOCREngine) -> None:
    page = DrawnPage(drawn([]))
    page.warnings.append("Drawn smaller.")
    assert engine.read(page, lambda stage: None).warnings == ["Drawn smaller."]


def test_a_large_page_is_read_within_the_bound() -> None:
    bounded = PPOCREngine(cpu.plan_threads(1), max_image_size=600)
    reading = read(bounded, drawn(INVOICE, (1200, 800)))
    assert (reading.width_px, reading.height_px) == (600, 400)
    assert reading.blocks[0].bbox[0] == pytest.approx(60 / 1200, abs=0.02)
    assert bounded.info.settings["max_image_size"] == 600


def test_every_model_run_is_announced(engine: PPOCREngine, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    run = Session.run

    def watched(session: Session, feeds: Any, outputs: Any = None) -> list[Any]:
        events.append("run")
        return run(session, feeds, outputs)

    monkeypatch.setattr(Session, "run", watched)
    engine.read(DrawnPage(drawn(INVOICE)), events.append)
    assert events.count("run") >= 2
    for before, event in itertools.pairwise(events):
        assert event != "run" or before.startswith("inference.")


def test_stopping_is_not_swallowed(engine: PPOCREngine) -> None:
    def stop(stage: str) -> None:
        if stage == "inference.recognition":
            raise CancelledError("The daemon is stopping.")

    with pytest.raises(CancelledError):
        engine.read(DrawnPage(drawn(INVOICE)), stop)


def test_timings_name_the_stages(engine: PPOCREngine) -> None:
    timings = read(engine, drawn(INVOICE)).timings
    assert set(timings) == {
        "render",
        "preprocess",
        "inference.orientation",
        "inference.layout",
        "inference.detection",
        "inference.recognition",
        "postprocess",
    }
    assert all(seconds >= 0 for seconds in timings.values())


def test_a_model_without_characters_is_refused() -> None:
    with pytest.raises(EngineError, match="characters"):
        recognition.characters("")


def test_decoding_merges_repeats_at_their_best_and_drops_blanks() -> None:
    best = [0, 1, 1, 0, 1, 2, 2, 0]
    distribution = np.full((len(best), 3), 0.1, np.float32)
    distribution[np.arange(len(best)), best] = [1, 0.9, 0.5, 1, 0.8, 0.7, 1, 1]
    reading = recognition.decoded(distribution, ["", "a", "b"])
    assert reading.text == "aab"
    assert reading.score == pytest.approx((0.9 + 0.8 + 1.0) / 3)
    assert reading.scores == pytest.approx((0.9, 0.8, 1.0))


def test_nothing_but_blanks_is_no_text() -> None:
    distribution = np.zeros((4, 3), np.float32)
    distribution[:, 0] = 1
    assert recognition.decoded(distribution, ["", "a", "b"]) == recognition.Reading("", 0.0)


def test_the_detector_sees_multiples_of_its_stride_within_the_bound() -> None:
    for width, height in [(4000, 3000), (500, 333), (10, 5000), (1, 1), (100_000_000, 1)]:
        size = detection.input_size(width, height, 600_000)
        assert all(side % detection.STRIDE == 0 and side > 0 for side in size)
        assert size[0] * size[1] <= 1.1 * 600_000


def test_a_page_is_not_enlarged_for_the_detector() -> None:
    assert detection.input_size(320, 64, 600_000) == (320, 64)


def test_a_region_of_the_map_grows_to_its_line() -> None:
    probabilities = np.zeros((64, 320), np.float32)
    probabilities[28:36, 40:280] = 1
    (quad,) = detection.quads(probabilities, 640, 128)
    # 240 x 8 shrunk by area * 1.6 / perimeter = 6.2 on each side; the page is twice the map.
    left, top = quad.min(0) / 2
    right, bottom = quad.max(0) / 2
    assert (left, top) == pytest.approx((40 - 6.2, 28 - 6.2), abs=2)
    assert (right, bottom) == pytest.approx((280 + 6.2, 36 + 6.2), abs=2)


def test_faint_and_tiny_regions_are_no_lines() -> None:
    probabilities = np.zeros((64, 320), np.float32)
    probabilities[10:20, 10:100] = 0.4
    probabilities[40:42, 200:202] = 1
    assert len(detection.quads(probabilities, 320, 64)) == 0
