"""Sessions take turns in one memory, and it goes back when they are closed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import hashlib, json, sys
from pathlib import Path
import numpy as np
from mineru_daemon import cpu, memory, weights
from mineru_daemon.engines.onnx import Session

def private_mib():
    memory.give_back()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024

def ones(height, width):
    return {"x": np.ones((1, 3, height, width), np.float32)}

own_arena, closing = json.loads(sys.argv[1])
plan = cpu.plan_threads(1, 1)
names = (weights.DETECTION, weights.RECOGNITION)
sessions = [Session(weights.locate(name), plan, own_arena=own_arena) for name in names]
for session, feeds in zip(sessions, (ones(64, 64), ones(48, 48))):
    session.run(feeds)
loaded = private_mib()
digest = hashlib.sha256()
for session, feeds in zip(sessions, (ones(960, 704), ones(48, 3200))):
    for array in session.run(feeds):
        digest.update(array.tobytes())
del array
ran = private_mib()
if closing:
    sessions.pop(0).close()
closed = private_mib()
again = sessions[-1].run(ones(48, 48))[0].shape[0]
print(json.dumps([ran - loaded, closed - loaded, digest.hexdigest(), again]))
"""


def measured(own_arena: bool, closing: bool = False) -> Any:
    """MiB after two large runs and after one session was closed, more than after loading."""
    words = json.dumps([own_arena, closing])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, words], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.slow
def test_two_sessions_need_the_memory_of_the_larger_one_and_say_the_same():
    own, shared = measured(own_arena=True), measured(own_arena=False)
    assert shared[0] < 0.75 * own[0]
    assert shared[2] == own[2]


@pytest.mark.slow
def test_closing_a_session_gives_back_the_memory_and_the_other_one_runs_on():
    ran, closed, _, again = measured(own_arena=False, closing=True)
    assert ran > 50
    assert closed < 0.2 * ran
    assert again == 1
