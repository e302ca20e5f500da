"""ONNX Runtime keeps to the plan: threads, CPU time, sockets. In processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mineru_daemon import cpu, weights
from mineru_daemon.engines import onnx, select
from mineru_daemon.engines.onnx import Session
from mineru_daemon.errors import CancelledError, EngineError
from mineru_daemon.settings import Settings

PROBE = """
import json, os, resource, sys, time
sockets = []
sys.addaudithook(lambda event, args: sockets.append(event) if event.startswith("socket") else None)
from mineru_daemon import cpu
plan = cpu.granted_threads(4, 2)
if len(sys.argv) > 1:
    plan = cpu.plan_threads(int(sys.argv[1]))
cpu.limit_libraries(plan)
import numpy as np
from mineru_daemon.engines import onnx, select
from mineru_daemon.engines.onnx import Session
from mineru_daemon import weights

def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

models = (weights.DETECTION, weights.RECOGNITION)
sessions = [Session(weights.locate(name), plan) for name in models]
sessions[0].run({"x": np.zeros((1, 3, 64, 64), np.float32)})
sessions[1].run({"x": np.zeros((1, 3, 48, 320), np.float32)})
before = cpu_seconds()
time.sleep(0.3)
idle = cpu_seconds() - before
masks = []
for task in os.listdir("/proc/self/task"):
    with open(f"/proc/self/task/{task}/status") as status:
        masks += [line.split()[1] for line in status if line.startswith("Cpus_allowed_list")]
links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
         if os.path.islink(f"/proc/self/fd/{fd}")]
print(json.dumps({
    "intra": plan.intra,
    "masks": masks,
    "idle": idle,
    "sockets": sockets + [link for link in links if link.startswith("socket:")],
    "telemetry": os.environ.get("ORT_DISABLE_TELEMETRY"),
    "modules": sorted(sys.modules),
}))
"""


def probe(*arguments: str, before: Callable[[], None] | None = None) -> dict[str, Any]:
    """What a process that ran two models says about itself."""
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        preexec_fn=before,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "ONNX Runtime is silent"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def two_threads() -> dict[str, Any]:
    return probe("2")


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    """The file that puts a process into a cgroup of half a core."""
    for root, settings in (
        (Path("/sys/fs/cgroup/cpu"), {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": 50_000}),
        (Path("/sys/fs/cgroup"), {"cpu.max": "50000 100000"}),
    ):
        group = root / f"mineru-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for name, value in settings.items():
                (group / name).write_text(str(value))
        except OSError:
            group.rmdir()
            continue
        yield group / "cgroup.procs"
        group.rmdir()
        return
    pytest.skip("no cgroup with a CPU quota can be made here")


def first_cpu() -> int:
    return min(os.sched_getaffinity(0))


def test_on_one_cpu_the_process_has_one_thread() -> None:
    seen = probe(before=lambda: os.sched_setaffinity(0, {first_cpu()}))
    assert seen["intra"] == 1
    assert len(seen["masks"]) == 1


def test_with_half_a_core_the_process_has_one_thread(half_a_core: Path) -> None:
    def join() -> None:
        half_a_core.write_text(str(os.getpid()))

    seen = probe(before=join)
    assert seen["intra"] == 1
    assert len(seen["masks"]) == 1


def test_no_thread_leaves_the_affinity_mask() -> None:
    seen = probe("2", before=lambda: os.sched_setaffinity(0, {first_cpu()}))
    assert len(seen["masks"]) > 1
    assert set(seen["masks"]) == {str(first_cpu())}


def test_threads_that_wait_cost_nothing(two_threads: dict[str, Any]) -> None:
    # Threads that spin cost about 0.05 s each after every run.
    assert two_threads["idle"] < 0.02


@pytest.mark.parametrize(("microseconds", "spinning"), [(0, "0"), (25, "1")])
def test_threads_wait_awake_for_as_long_as_the_settings_say(
    microseconds: int, spinning: str
) -> None:
    settings = Settings(spin_microseconds=microseconds)
    session = Session(weights.locate(weights.ORIENTATION), select.granted(settings))
    entry = session.native.get_session_options().get_session_config_entry
    assert entry("session.intra_op.allow_spinning") == spinning
    assert entry("session.intra_op.spin_duration_us") == str(microseconds)
    assert entry("session.force_spinning_stop") == "1"


def test_no_socket_is_opened_and_telemetry_is_off(two_threads: dict[str, Any]) -> None:
    assert two_threads["sockets"] == []
    assert two_threads["telemetry"] == "1"


class Overlap:
    """Stands in for ONNX Runtime's sessions and counts those that work together."""

    def __init__(self) -> None:
        self.working = 0
        self.most = 0

    def run(self, *_given: Any) -> list[Any]:
        self.working += 1
        self.most = max(self.most, self.working)
        time.sleep(0.01)
        self.working -= 1
        return []


