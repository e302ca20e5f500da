"""Another recognition model, given as a folder: the shipped one under other names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mineru_daemon import cpu, weights
from mineru_daemon.engines import select
from mineru_daemon.engines.ppocr import recognition, recognition_model
from mineru_daemon.errors import EngineError
from mineru_daemon.settings import Settings

PLAN = cpu.plan_threads(1)


@pytest.fixture(scope="module")
def known() -> Iterator[list[str]]:
    """The characters of the shipped model, as they are listed."""
    model = recognition_model.shipped(PLAN)
    yield model.characters[1:-1]
    model.session.close()


@pytest.mark.parametrize(
    ("letters", "has_all"),
    [
        (
            "äöüß àâçéèêëîïôœùûÿ ñ ãõ æøå þð ąćęłńóśźż čďěňřšťůž őű ăâîșț çğıİş čđž ėįųū āēģīķļņ ħ",
            True,
        ),
        ("あアぁァンヴ々 体學國書龍", True),
        ("ạếộ", False),
        ("жшя", False),
        ("가나", False),
        ("ابت", False),
    ],
)
def test_the_shipped_model_knows_the_letters_that_the_readme_says(
    known: list[str], letters: str, has_all: bool
) -> None:
    assert set(letters.replace(" ", "")).issubset(known) is has_all


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a copy of the shipped model."""
    shutil.copyfile(weights.locate(weights.RECOGNITION), tmp_path / "inference.onnx")
    return tmp_path


def read(folder: Path) -> str:
    """What the folder's model reads on a line."""
    image = Image.new("RGB", (300, 48), "white")
    ImageDraw.Draw(image).text((8, 8), "seven doors", "black", ImageFont.load_default(32))
    model = recognition_model.of_folder(folder, PLAN)
    line = np.asarray(image)[:, :240]
    text = recognition.Recogniser(model.session, model.characters).read(line, lambda: None).text
    model.session.close()
    return text


def test_characters_come_from_the_text_beside_the_model(folder: Path, known: list[str]) -> None:
    swapped = {"e": "o", "o": "e"}
    listed = [swapped.get(one, one) for one in known]
    (folder / "anything.txt").write_text("\n".join(listed) + "\n", "utf-8")
    (folder / "inference.onnx").rename(folder / "latin_rec.onnx")
    assert read(folder) == "sovon deers"


def test_characters_come_from_paddles_configuration(folder: Path, known: list[str]) -> None:
    quoted = ["'{}'".format(one.replace("'", "''")) for one in known]
    (folder / "inference.yml").write_text(
        "Global:\n  model_name: x\nPostProcess:\n  name: CTCLabelDecode\n  character_dict:\n"
        + "".join(f"  - {one}\n" for one in quoted)
        + "PreProcess:\n  - nothing\n",
        "utf-8",
    )
    model = recognition_model.of_folder(folder, PLAN)
    assert model.characters == ["", *known, " "]


def test_characters_come_from_the_model_itself(folder: Path) -> None:
    assert read(folder) == "seven doors"


@pytest.mark.parametrize(
    ("entry", "sign"), [("''''", "'"), ('"\\""', '"'), ('"\\u3000"', "\u3000"), ("#", "#")]
)
def test_quotes_of_a_configuration_are_taken_off(entry: str, sign: str) -> None:
    assert recognition_model._listed(f"character_dict:\n- {entry}\n- b\nnext: 1\n- c") == [
        sign,
        "b",
    ]


def test_a_dictionary_of_another_model_is_refused(folder: Path, known: list[str]) -> None:
    (folder / "dict.txt").write_text("\n".join(known[:95]), "utf-8")
    with pytest.raises(EngineError, match=rf"{len(known) + 2} classes .* 95 characters; put the"):
        recognition_model.of_folder(folder, PLAN)


def test_what_is_no_recognition_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"has no \.onnx files; put the model there as infer"):
        recognition_model.of_folder(tmp_path, PLAN)
    shutil.copyfile(weights.locate(weights.ORIENTATION), tmp_path / "a.onnx")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(EngineError, match=r"recognition models"):
        recognition_model.of_folder(tmp_path, PLAN)
    (tmp_path / "b.onnx").write_bytes(b"no model")
    with pytest.raises(EngineError, match=r"has 2 \.onnx files"):
        recognition_model.of_folder(tmp_path, PLAN)
    (tmp_path / "a.onnx").unlink()
    with pytest.raises(EngineError, match="cannot be loaded"):
        recognition_model.of_folder(tmp_path, PLAN)


def test_a_dictionary_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "dict.txt").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(EngineError, match="no text in UTF-8"):
        recognition_model.of_folder(folder, PLAN)


def test_the_setting_is_what_the_engine_reads_with(folder: Path) -> None:
    engine = select.load(Settings(engine="ppocr", recognition_model=folder))
    assert engine.info.settings["recognition_model"] == str(folder)
    assert engine.info.model == f"lines by {folder.name}"
    engine.close()
    with pytest.raises(EngineError, match="no-such-folder"):
        select.load(Settings(engine="ppocr", recognition_model=folder / "no-such-folder"))
