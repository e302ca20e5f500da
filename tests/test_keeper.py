"""The engine follows what the unit grants while the daemon runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from daemon_process import Running
from PIL import Image

from mineru_daemon import cpu
from mineru_daemon.documents import open_document
from mineru_daemon.engines.keeper import EngineKeeper
from mineru_daemon.errors import EngineError
from mineru_daemon.reading import limits_of
from mineru_daemon.settings import Settings

PAGES = 8


class Grant:
    """What a unit grants, as a test changes it."""

    def __init__(self, mask: int, quota: float | None = None) -> None:
        self.mask, self.quota = mask, quota

    def __call__(self, settings: Settings) -> cpu.ThreadPlan:
        return cpu.plan_threads(settings.intra_op_num_threads, 1, mask=self.mask, quota=self.quota)


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_a_smaller_quota_takes_the_engines_threads_away(settings: Settings) -> None:
    grant = Grant(1)
    keeper = EngineKeeper(settings, grant)
    alone = threads()
    grant.mask = 3
    assert keeper.follow()
    assert threads() > alone
    grant.quota = 0.7
    with structlog.testing.capture_logs() as events:
        assert keeper.follow()
    assert threads() == alone
    [event] = events
    assert (event["event"], event["before"], event["threads"]) == ("threads-changed", 3, 1)
    assert (event["cpus"], event["quota"]) == (3, 0.7)
    assert keeper.info.settings["intra_op_num_threads"] == 1
    keeper.close()


def test_the_engine_stays_where_the_same_threads_are_granted(settings: Settings) -> None:
    grant = Grant(2, 4.0)
    keeper = EngineKeeper(settings, grant)
    engine = keeper._engine
    grant.quota = 1.5
    assert not keeper.follow()
    assert keeper._engine is engine
    keeper.close()


def test_an_engine_that_cannot_be_loaded_anew_is_tried_again(
    settings: Settings, draw_png: Callable[..., Path], tmp_path: Path, monkeypatch: Any
) -> None:
    grant = Grant(2)
    keeper = EngineKeeper(settings, grant)
    grant.mask = 1
    with monkeypatch.context() as patch:
        patch.setattr("mineru_daemon.weights.locate", lambda name: tmp_path / name)
        for _ in range(2):
            with pytest.raises(EngineError, match="cannot be loaded"):
                keeper.follow()
    assert keeper.follow()
    path = draw_png(tmp_path / "page.png", "Hello world")
    with open_document(path, limits_of(settings), 200) as document:
        reading = keeper.read(document.page(0), lambda _stage: None)
    assert reading.blocks[0].content == "Hello world"
    keeper.close()


def several_cpus() -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        len(os.sched_getaffinity(0)) < 2, reason="one CPU alone cannot be made fewer"
    )


@several_cpus()
def test_threads_take_over_the_mask_of_the_main_thread() -> None:
    mask = os.sched_getaffinity(0)
    changed = threading.Event()
    found: list[set[int]] = []

    def look() -> None:
        changed.wait()
        found.append(os.sched_getaffinity(0))
        cpu.share_affinity()
        found.append(os.sched_getaffinity(0))

    other = threading.Thread(target=look)
    other.start()
    try:
        os.sched_setaffinity(os.getpid(), {min(mask)})
        assert cpu.affinity() == 1
        changed.set()
        other.join()
    finally:
        os.sched_setaffinity(os.getpid(), mask)
    assert found == [mask, {min(mask)}]


def masks(pid: int) -> set[str]:
    """The CPUs that the threads of a process may use."""
    found = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        [line] = [
            line
            for line in (thread / "status").read_text().splitlines()
            if line.startswith("Cpus_allowed_list:")
        ]
        found.add(line.split()[1])
    return found


@several_cpus()
def test_a_running_daemon_follows_its_affinity_between_two_pages(
    start: Callable[..., Running], draw_png: Callable[..., Path], tmp_path: Path
) -> None:
    pages = [Image.open(draw_png(tmp_path / f"{n}.png", f"Page {n}")) for n in range(PAGES)]
    pages[0].save(tmp_path / "long.pdf", save_all=True, append_images=pages[1:])
    daemon = start("--log-level=debug").ready()
    [ready] = daemon.events("engine-ready")
    assert ready["threads"] == min(4, len(os.sched_getaffinity(0)))
    daemon.drop(tmp_path / "long.pdf")
    daemon.until(lambda: daemon.events("page"))
    one = min(os.sched_getaffinity(0))
    os.sched_setaffinity(daemon.process.pid, {one})
    result = daemon.result("long.pdf")
    [change] = daemon.events("threads-changed")
    assert (change["before"], change["threads"]) == (ready["threads"], 1)
    assert (change["cpus"], change["quota"]) == (1, ready["quota"])
    assert masks(daemon.process.pid) == {str(one)}
    # In the midst of the document, of which each page was read, and once.
    log = [line["event"] for line in map(json.loads, daemon.log.read_text().splitlines())]
    assert 0 < log[: log.index("threads-changed")].count("page") < PAGES
    assert [event["page"] for event in daemon.events("page")] == list(range(PAGES))
    assert [page["blocks"][0]["content"] for page in result["pages"]] == [
        f"Page {n}" for n in range(PAGES)
    ]
    assert result["engine"]["settings"]["intra_op_num_threads"] == 1
    daemon.until(
        lambda: any(line.startswith("STATUS=serving with 1 thread;") for line in daemon.told)
    )
    folders = [f"--{name}={folder}" for name, folder in daemon.folders.items()]
    told = subprocess.run(
        [sys.executable, "-m", "mineru_daemon", "status", "--json", *folders], capture_output=True
    )
    state = json.loads(told.stdout)
    assert (state["threads"], state["cpus"], state["cpu_quota"]) == (1, 1, ready["quota"])
