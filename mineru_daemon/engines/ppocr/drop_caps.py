"""Drop caps: the large first letter that stands beside the first lines of a paragraph.

Detectors of lines pass such a letter over, or find it as a line of its own. Where it stands
is told by the lines beside it: they give way to it, and the line below them does not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.boxes import Box
from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.lines import TextLine

Look = Callable[[Box], tuple[str, float]]
"""Text and score of what stands in a box, taken as one line."""

LINES = (2, 5)
"""Lines beside a drop cap, at least and at most."""

DEPTH = (0.9, 3.0)
"""Width of the letter in heights of the lines beside it, over their number: from that of an
I with its margin to that of a W."""

SAME_EDGE = 0.5
"""Line heights by which edges of lines of one paragraph differ at most."""

LARGEST_PITCH = 1.8
"""Distance of the middles of two lines of a paragraph, in line heights, at most."""

RAGGED = 0.35
"""Length of a line by which the next one of its paragraph ends elsewhere, at most."""

LONG = 6.0
"""Length of a line of running text in its heights, at least."""

TAKEN = 0.2
"""Share of the free box that another line may cover: boxes of lines are a little too large."""

INSIDE = 0.6
"""Share of a letter that was found as a line in that box, and of its height, at least."""

CONTRAST = 60
INK = (0.05, 0.7)
"""Grey by which ink differs from the paper, and its share where a letter stands."""

SUREST = 0.8
"""Score of a letter, at least."""


def completed(lines: Sequence[TextLine], image: Pixels, look: Look) -> list[TextLine]:
    """The lines of an upright RGB page (H, W, 3), with the letters that stand before them."""
    found: list[TextLine | None] = list(lines)
    for number, box in places(lines):
        single = next((one for one in _letters(lines) if _fits(lines[one], box)), None)
        if single is not None:
            text, score = lines[single].text, lines[single].score
        elif _is_inked(image, box):
            text, score = look(box)
        else:
            continue
        letter = text.strip()
        if len(letter) == 1 and letter.isalpha() and score >= SUREST:
            found[number] = _with_letter(lines[number], letter.upper(), score)
            if single is not None:
                found[single] = None
    return [line for line in found if line is not None]


def _letters(lines: Sequence[TextLine]) -> list[int]:
    """Numbers of the lines that are a single letter."""
    return [
        number
        for number, line in enumerate(lines)
        if len(line.text.strip()) == 1 and line.text.strip().isalpha()
    ]


def _fits(line: TextLine, box: Box) -> bool:
    """Whether a letter stands in the box and is as high as a drop cap."""
    own = boxes.around(line.corners)
    return boxes.share(own, box) >= INSIDE and own[3] - own[1] >= INSIDE * (box[3] - box[1])


def _with_letter(line: TextLine, letter: str, score: float) -> TextLine:
    return replace(
        line,
        text=letter + line.text,
        scores=(score, *line.scores) if line.scores else (),
        places=(0.0, *line.places) if line.places else (),
    )


def places(lines: Sequence[TextLine]) -> list[tuple[int, Box]]:
    """Number of the line that each letter may stand before, and the box left free for it."""
    known = [boxes.around(line.corners) for line in lines]
    letters = set(_letters(lines))
    order = sorted(set(range(len(known))) - letters, key=lambda number: known[number][1])
    free: list[tuple[int, Box]] = []
    for at, number in enumerate(order):
        first = known[number]
        if first[2] - first[0] < LONG * (first[3] - first[1]):
            continue
        near = (LINES[1] + 1) * LARGEST_PITCH * (first[3] - first[1])
        above = _while_near((known[order[one]] for one in range(at - 1, -1, -1)), first, near)
        if any(_is_above(box, first) for box in above):
            continue
        below = _while_near((known[order[one]] for one in range(at + 1, len(order))), first, near)
        beside = _beside(first, [box for box in below if _is_of_column(box, first)])
        if beside is None:
            continue
        box = (beside[0], first[1], first[0], beside[3])
        if not any(boxes.share(box, known[other]) > TAKEN for other in order):
            free.append((number, box))
    return free


def _while_near(others: Iterable[Box], first: Box, distance: float) -> list[Box]:
    """Boxes sorted by their top up to the first that is farther away: bounds the work."""
    return list(itertools.takewhile(lambda box: abs(box[1] - first[1]) <= distance, others))


def _is_above(box: Box, first: Box) -> bool:
    """Whether it is the line before `first` of a paragraph that is set in as a whole."""
    height = first[3] - first[1]
    step = boxes.middle_y(first) - boxes.middle_y(box)
    return 0 < step <= LARGEST_PITCH * height and abs(box[0] - first[0]) <= SAME_EDGE * height


def _is_of_column(box: Box, first: Box) -> bool:
    height = first[3] - first[1]
    depth = boxes.middle_y(box) - boxes.middle_y(first)
    ragged = RAGGED * (first[2] - first[0])
    return 0 < depth <= LARGEST_PITCH * height * LINES[1] and abs(box[2] - first[2]) < ragged


def _beside(first: Box, below: Sequence[Box]) -> Box | None:
    """Left of the line below the letter, and bottom of the last line beside it, as a box."""
    height = first[3] - first[1]
    last = first
    count = 1
    for box in below:
        if boxes.middle_y(box) - boxes.middle_y(last) > LARGEST_PITCH * height:
            return None
        depth = first[0] - box[0]
        if abs(depth) <= SAME_EDGE * height:
            last = box
            count += 1
            if count > LINES[1]:
                return None
            continue
        fits = DEPTH[0] * height <= depth <= DEPTH[1] * height * count / 2
        return (box[0], box[1], first[0], last[3]) if fits and count >= LINES[0] else None
    return None


def _is_inked(image: Pixels, box: Box) -> bool:
    left, top, right, bottom = (round(edge) for edge in box)
    part = image[max(0, top) : bottom, max(0, left) : right]
    if min(part.shape[:2]) < 2:
        return False
    grey = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY).astype(np.int16)
    ink = float((np.abs(grey - int(np.median(grey[:, 0]))) > CONTRAST).mean())
    return INK[0] <= ink <= INK[1]
