"""What each setting costs and brings: the tuning table, measured.

One question after the other; the variants of a question are loaded side by side and asked in
turn (`interleaved`). The embedded engine reads pages that were printed here and now, so that it
is known how well it read. MinerU2.5 is measured where `--model NAME=FOLDER` is given (as
fp32=…, int8=…, int4=…), and torch's transformers beside it with `--checkpoint`: a page of
`--layout` pixels and `--crops` crops; random weights (`bench checkpoint`) cost as much as
trained ones.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mineru_daemon.bench import interleaved, machine, model_variants, printed
from mineru_daemon.bench.interleaved import Answer, Samples, Variant
from mineru_daemon.bench.model_stages import Pictures
from mineru_daemon.bench.peer_process import Peer
from mineru_daemon.errors import ConfigError

QUESTIONS = ("size", "threads", "inter", "spin", "queue", "mineru")

SIZES = (0, 1036, 768, 400)
"""Longest sides; 0 is no bound."""

THREADS = (1, 2, 4)
OVERSUBSCRIBED = 4
"""Threads on one CPU."""

SPINS = (0, 10, 1000)
"""Microseconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--questions",
        default=",".join(QUESTIONS),
        metavar="A,B",
        help=f"default {','.join(QUESTIONS)}",
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="a model folder of MinerU2.5; may be given again",
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FOLDER", help="for transformers")
    parser.add_argument(
        "--checkpoint-python", metavar="PATH", default=sys.executable, help="that has torch"
    )
    parser.add_argument("--layout", type=int, default=448, metavar="N", help="default 448")
    parser.add_argument("--crops", type=int, default=4, metavar="N", help="default 4")
    parser.add_argument("--tokens", type=int, default=32, metavar="N", help="of each; default 32")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 0 when every variant answered everything."""
    asked = options.questions.split(",")
    if unknown := [name for name in asked if name not in QUESTIONS]:
        raise ConfigError(f"--questions {unknown[0]}: known are {', '.join(QUESTIONS)}.")
    found = machine.told()
    base = Path(tempfile.mkdtemp(prefix="mineru-tuning-"))
    said: dict[str, Any] = {"machine": found, "questions": {}}
    failures: list[str] = []
    for name in asked:
        title, samples = _QUESTIONS[name](options, base)
        if not samples.variants:
            continue
        figures = samples.figures()
        print(interleaved.table(title, figures), flush=True)
        failures += samples.failures
        said["questions"][name] = {
            "title": title,
            "figures": [asdict(one) for one in figures],
            "answers": samples.answers,
        }
    for failure in failures:
        print(f"failed: {failure}")
    if options.json:
        options.json.write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if not failures:
        shutil.rmtree(base)
    return 1 if failures else 0


# --- the embedded engine -----------------------------------------------------


def _embedded(name: str, cpus: Sequence[int] | None = None, **settings: Any) -> Variant:
    own = tuple(sorted(os.sched_getaffinity(0)) if cpus is None else cpus)
    return Variant(name, "embedded_peer", {"intra": 1, **settings}, own, sys.executable)


def _read(pages: Sequence[tuple[Path, str]]) -> Callable[[Peer[Variant], int], Answer]:
    """Asks for one of `pages` (file and its text) in each round, and says how well it was read."""

    def ask(peer: Peer[Variant], number: int) -> Answer:
        file, text = pages[max(0, number) % len(pages)]
        answer = peer.ask({"stage": "read", "file": str(file)})
        answer["accuracy"] = printed.word_f1(text, answer.pop("text"))
        return answer

    return ask


def _kept(base: Path, name: str, pages: Sequence[printed.Printed]) -> list[tuple[Path, str]]:
    kept = []
    for number, page in enumerate(pages):
        path = base / f"{name}-{number}.png"
        page.image.save(path)
        kept.append((path, page.text))
    return kept


def _scans(base: Path, rounds: int) -> list[tuple[Path, str]]:
    return _kept(base, "scan", [printed.scan(seed, lines=24) for seed in range(rounds)])


def _size(options: argparse.Namespace, base: Path) -> tuple[str, Samples]:
    variants = [
        _embedded("unlimited" if not side else str(side), max_image_size=side) for side in SIZES
    ]
    made = [printed.page(printed.SCREEN_4K, 30, seed, lines=30) for seed in range(options.rounds)]
    pages = _kept(base, "screen", made)
    samples = interleaved.measure(variants, _read(pages), options.rounds, base)
    return "longest side (max_image_size), screenshots of 3840 x 2160 pixels, one thread", samples


def _threads(options: argparse.Namespace, base: Path) -> tuple[str, Samples]:
    one = sorted(os.sched_getaffinity(0))[:1]
    variants = [_embedded(f"{count} threads", intra=count) for count in THREADS]
    variants += [
        _embedded("1 thread on one CPU", one),
        _embedded(f"{OVERSUBSCRIBED} threads on one CPU", one, intra=OVERSUBSCRIBED),
    ]
    pages = _scans(base, options.rounds)
    samples = interleaved.measure(variants, _read(pages), options.rounds, base)
    return "threads (intra_op_num_threads), scanned pages of 24 lines", samples


def _inter(options: argparse.Namespace, base: Path) -> tuple[str, Samples]:
    variants = [_embedded(f"inter {count}", intra=2, inter=count) for count in (1, 2)]
    pages = _scans(base, options.rounds)
    samples = interleaved.measure(variants, _read(pages), options.rounds, base)
    return "threads across operators (inter_op_num_threads), two within", samples


def _spin(options: argparse.Namespace, base: Path) -> tuple[str, Samples]:
    variants = [_embedded(f"{spin} microseconds", intra=2, spin=spin) for spin in SPINS]
    pages = _scans(base, options.rounds)
    samples = interleaved.measure(variants, _read(pages), options.rounds, base)
    return "waiting awake (spin_microseconds), two threads", samples


def _queue(options: argparse.Namespace, base: Path) -> tuple[str, Samples]:
    """Two pages: one after the other by one engine, at once by two, and by a new process each."""
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    threads = min(4, len(cpus))
    pages = _scans(base, 2 * options.rounds)
    variants = [
        _embedded("queued: one engine", intra=threads),
        _embedded("at once: two engines", intra=threads),
        _embedded("serial: a process for each file", intra=threads),
    ]
    read = _read(pages)
    beside = Peer(variants[1], cpus, base)
    beside.open()

    def ask(peer: Peer[Variant], number: int) -> Answer:
        first, second = 2 * max(0, number), 2 * max(0, number) + 1
        if peer.variant is variants[0]:
            return _joined([read(peer, first), read(peer, second)])
        if peer.variant is variants[1]:
            return _at_once(lambda: read(peer, first), lambda: read(beside, second))
        return _joined([_alone(peer.variant, read, one, base) for one in (first, second)])

    try:
        samples = interleaved.measure(variants, ask, options.rounds, base)
    finally:
        beside.close()
    return f"two scanned pages, {threads} threads for each engine", samples


def _alone(
    variant: Variant, read: Callable[[Peer[Variant], int], Answer], number: int, base: Path
) -> Answer:
    """By a process that is started for it; starting and loading count."""
    began = time.perf_counter()
    peer = Peer(variant, variant.cpus, base)
    try:
        opened = peer.open()
        answer = read(peer, number)
    finally:
        peer.close()
    spent = {"wall": time.perf_counter() - began, "cpu": opened["cpu"] + answer["cpu"]}
    return answer | spent


def _at_once(one: Callable[[], Answer], other: Callable[[], Answer]) -> Answer:
    answers: list[Answer] = []
    began = time.perf_counter()
    thread = threading.Thread(target=lambda: answers.append(other()))
    thread.start()
    answers.append(one())
    thread.join()
    wall = time.perf_counter() - began
    both = _joined(answers)
    # Two processes: so much memory do they take together.
    return both | {"wall": wall, "peak_mib": sum(answer["peak_mib"] for answer in answers)}


def _joined(answers: Sequence[Answer]) -> Answer:
    return {
        "wall": sum(answer["wall"] for answer in answers),
        "cpu": sum(answer["cpu"] for answer in answers),
        "peak_mib": max(answer["peak_mib"] for answer in answers),
        "accuracy": sum(answer["accuracy"] for answer in answers) / len(answers),
    }


# --- MinerU2.5 ---------------------------------------------------------------


def _mineru(options: argparse.Namespace, base: Path) -> tuple[str, Samples]:
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    variants = []
    for text in options.model:
        name, separator, folder = text.partition("=")
        if not separator or not Path(folder, "manifest.json").is_file():
            raise ConfigError(f"--model {text}: NAME=FOLDER, a folder with manifest.json.")
        settings = {"model": folder}
        variants.append(
            Variant(f"ONNX Runtime {name}", "onnx_peer", settings, cpus, sys.executable)
        )
    if options.checkpoint:
        settings = {"checkpoint": str(options.checkpoint)}
        python = options.checkpoint_python
        variants.append(Variant("PyTorch fp32", "transformers_peer", settings, cpus, python))
    pictures = Pictures(base)

    def ask(peer: Peer[Variant], number: int) -> Answer:
        seed = 1 + max(0, number)
        request = {
            "stage": "page",
            "layout": pictures.page(options.layout, seed),
            "crops": [pictures.crop(100 * seed + place) for place in range(options.crops)],
            "tokens": options.tokens,
            "rows": model_variants.PAGE_ROWS["ours"],
        }
        return peer.ask(request)

    title = (
        f"MinerU2.5: layout of {options.layout} pixels, {options.crops} crops, {options.tokens} "
        f"tokens each, {len(cpus)} threads"
    )
    if not variants:
        return title, Samples([])
    return title, interleaved.measure(variants, ask, options.rounds, base)


_QUESTIONS: dict[str, Callable[[argparse.Namespace, Path], tuple[str, Samples]]] = {
    "size": _size,
    "threads": _threads,
    "inter": _inter,
    "spin": _spin,
    "queue": _queue,
    "mineru": _mineru,
}
