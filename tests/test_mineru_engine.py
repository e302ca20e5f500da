"""The engine reads pages in two steps, says what went wrong, and uses a text layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mineru_vl_utils.structs import ContentBlock
from tiny_mineru import LAYOUT_SIZE
from tiny_mineru.pages import Page, client_blocks, pages

from mineru_daemon import cpu, samples
from mineru_daemon.documents import Limits, open_document
from mineru_daemon.documents.page import Page as DocumentPage
from mineru_daemon.engines.base import PageReading
from mineru_daemon.engines.mineru import scale
from mineru_daemon.engines.mineru.blocks import to_blocks
from mineru_daemon.engines.mineru.engine import MinerUEngine
from mineru_daemon.engines.mineru.folder import ModelFolder
from mineru_daemon.engines.ppocr import textlayer
from mineru_daemon.errors import CancelledError, EngineError, ModelError

PLAN = cpu.plan_threads(1)
PAGES = {page.name: page for page in pages()}


def _quiet(_stage: str) -> None:
    pass


@pytest.fixture(scope="module", autouse=True)
def layouts_as_learnt() -> Iterator[None]:
    """The tiny model knows its pages in a smaller square than the official client's."""
    with pytest.MonkeyPatch.context() as patch:
        factor = LAYOUT_SIZE / scale.LAYOUT_SIDES["quality"]
        for preset, side in list(scale.LAYOUT_SIDES.items()):
            patch.setitem(scale.LAYOUT_SIDES, preset, round(side * factor / 28) * 28)
        yield


@pytest.fixture(scope="module")
def engine(mineru_folder: ModelFolder) -> Iterator[MinerUEngine]:
    made = MinerUEngine(PLAN, mineru_folder.path, preset="quality", block_tokens=600)
    yield made
    made.close()


def _read(engine: MinerUEngine, path: Path, index: int = 0, progress: Any = _quiet) -> PageReading:
    with open_document(path, Limits()) as document:
        return engine.read(document.page(index), progress)


@pytest.fixture
def drawn(tmp_path: Path) -> Any:
    """The file of a page that the tiny model knows: `drawn("article")`."""

    def draw(name: str) -> Path:
        path = tmp_path / f"{name}.png"
        PAGES[name].image.save(path)
        return path

    return draw


def _with_layout(engine: Any, monkeypatch: pytest.MonkeyPatch, found: list[Any]) -> None:
    """Let the layout be this one, whatever the model says."""
    blocks = [ContentBlock(kind, list(box), angle=0) for kind, box in found]
    monkeypatch.setattr(engine, "_layout", lambda *_given: (blocks, []))


# --- pages of pixels ----------------------------------------------------------


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_a_page_is_read_as_the_official_client_reads_it(
    engine: MinerUEngine, drawn: Any, page: Page
) -> None:
    reading = _read(engine, drawn(page.name))
    expected = to_blocks(engine._mineru.two_step_extract(page.image))
    found = [block.model_copy(update={"score": None}) for block in reading.blocks]
    assert found == expected
    assert len(found) > 2
    assert reading.warnings == []
    assert (reading.width_px, reading.height_px) == page.image.size
    assert (reading.origin, reading.origin_reason) == ("ocr", None)


def test_it_is_told_how_surely_a_page_was_read(engine: MinerUEngine, drawn: Any) -> None:
    reading = _read(engine, drawn("article"))
    assert reading.confidence is not None
    assert 0.5 < reading.confidence.mean_score <= 1
    assert reading.confidence.low_share < 0.2
    text = "".join(block.content or "" for block in reading.blocks)
    assert reading.confidence.characters == pytest.approx(len("".join(text.split())), rel=0.05)
    assert all(0 < (block.score or 0) <= 1 for block in reading.blocks if block.content)


def test_time_is_told_by_stage(engine: MinerUEngine, drawn: Any) -> None:
    timings = _read(engine, drawn("table")).timings
    models = {f"inference.{name}" for name in ("vision", "prefill", "decode")}
    assert set(timings) == {"render", "preprocess", "postprocess", *models}


def test_pictures_are_described_on_request(mineru_folder: ModelFolder, drawn: Any) -> None:
    engine = MinerUEngine(PLAN, mineru_folder.path, preset="quality", image_analysis=True)
    reading = _read(engine, drawn("screen"))
    expected = to_blocks(client_blocks(PAGES["screen"], image_analysis=True))
    pictures = [
        [(block.type, block.content) for block in blocks if block.type in ("image", "chart")]
        for blocks in (reading.blocks, expected)
    ]
    assert pictures[0] == pictures[1] != []
    engine.close()


