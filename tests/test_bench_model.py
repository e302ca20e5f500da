"""The benchmark of the model: random weights, processes that are asked, medians."""

from __future__ import annotations

import argparse
import ast
import json
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mineru_building import build_folder
from PIL import Image
from tokenizers import Tokenizer

from mineru_daemon.bench import (
    byte_tokenizer,
    machine,
    model,
    model_report,
    model_stages,
    model_variants,
    peers,
    random_checkpoint,
)
from mineru_daemon.bench.model_report import Sample
from mineru_daemon.bench.model_variants import Variant
from mineru_daemon.bench.peer_process import Peer, PeerError
from mineru_daemon.bench.random_checkpoint import Shapes
from mineru_daemon.engines.mineru.architecture import Architecture
from mineru_daemon.engines.mineru.image import ImageProcessor
from mineru_daemon.errors import ConfigError

REDUCED = Shapes(
    hidden=32,
    layers=2,
    heads=4,
    kv_heads=2,
    intermediate=48,
    vocabulary=100,
    rope_sections=(2, 1, 1),
    vision_width=24,
    vision_depth=2,
    vision_heads=2,
    patch=2,
)

PEERS = Path(peers.__file__).parent


def weights(folder: Path) -> dict[str, Any]:
    """The tensors of a folder's one file, float32; read by hand, as the format tells."""
    content = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        assert entry["dtype"] == "BF16"
        upper = np.frombuffer(content[begin:end], np.uint16).astype(np.uint32)
        tensors[name] = (upper << 16).view(np.float32).reshape(entry["shape"])
    assert end == len(content)
    return tensors


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("checkpoints") / "plain"
    random_checkpoint.write(folder, seed=3, shapes=REDUCED)
    return folder


# --- the checkpoint ----------------------------------------------------------


def test_full_size_has_the_published_tensors():
    shapes = {one.name: one.shape for one in random_checkpoint.tensors(Shapes())}
    assert len(shapes) == 681
    assert shapes["visual.patch_embed.proj.weight"] == (1280, 3, 2, 14, 14)
    assert shapes["visual.blocks.31.attn.qkv.weight"] == (3840, 1280)
    assert shapes["visual.merger.mlp.2.weight"] == (896, 5120)
    assert shapes["model.embed_tokens.weight"] == (151_936, 896)
    assert shapes["model.layers.23.self_attn.k_proj.bias"] == (128,)
    assert "lm_head.weight" not in shapes
    parameters = sum(int(np.prod(shape)) for shape in shapes.values())
    assert 1.155e9 < parameters < 1.165e9


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(plain, tmp_path):
    random_checkpoint.write(tmp_path / "again", seed=3, shapes=REDUCED)
    random_checkpoint.write(tmp_path / "other", seed=4, shapes=REDUCED)
    name = "model.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (plain / name).read_bytes()
    assert (tmp_path / "other" / name).read_bytes() != (plain / name).read_bytes()


def test_weights_are_drawn_as_transformers_initialises(plain):
    found = weights(plain)
    assert np.std(found["model.embed_tokens.weight"]) == pytest.approx(0.02, rel=0.05)
    assert np.mean(found["model.norm.weight"]) == pytest.approx(1, abs=0.1)
    assert np.any(found["visual.blocks.0.mlp.fc1.bias"])


