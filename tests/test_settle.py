"""When a file counts as finished: the pure state machine."""

from __future__ import annotations

from pathlib import Path

from mineru_daemon.settle import Settler
from mineru_daemon.storage import Identity

SCAN = Path("scan.pdf")


def state(size=10, mtime=1, inode=1):
    return Identity(1, inode, size, mtime)


def test_a_file_is_settled_when_nothing_changed_for_the_quiet_time():
    settler = Settler(2, 7)
    settler.see(SCAN, state(), 0)
    settler.see(SCAN, state(), 1.9)
    assert list(settler.settled(1.9)) == []
    assert list(settler.settled(2.0)) == [SCAN]


def test_size_time_and_identity_each_start_the_quiet_time_anew():
    for change in (state(size=11), state(mtime=2), state(inode=2)):
        settler = Settler(2, 7)
        settler.see(SCAN, state(), 0)
        settler.see(SCAN, change, 1)
        assert list(settler.settled(2.5)) == []
        assert list(settler.settled(3.0)) == [SCAN]


def test_who_paused_once_is_given_twice_the_pause_but_no_more_than_allowed():
    settler = Settler(2, 7)
    settler.see(SCAN, state(size=1), 0)
    settler.see(SCAN, state(size=2), 1.5)
    assert list(settler.settled(1.5 + 2.9)) == []
    assert list(settler.settled(1.5 + 3.0)) == [SCAN]
    settler.see(SCAN, state(size=3), 10)
    assert list(settler.settled(10 + 6.9)) == []
    assert list(settler.settled(10 + 7.0)) == [SCAN]


def test_oldest_come_first():
    settler = Settler(0, 0)
    for name, mtime in (("b", 3), ("a", 5), ("c", 1)):
        settler.see(Path(name), state(mtime=mtime), 0)
    assert [path.name for path in settler.settled(0)] == ["c", "b", "a"]


def test_an_incomplete_file_is_not_offered_until_it_changes():
    settler = Settler(2, 7)
    settler.see(SCAN, state(), 0)
    settler.refuse(SCAN)
    assert list(settler.settled(100)) == []
    settler.see(SCAN, state(size=20), 101)
    assert list(settler.settled(110)) == [SCAN]


def test_an_incomplete_file_expires_when_it_stays_as_it_is():
    settler = Settler(2, 7)
    settler.see(SCAN, state(), 10)
    settler.refuse(SCAN)
    assert list(settler.refused(309, 300)) == []
    assert list(settler.refused(310, 300)) == [SCAN]
    assert settler.next_due(20, 300) == 290


def test_a_longer_quiet_time_can_be_asked_for():
    settler = Settler(2, 7)
    settler.see(SCAN, state(), 0)
    assert settler.wait(SCAN, 7) is True
    assert list(settler.settled(6.9)) == []
    assert list(settler.settled(7)) == [SCAN]
    assert settler.wait(SCAN, 7) is False


def test_a_postponed_file_comes_back_at_its_time():
    settler = Settler(0, 0)
    settler.see(SCAN, state(), 0)
    settler.postpone(SCAN, 5)
    assert list(settler.settled(4)) == []
    assert settler.next_due(4, 300) == 1
    assert list(settler.settled(5)) == [SCAN]


def test_a_clock_that_is_set_does_not_matter_as_only_the_monotonic_one_is_asked():
    settler = Settler(2, 7)
    settler.see(SCAN, state(mtime=2**62), 0)  # a file from the future
    assert list(settler.settled(2)) == [SCAN]


def test_nothing_is_due_when_nothing_is_watched():
    settler = Settler(2, 7)
    assert settler.next_due(0, 300) is None
    settler.see(SCAN, state(), 0)
    settler.forget(SCAN)
    assert settler.next_due(0, 300) is None
    assert len(settler) == 0
