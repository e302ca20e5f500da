"""A set of documents with ground truth: which files, what is true of them, how they score.

The folder has a `manifest.json` with a list `entries`, each with `id`, `file`, `kind`, `gt` and
perhaps `lang`, `bench` (in the small subset), `rotation` and `metric`; paths are relative to the
folder. Truths are text (`.txt`, or Markdown as `.md`), tables (HTML as `.html`, or a list of them
as `.json`) or facts (`.jsonl`). Entries without truth are not read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mineru_daemon.bench.accuracy import facts, tables, text
from mineru_daemon.errors import ConfigError

WIDE_LANGUAGES: frozenset[str] = frozenset({"zh", "ja", "ko", "cjk"})
"""Languages whose texts are compared by characters."""

MIXED_KINDS: frozenset[str] = frozenset({"screenshot", "scan_sim"})
"""Kinds whose Chinese and Japanese pages are a group of their own."""

Scores = dict[str, list[float]]
"""Values of each metric: one of the file, or one for each of its tables or facts."""


@dataclass(frozen=True)
class Entry:
    """A document of the set."""

    id: str
    file: Path
    kind: str
    truth: Path
    lang: str | None = None
    rotation: str | None = None

    @property
    def group(self) -> str:
        """The kind, apart where languages, or real and made pages, should not be mixed."""
        parts = [self.kind]
        if self.kind in MIXED_KINDS and self.lang in WIDE_LANGUAGES - {"ko"}:
            parts.append("cjk")
        if self.lang == "ko":
            parts.append("ko")
        if self.kind == "rotated" and self.rotation == "real":
            parts.append("real")
        return "_".join(parts)


def chosen(
    folder: Path, kinds: Collection[str], bench_only: bool, limits: Mapping[str, int]
) -> list[Entry]:
    """The documents asked for, in the order of the manifest.

    `kinds` empty means all; `limits` are files of a kind at most, "" of any kind. Raises
    ConfigError when there is no set, or nothing in it fits.
    """
    taken: Counter[str] = Counter()
    found = []
    for one in _manifest(folder):
        kind = str(one["kind"])
        if not one.get("gt") or (kinds and kind not in kinds):
            continue
        if bench_only and not one.get("bench"):
            continue
        if taken[kind] >= limits.get(kind, limits.get("", 1 << 30)):
            continue
        taken[kind] += 1
        rotation = one.get("rotation")
        found.append(
            Entry(
                str(one["id"]),
                folder / one["file"],
                kind,
                folder / one["gt"],
                one.get("lang"),
                None if rotation is None else str(rotation),
            )
        )
    if not found:
        raise ConfigError(f"{folder} has no documents with truth of what was asked for.")
    return found


def _manifest(folder: Path) -> list[dict[str, Any]]:
    path = folder / "manifest.json"
    try:
        entries = json.loads(path.read_text("utf-8"))["entries"]
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; name a set.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} is no manifest of a set: it has no `entries`.") from error
    for one in entries:
        for name in ("file", "gt"):
            inside = (folder / str(one.get(name) or "")).resolve()
            if not inside.is_relative_to(folder.resolve()):
                raise ConfigError(f"{path} names {one[name]}, which lies outside the set.")
    return list(entries)


def scores(entry: Entry, read: str) -> Scores:
    """How a document scores whose Markdown is `read`."""
    content = entry.truth.read_text("utf-8")
    match entry.truth.suffix:
        case ".html":
            return _tables([content], read)
        case ".json":
            return _tables([one["html"] for one in json.loads(content)], read)
        case ".jsonl":
            lines = [json.loads(line) for line in content.splitlines() if line.strip()]
            return _facts([fact for fact in lines if fact["type"] in facts.KINDS], read)
        case ".md":
            content = text.without_marks(content)
    return _text(entry, content, text.without_marks(read))


def _text(entry: Entry, truth: str, read: str) -> Scores:
    """A truth that knows no lower case is that of a receipt: its lines are looked for."""
    wide = entry.lang in WIDE_LANGUAGES or text.is_wide(truth)
    lines = truth.isupper() and not wide
    found = {
        "ned": [text.ned(truth, read, wide=wide, case=not lines)],
        "f1": [text.text_f1(truth, read, wide=wide)],
        "nid": [text.nid(truth, read)],
    }
    return found | ({"line_recall": [text.line_recall(truth, read)]} if lines else {})


def _tables(truths: Sequence[str], read: str) -> Scores:
    pairs = tables.matched(truths, read)
    return {"teds": [full for full, _ in pairs], "teds_s": [shape for _, shape in pairs]}


def _facts(wanted: Sequence[dict[str, Any]], read: str) -> Scores:
    found: Scores = {"pass": []}
    for fact in wanted:
        held = float(facts.holds(fact, read))
        found["pass"].append(held)
        found.setdefault(fact["type"], []).append(held)
    return found


def nothing(found: Scores) -> Scores:
    """The scores of a document that was not read: an empty page would pass `absent`."""
    return {metric: [0.0] * len(values) for metric, values in found.items()}
