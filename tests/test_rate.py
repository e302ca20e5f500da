"""The rate limit delays a source and leaves the others alone."""

from __future__ import annotations

import pytest

from mineru_daemon.rate import RateLimiter


def test_zero_lets_all_pass():
    limiter = RateLimiter(0)
    for _ in range(100):
        limiter.take("a", 0)
    assert limiter.delay("a", 0) == 0


def test_the_sixth_of_five_a_minute_waits_for_the_first_to_leave_the_window():
    limiter = RateLimiter(5)
    for second in range(5):
        assert limiter.delay("a", second) == 0
        limiter.take("a", second)
    assert limiter.delay("a", 10) == 50
    assert limiter.delay("b", 10) == 0
    assert limiter.delay("a", 60) == 0
    limiter.take("a", 60)
    assert limiter.delay("a", 60.5) == pytest.approx(0.5)


def test_less_than_one_a_minute_is_one_in_several():
    limiter = RateLimiter(0.5)
    limiter.take("a", 0)
    assert limiter.delay("a", 30) == 90
    assert limiter.delay("a", 120) == 0


def test_no_minute_ever_has_more_than_allowed():
    limiter = RateLimiter(5)
    taken: list[float] = []
    now = 0.0
    while len(taken) < 40:
        delay = limiter.delay("a", now)
        if delay:
            now += delay
        else:
            limiter.take("a", now)
            taken.append(now)
            now += 0.7
    for start in taken:
        assert sum(start <= moment < start + 60 for moment in taken) <= 5
