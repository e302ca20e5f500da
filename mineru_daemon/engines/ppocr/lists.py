"""Entries of a list that follow each other -> one block of MinerU's type `list`.

Pure functions on blocks in reading order. Where an entry begins is told by `paragraphs`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from statistics import fmean

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.paragraphs import LIST_MARK
from mineru_daemon.results import Block

FEWEST = 2
"""Entries of a list: one paragraph with a number before it is none."""

APART = 0.05
"""Share of the page's height between two entries of a list at most: about two empty lines."""


def gathered(blocks: Sequence[Block]) -> list[Block]:
    """The blocks, with each run of entries as a list, an entry on each line of its content."""
    gathered: list[Block] = []
    for run in _runs(blocks):
        gathered += [_joined(run)] if len(run) >= FEWEST else run
    return gathered


def _runs(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Entries below each other together, all else alone."""
    run: list[Block] = []
    for before, block in itertools.pairwise([None, *blocks]):
        if before and block and not (_is_entry(before) and _is_entry(block)
                                     and _is_below(before, block)):  # fmt: skip
            yield run
            run = []
        if block:
            run.append(block)
    if run:
        yield run


def _is_entry(block: Block) -> bool:
    return block.type == "text" and bool(LIST_MARK.match(block.content or ""))


def _is_below(above: Block, below: Block) -> bool:
    gap = below.bbox[1] - above.bbox[3]
    return -APART < gap < APART and boxes.common_width(above.bbox, below.bbox) > 0


def _joined(entries: Sequence[Block]) -> Block:
    scores = [entry.score for entry in entries if entry.score is not None]
    return Block(
        type="list",
        bbox=boxes.union([entry.bbox for entry in entries]),
        content="\n".join(entry.content or "" for entry in entries),
        score=fmean(scores) if scores else None,
        lines=[line for entry in entries for line in entry.lines],
        links=[link for entry in entries for link in entry.links],
    )
