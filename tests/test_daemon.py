"""The daemon as a process: start, signals, systemd's protocol, stop, threads."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from daemon_process import PATIENCE, is_gone

from mineru_daemon.samples import paths
from mineru_daemon.settings import FOLDER_NAMES

PDF, PNG = paths()


def test_a_dropped_screenshot_is_read(start):
    daemon = start().ready()
    daemon.drop(PNG)
    result = daemon.result(PNG.name)
    assert result["status"] == "success"
    assert "Order desk" in (daemon.folders["outbox"] / f"{PNG.name}.md").read_text("utf-8")
    assert (daemon.folders["done"] / PNG.name).exists()
    assert daemon.stop() == 0


def test_ready_comes_after_the_warm_up_and_stopping_before_the_end(start):
    daemon = start().ready()
    assert daemon.events("engine-ready")
    assert any(line.startswith("STATUS=serving") for line in daemon.told)
    assert daemon.stop() == 0
    assert "STOPPING=1" in daemon.told
    assert daemon.events("stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_the_midst_of_work_keeps_it_for_the_next_start(start, number):
    daemon = start("--stop-seconds=0", "--pdf-mode=ocr").ready()
    daemon.drop(PDF)
    daemon.until(lambda: daemon.events("claimed"))
    began = time.monotonic()
    assert daemon.stop(number) == 0
    assert time.monotonic() - began < 20
    assert not list(daemon.folders["outbox"].iterdir())
    again = start().ready()
    assert again.events("resumed")
    assert len(again.result(PDF.name)["pages"]) == 2


def test_a_second_daemon_on_the_same_folders_is_refused(start, tmp_path):
    first = start().ready()
    second = start()
    assert second.process.wait(60) == 75
    assert "Another mineru-daemon already works" in second.log.read_text()
    assert first.process.poll() is None


def test_sighup_takes_over_what_can_change_and_names_what_cannot(start, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("max_pages = 5\n")
    daemon = start(f"--config={config}").ready()
    config.write_text("max_pages = 1\nqueue_depth = 9\nlog_level = 'debug'\n")
    daemon.told.clear()
    daemon.process.send_signal(signal.SIGHUP)
    (event,) = daemon.until(lambda: daemon.events("reloaded"))
    assert sorted(event["changed"]) == ["log_level", "max_pages"]
    assert event["needs_restart"] == ["queue_depth"]
    daemon.until(lambda: "READY=1" in daemon.told)
    assert daemon.told.index("RELOADING=1") < daemon.told.index("READY=1")
    daemon.drop(PDF)
    assert daemon.result(PDF.name, "failed")["error"]["code"] == "too-large"
    config.write_text("nonsense = 1\n")
    daemon.process.send_signal(signal.SIGHUP)
    (event,) = daemon.until(lambda: daemon.events("reload-refused"))
    assert "nonsense" in event["error"]
    assert daemon.process.poll() is None


def test_status_tells_from_outside(start):
    daemon = start().ready()
    daemon.drop(PNG)
    daemon.result(PNG.name)
    options = [f"--{name}={folder}" for name, folder in daemon.folders.items()]

    def status():
        done = subprocess.run(
            [sys.executable, "-m", "mineru_daemon", "status", "--json", *options],
            capture_output=True,
        )
        return done.returncode, json.loads(done.stdout)

    code, state = daemon.until(lambda: (s := status())[1]["success"] == 1 and s)
    assert code == 0
    assert state["running"] is True
    assert state["engine"].startswith("ppocr")
    daemon.stop()
    assert status()[0] == 3


def test_every_line_of_the_log_is_one_json_event(start):
    daemon = start("--log-level=debug").ready()
    daemon.drop(PNG, "odd\n\x1b[31m name.png")
    daemon.until(lambda: daemon.events("success"))
    daemon.stop()
    for line in daemon.log.read_text().splitlines():
        assert {"event", "level", "timestamp"} <= set(json.loads(line))
        assert "\x1b" not in line


def test_the_watchdog_is_fed_while_idle_and_while_working(start):
    daemon = start(WATCHDOG_USEC="900000").ready()
    daemon.told.clear()
    daemon.until(lambda: daemon.told.count("WATCHDOG=1") >= 3)
    daemon.drop(PDF)
    daemon.told.clear()
    daemon.result(PDF.name)
    daemon.hear()
    assert "WATCHDOG=1" in daemon.told


HANGING = """
import sys, threading
from mineru_daemon.engines.ppocr.engine import PPOCREngine
read = PPOCREngine.read
def hang(self, page, progress):
    if page.width_pt is None:
        threading.Event().wait()
    return read(self, page, progress)
