"""Is every delivered file accounted for? By hashes, while the daemon is dead and at the end.

Looks at the folders of a daemon that is not running, and knows what was delivered; how it
was delivered, and what was done to the daemon meanwhile, is the benchmark's business.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mineru_daemon.bench.cases import Case
from mineru_daemon.bench.process import Served, files_of
from mineru_daemon.results import Result


@dataclass
class Findings:
    """What was delivered and what was found wrong."""

    delivered: dict[str, Case] = field(default_factory=dict)
    """By the SHA-256 of the content."""
    kills: Counter[str] = field(default_factory=Counter)
    """By the moment at which they came."""
    wrong: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    doubled: set[str] = field(default_factory=set)
    results: int = 0

    def blame(self, what: str) -> None:
        """Note a violation, once."""
        if what not in self.wrong:
            self.wrong.append(what)

    def count(self, found: Counter[str], missing: str, doubled: str) -> None:
        """Blame each delivered file that was not `found`, by its hash, exactly once."""
        for sha256, case in self.delivered.items():
            if not found[sha256]:
                self.lost.add(sha256)
                self.blame(f"{case.name} ({sha256[:8]}) {missing}")
            elif found[sha256] > 1:
                self.doubled.add(sha256)
                self.blame(f"{case.name} ({sha256[:8]}) {doubled.format(found[sha256])}")


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_meanwhile(served: Served, findings: Findings, inbox: Path | None = None) -> None:
    """With the daemon dead: each delivered file is in one place, results are whole.

    `inbox` tells where the inbox is to be found while it is away from its place.
    """
    places: Counter[str] = Counter()
    for folder in (inbox or served.inbox, served.done, served.failed):
        places.update(_hash(path) for path in files_of(folder) if path.name[0] != ".")
    # Only documents: a state or a result that was just being written is empty, as a case is.
    places.update(_hash(path) for path in served.spool.glob("jobs/*/document/*"))
    findings.count(places, "is lost", "lies in {} places")
    for path in _results(served):
        _load(path, findings)


def check_end(served: Served, findings: Findings) -> None:
    """With nothing left to do: one result for each file, and nothing left over."""
    found: Counter[str] = Counter()
    jobs: Counter[str] = Counter()
    for path in _results(served):
        findings.results += 1
        result = _load(path, findings)
        if result is None:
            continue
        jobs[result["job"]] += 1
        failed = path.is_relative_to(served.failed)
        original = (served.failed if failed else served.done) / path.name.removesuffix(".json")
        if not original.exists():
            findings.blame(f"{path.name} has no original beside it")
            continue
        sha256 = _hash(original)
        found[sha256] += 1
        if result["source"]["sha256"] not in (sha256, None):
            findings.blame(f"{path.name} is not of the file that lies under its name")
        case = findings.delivered.get(sha256)
        if case is None:
            findings.blame(f"{original.name} was never delivered")
        elif (result["status"], result["source"]["name"]) != (case.outcome, case.name):
            findings.blame(f"{path.name}: {result['status']} instead of {case.outcome}")
    findings.count(found, "has no result", "has {} results")
    for job, count in jobs.items():
        if count > 1:
            findings.blame(f"job {job} gave {count} results")
    _check_leftovers(served, findings)


def _check_leftovers(served: Served, findings: Findings) -> None:
    for folder in (served.inbox, served.outbox, served.done, served.failed):
        for path in files_of(folder):
            if path.name.startswith(".") or path.suffix == ".part":
                findings.blame(f"{path} was left over")
    for path in files_of(served.inbox):
        findings.blame(f"{path} was not served")
    for path in (served.spool / "jobs").iterdir():
        findings.blame(f"{path} was left over")


def _results(served: Served) -> list[Path]:
    folders = (served.outbox, served.failed)
    return [path for folder in folders for path in folder.rglob("*.json") if path.name[0] != "."]


def _load(path: Path, findings: Findings) -> dict[str, Any] | None:
    """The result document; one that breaks the schema is blamed."""
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        Result.model_validate(content)
    except ValueError as error:
        findings.blame(f"{path} is no result document: {error}")
        return None
    return content
