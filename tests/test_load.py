"""Many files at once, and none at all: memory, order and processor time of the daemon.

The files are of no supported kind, so that the engine takes no part in it. The longer
versions are `mineru-daemon bench backlog` and `mineru-daemon bench idle`.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mineru_daemon.bench import backlog, idle, overhead
from mineru_daemon.bench.process import Served
from mineru_daemon.inbox import Inbox
from mineru_daemon.spool import Spool
from mineru_daemon.status import Status

FILES = 1500
FLOOD = 300
"""Behind an overflow, which is what matters, as many as fit between two listings will do."""
GROWTH_MIB = 10.0
"""Far below what a growth with each file would come to in 10,000, far above noise."""

EVENTS_KEPT = Path("/proc/sys/fs/inotify/max_queued_events")


@pytest.fixture
def in_memory(tmp_path) -> Iterator[Path]:
    """A folder whose disk does not have to be waited for, where there is one."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="mineru-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
def test_a_backlog_found_at_the_start_is_served_oldest_first_in_flat_memory(in_memory):
    load = backlog.measure(in_memory, FILES, running=False)
    assert load.results == FILES
    assert load.late == 0
    assert load.growth_mib < GROWTH_MIB


@pytest.mark.slow
def test_a_flood_that_overflows_the_kernels_queue_of_events_is_served_all_the_same(in_memory):
    served = Served(in_memory, *backlog.OPTIONS)
    served.start()
    served.wait_until_ready()
    os.kill(served.pid, signal.SIGSTOP)
    try:
        # Each rename is two events; the daemon cannot read any of them meanwhile.
        one, other = served.inbox / ".one", served.inbox / ".other"
        one.touch()
        for _ in range(int(EVENTS_KEPT.read_text()) // 4 + 10):
            one.rename(other)
            other.rename(one)
        backlog.drop(in_memory, served.inbox, FLOOD)
    finally:
        os.kill(served.pid, signal.SIGCONT)
    deadline = time.monotonic() + 120
    while served.count("failed") < FLOOD and time.monotonic() < deadline:
        time.sleep(0.25)
    served.stop()
    assert len(list(served.failed.glob("*.json"))) == FLOOD


def test_listing_an_inbox_of_ten_thousand_files_costs_well_under_a_second(settings):
    for number in range(10_000):
        (settings.inbox / f"{number}.pdf").touch()
    with Spool.opened(settings) as spool:
        status = Status()
        inbox = Inbox(settings, spool, status, offer=lambda job: None, room=lambda: False)
        began = time.process_time()
        inbox.step(time.monotonic())
        assert time.process_time() - began < 0.8
        assert status.snapshot()["inbox_files"] == 10_000
        assert status.snapshot()["settling"] <= 1000


@pytest.mark.slow
def test_an_idle_daemon_costs_next_to_nothing(tmp_path):
    # Twice what is allowed: a cold cache, or neighbours, make each look dearer.
    assert idle.measure(tmp_path, seconds=12).share < 2 * idle.ALLOWED


@pytest.mark.slow
def test_around_the_engine_a_small_screenshot_takes_little(in_memory):
    # The fastest, as others may use the machine: 50 ms are allowed on a quiet one.
    assert min(overhead.measure(in_memory, files=5)) < 0.050
