"""What several test modules need: folders, settings, small documents."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import structlog
from daemon_process import Running
from inbox_desk import Desk
from mineru_building import build_folder
from PIL import Image, ImageDraw, ImageFont
from tiny_mineru import CHECKPOINT

from mineru_daemon.engines.mineru.folder import ModelFolder
from mineru_daemon.settings import FOLDER_NAMES, Settings
from mineru_daemon.spool import Spool


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The developer's cache is neither read nor written, also by daemons that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("CACHE_DIRECTORY", raising=False)
        yield


@pytest.fixture(autouse=True)
def fresh_log() -> Iterator[None]:
    """What a test sets up to log into ends with the test."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings with folders below `tmp_path`, made; keywords change any of them."""

    def make(**changes: Any) -> Settings:
        folders = {name: tmp_path / name for name in FOLDER_NAMES}
        # A model that the developer has installed is no part of the tests.
        settings = Settings(**{"model": tmp_path / "model", **folders, **changes})
        for name in FOLDER_NAMES:
            getattr(settings, name).mkdir(parents=True, exist_ok=True)
        return settings

    return make


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than `tmp_path`: in memory, where small steps are quick."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="mineru-test-", dir="/dev/shm"))
    except OSError as error:
        pytest.skip(f"needs /dev/shm: {error}")
    if folder.stat().st_dev == tmp_path.stat().st_dev:
        folder.rmdir()
        pytest.skip("needs a second file system")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """Default settings with folders below `tmp_path`."""
    return make_settings()


@pytest.fixture
def spool(settings: Settings) -> Iterator[Spool]:
    """The spool of these settings, open."""
    with Spool.opened(settings) as opened:
        yield opened


@pytest.fixture
def desk(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., Desk]]:
    """Make inboxes with an open spool; keywords change their settings."""
    opened: list[tuple[Desk, AbstractContextManager[Spool]]] = []

    def make(room: int = 1000, **changes: Any) -> Desk:
        settings = make_settings(**{"watch": "poll", "poll_seconds": 3600, **changes})
        context = Spool.opened(settings)
        one = Desk(settings, context.__enter__(), room)
        opened.append((one, context))
        return one

    yield make
    for one, context in opened:
        one.inbox._lookout.stop()
        context.__exit__(None, None, None)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start daemons on folders below `tmp_path`; they end with the test."""
    started = []

    def run(*options: str, **more: Any) -> Running:
        one = Running(tmp_path, *options, **more)
        started.append(one)
        return one

    yield run
    for one in started:
        one.end()


@pytest.fixture(scope="session")
def mineru_folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """The tiny checkpoint as a model folder in float32."""
    return build_folder(CHECKPOINT, tmp_path_factory.mktemp("mineru") / "model")


@pytest.fixture(scope="session")
def reference() -> Any:
    """The official client on transformers, reading with the tiny checkpoint on one thread.

    Several threads of torch spin while they wait: beside other tests 540 seconds instead of 14.
    """
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("mineru_vl_utils")
    from tiny_mineru.reference import make_client

    torch.set_num_threads(1)
    return make_client(CHECKPOINT)


@pytest.fixture
def draw_png() -> Callable[..., Path]:
    """Draw a text as a small screenshot: `draw_png(path, "Hello")`."""

    def draw(path: Path, text: str = "Hello world", size: tuple[int, int] = (480, 120)) -> Path:
        image = Image.new("RGB", size, "white")
        ImageDraw.Draw(image).text((20, 30), text, fill="black", font=ImageFont.load_default(28))
        image.save(path, "PNG")
        return path

    return draw
