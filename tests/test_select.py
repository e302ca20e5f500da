"""The engine is the one that was asked for, or the best that is installed, and says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from mineru_daemon.engines import select
from mineru_daemon.engines.mineru.folder import ModelFolder
from mineru_daemon.errors import EngineError, ModelError
from mineru_daemon.results import EngineInfo
from mineru_daemon.settings import Settings

Make = Callable[..., Settings]


@contextmanager
def _loaded(settings: Settings) -> Iterator[EngineInfo]:
    engine = select.load(settings)
    try:
        yield engine.info
    finally:
        engine.close()


def test_without_a_model_auto_is_ppocr(make_settings: Make) -> None:
    settings = make_settings()
    with _loaded(settings) as info:
        assert info.name == "ppocr"
        assert info.reason == f"There is no model for mineru in {settings.model}."


def test_with_a_model_auto_is_mineru(make_settings: Make, mineru_folder: ModelFolder) -> None:
    with _loaded(make_settings(model=mineru_folder.path, decode_batch=3)) as info:
        assert info.name == "mineru"
        assert info.reason == f"There is a model for mineru in {mineru_folder.path}."
        assert info.settings["decode_batch"] == 3


@pytest.mark.parametrize("name", ["ppocr", "mineru"])
def test_an_engine_can_be_asked_for(
    make_settings: Make, mineru_folder: ModelFolder, name: str
) -> None:
    with _loaded(make_settings(model=mineru_folder.path, engine=name)) as info:
        assert info.name == name
        assert info.reason == f"The settings ask for {name}."


def test_a_damaged_model_leaves_auto_with_ppocr_and_a_word_about_it(
    make_settings: Make, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "manifest.json").write_text("{")
    with structlog.testing.capture_logs() as events, _loaded(make_settings()) as info:
        assert info.name == "ppocr"
        assert info.reason is not None
        assert "manifest.json is damaged" in info.reason
    assert [event["event"] for event in events] == ["fallback"]
    with pytest.raises(ModelError, match=r"manifest\.json is damaged"):
        select.load(make_settings(engine="mineru"))


def test_a_model_whose_packages_are_missing_is_not_used_by_auto(
    make_settings: Make, mineru_folder: ModelFolder, monkeypatch: Any
) -> None:
    monkeypatch.setattr("mineru_daemon.engines.mineru.engine.PACKAGES", ("no_such_package",))
    settings = make_settings(model=mineru_folder.path)
    with structlog.testing.capture_logs(), _loaded(settings) as info:
        assert info.name == "ppocr"
        assert "pip install 'mineru-daemon[mineru]'" in str(info.reason)
    with pytest.raises(EngineError, match="no_such_package"):
        select.load(make_settings(model=mineru_folder.path, engine="mineru"))
