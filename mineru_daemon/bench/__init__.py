"""Measuring and proving by real processes: `mineru-daemon bench …`.

Each module is one benchmark and has a `run` that returns the exit code; `cases` makes
the documents, `process` runs the daemon. Nothing here is used by the daemon itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The benchmarks as commands of `parser`."""
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK")

    def benchmark(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        one.set_defaults(command=run)
        return one

    kills = benchmark("kills", _kills, "Kill the daemon at random moments; nothing may be lost.")
    kills.add_argument("--kills", type=int, default=200, metavar="N", help="default 200")
    kills.add_argument("--files", type=int, default=100, metavar="N", help="default 100")
    kills.add_argument("--seed", type=int, default=1, metavar="N", help="of files and moments")

    backlog = benchmark("backlog", _backlog, "Drop many files at once; watch memory and order.")
    backlog.add_argument("--files", type=int, default=10_000, metavar="N", help="default 10000")

    soak = benchmark(
        "soak", _soak, "Files of every kind, with kills, full disks and an inbox that drops out."
    )
    soak.add_argument("--minutes", type=float, default=10.0, metavar="N", help="default 10")
    soak.add_argument("--files", type=int, default=2000, metavar="N", help="default 2000")
    soak.add_argument("--seed", type=int, default=1, metavar="N", help="of files and faults")
    soak.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")

    idle = benchmark("idle", _idle, "What a daemon with an empty inbox costs.")
    idle.add_argument("--seconds", type=float, default=60.0, metavar="N", help="default 60")
    idle.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")

    overhead = benchmark("overhead", _overhead, "What a small file costs besides the engine.")
    overhead.add_argument("--files", type=int, default=20, metavar="N", help="default 20")
    overhead.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")

    fuzz = benchmark("fuzz", _fuzz, "Damaged files of every kind; each must be answered.")
    fuzz.add_argument("--files", type=int, default=2000, metavar="N", help="default 2000")
    fuzz.add_argument("--seed", type=int, default=1, metavar="N", help="of the mutations")
    fuzz.add_argument("--keep", type=Path, metavar="DIR", help="work in DIR and leave it")

    checkpoint = benchmark(
        "checkpoint", _checkpoint, "Make a random checkpoint of MinerU2.5-2509-1.2B's shapes."
    )
    checkpoint.add_argument("folder", type=Path, metavar="FOLDER", help="a new one; 2.3 GB")
    checkpoint.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    checkpoint.add_argument(
        "--outliers",
        type=float,
        default=1.0,
        metavar="N",
        help="how many times larger a few channels of each linear layer's input are; default 1",
    )

    from mineru_daemon.bench import budget_kept, model, service, stages, tuning
    from mineru_daemon.bench.accuracy import command as accuracy

    service.add_arguments(
        benchmark("service", service.run, "A stream of files through the daemon, and untuned.")
    )
    stages.add_arguments(
        benchmark("stages", stages.run, "The share of each stage in the time of a page.")
    )
    tuning.add_arguments(
        benchmark("tuning", tuning.run, "What each setting costs and brings, measured.")
    )
    budget_kept.add_arguments(
        benchmark("budget", budget_kept.run, "Whether a busy daemon keeps to cpu_budget.")
    )
    accuracy.add_arguments(
        benchmark(
            "accuracy", accuracy.run, "What is read, and what it costs, beside other readers."
        )
    )
    model.add_arguments(
        benchmark("model", model.run, "MinerU2.5 here against llama.cpp and transformers.")
    )


def _kills(options: argparse.Namespace) -> int:
    from mineru_daemon.bench import kills

    return kills.run(options.kills, options.files, options.seed)


def _backlog(options: argparse.Namespace) -> int:
    from mineru_daemon.bench import backlog

    return backlog.run(options.files)


def _soak(options: argparse.Namespace) -> int:
    from mineru_daemon.bench import soak

    return soak.run(options.minutes, options.files, options.seed, options.json)


def _idle(options: argparse.Namespace) -> int:
    from mineru_daemon.bench import idle

    return idle.run(options.seconds, options.json)


def _overhead(options: argparse.Namespace) -> int:
    from mineru_daemon.bench import overhead

    return overhead.run(options.files, options.json)


def _fuzz(options: argparse.Namespace) -> int:
    from mineru_daemon.bench import fuzz

    return fuzz.run(options.files, options.seed, options.keep)


def _checkpoint(options: argparse.Namespace) -> int:
    from mineru_daemon.bench import random_checkpoint

    return random_checkpoint.run(options.folder, options.seed, options.outliers)
