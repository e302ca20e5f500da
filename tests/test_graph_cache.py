"""Optimised graphs on disk: used when they fit, made anew when not, and never trusted blindly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from mineru_daemon import cpu, mounts, weights
from mineru_daemon.documents import open_document
from mineru_daemon.engines import graph_cache
from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr.engine import PPOCREngine
from mineru_daemon.errors import EngineError
from mineru_daemon.reading import limits_of
from mineru_daemon.samples import paths
from mineru_daemon.settings import Settings

PLAN = cpu.plan_threads(1, 1)
PDF, PNG = paths()
FEED = {"x": np.linspace(-1, 1, 3 * 64 * 64, dtype=np.float32).reshape(1, 3, 64, 64)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(weights.locate(weights.DETECTION), tmp_path / "lines.onnx"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def said() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as events:
        yield events


@pytest.fixture(scope="module")
def expected() -> Any:
    return Session(weights.locate(weights.DETECTION), PLAN).run(FEED)[0]


def entries(cache: Path) -> list[Path]:
    """All that lies in the cache."""
    return sorted(cache.iterdir())


def load(model: Path, cache: Path, expected: Any, said: list[Any]) -> list[str]:
    """Load and run the model; the events that were logged since the last load."""
    del said[:]
    assert np.array_equal(Session(model, PLAN, kept_in=cache).run(FEED)[0], expected)
    return [event["event"] for event in said]


def reason(said: list[Any]) -> str:
    return str(said[0]["reason"])


def test_a_graph_is_kept_at_the_first_load_and_only_read_at_the_second(
    model, cache, expected, said
):
    assert load(model, cache, expected, said) == ["graph-kept"]
    (entry,) = entries(cache)
    files = {path: path.stat() for path in entry.iterdir()}
    assert {path.name for path in files} == {"entry.json", "graph.onnx", "weights.bin"}
    assert {found.st_mode & 0o777 for found in files.values()} == {0o600}
    # Nothing of the model is needed any more but its place and state.
    assert load(model, cache, expected, said) == []
    for path, found in files.items():
        assert path.stat().st_mtime_ns == found.st_mtime_ns


def test_what_is_kept_is_what_is_run(model, cache, expected, said, monkeypatch):
    """The second load does not read the model: here it would not even be one."""
    load(model, cache, expected, said)
    state = model.stat()
    model.write_bytes(b"no model".ljust(state.st_size))
    unchanged = type("Unchanged", (), {name: getattr(state, name) for name in dir(state)})
    stat = Path.stat
    monkeypatch.setattr(
        Path, "stat", lambda path, **more: unchanged if path == model else stat(path, **more)
    )
    assert load(model, cache, expected, said) == []


@pytest.mark.parametrize("sample", [PDF, PNG], ids=["pdf", "png"])
def test_a_page_reads_the_same_with_and_without(sample, cache):
    settings = Settings()

    def read(graphs_in: Path | None) -> list[str]:
        engine = PPOCREngine(PLAN, pdf_mode="ocr", graphs_in=graphs_in)
        try:
            with open_document(sample, limits_of(settings), settings.pdf_dpi) as document:
                pages = [
                    engine.read(document.page(index), lambda _stage: None)
                    for index in range(document.page_count)
                ]
        finally:
            engine.close()
        return [block.model_dump_json() for page in pages for block in page.blocks]

    without = read(None)
    assert len(without) > 3
    assert read(cache) == without
    assert len(entries(cache)) == 6
    assert read(cache) == without


def damage_by_cutting(entry: Path) -> None:
    os.truncate(entry / "weights.bin", 100_000)


def damage_by_a_bit(entry: Path) -> None:
    content = bytearray((entry / "weights.bin").read_bytes())
    content[len(content) // 2] ^= 1
    (entry / "weights.bin").write_bytes(content)


def damage_of_the_graph(entry: Path) -> None:
    (entry / "graph.onnx").write_bytes(b"")


def damage_of_the_note(entry: Path) -> None:
    (entry / "entry.json").write_text('{"key": ')


def damage_by_a_missing_file(entry: Path) -> None:
    (entry / "weights.bin").unlink()


def damage_by_a_foreign_file(entry: Path) -> None:
    (entry / "more.bin").touch()


def a_link_instead_of_a_file(entry: Path) -> None:
    (entry / "graph.onnx").rename(entry.parent / "aside")
    (entry / "graph.onnx").symlink_to(entry.parent / "aside")


def a_pipe_instead_of_a_file(entry: Path) -> None:
    (entry / "graph.onnx").unlink()
    os.mkfifo(entry / "graph.onnx")


def a_link_instead_of_the_entry(entry: Path) -> None:
    entry.rename(entry.parent / "aside")
    entry.symlink_to("aside")


def a_file_instead_of_the_entry(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("x")


def others_may_write_the_file(entry: Path) -> None:
    (entry / "graph.onnx").chmod(0o620)


def others_may_write_the_entry(entry: Path) -> None:
    entry.chmod(0o702)


def made_for_another(**changes: Any) -> Any:
    def change(entry: Path) -> None:
        note = json.loads((entry / "entry.json").read_text())
        note["key"] |= changes
        (entry / "entry.json").write_text(json.dumps(note))

    change.__name__ = f"made_for_another_{next(iter(changes))}"
    return change


@pytest.mark.parametrize(
    "spoil",
    [
        damage_by_cutting,
        damage_by_a_bit,
        damage_of_the_graph,
        damage_of_the_note,
        damage_by_a_missing_file,
        damage_by_a_foreign_file,
        a_link_instead_of_a_file,
        a_pipe_instead_of_a_file,
        a_link_instead_of_the_entry,
        a_file_instead_of_the_entry,
        others_may_write_the_file,
        others_may_write_the_entry,
        made_for_another(cpu="another"),
        made_for_another(made_with=["1.0", "all"]),
        made_for_another(state=[1, 2, 3, 4]),
        made_for_another(model="/elsewhere/lines.onnx"),
        made_for_another(format=0),
        made_for_another(package="0.0.1"),
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_an_entry_that_is_not_what_it_should_be_is_replaced(model, cache, expected, said, spoil):
    load(model, cache, expected, said)
    (entry,) = entries(cache)
    spoil(entry)
    assert load(model, cache, expected, said) == ["graph-refused", "graph-kept"]
    assert said[0]["log_level"] == "info"
    assert load(model, cache, expected, said) == []
    assert not entry.is_symlink()


def test_a_graph_that_has_the_right_sum_and_cannot_be_loaded_is_removed(
    model, cache, expected, said
):
    load(model, cache, expected, said)
    (entry,) = entries(cache)
    (entry / "graph.onnx").write_bytes(b"no graph")
    note = json.loads((entry / "entry.json").read_text())
    note["files"]["graph.onnx"] = graph_cache._sum(entry / "graph.onnx")
    (entry / "entry.json").write_text(json.dumps(note))
    assert load(model, cache, expected, said) == ["graph-refused"]
    assert entries(cache) == []


@pytest.mark.parametrize("what", ["cpu", "runtime", "package", "model"])
def test_another_cpu_version_or_state_of_the_model_has_a_graph_of_its_own(
    model, cache, expected, said, monkeypatch, what
):
    load(model, cache, expected, said)
    before = entries(cache)
    if what == "cpu":
        monkeypatch.setattr(cpu, "flags", lambda: frozenset({"sse2"}))
    elif what == "package":
        monkeypatch.setattr(graph_cache, "__version__", "0.0.1")
    elif what == "runtime":
        monkeypatch.setattr("onnxruntime.__version__", "0.1")
    else:
        os.utime(model)
    assert load(model, cache, expected, said) == ["graph-kept"]
    after = entries(cache)
    assert len(after) == 1, "the old one is gone"
    assert after != before


def test_no_graph_is_kept_for_a_cpu_that_is_not_known(model, cache, expected, said, monkeypatch):
    monkeypatch.setattr(cpu, "flags", frozenset)
    assert load(model, cache, expected, said) == ["graph-not-kept"]
    assert not cache.exists()


def test_what_is_not_used_any_more_is_removed_and_what_is_anothers_stays(
    model, cache, expected, said, tmp_path
):
    gone = Path(shutil.copy(model, tmp_path / "gone.onnx"))
    other = Path(shutil.copy(model, tmp_path / "other.onnx"))
    for one in (gone, other):
        load(one, cache, expected, said)
    gone.unlink()
    killed = cache / ".killed.unfinished-graph"
    working = cache / ".working.unfinished-graph"
    for folder in (killed, working):
        folder.mkdir()
    (killed / "graph.onnx").touch()
    os.utime(killed, (0, 0))
    (cache / "letter.txt").touch()
    (cache / "photos").mkdir()
    load(model, cache, expected, said)
    left = [path.name.split("-")[0] for path in entries(cache)]
    assert sorted(left) == [".working.unfinished", "letter.txt", "lines", "other", "photos"]


def test_a_folder_that_cannot_be_written_is_done_without(model, expected, said):
    assert load(model, Path("/proc/mineru-cache"), expected, said) == ["graph-not-kept"]
    assert load(model, Path("/dev/null/cache"), expected, said) == ["graph-not-kept"]


def test_a_read_only_folder_is_read(model, cache, expected, said, monkeypatch):
    """Even root cannot write where a disk is read-only; so writing itself is refused here."""
    load(model, cache, expected, said)
    (entry,) = entries(cache)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("mkdir", "rename", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert load(model, cache, expected, said) == []
    damage_by_cutting(entry)
    assert load(model, cache, expected, said) == ["graph-refused", "graph-not-kept"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("size", ["64k", "1m"])
def test_a_full_disk_leaves_nothing_behind(model, cache, expected, said, size):
    cache.mkdir(0o700)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "full", cache], check=True
    )
    try:
        assert load(model, cache, expected, said) == ["graph-not-kept"]
        assert entries(cache) == []
    finally:
        subprocess.run(["umount", cache], check=True)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_folder_that_others_may_write_is_not_used(model, cache, expected, said, mode):
    load(model, cache, expected, said)
    cache.chmod(mode)
    assert load(model, cache, expected, said) == ["graph-not-kept"]
    assert "written by others" in reason(said)
    cache.chmod(0o755)
    assert load(model, cache, expected, said) == []


def test_a_folder_of_another_user_is_not_used(model, cache, expected, said, monkeypatch):
    load(model, cache, expected, said)
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert load(model, cache, expected, said) == ["graph-not-kept"]
    assert "another user" in reason(said)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
@pytest.mark.parametrize("which", ["", "graph.onnx", "weights.bin", "entry.json"])
def test_an_entry_of_another_user_is_not_used(model, cache, expected, said, which):
    load(model, cache, expected, said)
    (entry,) = entries(cache)
    os.chown(entry / which, 12345, 12345)
    assert load(model, cache, expected, said) == ["graph-refused", "graph-kept"]
    assert (entries(cache)[0] / which).stat().st_uid == 0


def test_a_folder_on_a_network_file_system_is_not_used(model, cache, expected, said, monkeypatch):
    monkeypatch.setattr(mounts, "file_system_type", lambda _path: "nfs4")
    assert load(model, cache, expected, said) == ["graph-not-kept"]
    assert "nfs4" in reason(said)


PROCESS = """
import sys
from pathlib import Path
import numpy as np
from mineru_daemon import cpu
from mineru_daemon.engines.onnx import Session
sys.stdin.readline()
for _ in range(5):
    session = Session(Path(sys.argv[1]), cpu.plan_threads(1, 1), kept_in=Path(sys.argv[2]))
