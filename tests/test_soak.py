"""The soak: all faults in a small run, and that it would see what is not steady."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mineru_daemon.bench import cases, steady, uploads
from mineru_daemon.bench.process import Served
from mineru_daemon.bench.steady import Sample

FILES = 26


@pytest.mark.slow
def test_a_small_soak_loses_and_doubles_nothing(tmp_path):
    report = tmp_path / "soak.json"
    command = [sys.executable, "-m", "mineru_daemon", "bench", "soak", "--json", str(report)]
    mounts = Path("/proc/self/mountinfo").read_text()
    done = subprocess.run(
        [*command, "--minutes", "0.2", "--files", str(FILES), "--seed", "3"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["delivered"] == found["results"] == FILES
    assert found["lost"] == found["doubled"] == found["wrong"] == []
    assert found["faults"]["kill"] == 2
    assert found["faults"]["renamed away"] == 1
    if found["left_out"]:
        assert "full disk" not in found["faults"]
    else:
        assert found["faults"]["full disk"] == found["faults"]["covered"] == 1
    assert len({sample["life"] for sample in found["samples"]}) >= 3
    # Nothing is mounted for others, and nothing is left behind.
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert list(tmp_path.glob("mineru-soak-*")) == []


def samples(resident, descriptors=lambda n: 8, threads=lambda n: 12, files=600) -> list[Sample]:
    """A life of 300 seconds, two files a second."""
    return [
        Sample(0, n / 2, n, resident(n), descriptors(n), threads(n)) for n in range(0, files + 1)
    ]


def noise(n: int) -> float:
    return random.Random(n).uniform(-8, 8)


def test_a_process_that_warms_up_and_then_stays_as_it_is_is_steady():
    (life,) = steady.lives(samples(lambda n: 500 + noise(n) - max(0, 150 - n)))
    assert life.steady
    assert life.files == 600


@pytest.mark.parametrize(
    "leaking",
    [
        samples(lambda n: 500 + noise(n) + n / 10),
        samples(lambda n: 500, descriptors=lambda n: 8 + n // 100),
        samples(lambda n: 500, threads=lambda n: 12 + n // 200),
    ],
    ids=["memory", "descriptors", "threads"],
)
def test_a_process_that_grows_with_its_files_is_not_steady(leaking):
    (life,) = steady.lives(leaking)
    assert not life.steady


def test_a_short_life_is_not_judged():
    assert steady.lives(samples(lambda n: 500 + n, files=100)) == []


def test_a_sample_counts_what_the_process_holds(tmp_path):
    class Sleeper(Served):
        def __init__(self, script: str):
            super().__init__(tmp_path)
            self._command = [sys.executable, "-c", script]

    held = "import time, threading\nf = [open('/dev/null') for _ in range(40)]\n"
    held += "[threading.Thread(target=time.sleep, args=(99,), daemon=True).start() for _ in 'abc']"
    served = Sleeper(f"{held}\nopen({str(tmp_path / 'ready')!r}, 'w').close()\ntime.sleep(99)")
    served.start()
    try:
        while not (tmp_path / "ready").exists():
            assert served.alive()
            time.sleep(0.02)
        sample = steady.look(served, 0, 0.0, 0)
        assert sample is not None
        assert 40 < sample.descriptors < 50
        assert sample.threads == 4
        assert sample.resident_mib > 1
    finally:
        served.kill()


@pytest.mark.parametrize("way", [*uploads.WHOLE, *uploads.SLOW], ids=lambda way: way.__name__)
def test_each_way_of_delivery_leaves_the_whole_file_under_its_name(tmp_path, way):
    case = cases.Case("scan.pdf", cases.pdf(["a page"] * 5), "success")
    (tmp_path / case.name).write_bytes(b"an earlier one")
    steps = way(tmp_path, case, random.Random(5))
    assert next(steps) == uploads.RETRY_SECONDS
    assert (tmp_path / case.name).read_bytes() == b"an earlier one"
    (tmp_path / case.name).unlink()
    for pause in steps:
        assert 0 < pause <= max(uploads.ABORT_SECONDS)
    assert [path.name for path in tmp_path.iterdir()] == [case.name]
    assert (tmp_path / case.name).read_bytes() == case.content
