"""Where the time of a page goes: the share of each stage, for both engines.

The embedded engine reads screenshots, scans and digital PDFs that were made here and now, each
twice a round: once its stages are counted by the wall's clock, once by the CPU's. MinerU2.5 is
measured where `--model FOLDER` is given: a layout and crops as in `bench model`, whose texts are
as long as asked, so that random weights (`bench checkpoint`) will do; its post-processing is
measured apart, on as many blocks. The article that this project began with has preprocessing
15 %, vision 60 %, decoding 20 %, post-processing 5 %.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mineru_daemon.bench import interleaved, machine, model_variants, printed
from mineru_daemon.bench.interleaved import Answer, Variant
from mineru_daemon.bench.model_stages import Pictures
from mineru_daemon.bench.peer_process import Peer
from mineru_daemon.errors import ConfigError

GROUPS = {
    "text-layer": "preprocessing",
    "render": "preprocessing",
    "preprocess": "preprocessing",
    "inference.orientation": "vision, detection",
    "inference.detection": "vision, detection",
    "inference.layout": "vision, detection",
    "inference.vision": "vision, detection",
    "inference.prefill": "prefill",
    "inference.recognition": "decoding, recognition",
    "inference.decode": "decoding, recognition",
    "inference.table": "decoding, recognition",
    "postprocess": "post-processing",
}
"""Stages of both engines by the article's names; others are `other`."""

NAMES = tuple(dict.fromkeys([*GROUPS.values(), "other"]))


@dataclass(frozen=True)
class Shares:
    """Of one kind of page."""

    page: str
    samples: int
    wall: float
    """Median seconds of a page; so is `cpu`."""
    cpu: float
    peak_mib: float
    by_wall: dict[str, float]
    """Share of each group in the stages' seconds, 0..1."""
    by_cpu: dict[str, float]
    stages: dict[str, float]
    """Median CPU seconds of each stage."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument(
        "--model", type=Path, metavar="FOLDER", help="MinerU2.5 too: a model folder"
    )
    parser.add_argument("--layout", type=int, default=1036, metavar="N", help="default 1036")
    parser.add_argument("--crops", type=int, default=15, metavar="N", help="default 15")
    parser.add_argument("--tokens", type=int, default=60, metavar="N", help="of each; default 60")
    parser.add_argument(
        "--model-rounds", type=int, default=1, metavar="N", help="of MinerU2.5; default 1"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 0 when everything was answered."""
    have = sorted(os.sched_getaffinity(0))
    if not 1 <= options.threads <= len(have):
        raise ConfigError(f"--threads {options.threads}: a number from 1 to {len(have)}.")
    if options.model and not (options.model / "manifest.json").is_file():
        raise ConfigError(f"--model {options.model}: there is no manifest.json in it.")
    cpus = tuple(have[: options.threads])
    found = machine.told()
    base = Path(tempfile.mkdtemp(prefix="mineru-stages-"))
    tables, failures = [], []
    for kind, content in _pages(options.rounds).items():
        shares, failed = _embedded(kind, content, cpus, options.rounds, base)
        failures += failed
        tables += shares
    if options.model:
        shares, failed = _mineru(options, cpus, base)
        failures += failed
        tables += shares
    print(table(tables))
    for failure in failures:
        print(f"failed: {failure}")
    if options.json:
        said = {"machine": found, "pages": [asdict(one) for one in tables]}
        options.json.write_text(json.dumps(said, indent=1) + "\n")
    if not failures:
        shutil.rmtree(base)
    return 1 if failures else 0


# --- the embedded engine -----------------------------------------------------


def _pages(rounds: int) -> dict[str, list[tuple[str, bytes]]]:
    """Files of each kind, a new one for each round: suffix and content."""
    seeds = range(rounds)
    return {
        "screenshot": [
            ("png", printed.saved(printed.page(printed.SCREEN, 16, n).image)) for n in seeds
        ],
        "scanned page": [("png", printed.saved(printed.scan(n).image)) for n in seeds],
        "digital PDF": [("pdf", printed.pdf(n, 1)) for n in seeds],
    }


