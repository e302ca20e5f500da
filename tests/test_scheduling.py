"""Whose page is next."""

from __future__ import annotations

from mineru_daemon.scheduling import Rotation


def turns(rotation, pages, scheduling, arrivals=()):
    """The order in which jobs of so many pages are read; arrivals come after so many turns."""
    order: list[str] = []
    left, coming = dict(pages), list(arrivals)
    waiting = list(pages)
    while waiting or len(rotation) or coming:
        while coming and coming[0][0] <= len(order):
            _, name, count = coming.pop(0)
            left[name] = count
            waiting.append(name)
        while waiting and rotation.room(scheduling):
            rotation.add(waiting.pop(0))
        name = rotation.next()
        order.append(name)
        left[name] -= 1
        rotation.turn_over(done=not left[name])
    return "".join(order)


def test_fair_gives_each_job_a_page_in_turn():
    assert turns(Rotation(), {"a": 4, "b": 1, "c": 2}, "fair") == "abcacaa"


def test_fifo_sees_one_job_through():
    assert turns(Rotation(), {"a": 4, "b": 1, "c": 2}, "fifo") == "aaaabcc"


def test_who_comes_later_waits_for_one_page_of_each_before():
    order = turns(Rotation(), {"a": 9, "b": 9}, "fair", arrivals=[(3, "x", 1)])
    assert order.index("x") <= 3 + 2


def test_one_job_alone_has_all_turns():
    assert turns(Rotation(), {"a": 3}, "fair") == "aaa"
