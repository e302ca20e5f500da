"""The benchmarks of stages and settings: that they ask what they say, and add up right."""

from __future__ import annotations

import argparse
import json
import sys

import pytest

from mineru_daemon.bench import interleaved, printed, stages, tuning
from mineru_daemon.bench.interleaved import Samples, Variant
from mineru_daemon.bench.peers import embedded_peer
from mineru_daemon.bench.peers.serve import Meter
from mineru_daemon.cli import main


@pytest.fixture
def small_pages(monkeypatch):
    """Pages on which a few lines have room, and no more: real ones take seconds each."""
    monkeypatch.setattr(printed, "A4_200_DPI", (600, 260))
    monkeypatch.setattr(printed, "SCREEN", (400, 160))


def test_a_printed_page_is_read_by_the_peer_and_its_stages_are_told(tmp_path):
    page = printed.page((900, 300), 22, 5)
    page.image.save(tmp_path / "page.png")
    reader = embedded_peer.load({"intra": 1}, 1)
    by_wall = reader.read(Meter(), str(tmp_path / "page.png"))
    assert printed.word_f1(page.text, by_wall["text"]) > 0.9
    assert {"render", "inference.detection", "inference.recognition"} <= set(by_wall["stages"])
    meter = Meter()
    by_cpu = reader.read(meter, str(tmp_path / "page.png"), "cpu")
    assert sum(by_cpu["stages"].values()) <= meter.cpu


def test_settings_reach_the_engine_whatever_the_cpus_are():
    facts = embedded_peer.load({"intra": 3, "spin": 25, "max_image_size": 640}, 1).facts
    assert facts["intra_op_num_threads"] == 3
    assert facts["spin_microseconds"] == 25
    assert facts["max_image_size"] == 640


def test_shares_are_of_all_stages_and_medians_of_each():
    found = stages.medians([{"render": 1.0, "postprocess": 3.0}, {"render": 2.0}, {"render": 9.0}])
    assert found == {"render": 2.0, "postprocess": 0.0}
    shares = stages.grouped({"render": 1.0, "inference.detection": 2.0, "unheard": 1.0})
    assert shares["preprocessing"] == 0.25
    assert shares["vision, detection"] == 0.5
    assert shares["other"] == 0.25
    assert sum(shares.values()) == 1.0


def test_figures_are_medians_with_the_largest_peak():
    variant = Variant("one", "embedded_peer", {}, (0,), sys.executable)
    answers = [
        {"wall": wall, "cpu": 2 * wall, "peak_mib": 100 * wall, "accuracy": wall / 10}
        for wall in (1.0, 5.0, 3.0)
    ]
    (figure,) = Samples([variant], {"one": answers}).figures()
    assert (figure.wall, figure.cpu, figure.peak_mib, figure.samples) == (3.0, 6.0, 500.0, 3)
    assert figure.busy == 2.0
    assert figure.accuracy == pytest.approx(0.3)
    assert "(1.00)" in interleaved.table("title", [figure])


def test_a_variant_that_cannot_be_loaded_is_told_and_the_others_are_measured(tmp_path):
    page = printed.page((300, 120), 20, 1)
    page.image.save(tmp_path / "page.png")
    good = Variant("good", "embedded_peer", {"intra": 1}, (0,), sys.executable)
    bad = Variant("bad", "no_such_peer", {}, (0,), sys.executable)

    def ask(peer, number):
        return peer.ask({"stage": "read", "file": str(tmp_path / "page.png")})

    samples = interleaved.measure([bad, good], ask, 2, tmp_path)
    assert [len(samples.answers[name]) for name in samples.answers] == [2]
    assert "no_such_peer" in samples.failures[0]
    (figure,) = samples.figures()
    assert figure.name == "good"
    assert figure.peak_mib > 50


def test_the_tuning_table_is_printed_with_the_figures_that_the_json_has(
    small_pages, tmp_path, capsys
):
    out = tmp_path / "figures.json"
    code = main(["bench", "tuning", "--questions=inter", "--rounds=1", f"--json={out}"])
    assert code == 0
    said = json.loads(out.read_text())
    one, two = said["questions"]["inter"]["figures"]
    assert (one["name"], two["name"]) == ("inter 1", "inter 2")
    assert one["accuracy"] > 0.9
    printed_table = capsys.readouterr().out
    assert "inter 2" in printed_table
    assert f"{one['cpu']:.2f} s of CPU" in printed_table


def test_an_unknown_question_is_refused_in_one_sentence(capsys):
    assert main(["bench", "tuning", "--questions=colour"]) == 78
    assert capsys.readouterr().err == (
        "mineru-daemon: --questions colour: known are size, threads, inter, spin, queue, mineru.\n"
    )


def test_stages_of_mineru_are_told_in_shares_too(small_pages, mineru_folder, tmp_path, capsys):
    out = tmp_path / "stages.json"
    small = ["--layout=112", "--crops=2", "--tokens=4", "--rounds=1", f"--json={out}"]
    code = main(["bench", "stages", f"--model={mineru_folder.path}", *small])
    assert code == 0
    pages = json.loads(out.read_text())["pages"]
    assert [page["page"].split(",")[0] for page in pages] == ["ppocr"] * 3 + [
        "mineru quality",
        "mineru balanced",
    ]
    for page in pages:
        assert sum(page["by_cpu"].values()) == pytest.approx(1.0)
    quality = pages[3]
    assert quality["by_cpu"]["prefill"] > 0
    assert set(quality["stages"]) == {
        "preprocess", "inference.vision", "inference.prefill", "inference.decode", "postprocess"
    }  # fmt: skip
    # Every moment of a page belongs to a stage, but for what comes before the first.
    assert sum(quality["stages"].values()) <= quality["cpu"] * 1.05 + 0.1
    assert "mineru balanced" in capsys.readouterr().out


def test_the_queue_is_compared_with_processes_and_with_two_at_once(small_pages, tmp_path):
    options = argparse.Namespace(rounds=1)
    title, samples = tuning._queue(options, tmp_path)
    assert samples.failures == []
    queued, at_once, serial = samples.figures()
    assert title.startswith("two scanned pages")
    # Loading counts where each file has a process of its own, and two engines are twice as large.
    assert serial.cpu > queued.cpu
    assert at_once.peak_mib > 1.5 * queued.peak_mib
