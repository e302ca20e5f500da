"""The process's place behind others, asked of the kernel."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

ASK = """
import os, threading
from mineru_daemon import priority
go = threading.Event()
earlier = threading.Thread(target=go.wait)
earlier.start()
print(priority.apply({priority!r}))
later = threading.Thread(target=go.wait)
later.start()
for thread in (threading.main_thread(), earlier, later):
    number = thread.native_id
    print(os.sched_getscheduler(number), os.getpriority(os.PRIO_PROCESS, number))
go.set()
"""

REFUSE = """
import ctypes, struct
# A seccomp filter as the unit's: sched_setscheduler fails with EPERM, all else is allowed.
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, {number}), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7fff0000)]
code = b"".join(struct.pack("HBBI", *step) for step in steps)
kept = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(kept)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()
"""

SCHED_SETSCHEDULER = {"x86_64": 144, "aarch64": 119}


def ask(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("priority", "policy", "least"),
    [("low", os.SCHED_BATCH, 10), ("idle", os.SCHED_IDLE, 0)],
)
def test_threads_of_before_and_after_are_all_put_behind_others(priority, policy, least):
    said, *threads = ask(ASK.format(priority=priority))
    assert said == "None"
    assert len(threads) == 3
    for thread in threads:
        of, nice = map(int, thread.split())
        assert of == policy
        assert nice >= least


def test_normal_leaves_everything_as_it_was_started():
    _, *threads = ask(ASK.format(priority="normal"))
    assert set(threads) == {f"{os.sched_getscheduler(0)} {os.getpriority(os.PRIO_PROCESS, 0)}"}


def test_a_sandbox_that_refuses_is_told_in_one_sentence_with_the_way_out():
    refuse = REFUSE.format(number=SCHED_SETSCHEDULER[platform.machine()])
    said, *_ = ask(refuse + ASK.format(priority="idle"))
    assert said == (
        "The priority idle was refused (Operation not permitted); in a unit, set Nice= and "
        "CPUSchedulingPolicy=idle instead."
    )
