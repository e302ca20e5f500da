"""Samples -> medians, and the text in which they are told. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

GOALS: dict[str, dict[str, float]] = {
    "vision": {"llama.cpp": 2.0},
    "prefill": {"llama.cpp": 2.5},
    "decode": {"llama.cpp": 1.6},
    "batch": {"llama.cpp": 3.0},
    "page": {"llama.cpp": 3.0, "transformers": 5.0},
}
"""How many times as fast as the best of a kind ours is to be, by the first word of a stage."""


@dataclass(frozen=True)
class Sample:
    """One measurement."""

    stage: str
    threads: int
    round: int
    variant: str
    kind: str
    answer: dict[str, Any]
    """What the process said: wall, cpu, peak_mib, …"""


@dataclass(frozen=True)
class Figure:
    """The samples of one variant at one stage."""

    variant: str
    kind: str
    samples: int
    wall: float
    """Median, seconds; so is `cpu`."""
    fastest: float
    slowest: float
    cpu: float
    tokens_per_second: float | None
    """Median over the samples."""
    peak_mib: float
    """The largest."""


def figures(samples: Iterable[Sample], stage: str, threads: int) -> list[Figure]:
    """One for each variant, in the order in which they were first measured."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        if (sample.stage, sample.threads) == (stage, threads):
            found.setdefault(sample.variant, []).append(sample)
    return [_figure(these) for these in found.values()]


def _figure(samples: Sequence[Sample]) -> Figure:
    answers = [sample.answer for sample in samples]
    walls = [answer["wall"] for answer in answers]
    rates = [one["tokens"] / one["wall"] for one in answers if one.get("tokens") and one["wall"]]
    return Figure(
        variant=samples[0].variant,
        kind=samples[0].kind,
        samples=len(samples),
        wall=statistics.median(walls),
        fastest=min(walls),
        slowest=max(walls),
        cpu=statistics.median(answer["cpu"] for answer in answers),
        tokens_per_second=statistics.median(rates) if rates else None,
        peak_mib=max(answer["peak_mib"] for answer in answers),
    )


def ratios(found: Sequence[Figure], stage: str, rate: bool) -> list[str]:
    """The best of ours against the best of each kind of peer, with the goal."""
    best = {kind: _best(found, kind, rate) for kind in {one.kind for one in found}}
    ours = best.pop("ours", None)
    if ours is None:
        return []
    lines = []
    for kind, peer in sorted(best.items()):
        goal = GOALS.get(stage.partition("-")[0], {}).get(kind)
        wanted = f" (goal {goal:g})" if goal else ""
        lines.append(_compared(ours, peer, peer.variant, rate) + wanted)
    return lines


def batch_against_one(batch: Sequence[Figure], one: Sequence[Figure]) -> list[str]:
    """The best of our batches against the best of llama.cpp's single sequences."""
    kinds = {figure.kind for figure in batch}, {figure.kind for figure in one}
    if "ours" not in kinds[0] or "llama.cpp" not in kinds[1]:
        return []
    ours, peer = _best(batch, "ours", True), _best(one, "llama.cpp", True)
    return [f"  {_compared(ours, peer, f'one sequence of {peer.variant}', True)}"]


def _compared(ours: Figure, peer: Figure, name: str, rate: bool) -> str:
    times = _speed(ours, rate) / _speed(peer, rate)
    said = f"{ours.variant} is {times:.2f} times as fast as {name}"
    # On a busy machine this is the steadier of both.
    cpu = _effort(ours, rate) / _effort(peer, rate) if _effort(peer, rate) else 0.0
    return f"{said}, for {cpu:.2f} of its CPU time" if cpu else said


def _effort(figure: Figure, rate: bool) -> float:
    """CPU seconds, of the whole or for each token."""
    if rate and figure.tokens_per_second is not None:
        return figure.cpu / (figure.tokens_per_second * figure.wall)
    return figure.cpu


def _best(found: Sequence[Figure], kind: str, rate: bool) -> Figure:
    return max((one for one in found if one.kind == kind), key=lambda one: _speed(one, rate))


def _speed(figure: Figure, rate: bool) -> float:
    if rate and figure.tokens_per_second is not None:
        return figure.tokens_per_second
    return 1 / figure.wall if figure.wall > 0 else 0.0


def block(label: str, threads: int, found: Sequence[Figure], stage: str, rate: bool) -> str:
    """A heading, a line for each variant, and the ratios."""
    lines = [f"{label}; {threads} {'thread' if threads == 1 else 'threads'}"]
    width = max((len(one.variant) for one in found), default=0)
    for one in found:
        spread = f"{one.fastest:.2f} to {one.slowest:.2f} of {one.samples}"
        speed = f"{one.tokens_per_second:8.1f} t/s  " if rate and one.tokens_per_second else ""
        lines.append(
            f"  {one.variant:{width}}  {speed}{one.wall:8.2f} s ({spread})  "
            f"{one.cpu:8.2f} s of CPU  peak {one.peak_mib:6.0f} MiB"
        )
    lines += [f"  {line}" for line in ratios(found, stage, rate)]
    return "\n".join(lines)


def as_json(
    samples: Sequence[Sample],
    machine: dict[str, Any],
    facts: dict[str, dict[str, Any]],
    failures: Sequence[str],
) -> dict[str, Any]:
    """Everything, for programs; `facts` by variant."""
    keys = dict.fromkeys((sample.stage, sample.threads) for sample in samples)
    return {
        "machine": machine,
        "variants": facts,
        "figures": [
            {"stage": stage, "threads": threads, **vars(one)}
            for stage, threads in keys
            for one in figures(samples, stage, threads)
        ],
        "samples": [vars(sample) for sample in samples],
        "failures": list(failures),
    }
