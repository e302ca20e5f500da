"""Thousands of damaged files for a real daemon: each gives a result or one clear sentence.

The files are made by `mutations`. The daemon is started again should it end, as systemd would
do; that, and every other thing a file must not do, is counted by kind of file.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mineru_daemon import memory
from mineru_daemon.bench import mutations, originals
from mineru_daemon.bench.process import Served
from mineru_daemon.results import Result

RENDER_SECONDS = 10
MEMORY = 1024 * 1024 * 1024
FILE_SECONDS = 120.0
"""A small file, of which each page may be tried three times, takes no longer."""

OPTIONS = (
    "--settle-seconds=0.1",
    "--append-seconds=0.1",
    "--incomplete-seconds=0.5",
    "--rescan-seconds=1",
    f"--render-seconds={RENDER_SECONDS}",
    "--page-seconds=30",
    f"--max-memory-bytes={MEMORY}",
    "--intra-op-num-threads=1",
)

AT_ONCE = 200
"""Files in the inbox at most, as more would only wait there."""

PATIENCE_SECONDS = 300.0
"""Without any result for so long the daemon has lost its way."""

SENTENCE = re.compile(r"[^\n]{10,400}\.")
"""What is said of a file: one line, with an end."""


@dataclass
class Findings:
    """What came of the files, by kind."""

    files: Counter[str] = field(default_factory=Counter)
    outcomes: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By kind: `read`, `refused`, and the codes of what ended a child or took too long."""
    wrong: list[str] = field(default_factory=list)
    """Sentences that are none, tracebacks, results that break the schema."""
    lost: int = 0
    doubled: int = 0
    process_ends: int = 0
    """Of the daemon itself."""
    over_time: int = 0
    longest: float = 0.0
    """Seconds of a file, from its first look to its result."""
    daemon_mib: float = 0.0
    child_mib: float = 0.0
    """Peaks of resident memory, looked at every 50 ms."""


def run(files: int, seed: int, keep: Path | None = None) -> int:
    """Do it, print a table; 0 when nothing was wrong. `keep` is a folder that is left as it is
    in the end; without, a new one is removed if all was well."""
    folder = keep or Path(tempfile.mkdtemp(prefix="mineru-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    findings = storm(folder, files, seed)
    print("\n".join(table(findings)))
    print(f"{time.monotonic() - began:.0f} seconds")
    if findings.wrong or findings.lost or findings.doubled:
        print(f"All is left as it was in {folder}.")
        return 1
    if keep is None:
        shutil.rmtree(folder)
    return 0


def table(findings: Findings) -> Iterator[str]:
    """The findings, line by line."""
    columns = ("read", "refused", "incomplete", "crashed", "hung", "memory", "too-slow")
    yield f"{'kind':16}{'files':>7}" + "".join(f"{column:>11}" for column in columns)
    for kind in [*findings.files, "all"]:
        of_kind = (
            findings.outcomes[kind] if kind != "all" else sum(findings.outcomes.values(), Counter())
        )
        files = findings.files[kind] if kind != "all" else findings.files.total()
        yield f"{kind:16}{files:7}" + "".join(f"{of_kind[column]:11}" for column in columns)
    yield f"lost {findings.lost}, doubled {findings.doubled}"
    yield (
        f"daemon ended {findings.process_ends} times; {findings.over_time} files over "
        f"{FILE_SECONDS:.0f} s, the longest took {findings.longest:.1f} s"
    )
    yield f"peak memory: daemon {findings.daemon_mib:.0f} MiB, child {findings.child_mib:.0f} MiB"
    yield from (f"WRONG {what}" for what in findings.wrong)


def storm(base: Path, count: int, seed: int) -> Findings:
    """Deliver `count` files to a daemon below `base`, and look at what becomes of them."""
    findings = Findings()
    served = Served(base, *OPTIONS)
    served.start()
    served.wait_until_ready()
    kinds: dict[str, str] = {}
    waiting = mutations.stream(originals.originals(), count, seed)
    done, since, delivered_all = -1, time.monotonic(), False
    while True:
        answered = len(_answers(served))
        if answered != done:
            done, since = answered, time.monotonic()
        while not delivered_all and len(kinds) - answered < AT_ONCE:
            if (one := next(waiting, None)) is None:
                delivered_all = True
                break
            kind, content = one
            # A name without meaning: the kind is told by content.
            name = f"{len(kinds):05d}-{kind}.bin"
            (base / "delivery").write_bytes(content)
            (base / "delivery").rename(served.inbox / name)
            kinds[name] = hashlib.sha256(content).hexdigest()
            findings.files[kind] += 1
        _look(served, findings)
        if not served.alive():
            findings.process_ends += 1
            served.start()
        if (delivered_all and answered >= len(kinds)) or time.monotonic() - since > (
            PATIENCE_SECONDS
        ):
            break
        time.sleep(0.05)
    if served.stop() != 0:
        findings.wrong.append("the daemon did not stop in order; see daemon.log")
    check(served, kinds, findings)
    return findings


def check(served: Served, kinds: dict[str, str], findings: Findings) -> None:
    """Whether each file has one answer, and one that can be understood."""
    answers = Counter[str]()
    for path in _answers(served):
        name = path.name.removesuffix(".json")
        answers[name] += 1
        try:
            result: dict[str, Any] = json.loads(path.read_bytes())
            Result.model_validate(result)
        except ValueError as error:
            findings.wrong.append(f"{name}: no result document: {error}")
            continue
        if kinds.get(name) != (result["source"]["sha256"] or kinds.get(name)):
            findings.wrong.append(f"{name}: the result of another file")
        _judge(name, result, findings)
    findings.lost = sum(not answers[name] for name in kinds)
    findings.doubled = sum(count > 1 for count in answers.values()) + len(
        answers.keys() - kinds.keys()
    )


def _judge(name: str, result: dict[str, Any], findings: Findings) -> None:
    kind = name.partition("-")[2].removesuffix(".bin")
    errors = [page["error"] for page in result["pages"]] + [result["error"]]
    for error in filter(None, errors):
        if error["code"] == "internal" or not SENTENCE.fullmatch(error["message"]):
            findings.wrong.append(f"{name}: {error['code']}: {error['message']}")
    outcomes = findings.outcomes[kind]
    outcomes["refused" if result["status"] == "failed" else "read"] += 1
    for code in {error["code"] for error in errors if error}:
        outcomes[code] += 1
    seconds = result["timings"].get("total", 0.0)
    findings.longest = max(findings.longest, seconds)
    findings.over_time += seconds > FILE_SECONDS


def _answers(served: Served) -> list[Path]:
    folders = [folder for folder in (served.outbox, served.failed) if folder.exists()]
    return [path for folder in folders for path in folder.glob("[!.]*.json")]


def _look(served: Served, findings: Findings) -> None:
    findings.daemon_mib = max(findings.daemon_mib, _resident_mib(served.pid))
    for thread in Path(f"/proc/{served.pid}/task").glob("*/children"):
        try:
            children = thread.read_text().split()
        except OSError:
            continue
        for child in children:
            findings.child_mib = max(findings.child_mib, _resident_mib(int(child)))


def _resident_mib(pid: int) -> float:
    try:
        return memory.resident_mib(pid)
    except OSError:
        return 0.0