def test_a_text_that_was_broken_off_has_a_warning(
    mineru_folder: ModelFolder, drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = MinerUEngine(PLAN, mineru_folder.path, block_tokens=3)
    page = PAGES["article"]
    _with_layout(engine, monkeypatch, [("text", [v / 1000 for v in page.blocks[1].box])])
    (block,) = _read(engine, drawn("article")).blocks
    assert block.warnings == ["The text was broken off after 3 tokens; the block may hold more."]
    monkeypatch.undo()
    assert _read(engine, drawn("article")).warnings == [
        "The layout was broken off after 3 tokens; blocks may be missing."
    ]
    engine.close()


def test_a_small_page_has_a_warning(engine: MinerUEngine, draw_png: Any, tmp_path: Path) -> None:
    reading = _read(engine, draw_png(tmp_path / "small.png", "Hi", (100, 60)))
    assert any("only 100 x 60 pixels" in warning for warning in reading.warnings)


def test_a_page_is_given_up_at_once(engine: MinerUEngine, drawn: Any) -> None:
    stages: list[str] = []

    def progress(stage: str) -> None:
        stages.append(stage)
        if stage == "inference.decode":
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        _read(engine, drawn("article"), progress=progress)
    assert stages.count("inference.decode") == 1
    assert stages[0] == "render"


def test_less_is_shown_to_the_model_with_smaller_presets(
    mineru_folder: ModelFolder, drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, path = PAGES["article"], drawn("article")
    layout = [(block.type, [v / 1000 for v in block.box]) for block in page.blocks]
    patches: dict[str, list[int]] = {}
    for preset in ("quality", "balanced", "economy"):
        engine: Any = MinerUEngine(PLAN, mineru_folder.path, preset=preset, block_tokens=2)
        vision, seen = engine._model.vision, patches.setdefault(preset, [])

        def see(patches: Any, grid: Any, watch: Any, vision: Any = vision, seen: Any = seen) -> Any:
            seen.append(grid.patches)
            return vision(patches, grid, watch)

        monkeypatch.setattr(engine._model.generator, "_vision", see)
        _read(engine, path)
        _with_layout(engine, monkeypatch, layout)
        _read(engine, path)
        engine.close()
    for preset, side in scale.LAYOUT_SIDES.items():
        assert patches[preset][0] == (side // 14) ** 2
    assert sum(patches["quality"]) > sum(patches["balanced"]) >= sum(patches["economy"])


# --- pages with a text layer ----------------------------------------------------


def _layers_layout(path: Path, index: int = 0) -> list[Any]:
    """A layout with a block of text around each line of the layer that stands alone."""
    with open_document(path, Limits()) as document:
        page: DocumentPage = document.page(index)
        layer = textlayer.read(page)  # type: ignore[arg-type]
    pad = 3
    return [
        (
            "text",
            [
                (line.box[0] - pad) / layer.width,
                (line.box[1] - pad) / layer.height,
                (line.box[2] + pad) / layer.width,
                (line.box[3] + pad) / layer.height,
            ],
        )
        for line in layer.lines[:3]
    ]


def test_text_of_a_digital_page_is_taken_from_its_layer(
    engine: MinerUEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = samples.paths()[0]
    layout = _layers_layout(path)
    _with_layout(engine, monkeypatch, layout)
    reading = _read(engine, path)
    assert [block.content for block in reading.blocks] == [
        text for part in samples.PDF_PAGES[0] for text in part.lines
    ][:3]
    assert (reading.origin, reading.origin_reason) == ("text-layer", "The page has text.")
    assert reading.confidence is None
    assert "inference.decode" not in reading.timings


def test_what_the_layer_does_not_hold_is_read_by_the_model(
    engine: MinerUEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = samples.paths()[0]
    _with_layout(engine, monkeypatch, [*_layers_layout(path), ("text", [0.1, 0.9, 0.9, 0.99])])
    reading = _read(engine, path)
    assert reading.origin == "mixed"
    assert reading.timings["inference.decode"] > 0


def test_a_layer_that_agrees_with_nothing_is_not_used(
    engine: MinerUEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_layout(engine, monkeypatch, [("text", [0.1, 0.9, 0.9, 0.99])])
    reading = _read(engine, samples.paths()[0])
    assert reading.origin == "ocr"
    assert reading.origin_reason == "The text layer agrees with no block of the layout."


def test_recognition_can_be_asked_for(
    mineru_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = MinerUEngine(PLAN, mineru_folder.path, pdf_mode="ocr", block_tokens=3)
    path = samples.paths()[0]
    _with_layout(engine, monkeypatch, _layers_layout(path))
    reading = _read(engine, path)
    assert (reading.origin, reading.origin_reason) == (
        "ocr",
        "The settings ask for recognition.",
    )
    engine.close()


# --- loading -------------------------------------------------------------------


def test_the_result_tells_model_precision_and_settings(engine: MinerUEngine) -> None:
    info = engine.info
    assert (info.name, info.precision) == ("mineru", "fp32")
    assert info.settings["preset"] == "quality"
    assert info.settings["block_tokens"] == 600


def test_every_graph_is_run_before_the_first_page(engine: MinerUEngine) -> None:
    engine.warm_up()


def test_a_folder_without_a_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist; make one with `mineru-daemon model"):
        MinerUEngine(PLAN, tmp_path / "nothing")


def test_a_missing_package_is_one_sentence(
    mineru_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mineru_daemon.engines.mineru.engine.PACKAGES", ("no_such_package",))
    with pytest.raises(EngineError, match=r"no_such_package; install it: pip install 'mineru-"):
        MinerUEngine(PLAN, mineru_folder.path)
