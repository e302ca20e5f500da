"""The account of CPU seconds: what is owed, what is forgiven, and whose time counts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from mineru_daemon import budget
from mineru_daemon.budget import CREDIT_SECONDS, DEBT_SECONDS, CpuBudget, cpu_seconds

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


@pytest.mark.parametrize("rate", [0.05, 0.5, 1.5])
def test_work_that_rests_as_long_as_it_is_told_keeps_the_mean(rate):
    now = spent = 0.0
    account = CpuBudget(now, spent)
    for cost in (0.1, 3.0, 0.01, 40.0, 0.5) * 20:
        now, spent = now + cost / 2, spent + cost  # on two threads
        rest = account.rest(rate, now, spent)
        now += rest
    assert account.rest(rate, now, spent) == pytest.approx(0, abs=1e-6)
    assert spent / now == pytest.approx(rate, rel=1e-6)


def test_a_page_that_costs_more_than_the_budget_is_paid_back_whole():
    account = CpuBudget(0.0, 0.0)
    assert account.rest(0.5, 50.0, 100.0) == pytest.approx(150.0)
    assert account.rest(0.5, 200.0, 100.0) == pytest.approx(0.0)


def test_an_interrupted_rest_is_owed_further():
    account = CpuBudget(0.0, 0.0)
    account.rest(1.0, 0.0, 10.0)
    assert account.rest(1.0, 4.0, 10.0) == pytest.approx(6.0)


def test_quiet_hours_are_made_up_for_by_ten_seconds_only():
    account = CpuBudget(0.0, 0.0)
    assert account.rest(0.5, 3600.0, 0.0) == 0.0
    saved = 0.5 * CREDIT_SECONDS
    assert account.rest(0.5, 3600.0, saved) == 0.0
    assert account.rest(0.5, 3600.0, saved + 1.0) == pytest.approx(2.0)


def test_no_number_however_wrong_stops_the_work_for_ever():
    account = CpuBudget(0.0, 0.0)
    assert account.rest(0.5, 1.0, 1e12) == pytest.approx(DEBT_SECONDS)


def test_clocks_that_go_back_change_nothing():
    account = CpuBudget(100.0, 100.0)
    assert account.rest(0.5, 90.0, 90.0) == 0.0
    assert account.rest(0.5, 90.0, 91.0) == pytest.approx(2.0)


def test_a_change_of_the_rate_holds_from_then_on():
    account = CpuBudget(0.0, 0.0)
    assert account.rest(0.5, 0.0, 1.0) == pytest.approx(2.0)
    assert account.rest(0.1, 1.0, 1.0) == pytest.approx(9.0)


def test_children_count_while_they_live_and_after_they_ended():
    before = cpu_seconds()
    code = BURN.format(seconds=0.3) + "print(flush=True)\ninput()\n"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        assert child.stdin
        child.stdout.readline()
        assert cpu_seconds() - before > 0.3
        child.stdin.write(b"\n")
    assert cpu_seconds() - before > 0.3


def test_grandchildren_and_the_children_of_threads_count():
    before = cpu_seconds()
    inner = BURN.format(seconds=0.3) + "print(flush=True)\ninput()\n"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {inner!r}])"
    seen = []

    def run():
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            assert child.stdout
            assert child.stdin
            child.stdout.readline()
            seen.append(cpu_seconds() - before)
            child.stdin.write(b"\n")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen[0] > 0.3


def test_a_process_that_is_gone_has_no_time():
    assert budget.process_seconds(2**22 + 1) == 0.0
    assert budget.process_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.5)