feed = np.linspace(-1, 1, 3 * 64 * 64, dtype=np.float32).reshape(1, 3, 64, 64)
np.save(sys.argv[3], session.run({"x": feed})[0])
"""


@pytest.mark.slow
def test_several_processes_at_once_make_one_entry(model, cache, expected, tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, model, cache, tmp_path / f"{number}.npy"],
            stdin=subprocess.PIPE,
        )
        for number in range(4)
    ]
    time.sleep(1)  # Until all wait for the word; it does not matter if one is late.
    for process in processes:
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
    for number, process in enumerate(processes):
        process.communicate()
        assert process.returncode == 0
        assert np.array_equal(np.load(tmp_path / f"{number}.npy"), expected)
    (entry,) = entries(cache)
    assert {path.name for path in entry.iterdir()} == {"entry.json", "graph.onnx", "weights.bin"}


def test_a_process_goes_on_with_a_graph_that_another_one_removes(model, cache, expected):
    session = Session(model, PLAN, kept_in=cache)
    session.close()
    session = Session(model, PLAN, kept_in=cache)
    (entry,) = entries(cache)
    graph_cache.refuse(entry, "a test")
    assert entries(cache) == []
    assert np.array_equal(session.run(FEED)[0], expected)


@pytest.mark.parametrize(
    ("setting", "environ", "expected"),
    [
        ("off", {"CACHE_DIRECTORY": "/var/cache/x"}, None),
        ("/srv/graphs", {"CACHE_DIRECTORY": "/var/cache/x"}, Path("/srv/graphs")),
        ("auto", {"CACHE_DIRECTORY": "/var/cache/x:/var/cache/y"}, Path("/var/cache/x")),
        ("auto", {"XDG_CACHE_HOME": "/c"}, Path("/c/mineru-daemon")),
        ("auto", {"XDG_CACHE_HOME": "c"}, Path("~/.cache/mineru-daemon").expanduser()),
        ("auto", {}, Path("~/.cache/mineru-daemon").expanduser()),
    ],
)
def test_where_graphs_are_kept(setting, environ, expected):
    assert graph_cache.folder(setting, environ) == expected


def test_the_setting_takes_two_words_or_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/alice")
    assert Settings().graph_cache == "auto"
    assert Settings(graph_cache="off").graph_cache == "off"
    assert Settings(graph_cache="~/graphs").graph_cache == "/home/alice/graphs"
    with pytest.raises(ValueError, match="empty"):
        Settings(graph_cache="")
    with pytest.raises(ValueError, match="string"):
        Settings(graph_cache=5)  # type: ignore[arg-type]


def test_a_model_that_cannot_be_loaded_is_named_with_a_cache_too(tmp_path, cache, said):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(EngineError, match=r"^The model /.*broken\.onnx cannot be loaded: [^\n]+$"):
        Session(tmp_path / "broken.onnx", PLAN, kept_in=cache)
    assert entries(cache) == []
