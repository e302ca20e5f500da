"""What was measured, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from mineru_daemon.bench.accuracy import dataset
from mineru_daemon.bench.accuracy.dataset import Entry, Scores

METRICS = ("ned", "f1", "nid", "line_recall", "teds", "teds_s", "pass", "present", "absent",
           "order", "table")  # fmt: skip
"""In the order in which they are printed."""


@dataclass(frozen=True)
class Row:
    """One file read by one reader."""

    id: str
    kind: str
    group: str
    reader: str
    scores: Scores
    pages: int
    wall: float | None
    """Seconds; None where it was not answered. So are those of CPU and the peak in MiB."""
    cpu: float | None
    peak_mib: float | None
    error: str | None

    @classmethod
    def of(cls, entry: Entry, reader: str, answer: dict[str, Any]) -> Row:
        """From a reader's answer."""
        scores = dataset.scores(entry, answer.get("text", ""))
        if "error" in answer:
            scores = dataset.nothing(scores)
        return cls(
            entry.id,
            entry.kind,
            entry.group,
            reader,
            scores,
            int(answer.get("pages", 1)),
            answer.get("wall"),
            answer.get("cpu"),
            answer.get("peak_mib"),
            answer.get("error"),
        )

    def line(self) -> str:
        """For who watches."""
        said = " ".join(f"{name}={fmean(found):.3f}" for name, found in self.scores.items())
        cost = f"{self.cpu:.2f} s of CPU" if self.cpu is not None else f"failed: {self.error}"
        return f"{self.id} {self.reader}: {said}, {cost}"


def accuracy(rows: Sequence[Row]) -> str:
    """A table for each group of documents: readers down, metrics across, means."""
    lines = []
    for group in _distinct(row.group for row in rows):
        own = [row for row in rows if row.group == group]
        metrics = [name for name in METRICS if any(name in row.scores for row in own)]
        files = len({row.id for row in own})
        lines.append(f"\n{group} ({files} files)".ljust(29) + "".join(f"{m:>12}" for m in metrics))
        for reader in _distinct(row.reader for row in own):
            found = means(row for row in own if row.reader == reader)
            cells = (f"{found[name]:12.4f}" if name in found else " " * 12 for name in metrics)
            lines.append(f"  {reader:26}" + "".join(cells))
    return "\n".join(lines)


def means(rows: Iterable[Row]) -> dict[str, float]:
    """Of each metric over files, tables or facts."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, found in row.scores.items():
            values.setdefault(name, []).extend(found)
    return {name: fmean(found) for name, found in values.items() if found}


def costs(rows: Sequence[Row], facts: dict[str, dict[str, Any]]) -> str:
    """Costs of each reader over all files, those of each kind, and ratios to the others'."""
    names = _distinct(row.reader for row in rows)
    lines = ["\nCPU seconds of a page".ljust(29) + "".join(f"{name:>20}" for name in names)]
    for kind in [*_distinct(row.kind for row in rows), ""]:
        cells = []
        for name in names:
            own = [row for row in rows if row.reader == name and kind in ("", row.kind)]
            spent = per_page(own, "cpu")
            cells.append(f"{spent:20.3f}" if spent is not None else " " * 20)
        lines.append(f"  {kind or 'all':26}" + "".join(cells))
    lines.append(
        "\nall files".ljust(29)
        + f"{'wall s/page':>12}{'peak MiB':>10}{'files':>7}  "
        + "".join(f"{'CPU to ' + name:>24}" for name in names)
    )
    for name in names:
        own = [row for row in rows if row.reader == name]
        wall, peak = per_page(own, "wall"), max((row.peak_mib or 0.0 for row in own), default=0.0)
        ratios = "".join(f"{_ratio(rows, name, other):>24}" for other in names)
        told = f"{wall:12.3f}{peak:10.0f}" if wall is not None else " " * 22
        lines.append(f"  {name:26}{told}{len(own):7}  {ratios}")
    lines.append("  ratios: of the sums over files that both read (median of the files)")
    versions = (
        f"  {name}: " + ", ".join(f"{key} {value}" for key, value in facts[name].items())
        for name in names
        if name in facts
    )
    return "\n".join([*lines, *versions])


def per_page(rows: Iterable[Row], cost: str) -> float | None:
    """Sum of a cost over the sum of pages; None where nothing was answered."""
    answered = [row for row in rows if getattr(row, cost) is not None]
    if not answered:
        return None
    return float(sum(getattr(row, cost) for row in answered) / sum(row.pages for row in answered))


def _ratio(rows: Sequence[Row], one: str, other: str) -> str:
    if one == other:
        return "1"
    spent = {(row.reader, row.id): row.cpu for row in rows if row.cpu}
    pairs = [
        (spent[one, row.id], spent[other, row.id])
        for row in rows
        if row.reader == one and (one, row.id) in spent and (other, row.id) in spent
    ]
    if not pairs:
        return ""
    own, base = (sum(part) for part in zip(*pairs, strict=True))
    return f"{own / base:.3f} ({median(a / b for a, b in pairs):.3f})"


def as_json(
    rows: Sequence[Row],
    machine: dict[str, Any],
    facts: dict[str, dict[str, Any]],
    failures: Sequence[str],
) -> dict[str, Any]:
    """Everything: each file of each reader, and the means."""
    names = _distinct(row.reader for row in rows)
    groups = _distinct(row.group for row in rows)
    summary = {
        name: {
            group: means(row for row in rows if row.reader == name and row.group == group)
            for group in groups
        }
        for name in names
    }
    cost = {
        name: {
            "cpu_per_page": per_page((row for row in rows if row.reader == name), "cpu"),
            "wall_per_page": per_page((row for row in rows if row.reader == name), "wall"),
            "peak_mib": max(row.peak_mib or 0.0 for row in rows if row.reader == name),
        }
        for name in names
    }
    return {
        "machine": machine,
        "readers": facts,
        "accuracy": summary,
        "costs": cost,
        "files": [asdict(row) for row in rows],
        "failures": list(failures),
    }


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
