"""Whatever a disk answers, at whatever step: nothing is lost or doubled, and it goes on.

Errors are put in the place of the kernel's answers, for one file operation after the
other; what real full and read-only file systems do is in test_mounts.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from pathlib import Path

import pytest
from fault_injection import ERRORS, Fault, House, houses, serve
from small_process import in_small_process

from mineru_daemon.settings import FOLDER_NAMES

WAYS = [name for name, _ in houses(Path("/a"), Path("/b"))]

REFUSALS_PER_SECOND = 2
"""What is tried while a disk refuses: a few operations at each attempt, and attempts that
come more and more seldom. In seconds that the daemon meant to wait."""


@pytest.fixture
def house(request, tmp_path, elsewhere):
    return dict(houses(elsewhere, tmp_path))[request.param]


def operations(house: House) -> int:
    house.deliver()
    report = serve(house, None)
    assert report.wrong == []
    assert report.operations > 60
    return report.operations


@pytest.mark.slow
@pytest.mark.parametrize("house", WAYS, indirect=True)
def test_an_operation_that_fails_once_only_delays(house):
    in_small_process(fail_each_operation_once, house)


def fail_each_operation_once(house: House) -> None:
    wrong, refused = [], 0
    for at in range(operations(house)):
        for number in (ERRORS[at % len(ERRORS)], ERRORS[(at + 2) % len(ERRORS)]):
            house.deliver()
            report = serve(house, Fault(number, at))
            refused += report.refused
            wrong += [f"{errno.errorcode[number]} at {at}: {what}" for what in report.wrong]
    assert wrong == [], wrong
    assert refused > 60
    print(f"{refused} operations refused, {refused} files delivered, 0 lost, 0 doubled")


@pytest.mark.slow
@pytest.mark.parametrize("house", WAYS, indirect=True)
def test_a_folder_that_fails_for_long_is_waited_for_and_named(house):
    in_small_process(fail_for_long, house)


def fail_for_long(house: House) -> None:
    """From any step on; the daemon waits, tries seldom, says why, and goes on by itself."""
    wrong, met = [], Counter[str]()
    every = 12
    combinations = [(number, name) for number in ERRORS for name in FOLDER_NAMES]
    for at in range(0, operations(house), every):
        for number, name in combinations[at // every % 2 :: 2]:
            house.deliver()
            report = serve(house, Fault(number, at, rests=4, folder=name))
            where = f"{errno.errorcode[number]} in {name} at {at}"
            wrong += [f"{where}: {what}" for what in report.wrong]
            if report.refused:
                met[name] += 1
                folder = f"{name} {getattr(house.settings, name)}"
                said = " ".join(report.troubles)
                if report.waited and not (folder in said and os.strerror(number) in said):
                    wrong.append(f"{where}: said {report.troubles}")
                if report.refused > REFUSALS_PER_SECOND * max(report.waited, 5):
                    wrong.append(f"{where}: {report.refused} refusals in {report.waited} s")
    assert wrong == [], wrong
    assert len(met) >= 3
    print(f"{met.total()} files delivered under faults, 0 lost, 0 doubled; {dict(met)}")
