"""A clock that is set forward and back under a running daemon, by libfaketime."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path

import pytest

from mineru_daemon.samples import paths

_, PNG = paths()
DAY = 86_400
YEARS = 3650 * DAY
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@pytest.mark.skipif(LIBRARY is None, reason="needs apt install libfaketime")
def test_a_clock_that_is_set_forward_and_back_loses_and_doubles_nothing(start, tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("+0")
    daemon = start(
        # It fails the sleeps of watchdog's threads, whose clock it is told to leave alone.
        "--watch=poll",
        "--poll-seconds=0.5",
        LD_PRELOAD=str(LIBRARY),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        NO_FAKE_STAT="1",
    ).ready()
    names = []
    for number, seconds in enumerate((0, YEARS, -YEARS, DAY, 0)):
        name = f"{number}.png"
        daemon.drop(PNG, name)
        # The clock jumps while the file settles; what is written from then on has its time.
        clock.with_name("next").write_text(f"{seconds:+d}")
        clock.with_name("next").rename(clock)
        later = f"{number}-later.png"
        daemon.drop(PNG, f".{later}")
        then = time.time() + seconds
        os.utime(daemon.folders["inbox"] / f".{later}", (then, then))
        (daemon.folders["inbox"] / f".{later}").rename(daemon.folders["inbox"] / later)
        for one in (name, later):
            created = datetime.fromisoformat(daemon.result(one)["created"]).timestamp()
            assert abs(created - then) < DAY / 2
            names.append(f"{one}.json")
    daemon.until(lambda: len(daemon.events("success")) == len(names))
    assert daemon.stop() == 0
    assert sorted(path.name for path in (tmp_path / "outbox").glob("*.json")) == sorted(names)
    claimed = [event["job"] for event in daemon.events("claimed")]
    assert claimed == sorted(set(claimed)), "jobs are served in the order of their claims"
