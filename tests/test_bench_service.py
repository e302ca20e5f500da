"""The benchmarks of the service: what stream they put, what they count, what they say of it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mineru_daemon import memory
from mineru_daemon.bench import budget_kept, printed, service
from mineru_daemon.bench.process import Served
from mineru_daemon.bench.service import KINDS, Arrival, Kind, Run, percentile, stream, verdict
from mineru_daemon.documents import Limits, open_document

LIGHT = [
    Kind(2, "pdf", True, lambda n: printed.pdf(n, 1)),
    Kind(1, "pdf", False, lambda n: printed.pdf(n, 2)),
]


def test_the_same_seed_gives_the_same_stream_and_another_one_another():
    assert stream(60, 20, 3, LIGHT) == stream(60, 20, 3, LIGHT)
    assert stream(60, 20, 3, LIGHT) != stream(60, 20, 4, LIGHT)


def test_files_come_as_often_as_asked_at_moments_in_order():
    arrivals = stream(1200, 6, 1, LIGHT)
    assert 90 <= len(arrivals) <= 150  # 120 are expected, give or take three deviations
    moments = [one.at for one in arrivals]
    assert moments == sorted(moments)
    assert moments[0] > 0
    assert moments[-1] < 1200
    assert len({one.content for one in arrivals}) == len(arrivals), "no two files are alike"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.suffix}-{kind.single}")
def test_files_of_each_kind_have_the_pages_that_the_stream_says_and_none_is_alike(tmp_path, kind):
    one, other, *_ = stream(40, 6, 2, [kind])
    assert one.content != other.content
    (tmp_path / one.name).write_bytes(one.content)
    with open_document(tmp_path / one.name, Limits()) as document:
        assert (document.page_count == 1) == one.single == kind.single


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, 0.0),
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 0.51, 3.0),
        ([float(n) for n in range(1, 101)], 0.95, 95.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 21)], 0.99, 20.0),
    ],
)
def test_a_percentile_is_the_least_that_so_many_do_not_exceed(values, share, expected):
    assert percentile(values, share) == expected


def outcome(variant, mean, single, served=10):
    return Run(variant, 10, served, mean * 60, mean, mean, 100.0, 1.0, 3, single)


def test_the_verdict_is_by_medians_and_by_every_goal():
    calm = [1.0] * 18 + [1.5, 1.9]
    untuned = outcome("untuned", 1.0, calm)
    assert verdict([outcome("tuned", 0.5, calm), untuned])[1]
    assert not verdict([outcome("tuned", 0.7, calm), untuned])[1]
    assert not verdict([outcome("tuned", 0.5, [1.0] * 18 + [2.1, 2.1]), untuned])[1]
    assert not verdict([outcome("tuned", 0.5, calm, served=9), untuned])[1]
    tuned = [outcome("tuned", mean, calm) for mean in (0.5, 0.9, 0.55)]
    lines, good = verdict([*tuned, untuned])
    assert good
    assert lines[0].startswith("mean CPU use of the tuned daemon is 45% below")


def test_a_short_stream_is_served_whole_and_its_times_are_told(tmp_path):
    arrivals = [
        Arrival(0.0, "a.png", printed.saved(printed.page((500, 200), 20, 1).image), True),
        Arrival(0.3, "b.pdf", printed.pdf(2, 3), False),
    ]
    run = service.measure(tmp_path, "tuned", arrivals, 1.0, ["--settle-seconds=0.2"])
    assert (run.files, run.served) == (2, 2)
    assert len(run.single) == len(run.several) == 1
    assert run.single[0] > 0.2
    assert run.cpu_seconds > 0
    assert run.mean_cpus == run.cpu_seconds
    assert run.queue_most >= 1
    assert run.peak_mib > 50
    assert json.loads((tmp_path / "outbox" / "a.png.json").read_text())["status"] == "success"


ASK = """
import sys
from mineru_daemon.bench import untuned
if {untuned}:
    untuned.untune()
from mineru_daemon import cpu, weights
from mineru_daemon.engines.onnx import Session
session = Session(weights.locate(weights.ORIENTATION), cpu.plan_threads(1, 1))
options = session.native.get_session_options()
print(options.intra_op_num_threads)
for key in ("allow_spinning", "spin_duration_us"):
    try:
        print(options.get_session_config_entry(f"session.intra_op.{{key}}"))
    except RuntimeError:
        print("default")
"""


def test_untuned_sessions_have_the_runtimes_own_threads_and_spin():
    def ask(untuned):
        code = ASK.format(untuned=untuned)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert ask(False) == ["1", "1", "10"]
    assert ask(True) == ["0", "default", "default"]


def test_the_time_of_ended_children_is_the_daemons_too(tmp_path):
    served = Served(tmp_path)
    code = "import os\nwhile os.times().user < 0.3: pass"
    parent = f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {code!r}])\n"
    with subprocess.Popen(
        [sys.executable, "-c", parent + "print(flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        served._process = process
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        assert served.cpu_seconds() > 0.29
        process.stdin.write(b"\n")


def test_the_memory_of_children_counts(tmp_path):
    served = Served(tmp_path)
    code = "import sys; kept = bytes([1]) * (80 << 20); print(flush=True); input()"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {code!r}])\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        served._process = process
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        assert served.resident_mib() > 80 + memory.resident_mib(process.pid)
        process.stdin.write(b"\n\n")


def test_a_daemon_that_is_never_without_work_keeps_to_its_budget(tmp_path):
    kept = budget_kept.measure(tmp_path, 0.3, 1, 15.0)
    assert kept.cpus == 1
    assert kept.pages > 0
    # Above is a fault on any machine; how far below depends on who else computes.
    assert kept.measured < 0.3 + 0.05


def test_words_are_compared_without_case_order_and_punctuation():
    assert printed.word_f1("One two, three", "three TWO one.") == 1.0
    assert printed.word_f1("one two", "three") == 0.0
    assert printed.word_f1("one two three four", "one two") == pytest.approx(2 / 3)
