"""A real daemon is killed at random moments over a stream of files of all kinds.

The longer version is `mineru-daemon bench kills`.
"""

from __future__ import annotations

import pytest

from mineru_daemon.bench import accounts, kills
from mineru_daemon.bench.process import Served


@pytest.mark.slow
def test_kills_at_random_moments_lose_no_file_and_double_no_result(tmp_path):
    findings = kills.storm(tmp_path, kills=12, files=20, seed=7)
    assert findings.wrong == []
    assert findings.kills.total() == 12
    assert findings.results == len(findings.delivered) == 20


@pytest.mark.slow
def test_the_storm_sees_what_is_lost_doubled_or_left_over(tmp_path):
    findings = kills.storm(tmp_path, kills=0, files=5, seed=7)
    assert findings.wrong == []
    served = Served(tmp_path)
    lost, doubled, *_ = sorted(served.done.iterdir())
    (served.failed / doubled.name).write_bytes(doubled.read_bytes())
    lost.unlink()
    (served.outbox / ".x.json.part").touch()
    (served.outbox / "half.json").write_text('{"schema":')
    accounts.check_meanwhile(served, findings)
    accounts.check_end(served, findings)
    assert len(findings.lost) == len(findings.doubled) == 1
    assert len(findings.wrong) >= 5