PPOCREngine.read = hang
from mineru_daemon.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_hung_engine_ends_the_daemon_and_its_file_is_set_aside_in_the_end(tmp_path):
    folders = [f"--{name}={tmp_path / name}" for name in FOLDER_NAMES]
    (tmp_path / "inbox").mkdir()
    from PIL import Image

    Image.open(PNG).save(tmp_path / "inbox" / "hangs.png", dpi=None)
    options = ["--settle-seconds=0", "--stall-seconds=5", "--max-attempts=1"]
    command = [sys.executable, "-c", HANGING, "run", *folders, *options]
    first = subprocess.run(command, timeout=PATIENCE, capture_output=True, text=True)
    assert first.returncode == 70
    assert '"event": "hung"' in first.stderr
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as second:
        deadline = time.monotonic() + PATIENCE
        while not (tmp_path / "failed" / "hangs.png.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        second.terminate()
    document = json.loads((tmp_path / "failed" / "hangs.png.json").read_text())
    assert document["error"]["code"] == "crashed"


def compute_threads(pid):
    """Threads of a process by name, but for those of Python and of the watcher."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def test_on_one_cpu_no_compute_thread_is_started(start):
    if shutil.which("taskset") is None:
        pytest.fail("taskset (util-linux) is needed")
    daemon = start(prefix=("taskset", "-c", "0")).ready()
    daemon.drop(PNG)
    result = daemon.result(PNG.name)
    assert result["engine"]["settings"]["intra_op_num_threads"] == 1
    # Main, worker, inbox, and watchdog's three: nobody else computes.
    assert compute_threads(daemon.process.pid) <= 6


def test_no_network_socket_is_ever_opened(start):
    daemon = start().ready()
    daemon.drop(PDF)
    daemon.result(PDF.name)
    descriptors = Path(f"/proc/{daemon.process.pid}/fd")
    targets = [os.readlink(fd) for fd in descriptors.iterdir() if fd.exists()]
    assert not [target for target in targets if target.startswith("socket:")]


def test_a_daemon_of_tests_that_are_killed_ends_with_them(tmp_path):
    program = """
import sys
from pathlib import Path
from daemon_process import Running
running = Running(Path(sys.argv[1]))
comm = Path(f"/proc/{running.process.pid}/comm")
while not comm.read_text().startswith("python"):
    pass
print(running.process.pid, flush=True)
input()
"""
    search = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": search},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        assert tests.stdout
        daemon = int(tests.stdout.readline())
        assert not is_gone(daemon)
        tests.kill()
    deadline = time.monotonic() + PATIENCE
    while not is_gone(daemon):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_kept_originals_are_not_read_again_after_a_restart(start):
    daemon = start("--on-success=keep").ready()
    daemon.drop(PNG)
    daemon.result(PNG.name)
    daemon.stop()
    again = start("--on-success=keep").ready()
    again.drop(PDF)
    again.result(PDF.name)
    names = sorted(path.name for path in again.folders["outbox"].glob("*.json"))
    assert names == [f"{PDF.name}.json", f"{PNG.name}.json"]
    assert (again.folders["inbox"] / PNG.name).exists()
