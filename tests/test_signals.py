"""Signals come at any instruction of the main thread, and never hang it."""

from __future__ import annotations

import os
import signal
import time

import pytest

from mineru_daemon.bench.process import Served

SIGNALS = 10_000


@pytest.mark.slow
def test_a_storm_of_signals_does_not_hang_the_daemon(tmp_path):
    served = Served(tmp_path, "--log-level=error")
    served.start()
    while not (served.spool / "status.json").exists():
        assert served.alive()
        time.sleep(0.05)
    for _ in range(SIGNALS):
        os.kill(served.pid, signal.SIGHUP)
        time.sleep(0.0002)
    assert served.stop() == 0
