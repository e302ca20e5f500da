"""Characters -> runs, and runs that stand side by side: what shares a line.

A run is what follows itself in the file and on the page. Text that is printed twice is
dropped here, ideographs set one below the other are told from those in rows. Pure
functions in the frame of the text's direction; words are left to `words`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from mineru_daemon.engines.ppocr.pdf_text.glyphs import Glyph
from mineru_daemon.engines.ppocr.scripts import is_right_to_left, is_square

RUN_GAP = 1.3
"""Gap in em up to which characters that follow each other in the file share a line."""
MERGE_GAP = 0.75
"""Gap in em up to which pieces that stand side by side share a line. Less than the
space between columns, which is 1 em or more."""
SAME_LINE_OVERLAP = 0.45
"""Share of the lower piece's height by which pieces of one line overlap at least."""
OPEN_ROWS = 12
"""Rows that a piece of text is compared with, from the last one up."""


@dataclass(slots=True, eq=False)
class Run:
    """Characters that follow each other in the file and on the page."""

    glyphs: list[Glyph]
    u0: float
    v0: float
    u1: float
    v1: float
    em: float
    doubled: bool = False

    def text(self) -> str:
        """Its characters in the file's order."""
        return "".join(glyph.text for glyph in self.glyphs)


def split_vertical(glyphs: list[Glyph], width: float) -> tuple[list[Glyph], list[Glyph]]:
    """Characters set in rows, and ideographs set one below the other.

    The latter come back in the frame of text turned by 90 degrees.
    """
    below = [False] * len(glyphs)
    for number in range(1, len(glyphs)):
        before, glyph = glyphs[number - 1], glyphs[number]
        if is_square(before.text) and is_square(glyph.text):
            em = glyph.em
            step = (glyph.v0 + glyph.v1 - before.v0 - before.v1) / 2
            aside = abs(glyph.u0 + glyph.u1 - before.u0 - before.u1) / 2
            below[number] = 0.8 * em <= step <= 1.25 * em and aside <= 0.15 * em
    if sum(below) < 3:
        return glyphs, []
    rows: list[Glyph] = []
    columns: list[Glyph] = []
    start = 0
    for number in range(1, len(glyphs) + 1):
        if number < len(glyphs) and below[number]:
            continue
        group = glyphs[start:number]
        # Three signs below each other may be a column of a table.
        if len(group) >= 4:
            for one in group:
                one.u0, one.v0, one.u1, one.v1 = one.v0, width - one.u1, one.v1, width - one.u0
            columns += group
        else:
            rows += group
        start = number
    return rows, columns


def runs_of(glyphs: Iterable[Glyph]) -> list[Run]:
    """Runs in the order in which they begin in the file."""
    runs: list[Run] = []
    run: Run | None = None
    before: Glyph | None = None
    for glyph in glyphs:
        if run is not None and before is not None and _continues(run, before, glyph):
            if (
                glyph.piece != before.piece
                and glyph.text == before.text
                and abs(glyph.u0 - before.u0) < 0.2 * glyph.em
            ):
                run.doubled = True
                continue
            run.glyphs.append(glyph)
            run.u0 = min(run.u0, glyph.u0)
            run.u1 = max(run.u1, glyph.u1)
            run.v0 = min(run.v0, glyph.v0)
            run.v1 = max(run.v1, glyph.v1)
            run.em = max(run.em, glyph.em)
        else:
            run = Run([glyph], glyph.u0, glyph.v0, glyph.u1, glyph.v1, glyph.em)
            runs.append(run)
        before = glyph
    return runs


def _continues(run: Run, before: Glyph, glyph: Glyph) -> bool:
    lower = min(run.v1 - run.v0, glyph.v1 - glyph.v0)
    if min(run.v1, glyph.v1) - max(run.v0, glyph.v0) < SAME_LINE_OVERLAP * lower:
        return False
    em = max(before.em, glyph.em)
    if is_right_to_left(glyph.text) and is_right_to_left(before.text):
        return -0.5 * em <= before.u0 - glyph.u1 <= RUN_GAP * em
    return glyph.u0 >= before.u0 - 0.3 * em and glyph.u0 - before.u1 <= RUN_GAP * em


def without_doubles(runs: list[Run]) -> list[Run]:
    """Without text printed twice, a little apart, to look bold or to cast a shadow."""
    kept: list[Run] = []
    # By text and height, lest a page of equal signs takes time by their square.
    seen: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        text, row = run.text(), round(run.v0 / 4)
        tolerance = 0.2 * run.em
        for other in itertools.chain.from_iterable(
            seen.get((text, near), ()) for near in (row - 1, row, row + 1)
        ):
            if (
                abs(other.u0 - run.u0) < tolerance
                and abs(other.v0 - run.v0) < tolerance
                and abs(other.u1 - run.u1) < 2 * tolerance
            ):
                other.doubled = True
                break
        else:
            seen.setdefault((text, row), []).append(run)
            kept.append(run)
    return kept


def side_by_side(runs: list[Run]) -> list[list[Run]]:
    """Runs that stand side by side on one line, each group in the direction of its script."""
    rows: list[list[Run]] = []
    # Rows that may still grow, with the run of each that stands for its height.
    open_rows: list[tuple[Run, list[Run]]] = []
    for run in sorted(runs, key=lambda one: one.v0 + one.v1):
        best: tuple[float, int] | None = None
        for number, (main, _) in enumerate(open_rows):
            lower = min(main.v1 - main.v0, run.v1 - run.v0)
            overlap = min(main.v1, run.v1) - max(main.v0, run.v0)
            if overlap >= SAME_LINE_OVERLAP * lower and (best is None or overlap > best[0]):
                best = overlap, number
        if best is None:
            members = [run]
            rows.append(members)
            main = run
        else:
            main, members = open_rows.pop(best[1])
            members.append(run)
            if run.em * (run.u1 - run.u0) > main.em * (main.u1 - main.u0):
                main = run
        open_rows = [*open_rows[-OPEN_ROWS:], (main, members)]
    groups: list[list[Run]] = []
    for row in rows:
        row.sort(key=lambda one: one.u0)
        group: list[Run] = []
        for run in row:
            if group and _joins(group[-1], run):
                group.append(run)
            else:
                group = [run]
                groups.append(group)
    for group in groups:
        if all(is_right_to_left(run.glyphs[0].text) for run in group):
            group.reverse()
    order = {id(run): number for number, run in enumerate(runs)}
    groups.sort(key=lambda group: min(order[id(run)] for run in group))
    return groups


def _joins(left: Run, right: Run) -> bool:
    gap = right.u0 - left.u1
    em = max(left.em, right.em)
    lower = min(left.v1 - left.v0, right.v1 - right.v0)
    level = min(left.v1, right.v1) - max(left.v0, right.v0) >= 0.2 * lower
    return level and -0.5 * em <= gap <= MERGE_GAP * min(em, 1.5 * min(left.em, right.em))
