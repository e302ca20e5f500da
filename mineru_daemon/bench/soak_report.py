"""What a soak found: the record of it, as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from mineru_daemon.bench import machine, steady
from mineru_daemon.bench.accounts import Findings


@dataclass
class Soaked:
    """What was done and what came of it."""

    findings: Findings = field(default_factory=Findings)
    ways: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    left_out: str = ""
    """Why some faults could not be made here."""
    refused_writes: int = 0
    """Times that the daemon reported a disk that refused."""
    samples: list[steady.Sample] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing is wrong, and what could be judged is steady."""
        return not self.findings.wrong and all(life.steady for life in steady.lives(self.samples))


def table(soaked: Soaked) -> str:
    """The outcome for a person."""
    findings = soaked.findings
    said = [
        ("delivered", f"{len(findings.delivered)} ({_listed(soaked.ways)})"),
        ("faults", _listed(soaked.faults)),
        ("refusals", f"{soaked.refused_writes} times the daemon met a disk that refused"),
        ("results", f"{findings.results} ({_listed(soaked.statuses)})"),
        ("lost", str(len(findings.lost))),
        ("doubled", str(len(findings.doubled))),
        ("seconds", f"{soaked.seconds:.0f}"),
    ]
    if soaked.left_out:
        said.insert(2, ("left out", f"full disk, covered: {soaked.left_out}"))
    judged = steady.lives(soaked.samples)
    for life in judged:
        said.append(
            (
                f"life {life.life + 1}",
                f"{life.seconds:.0f} s, {life.files} files, in its last two thirds: "
                f"{life.resident_mib[0]:.0f} to {life.resident_mib[1]:.0f} MiB "
                f"({life.gained['resident_mib']:+.1f} by the fitted line), "
                f"{life.descriptors[0]} to {life.descriptors[1]} descriptors "
                f"({life.gained['descriptors']:+.2f}), "
                f"{life.threads[0]} to {life.threads[1]} threads "
                f"({life.gained['threads']:+.2f}): {'steady' if life.steady else 'NOT STEADY'}",
            )
        )
    if not judged:
        least = f"{steady.JUDGED_SECONDS:.0f} s and {steady.JUDGED_FILES} files"
        said.append(("steady", f"not judged: no life of the daemon had {least}"))
    said += [("WRONG", what) for what in findings.wrong]
    return "\n".join(f"{name:10} {what}" for name, what in said)


def as_json(soaked: Soaked) -> dict[str, Any]:
    """The outcome for a program, with every sample and the machine."""
    return {
        "machine": machine.facts(),
        "seconds": soaked.seconds,
        "delivered": len(soaked.findings.delivered),
        "ways": dict(soaked.ways),
        "faults": dict(soaked.faults),
        "left_out": soaked.left_out,
        "refused_writes": soaked.refused_writes,
        "results": soaked.findings.results,
        "statuses": dict(soaked.statuses),
        "lost": sorted(soaked.findings.lost),
        "doubled": sorted(soaked.findings.doubled),
        "wrong": soaked.findings.wrong,
        "lives": [life.as_json() for life in steady.lives(soaked.samples)],
        "samples": [vars(sample) for sample in soaked.samples],
    }


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