def _embedded(
    kind: str, files: Sequence[tuple[str, bytes]], cpus: tuple[int, ...], rounds: int, base: Path
) -> tuple[list[Shares], list[str]]:
    paths = []
    for number, (suffix, content) in enumerate(files):
        paths.append(base / f"{kind.replace(' ', '-')}-{number}.{suffix}")
        paths[-1].write_bytes(content)
    variant = Variant("ppocr", "embedded_peer", {"intra": len(cpus)}, cpus, sys.executable)

    def ask(peer: Peer[Variant], number: int) -> Answer:
        request = {"stage": "read", "file": str(paths[max(0, number)])}
        by_wall = peer.ask({**request, "clock": "wall"})
        by_cpu = peer.ask({**request, "clock": "cpu"})
        return by_wall | {"stages_cpu": by_cpu["stages"]}

    samples = interleaved.measure([variant], ask, rounds, base)
    answers = samples.answers.get("ppocr", [])
    return ([_shares(f"ppocr, {kind}", answers)] if answers else []), samples.failures


# --- MinerU2.5 ---------------------------------------------------------------


def _mineru(
    options: argparse.Namespace, cpus: tuple[int, ...], base: Path
) -> tuple[list[Shares], list[str]]:
    variants = [
        Variant(preset, "onnx_peer", {"model": str(options.model)}, cpus, sys.executable)
        for preset in ("quality", "balanced")
    ]
    pictures = Pictures(base)
    texts = [
        " ".join(printed.words(random.Random(n), max(1, options.tokens // 2)))  # noqa: S311
        for n in range(options.crops)
    ]

    def ask(peer: Peer[Variant], number: int) -> Answer:
        small = number < 0
        seed = 1 + max(0, number)
        answer = peer.ask(
            {
                "stage": "page",
                "layout": pictures.page(112 if small else options.layout, seed),
                "crops": [
                    pictures.crop(100 * seed + place)
                    for place in range(1 if small else options.crops)
                ],
                "tokens": 2 if small else options.tokens,
                "rows": model_variants.PAGE_ROWS["ours"],
                "preset": peer.variant.name,
            }
        )
        after = peer.ask({"stage": "postprocess", "texts": texts})
        return answer | {
            "stages": {**answer["stages"], "postprocess": after["wall"]},
            "stages_cpu": {**answer["stages_cpu"], "postprocess": after["cpu"]},
        }

    samples = interleaved.measure(variants, ask, options.model_rounds, base)
    made = f"{options.crops} crops of {options.tokens} tokens"
    return [
        _shares(f"mineru {one.name}, {made}", samples.answers[one.name])
        for one in variants
        if samples.answers.get(one.name)
    ], samples.failures


# --- figures -----------------------------------------------------------------


def _shares(page: str, answers: Sequence[Answer]) -> Shares:
    return Shares(
        page=page,
        samples=len(answers),
        wall=statistics.median(answer["wall"] for answer in answers),
        cpu=statistics.median(answer["cpu"] for answer in answers),
        peak_mib=max(answer["peak_mib"] for answer in answers),
        by_wall=grouped(medians(answer["stages"] for answer in answers)),
        by_cpu=grouped(medians(answer["stages_cpu"] for answer in answers)),
        stages=medians(answer["stages_cpu"] for answer in answers),
    )


def medians(samples: Iterable[dict[str, float]]) -> dict[str, float]:
    """Of each stage over the samples; one that is missing took no time."""
    every = list(samples)
    names = dict.fromkeys(name for sample in every for name in sample)
    return {name: statistics.median(sample.get(name, 0.0) for sample in every) for name in names}


def grouped(stages: dict[str, float]) -> dict[str, float]:
    """Share of each of `NAMES` in all stages, 0..1."""
    total = sum(stages.values())
    shares: defaultdict[str, float] = defaultdict(float)
    for stage, seconds in stages.items():
        shares[GROUPS.get(stage, "other")] += seconds / total if total else 0.0
    return {name: shares[name] for name in NAMES}


def table(pages: Sequence[Shares]) -> str:
    """Two lines for each kind of page, by the CPU's clock and by the wall's."""
    width = max((len(one.page) for one in pages), default=0)
    lines = []
    for one in pages:
        head = f"{one.page:{width}}  {one.cpu:7.2f} s of CPU, {one.wall:7.2f} s"
        lines.append(f"{head}, peak {one.peak_mib:.0f} MiB, median of {one.samples}")
        told: tuple[tuple[str, dict[str, float]], ...]
        told = (("CPU", one.by_cpu), ("wall", one.by_wall))
        for clock, shares in told:
            said = "; ".join(f"{name} {share:.1%}" for name, share in shares.items() if share)
            lines.append(f"  by {clock:4}  {said}")
    return "\n".join(lines)
