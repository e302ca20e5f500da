"""The kernel's word on how much the CPU is wanted."""

from __future__ import annotations

import pytest

from mineru_daemon import pressure
from mineru_daemon.pressure import Pressure

TEXT = (
    "some avg10=28.04 avg60=49.15 avg300=23.68 total=6079955637\n"
    "full avg10=1.00 avg60=0.00 avg300=0.00 total=5\n"
)


def test_the_line_of_some_is_read_not_that_of_all(tmp_path):
    (tmp_path / "cpu").write_text(TEXT)
    assert pressure.read(tmp_path / "cpu") == Pressure(28.04, 6_079_955_637)


@pytest.mark.parametrize("text", ["", "some\n", "some avg10=x total=1\n", "full avg10=1 total=1\n"])
def test_another_form_is_no_answer(tmp_path, text):
    (tmp_path / "cpu").write_text(text)
    assert pressure.read(tmp_path / "cpu") is None


def test_a_kernel_that_does_not_tell_is_no_error(tmp_path):
    assert pressure.read(tmp_path / "none") is None


def test_between_two_looks_the_share_is_that_of_the_time_between():
    before, after = Pressure(99.0, 1_000_000), Pressure(0.0, 1_500_000)
    assert after.since(before, 2.0) == pytest.approx(25.0)