def test_large_tensors_are_drawn_in_parts_without_a_seam(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(random_checkpoint, "PART_ELEMENTS", 70)
    random_checkpoint.write(tmp_path / "parts", seed=3, shapes=REDUCED)
    for name, tensor in weights(tmp_path / "parts").items():
        np.testing.assert_array_equal(tensor, weights(plain)[name])


def test_outliers_are_raised_and_what_reads_them_is_lowered(plain, tmp_path):
    random_checkpoint.write(tmp_path / "outliers", seed=3, outliers=64, shapes=REDUCED)
    before, after = weights(plain), weights(tmp_path / "outliers")
    factors = {name: after[name] / before[name] for name in before}
    gain = factors["model.layers.1.input_layernorm.weight"]
    assert sorted(gain)[-7:] == [1] + [64] * 6
    channels = np.flatnonzero(gain == 64)
    query = factors["model.layers.1.self_attn.q_proj.weight"]
    assert np.all(query[:, channels] == 1 / 64)
    assert np.all(np.delete(query, channels, axis=1) == 1)
    # One raised row of a key-value head is read by the query heads of its group.
    value = factors["model.layers.0.self_attn.v_proj.bias"]
    (row,) = np.flatnonzero(value == 64)
    head, place = divmod(int(row), 8)
    read = np.flatnonzero(factors["model.layers.0.self_attn.o_proj.weight"][0] == 1 / 64)
    assert read.tolist() == [16 * head + place, 16 * head + 8 + place]
    # Of the vision encoder's stacked projection only values are raised.
    stacked = factors["visual.blocks.1.attn.qkv.bias"]
    assert np.all(stacked[:48] == 1)
    raised = np.flatnonzero(stacked == 64) - 48
    assert len(raised) == 6
    assert np.all(factors["visual.blocks.1.attn.proj.weight"][:, raised] == 1 / 64)
    assert np.all(factors["model.embed_tokens.weight"] == 1)


def test_what_is_made_is_read_like_a_download(plain):
    read = Architecture.read(plain / "config.json")
    assert (read.text.layers, read.text.kv_heads, read.vision.depth) == (2, 2, 2)
    assert read.image_token_id == 151_655
    assert ImageProcessor.read(plain / "preprocessor_config.json").patch_size == 2


def test_a_folder_that_exists_is_left_alone(plain):
    before = sorted(plain.iterdir())
    with pytest.raises(ConfigError, match="exists already; name a new folder"):
        random_checkpoint.write(plain, shapes=REDUCED)
    assert sorted(plain.iterdir()) == before


@pytest.mark.parametrize(
    ("number", "upper"),
    [
        (1.0, 0x3F80),
        (1.00390625, 0x3F80),  # half a step above an even one
        (1.01171875, 0x3F82),  # half a step above an odd one
        (1.0040, 0x3F81),
        (-2.0, 0xC000),
        (0.0, 0x0000),
    ],
)
def test_bfloat16_rounds_to_the_nearest_and_ties_to_even(number, upper):
    assert random_checkpoint.bfloat16(np.array([number], np.float32))[0] == upper


def test_the_tokenizer_writes_any_text_and_has_the_published_numbers(plain):
    tokenizer = Tokenizer.from_file(str(plain / "tokenizer.json"))
    text = "Ünïcode 漢字\n\n  it's 12345<|im_end|>"
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    numbers = {"<|endoftext|>": 151_643, "<|im_end|>": 151_645, "<|image_pad|>": 151_655}
    assert {token: tokenizer.token_to_id(token) for token in numbers} == numbers
    assert tokenizer.get_vocab_size(with_added_tokens=False) == 151_643


def test_a_digit_is_a_token():
    """The peers' prompts are as long as they are asked to be."""
    tokenizer = Tokenizer.from_str(json.dumps(byte_tokenizer.tokenizer()))
    assert len(tokenizer.encode("0123456789" * 7).ids) == 70


def test_every_entry_but_the_bytes_is_made_by_its_merge():
    vocabulary, merges = byte_tokenizer.entries()
    assert len(set(vocabulary)) == len(vocabulary) == 151_643
    assert len(merges) == len(vocabulary) - 256
    known = set(vocabulary[:256])
    for entry, merge in zip(vocabulary[256:], merges, strict=True):
        left, right = merge.split(" ")
        assert left in known
        assert right in known
        assert left + right == entry
        known.add(entry)


# --- processes that are asked --------------------------------------------------

TOY = """
import os
import time


class Engine:
    facts = {"toy": "1"}

    def prefill(self, meter, tokens, seed):
        print("a library talks")
        meter.start()
        time.sleep(0.01 * seed % 0.05)
        meter.stop()
        return {"tokens": tokens}

    def decode(self, meter, rows, context, tokens, seed):
        begin = meter.now()
        sum(range(200_000))
        meter.add(begin, meter.now())
        return {"tokens": rows * (tokens - 1)}

    def vision(self, meter, image, seed):
        large = bytearray(64 << 20)
        return {"tokens": len(large) >> 20}

    def page(self, meter, layout, crops, tokens, rows, preset=None):
        return {"tokens": tokens, "cpus": sorted(os.sched_getaffinity(0)), "preset": preset}

    def end(self, meter):
        os._exit(3)


def load(settings, threads):
    if "broken" in settings:
        raise ValueError("no such weights")
    return Engine()
"""


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Variant:
    """An engine that is served like the others and does nothing."""
    (tmp_path / "toy_peer.py").write_text(TOY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(model_variants.MODULES, "transformers", "toy_peer")
    return Variant("toy", "transformers", sys.executable, {})


@pytest.fixture
def peer(toy, tmp_path) -> Iterator[Peer[Variant]]:
    process = Peer(toy, [min(os.sched_getaffinity(0))], tmp_path)
    yield process
    process.close()


def test_a_process_answers_a_line_with_a_line(peer):
    opened = peer.open()
    assert opened["facts"] == {"toy": "1"}
    assert opened["started"] >= opened["wall"] > 0
    answer = peer.ask({"stage": "prefill", "tokens": 12, "seed": 4})
    assert answer["tokens"] == 12
    assert 0.04 <= answer["wall"] < 1
    assert answer["cpu"] < answer["wall"]
    assert answer["peak_mib"] >= answer["resident_mib"] > answer["anonymous_mib"] > 0


def test_a_process_keeps_to_its_cpus(peer):
    peer.open()
    answer = peer.ask({"stage": "page", "layout": "", "crops": [], "tokens": 1, "rows": 1})
    assert answer["cpus"] == [min(os.sched_getaffinity(0))]


def test_the_largest_memory_is_that_of_one_request(peer):
    peer.open()
    small = peer.ask({"stage": "prefill", "tokens": 1, "seed": 1})["peak_mib"]
    large = peer.ask({"stage": "vision", "image": "", "seed": 1})["peak_mib"]
    again = peer.ask({"stage": "prefill", "tokens": 1, "seed": 1})["peak_mib"]
    assert large > small + 60
    assert again < small + 30


def test_a_failure_is_told_with_the_place_of_the_log_and_does_not_end_the_process(peer, tmp_path):
    peer.open()
    with pytest.raises(PeerError, match=r"toy: AttributeError: .*; see .*toy\.log"):
        peer.ask({"stage": "sing"})
    assert "Traceback" in (tmp_path / "toy.log").read_text()
    assert peer.ask({"stage": "prefill", "tokens": 1, "seed": 1})["tokens"] == 1


def test_an_engine_that_cannot_be_loaded_says_why(toy, tmp_path):
    broken = Peer(Variant("broken", toy.kind, toy.python, {"broken": "x"}), [0], tmp_path)
    try:
        with pytest.raises(PeerError, match="ValueError: no such weights"):
            broken.open()
    finally:
        broken.close()


def test_a_process_that_ends_is_noticed(peer):
    peer.open()
    with pytest.raises(PeerError, match="the process has ended"):
        peer.ask({"stage": "end"})


# --- stages ------------------------------------------------------------------


def test_rounds_have_pictures_of_their_own(tmp_path):
    pictures = model_stages.Pictures(tmp_path)
    first, second = pictures.page(252, 1), pictures.page(252, 2)
    assert Path(first).read_bytes() != Path(second).read_bytes()
    with Image.open(pictures.crop(1)) as crop:
        assert (crop.width // 14) * (crop.height // 14) == 640


def test_every_peer_understands_every_request(tmp_path):
    """Read, not imported: the peers' packages are not installed here."""
    asked = model_stages.stages(model_stages.SMALL, model_stages.Pictures(tmp_path))
    for kind, module in model_variants.MODULES.items():
        methods = _methods(PEERS / f"{module}.py")
        for stage in asked:
            if kind in stage.kinds:
                request = stage.request(Variant("any", kind, "", {}), 1)
                fields = set(request) - {"stage"}
                assert fields <= methods[request["stage"]], (kind, stage.name)


def _methods(path: Path) -> dict[str, set[str]]:
    tree = ast.parse(path.read_text())
    return {
        one.name: {argument.arg for argument in one.args.args}
        for one in ast.walk(tree)
        if isinstance(one, ast.FunctionDef)
    }


@pytest.mark.parametrize(
    "name", ["serve", "llama_cpp_peer", "transformers_peer", "make_gguf", "__init__"]
)
def test_what_runs_elsewhere_imports_nothing_of_this_package(name):
    tree = ast.parse((PEERS / f"{name}.py").read_text())
    run = [one for one in tree.body if not isinstance(one, ast.If)]
    for node in (inner for one in run for inner in ast.walk(one)):
        if isinstance(node, ast.ImportFrom):
            assert not str(node.module).startswith("mineru_daemon")


# --- figures -----------------------------------------------------------------


def sample(variant: str, wall: float, tokens: int | None = None, number: int = 0) -> Sample:
    kind = variant.split()[0]
    answer: dict[str, Any] = {"wall": wall, "cpu": 2 * wall, "peak_mib": 100 * wall}
    if tokens is not None:
        answer["tokens"] = tokens
    return Sample("vision-448", 2, number, variant, kind, answer)


def test_figures_are_medians_of_a_stage_and_peaks_are_largest():
    samples = [sample("ours a", wall) for wall in (9.0, 1.0, 2.0)]
    other = Sample("vision-448", 1, 0, "ours a", "ours", {"wall": 5.0, "cpu": 5.0, "peak_mib": 1})
    (figure,) = model_report.figures([*samples, other], "vision-448", 2)
    assert (figure.samples, figure.wall, figure.cpu) == (3, 2.0, 4.0)
    assert (figure.fastest, figure.slowest, figure.peak_mib) == (1.0, 9.0, 900.0)


def test_rates_are_medians_of_rates():
    samples = [sample("ours a", wall, tokens) for wall, tokens in ((1.0, 10), (2.0, 40), (1.0, 30))]
    (figure,) = model_report.figures(samples, "vision-448", 2)
    assert figure.tokens_per_second == 20.0


def test_the_best_of_ours_is_compared_with_the_best_of_each_kind():
    walls = {"ours int4": 5.0, "ours int8": 4.0, "llama.cpp a": 8.0, "llama.cpp b": 10.0}
    samples = [sample(name, wall) for name, wall in {**walls, "transformers": 20.0}.items()]
    found = model_report.figures(samples, "vision-448", 2)
    assert model_report.ratios(found, "vision-448", rate=False) == [
        "ours int8 is 2.00 times as fast as llama.cpp a, for 0.50 of its CPU time (goal 2)",
        "ours int8 is 5.00 times as fast as transformers, for 0.20 of its CPU time",
    ]
    assert model_report.ratios(found[2:], "vision-448", rate=False) == []


def test_rates_decide_where_engines_did_not_write_the_same():
    samples = [sample("ours a", 2.0, 100), sample("llama.cpp a", 1.0, 20)]
    found = model_report.figures(samples, "vision-448", 2)
    assert model_report.ratios(found, "prefill-512", rate=True) == [
        "ours a is 2.50 times as fast as llama.cpp a, for 0.40 of its CPU time (goal 2.5)"
    ]
    assert model_report.batch_against_one(found, found) == [
        "  ours a is 2.50 times as fast as one sequence of llama.cpp a, for 0.40 of its CPU time"
    ]
    assert model_report.batch_against_one(found, found[:1]) == []
    told = model_report.block("reading", 2, found, "prefill-512", rate=True)
    assert told.splitlines()[0] == "reading; 2 threads"
    assert "50.0 t/s" in told
    assert "4.00 s of CPU" in told


def test_the_machine_is_told_by_what_kernels_are_chosen_by(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: A CPU\nflags\t\t: fpu avx2 avx512_vnni\n\nmodel name\t: B\n")
    found = machine.facts(cpuinfo)
    assert found["cpu"] == "A CPU"
    assert found["flags"] == ["avx2", "avx512_vnni"]
    assert "A CPU (avx2 avx512_vnni)" in machine.describe(found)


def test_stolen_time_is_the_eighth_column(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  1 2 3 4 5 6 7 800 9 10\ncpu0 0 0 0 0 0 0 0 0 0 0\n")
    assert machine.stolen_seconds(stat) == 800 / os.sysconf("SC_CLK_TCK")


# --- the command -------------------------------------------------------------


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    model.add_arguments(parser)
    return parser.parse_args(words)


def test_the_command_asks_all_in_turn_and_writes_all_down(toy, tmp_path, capsys):
    del toy
    (tmp_path / "config.json").touch()
    report = tmp_path / "report.json"
    words = ["--checkpoint", str(tmp_path), "--small", "--threads=1", "--rounds=2"]
    assert model.run(options(*words, f"--json={report}")) == 0
    told = capsys.readouterr().out
    assert "prefill of 32 tokens; 1 thread\n  transformers" in told
    content = json.loads(report.read_text())
    asked = [(one["stage"], one["round"]) for one in content["samples"]]
    assert ("start-cold", 1) in asked
    assert ("prefill-32", 1) in asked
    assert ("page", 0) in asked
    assert ("page", 1) not in asked  # whole pages are read once unless told otherwise
    assert ("page-balanced", 0) not in asked  # presets are ours
    assert content["variants"]["transformers"] == {"toy": "1"}
    assert content["failures"] == []
    assert content["machine"]["cpus"] >= 1


def test_only_the_stages_that_are_named_are_measured(toy, tmp_path):
    del toy
    (tmp_path / "config.json").touch()
    report = tmp_path / "report.json"
    words = ["--checkpoint", str(tmp_path), "--small", "--threads=1", "--rounds=1"]
    model.run(options(*words, "--stages=prefill,page", f"--json={report}"))
    content = json.loads(report.read_text())
    assert [one["stage"] for one in content["samples"]] == ["prefill-32", "page"]


def test_who_fails_is_named_and_the_others_are_measured(toy, tmp_path, capsys, monkeypatch):
    del toy
    good, bad = tmp_path / "good", tmp_path / "bad"
    for folder in (good, bad):
        folder.mkdir()
        (folder / "manifest.json").touch()
    picky = TOY.replace('"broken" in settings', '"bad" in settings["model"]')
    (tmp_path / "toy_peer.py").write_text(picky)
    monkeypatch.setitem(model_variants.MODULES, "ours", "toy_peer")
    words = ["--model", f"good={good}", "--model", f"bad={bad}", "--small", "--threads=1"]
    assert model.run(options(*words, "--stages=prefill", "--rounds=1")) == 1
    told = capsys.readouterr().out
    assert "ours good" in told
    assert "failed: ours bad: ValueError: no such weights" in told


def test_what_was_measured_is_told_when_it_is_ended_early(toy, tmp_path, capsys):
    del toy
    (tmp_path / "config.json").touch()
    ends = TOY.replace("sum(range(200_000))", "os.kill(os.getppid(), 15); time.sleep(60)")
    (tmp_path / "toy_peer.py").write_text(ends)
    report = tmp_path / "report.json"
    words = ["--checkpoint", str(tmp_path), "--small", "--threads=1", "--stages=prefill,decode"]
    assert model.run(options(*words, f"--json={report}")) == 1
    told = capsys.readouterr().out
    assert "prefill of 32 tokens; 1 thread\n  transformers" in told
    assert "failed: interrupted" in told
    content = json.loads(report.read_text())
    assert [one["stage"] for one in content["samples"]] == ["prefill-32"]


def test_every_round_begins_with_another_engine():
    names: list[Any] = ["a", "b", "c"]
    begun: list[Any] = [model._turned(names, number)[0] for number in range(4)]
    assert begun == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "Nothing to measure"),
        (["--model", "int8"], "not of the form NAME=FOLDER"),
        (["--model", "int8=/nowhere"], "/nowhere/manifest.json does not exist"),
        (["--gguf", "/nowhere"], "/nowhere/llm-Q4_0.gguf does not exist"),
        (["--peer-python", "vllm=/bin/sh"], "one of ours, llama.cpp, transformers"),
        (["--threads", "0"], "Nothing to measure"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(words, reason):
    with pytest.raises(ConfigError, match=reason):
        model.run(options(*words))


def test_more_threads_than_cpus_are_refused(toy, tmp_path):
    del toy
    (tmp_path / "config.json").touch()
    with pytest.raises(ConfigError, match="--threads 4096: numbers from 1 to"):
        model.run(options("--checkpoint", str(tmp_path), "--threads", "4096"))


@pytest.fixture(scope="module")
def runnable(tmp_path_factory) -> Path:
    """A checkpoint small enough to run, with the tokenizer's whole vocabulary."""
    folder: Path = tmp_path_factory.mktemp("checkpoints") / "runnable"
    shapes = replace(
        REDUCED, hidden=64, rope_sections=(4, 2, 2), vision_width=32, patch=14, vocabulary=151_936
    )
    random_checkpoint.write(folder, shapes=shapes)
    return folder


def answered(words: list[str], report: Path) -> dict[str, int]:
    """Tokens by stage of an engine that is asked everything once, in small."""
    words += ["--small", "--threads=1", "--rounds=1", "--stages=prefill,decode,batch,vision,page"]
    asked = options(*words, f"--json={report}")
    assert model.run(asked) == 0
    samples = json.loads(report.read_text())["samples"]
    return {one["stage"]: one["answer"].get("tokens") for one in samples}


def test_our_engine_answers_everything(runnable, tmp_path):
    folder = build_folder(runnable, tmp_path / "model")
    tokens = answered(["--model", f"fp32={folder.path}"], tmp_path / "report.json")
    small = model_stages.SMALL
    assert tokens["prefill-32"] == 32
    assert tokens["vision-112"] == 16
    assert tokens[f"decode-{small.context}"] == small.decoded - 1
    assert tokens[f"batch-{small.batch}"] == small.batch * (small.decoded - 1)
    assert tokens["page"] == (1 + small.crops) * small.crop_tokens
    assert tokens["page-economy"] == tokens["page-balanced"] == tokens["page"]


def test_the_reference_answers_everything(runnable, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    tokens = answered(["--checkpoint", str(runnable)], tmp_path / "report.json")
    small = model_stages.SMALL
    assert tokens["vision-112"] == 16
    assert tokens[f"batch-{small.batch}"] == small.batch * (small.decoded - 1)
    assert tokens["page"] == (1 + small.crops) * small.crop_tokens
