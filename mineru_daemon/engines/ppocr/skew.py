"""Small skew of a page: measured by the slopes of its lines, corrected where that helps.

Lines are cut out along their own slopes and rows follow them; regions and tables are seen by
networks that know straight pages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import cv2
import numpy as np

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.detection import Pixels, Quads
from mineru_daemon.engines.ppocr.line_reader import Found
from mineru_daemon.engines.ppocr.region_lines import SOLID
from mineru_daemon.results import Block

SMALLEST = math.radians(1.0)
"""Radians from which on a page is turned. Seven scans beyond it gained .000 to .028 of NED but
for one that lost .001; of five below it one lost .010 and none gained more than .001."""

LARGEST = math.radians(15)
"""Radians above which slopes are no skew but text that is set at an angle."""

SPREAD = math.radians(0.3)
"""Radians by which slopes differ on a page that no camera has bent, at most."""


def corrected(found: Found) -> tuple[Found, float]:
    """The page and its lines without skew where that helps, and its skew in radians, else 0."""
    angle = measured(found.quads)
    if abs(angle) < SMALLEST:
        return found, 0.0
    height, width = found.image.shape[:2]
    return Found(
        deskewed(found.image, angle), straightened(found.quads, angle, width, height)
    ), angle


def measured(quads: Quads) -> float:
    """Angle in radians, clockwise, by which the page's lines slope; 0 if it cannot be told.

    `quads` (n, 4, 2) are corners of lines in pixels from their top left. The longer
    lines decide, as their angles are the most exact; 0 too when they disagree (a page
    bent or photographed at an angle is not set right by a rotation).
    """
    if len(quads) == 0:
        return 0.0
    along = (quads[:, 1] - quads[:, 0] + quads[:, 2] - quads[:, 3]) / 2
    across = (quads[:, 3] - quads[:, 0] + quads[:, 2] - quads[:, 1]) / 2
    length = np.hypot(along[:, 0], along[:, 1])
    long = np.flatnonzero(length >= 5 * np.hypot(across[:, 0], across[:, 1]))
    if len(long) < 3:
        return 0.0
    longest = long[length[long] >= np.percentile(length[long], 90) / 2]
    angles = np.arctan2(along[longest, 1], along[longest, 0])
    middle = float(np.median(angles))
    spread = median(abs(float(angle) - middle) for angle in angles)
    if abs(middle) > LARGEST or spread > max(SPREAD, abs(middle) / 2):
        return 0.0
    return middle


def deskewed(image: Pixels, angle: float) -> Pixels:
    """The RGB page (H, W, 3) turned back by its skew (radians, clockwise), same size.

    Corners that come in are filled with the page's own edge; what leaves the page is
    its margin, since the turn is about the middle.
    """
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), math.degrees(angle), 1.0)
    straight = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(straight, np.uint8)


def straightened(quads: Quads, angle: float, width: int, height: int) -> Quads:
    """Corners (n, 4, 2) in pixels where `deskewed` puts them on a page of that size.

    Not clipped: a corner may lie a little outside of the page.
    """
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), math.degrees(angle), 1.0)
    return np.asarray(quads @ matrix[:, :2].T + matrix[:, 2], np.float32)


def put_back(block: Block, angle: float, width: int, height: int) -> Block:
    """A block of the deskewed page where it stands on the page of that size as it came."""
    if not angle:
        return block

    def back(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        quads = np.array([corners], np.float32) * np.array([width, height], np.float32)
        moved = straightened(quads, -angle, width, height)[0] / np.array([width, height])
        return [(float(x), float(y)) for x, y in np.clip(moved, 0.0, 1.0)]

    left, top, right, bottom = block.bbox
    lines = [line.model_copy(update={"polygon": back(line.polygon)}) for line in block.lines]
    corners = [corner for line in lines for corner in line.polygon]
    if not corners or block.type in SOLID:
        corners = back([(left, top), (right, top), (right, bottom), (left, bottom)])
    return block.model_copy(update={"bbox": boxes.around(corners), "lines": lines})
