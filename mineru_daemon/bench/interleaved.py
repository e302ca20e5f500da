"""A/B runs: variants that are loaded side by side and asked in turn, and their medians.

What changes on the machine meanwhile changes all figures alike. Who is measured, and what is
asked, is left to the benchmarks.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mineru_daemon.bench.peer_process import Peer, PeerError

Answer = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """An engine as it is set up."""

    name: str
    module: str
    """Beside `bench.peers.serve`."""
    settings: dict[str, Any]
    cpus: tuple[int, ...]
    """That its process keeps to."""
    python: str


@dataclass(frozen=True)
class Figure:
    """Medians of one variant; the peak is the largest."""

    name: str
    samples: int
    wall: float
    cpu: float
    peak_mib: float
    accuracy: float | None
    """Mean, 0..1, where texts were compared."""

    @property
    def busy(self) -> float:
        """CPUs in use while it was read."""
        return self.cpu / self.wall if self.wall else 0.0


@dataclass
class Samples:
    """All answers by variant, in the order of `variants`, and what went wrong."""

    variants: list[Variant]
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def figures(self) -> list[Figure]:
        """One for each variant that has answered."""
        return [
            _figure(one.name, self.answers[one.name])
            for one in self.variants
            if self.answers.get(one.name)
        ]


def measure(
    variants: Sequence[Variant],
    ask: Callable[[Peer[Variant], int], Answer],
    rounds: int,
    folder: Path,
) -> Samples:
    """Load all, ask each once without counting it, then `rounds` times in turn.

    `ask` is given the number of the round, -1 for the first time. Who fails is asked no more.
    """
    found = Samples(list(variants))
    peers: list[Peer[Variant]] = []
    try:
        for variant in variants:
            peer = Peer(variant, variant.cpus, folder)
            peers.append(peer)
            _tried(found, peers, peer, peer.open)
        for number in range(-1, rounds):
            first = max(0, number) % max(1, len(peers))
            for peer in [*peers[first:], *peers[:first]]:
                answer = _tried(found, peers, peer, lambda peer=peer: ask(peer, number))  # type: ignore[misc]  # noqa: B023
                if answer is not None and number >= 0:
                    found.answers.setdefault(peer.variant.name, []).append(answer)
    finally:
        for peer in peers:
            peer.close()
    return found


def _tried(
    found: Samples, peers: list[Peer[Variant]], peer: Peer[Variant], ask: Callable[[], Answer]
) -> Answer | None:
    try:
        return ask()
    except PeerError as error:
        found.failures.append(str(error))
        peers.remove(peer)
        peer.close()
        return None


def _figure(name: str, answers: Sequence[Answer]) -> Figure:
    scores = [answer["accuracy"] for answer in answers if "accuracy" in answer]
    return Figure(
        name=name,
        samples=len(answers),
        wall=statistics.median(answer["wall"] for answer in answers),
        cpu=statistics.median(answer["cpu"] for answer in answers),
        peak_mib=max(answer["peak_mib"] for answer in answers),
        accuracy=statistics.fmean(scores) if scores else None,
    )


def table(title: str, figures: Sequence[Figure]) -> str:
    """A heading and a line for each variant; ratios are to the first one."""
    lines = [title]
    width = max((len(one.name) for one in figures), default=0)
    for one in figures:
        base = figures[0]
        accuracy = "" if one.accuracy is None else f"  word F1 {one.accuracy:.3f}"
        lines.append(
            f"  {one.name:{width}}  {one.wall:7.2f} s ({_ratio(one.wall, base.wall)})  "
            f"{one.cpu:7.2f} s of CPU ({_ratio(one.cpu, base.cpu)})  {one.busy:4.2f} CPUs  "
            f"peak {one.peak_mib:5.0f} MiB{accuracy}"
        )
    return "\n".join(lines)


def _ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}" if base else "-"
