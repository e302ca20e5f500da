"""What the daemon tells of itself."""

from __future__ import annotations

import os
import time

from mineru_daemon import status as module
from mineru_daemon.status import Status


def test_the_written_status_is_read_back_and_known_to_run(tmp_path):
    status = Status()
    status.set(state="serving", inbox_files=3)
    status.working_on("a\nb.pdf", 1, 4)
    assert status.write_to(tmp_path)
    state = module.read(tmp_path)
    assert state is not None
    assert state["inbox_files"] == 3
    assert state["current"] == {"file": r"a\nb.pdf", "page": 1, "pages": 4}
    assert state["pid"] == os.getpid()
    assert "page 2 of 4" in module.describe(state, tmp_path)


def test_nothing_is_written_while_nothing_changes(tmp_path):
    status = Status()
    assert status.write_to(tmp_path)
    assert not status.write_to(tmp_path)
    status.set(queued=0)
    assert not status.write_to(tmp_path)
    status.set(queued=1)
    assert status.write_to(tmp_path)


def test_a_daemon_that_died_is_not_said_to_run(tmp_path):
    status = Status()
    status.set(state="serving")
    status._state["pid"] = 2**22 + 1  # above the kernel's largest process number
    status.write_to(tmp_path)
    state = module.read(tmp_path)
    assert state is not None
    assert state["running"] is False
    assert "not running" in module.describe(state, tmp_path)


def test_without_a_daemon_there_is_advice(tmp_path):
    assert module.read(tmp_path) is None
    assert "mineru-daemon run" in module.describe(None, tmp_path)


def test_a_thread_without_progress_is_found_and_one_at_rest_is_not():
    status = Status()
    status.beat("worker")
    assert status.stalled(60) is None
    time.sleep(0.02)
    assert status.stalled(0.01) == "worker"
    status.rest("worker")
    assert status.stalled(0.01) is None


def test_troubles_come_and_go_and_stand_in_the_line():
    status = Status()
    status.trouble("worker", "no space left")
    assert "TROUBLE: no space left" in status.line()
    status.trouble("worker", None)
    assert "TROUBLE" not in status.line()


def test_counts_rates_and_the_last_failure():
    status = Status()
    status.page_done(2.0)
    status.page_done(4.0)
    status.file_done("success", "a", None)
    status.file_done("failed", "b", "it is\nbroken")
    state = status.snapshot()
    assert (state["success"], state["failed"], state["pages"]) == (1, 1, 2)
    assert state["mean_page_seconds"] == 3.0
    assert state["pages_per_minute"] > 0
    assert state["last_failure"]["reason"] == r"it is\nbroken"
    assert "1 read, 0 in part, 1 failed" in status.line()


def test_what_cannot_report_progress_counts_as_progress_for_so_long_only():
    status = Status()
    with status.beating("worker", 60):
        first, deadline = status._beats["worker"], time.monotonic() + 60
        while status._beats["worker"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with status.beating("worker", 0):
        time.sleep(1.5)
        assert status.stalled(1.2) == "worker"
    assert status.stalled(1.2) is None