def test_one_session_of_the_process_works_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    overlap = Overlap()
    sessions = [Session(weights.locate(weights.DETECTION), cpu.plan_threads(1)) for _ in range(3)]
    for session in sessions:
        monkeypatch.setattr(session, "_session", overlap)
    threads = [threading.Thread(target=session.run, args=({},)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlap.most == 1


@pytest.mark.parametrize("content", [None, b"", b"this is no model"])
def test_a_model_that_cannot_be_loaded_is_one_sentence(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError, match=r"^The model .*broken\.onnx cannot be loaded: [^\n]+$"):
        Session(path, cpu.plan_threads(1))


def _bound(session: Session, side: int) -> Any:
    binding = session.native.io_binding()
    binding.bind_cpu_input("x", np.zeros((1, 3, side, side), np.float32))
    for output in session.native.get_outputs():
        binding.bind_output(output.name)
    return binding


@pytest.mark.parametrize("shrinking", [False, True])
def test_a_watched_run_gives_the_same(shrinking: bool) -> None:
    session = Session(weights.locate(weights.DETECTION), cpu.plan_threads(1), shrinking=shrinking)
    binding = _bound(session, 64)
    session.run_bound(binding, lambda: None)
    (expected,) = session.run({"x": np.zeros((1, 3, 64, 64), np.float32)})
    assert np.array_equal(binding.copy_outputs_to_cpu()[0], expected)


def test_a_watched_run_ends_when_the_watcher_says_so() -> None:
    session = Session(weights.locate(weights.DETECTION), cpu.plan_threads(1))
    binding = _bound(session, 1600)
    began = time.monotonic()
    session.run_bound(binding)
    whole = time.monotonic() - began

    def stop() -> None:
        raise CancelledError("Stopped.")

    began = time.monotonic()
    with pytest.raises(CancelledError):
        session.run_bound(binding, stop)
    assert time.monotonic() - began < whole / 2
    session.run_bound(binding)


def test_a_watched_run_that_fails_is_one_sentence() -> None:
    session = Session(weights.locate(weights.DETECTION), cpu.plan_threads(1))
    binding = session.native.io_binding()
    binding.bind_output(session.native.get_outputs()[0].name)
    with pytest.raises(EngineError, match=r"^The model PP-OCRv6_det_tiny\.onnx failed: [^\n]+$"):
        session.run_bound(binding, lambda: None)


def test_a_model_that_fails_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    session = Session(weights.locate(weights.DETECTION), cpu.plan_threads(1))
    with pytest.raises(EngineError, match=r"^The model PP-OCRv6_det_tiny\.onnx failed: [^\n]+$"):
        session.run({"x": np.zeros((1, 7, 64, 64), np.float32)})
    assert capfd.readouterr().err == ""


def _spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize(("run", "least", "most"), [(_spin, 4, 99), (time.sleep, 1, 2)])
def test_a_run_that_computes_is_watched_and_one_that_hangs_is_not(
    monkeypatch: pytest.MonkeyPatch, run: Callable[[float], None], least: int, most: int
) -> None:
    monkeypatch.setattr(onnx, "WATCH_SECONDS", 0.1)

    class Native:
        def run_with_iobinding(self, _binding: Any, _options: Any) -> None:
            run(1.0)

    session = Session(weights.locate(weights.ORIENTATION), cpu.plan_threads(1))
    session._session = Native()
    calls: list[None] = []
    session.run_bound(None, lambda: calls.append(None))
    assert least <= len(calls) <= most


def test_a_run_is_not_watched_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "WATCH_SECONDS", 0.1)
    monkeypatch.setattr(onnx, "LONGEST_RUN_SECONDS", 0.3)

    class Native:
        def run_with_iobinding(self, _binding: Any, _options: Any) -> None:
            _spin(1.5)

    session = Session(weights.locate(weights.ORIENTATION), cpu.plan_threads(1))
    session._session = Native()
    calls: list[None] = []
    session.run_bound(None, lambda: calls.append(None))
    assert len(calls) <= 4
