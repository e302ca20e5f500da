"""Rules of a page: rulings and edges of filled boxes -> lines that may part cells.

What is drawn is told by `pdf_objects`; here its pieces are joined, and rules that touch
each other are put together. What the rules part is left to `lattice` and `heads`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.pdf_objects import Drawing, Fill
from mineru_daemon.engines.ppocr.pdf_text import Word

SNAP = 3.0
"""Points within which rulings are one line: double rules are 2 to 3 pt apart."""
TOUCH = 4.0
"""Points within which the end of a ruling touches another one."""
COVERED = 0.5
"""Share of a cell's side under a ruling from which the side is drawn."""
MAX_RULES = 2_000
"""Rules of a page that are looked at; they are compared pair by pair."""
_TYPED_RULE = re.compile(r"[-_=\u2500\u2501\u2550\u2014]{8,}")
"""A rule made of characters, as on typewriters."""


@dataclass(slots=True)
class Rule:
    """A ruling after pieces are joined: at `at` across its direction, from `start` to `end`."""

    at: float
    start: float
    end: float
    level: bool
    edge: bool = False
    """Not drawn: the edge of a filled box."""

    @property
    def box(self) -> Box:
        """Its bounding box, without thickness."""
        if self.level:
            return self.start, self.at, self.end, self.at
        return self.at, self.start, self.at, self.end


def rules_of(drawing: Drawing, width: float, height: float) -> tuple[list[Rule], list[Rule]]:
    """Level and plumb rules of a page of `width` by `height` points."""
    level = [Rule(one.y0, one.x0, one.x1, True) for one in drawing.rulings if one.level]
    plumb = [Rule(one.x0, one.y0, one.y1, False) for one in drawing.rulings if not one.level]
    for fill in _cells_of_fills(drawing.fills, width, height):
        x0, y0, x1, y1 = fill
        level += [Rule(y0, x0, x1, True, edge=True), Rule(y1, x0, x1, True, edge=True)]
        plumb += [Rule(x0, y0, y1, False, edge=True), Rule(x1, y0, y1, False, edge=True)]
    return _joined(level), _joined(plumb)


def _cells_of_fills(fills: Sequence[Fill], width: float, height: float) -> list[Box]:
    """Filled boxes that may be cells, those of one colour that continue each other as one."""
    by_colour: dict[tuple[int, int, int], list[Box]] = {}
    for fill in fills:
        x0, y0, x1, y1 = fill.box
        if min(fill.colour) >= 250 or y1 - y0 < 5 or x1 - x0 < 8:
            continue
        if boxes.area(fill.box) > 0.4 * width * height:
            continue
        by_colour.setdefault(fill.colour, []).append(fill.box)
    merged: list[Box] = []
    for same in by_colour.values():
        if len(same) > 1500:
            continue
        down = _continued(same)
        across = _continued([(b[1], b[0], b[3], b[2]) for b in down])
        merged += [(b[1], b[0], b[3], b[2]) for b in across]
    return merged


def _continued(fills: list[Box]) -> list[Box]:
    """Boxes of the same extent across that touch are one box."""
    result: list[Box] = []
    for box in sorted(fills, key=lambda one: (round(one[0]), round(one[2]), one[1])):
        if result:
            last = result[-1]
            same = abs(last[0] - box[0]) < 1.5 and abs(last[2] - box[2]) < 1.5
            if same and box[1] <= last[3] + 0.8:
                result[-1] = (last[0], last[1], last[2], max(last[3], box[3]))
                continue
        result.append(box)
    return result


def _joined(rules: list[Rule]) -> list[Rule]:
    """Pieces of one line joined; dashes too."""
    result: list[Rule] = []
    for rule in sorted(rules, key=lambda one: (round(one.at), one.start)):
        for other in reversed(result[-6:]):
            if abs(other.at - rule.at) < 1.0 and rule.start <= other.end + 2.5:
                other.end = max(other.end, rule.end)
                other.edge = other.edge and rule.edge
                break
        else:
            result.append(Rule(rule.at, rule.start, rule.end, rule.level, rule.edge))
    return [rule for rule in result if rule.end - rule.start >= 5.0]


def components(level: list[Rule], plumb: list[Rule]) -> list[list[Rule]]:
    """Groups of rules that touch each other, of at least one of either direction."""
    rules = level + plumb
    if len(rules) > MAX_RULES:
        return []
    parent = list(range(len(rules)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for first, one in enumerate(level):
        for offset, other in enumerate(plumb):
            if (
                one.start - TOUCH <= other.at <= one.end + TOUCH
                and other.start - TOUCH <= one.at <= other.end + TOUCH
            ):
                parent[root(first)] = root(len(level) + offset)
    groups: dict[int, list[Rule]] = {}
    for number, rule in enumerate(rules):
        groups.setdefault(root(number), []).append(rule)
    return [
        group
        for group in groups.values()
        if any(rule.level for rule in group) and any(not rule.level for rule in group)
    ]


def is_filled_only(component: Sequence[Rule]) -> bool:
    """Whether hardly a plumb line is drawn, so that edges of filled boxes make the columns."""
    return len(places_of([rule for rule in component if not rule.level and not rule.edge])) < 2


def places_of(rules: Sequence[Rule]) -> list[float]:
    """Where rules lie, those within `SNAP` as one place."""
    places: list[list[float]] = []
    for at in sorted(rule.at for rule in rules):
        if places and at - places[-1][-1] <= SNAP and at - places[-1][0] <= 2 * SNAP:
            places[-1].append(at)
        else:
            places.append([at])
    return [sum(place) / len(place) for place in places]


def cover(rules: Sequence[Rule], at: float, start: float, end: float) -> float:
    """Share of `start` to `end` that is drawn near `at`."""
    spans = sorted(
        (max(rule.start, start), min(rule.end, end))
        for rule in rules
        if abs(rule.at - at) <= SNAP and rule.end > start and rule.start < end
    )
    covered, reach = 0.0, start
    for low, high in spans:
        if high > reach:
            covered += high - max(low, reach)
            reach = high
    return covered / max(end - start, 1e-6)


def is_typed(word: Word) -> bool:
    """Whether a word is a rule made of characters."""
    return _TYPED_RULE.fullmatch(word.text) is not None


def typed_rule(word: Word) -> Rule:
    """The rule that is made of characters."""
    return Rule(boxes.middle_y(word.box), word.box[0], word.box[2], True)
