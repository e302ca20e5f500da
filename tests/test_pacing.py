"""Rests: how long, what ends them, and that nobody takes them for a standstill."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from mineru_daemon import pacing, pressure
from mineru_daemon.pacing import SHORTEST_REST, Pacer, granted_cpus
from mineru_daemon.status import Status


class Paced:
    """A pacer with settings that can be exchanged."""

    def __init__(self, settings):
        self.settings = settings
        self.status = Status()
        self.stopping = threading.Event()
        self.pacer = Pacer(lambda: self.settings, self.status, self.stopping)
        self.pacer.before_page()


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_what_was_spent_is_rested_for_before_the_next_page(make_settings, monkeypatch):
    # What other threads of this process spend meanwhile is not the matter.
    spent = [7.0]
    monkeypatch.setattr(pacing, "cpu_seconds", lambda: spent[0])
    settings = make_settings(cpu_budget=0.1, intra_op_num_threads=1)
    began = time.monotonic()
    paced = Paced(settings)
    for page in (1, 2):
        spent[0] += 0.05
        paced.pacer.before_page()
        assert time.monotonic() - began >= page * 0.05 / (0.1 * granted_cpus(settings))
    assert paced.pacer.rested > 0


def test_without_a_budget_there_is_no_rest(make_settings):
    for share in (0.0, 1.0):
        paced = Paced(make_settings(cpu_budget=share))
        burn(0.1)
        paced.pacer.before_page()
        paced.pacer.within_page()
        assert paced.pacer.rested == 0.0


def test_within_a_page_a_rest_waits_until_it_is_worth_it(make_settings):
    paced = Paced(make_settings(cpu_budget=0.02, intra_op_num_threads=1))
    burn(0.001)
    paced.pacer.within_page()
    assert paced.pacer.rested == 0.0
    while not paced.pacer.rested:
        burn(0.05)
        paced.pacer.within_page()
    assert paced.pacer.rested > SHORTEST_REST / 2


def test_a_rest_ends_even_if_to_look_at_the_budget_costs_more_than_it_grants(make_settings):
    paced = Paced(make_settings(cpu_budget=0.02, intra_op_num_threads=1))
    settings = paced.settings

    class Costly:
        @property
        def cpu_budget(self):
            burn(0.01)
            return settings.cpu_budget

        def __getattr__(self, name):
            return getattr(settings, name)

    paced.settings = Costly()
    burn(0.05)
    done = threading.Thread(target=paced.pacer.before_page, daemon=True)
    done.start()
    done.join(120)
    assert not done.is_alive()
    assert paced.pacer.rested > 0


@pytest.mark.parametrize("moment", ["before_page", "within_page"])
def test_a_stop_ends_a_rest_at_once(make_settings, moment):
    paced = Paced(make_settings(cpu_budget=0.0001))
    burn(0.3)
    threading.Timer(0.2, paced.stopping.set).start()
    getattr(paced.pacer, moment)()  # hours, if it did not end
    assert paced.stopping.is_set()


def test_a_reloaded_budget_ends_a_rest(make_settings):
    paced = Paced(make_settings(cpu_budget=0.0001))
    burn(0.3)

    def reload():
        paced.settings = make_settings(cpu_budget=0.0)

    threading.Timer(0.2, reload).start()
    paced.pacer.before_page()
    assert paced.settings.cpu_budget == 0.0
    assert "resting" not in paced.status.line()


def test_a_rest_is_told_and_is_no_standstill(make_settings):
    paced = Paced(make_settings(cpu_budget=0.0001))
    burn(0.3)
    thread = threading.Thread(target=paced.pacer.before_page)
    thread.start()
    while "resting for cpu_budget" not in paced.status.line():
        assert thread.is_alive()
    beats: set[float | None] = set()
    deadline = time.monotonic() + 60
    while len(beats) < 3 and time.monotonic() < deadline:
        beats.add(paced.status._beats.get("worker"))
        time.sleep(0.05)
    assert len(beats) >= 3
    paced.stopping.set()
    thread.join()


# --- others ------------------------------------------------------------------


@pytest.fixture
def wanted():
    """Four times as many processes as there are CPUs, all of them computing."""
    code = "while True: pass"
    count = 4 * len(os.sched_getaffinity(0))
    crowd = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    yield crowd
    for one in crowd:
        one.kill()
        one.wait()


def told():
    if pressure.read() is None:
        pytest.skip("this kernel keeps no pressure stall information (psi=1)")


def test_a_page_is_put_off_while_others_want_the_cpu_but_not_for_ever(
    make_settings, wanted, monkeypatch
):
    told()
    monkeypatch.setattr(pacing, "YIELD_SECONDS", 2.5)
    deadline = time.monotonic() + 60
    while (found := pressure.read()) and found.recent < 30 and time.monotonic() < deadline:
        time.sleep(0.2)
    paced = Paced(make_settings())
    paced.settings = make_settings(pressure_limit=10.0)
    paced.pacer.before_page()
    assert 2.5 <= paced.pacer.rested < 60


def test_a_page_is_not_put_off_below_the_limit(make_settings):
    told()
    paced = Paced(make_settings(pressure_limit=100.0))
    paced.pacer.before_page()
    assert paced.pacer.rested == 0.0


def test_where_the_kernel_does_not_tell_nobody_waits(make_settings, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(pressure, "read", lambda: None)
    paced = Paced(make_settings(pressure_limit=1.0))
    paced.pacer.before_page()
    assert paced.pacer.rested == 0.0
    assert capsys.readouterr().out.count("pressure-unknown") == 1


def test_the_cpus_of_the_process_are_bounded_by_its_threads(make_settings):
    assert granted_cpus(make_settings(intra_op_num_threads=1)) <= 1
