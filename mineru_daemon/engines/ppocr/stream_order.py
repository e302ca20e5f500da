"""The order of a PDF's content stream as evidence for reading order.

Who writes a text layer mostly writes it as it is to be read: column after column, a figure's
words apart from the text that flows around it. Geometry cannot always tell these. But a stream
may also jump about (forms filled in later, headings laid over at the end), so it is followed
only where it agrees with the page: rows of one column are not read out of turn, and most text
comes in runs. Columns are told by `reading_order`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.lines import weighted_median
from mineru_daemon.engines.ppocr.reading_order import Item

UPWARDS = 1.2
"""Line heights by which the next item may stand above the last one within a run: raised signs
and the parts of formulas do."""

TANGLED = 0.08
"""Share of the text that may stand among rows of another run of its column, at most."""

RUN = 3
"""Items of a run from which on it is no accident."""

IN_RUNS = 0.75
"""Share of the text in such runs, or in runs that are whole columns, at least."""

HEADING = 1.15
"""Type size over that of the page from which on what comes late is not read late: headings are
laid over pages at the end."""


MOST_ITEMS = 2000
"""Of a page whose order is compared: bounds the work on a page made to be slow; a newspaper's
page has 1500 lines."""


@dataclass
class _Run:
    """Items that follow each other in the file and stand below each other in one column."""

    column: int
    items: list[Item] = field(default_factory=list)

    @property
    def text(self) -> int:
        return sum(_length(item) for item in self.items)


def followed(
    columns: Sequence[Sequence[Item]], place_of: Mapping[int, float], sizes: Mapping[int, float]
) -> list[list[Item]]:
    """The columns of a page in the file's order where it can be trusted, or as they are.

    `place_of` has the place in the file and `sizes` the type size of an item by its `id`. Items
    without a place stay behind those that stand before them now.
    """
    known = [(place_of[id(item)], number, item) for number, column in enumerate(columns)
             for item in column if id(item) in place_of]  # fmt: skip
    if not 2 <= len(known) <= MOST_ITEMS:
        return [list(column) for column in columns]
    em = median(item.height for _, _, item in known)
    runs = _runs([(number, item) for _, number, item in sorted(known, key=lambda one: one[0])], em)
    if not _is_trusted(runs, [len(column) for column in columns]):
        return [list(column) for column in columns]
    runs = _headings_first(runs, sizes)
    _put_back(runs, columns, place_of)
    return [run.items for run in runs]


def _runs(items: Sequence[tuple[int, Item]], em: float) -> list[_Run]:
    runs: list[_Run] = []
    for column, item in items:
        if runs and runs[-1].column == column:
            lowest = max(one.middle for one in runs[-1].items[-RUN:])
            if item.middle >= lowest - UPWARDS * max(em, min(item.height, 2 * em)):
                runs[-1].items.append(item)
                continue
        runs.append(_Run(column, [item]))
    return runs


def _is_trusted(runs: Sequence[_Run], sizes: Sequence[int]) -> bool:
    """Whether runs do not stand among each other's rows, and most text is in runs."""
    all_text = sum(run.text for run in runs)
    long = sum(
        run.text for run in runs if len(run.items) >= RUN or len(run.items) == sizes[run.column]
    )
    if long < IN_RUNS * all_text:
        return False
    tangled = 0
    for number, run in enumerate(runs):
        others = [
            other
            for place, other in enumerate(runs)
            if place != number and other.column == run.column
        ]
        rows = [item.box for other in others for item in other.items]
        tangled += sum(
            _length(item)
            for item in run.items
            if any(boxes.common_height(item.box, box) > 0.5 * item.height for box in rows)
        )
    return tangled <= TANGLED * all_text


def _headings_first(runs: Sequence[_Run], sizes: Mapping[int, float]) -> list[_Run]:
    """Runs of large type before the first run that stands below them."""
    body = weighted_median(
        (sizes.get(id(item), 0.0), _length(item)) for run in runs for item in run.items
    )
    ordered: list[_Run] = []
    for run in runs:
        own = median(sizes.get(id(item), 0.0) for item in run.items)
        bottom = max(item.box[3] for item in run.items)
        below = [
            place
            for place, other in enumerate(ordered)
            if min(item.middle for item in other.items) > bottom and _share_width(run, other)
        ]
        if own >= HEADING * body and below:
            ordered.insert(below[0], run)
        else:
            ordered.append(run)
    return ordered


def _share_width(one: _Run, other: _Run) -> bool:
    first, second = (boxes.union([item.box for item in run.items]) for run in (one, other))
    return boxes.common_width(first, second) > 0


def _put_back(
    runs: list[_Run], columns: Sequence[Sequence[Item]], place_of: Mapping[int, float]
) -> None:
    """Items without a place: behind the item before them, in its run if it is their column's."""
    home = {id(item): run for run in runs for item in run.items}
    before: _Run | None = None
    for number, column in enumerate(columns):
        for item in column:
            if id(item) in place_of:
                before = home[id(item)]
                continue
            if before is None or before.column != number:
                fresh = _Run(number)
                runs.insert(0 if before is None else runs.index(before) + 1, fresh)
                before = fresh
            before.items.append(item)


def _length(item: Item) -> int:
    return sum(len(line.text) for line in item.lines) or 1
