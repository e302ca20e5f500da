"""Lines that the detector joined over the gutter between two columns are cut there again.

Pure functions. Where columns are is told by the layout model's regions of text.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from mineru_daemon.engines.ppocr import boxes
from mineru_daemon.engines.ppocr.lines import TextLine
from mineru_daemon.engines.ppocr.regions import Region
from mineru_daemon.engines.ppocr.scripts import is_wide

SPLIT_SHARE = 0.25
SPLIT_EMS = 20.0
SPLIT_GUTTER = 2.0
"""A line is split if each of two regions has this share of it, if it is this long, and if
the regions lie this close to each other, both in line heights."""


def split_at_gutter(line: TextLine, regions: Sequence[Region]) -> list[TextLine]:
    """The two halves of a line that runs through regions of text side by side, or the line.

    The detector joins lines over a narrow gutter. Where the text is to be cut is told by
    the widths of its characters, to the next space.
    """
    box = left, top, right, bottom = boxes.around(line.corners)
    middle, least = (top + bottom) / 2, SPLIT_SHARE * (right - left)
    touched = sorted(
        region.box
        for region in regions
        if region.type in ("text", "ref_text")
        and region.box[1] < middle < region.box[3]
        and boxes.common_width(box, region.box) > least
    )
    if len(touched) != 2 or right - left < SPLIT_EMS * (bottom - top):
        return [line]
    gutter = (touched[0][2] + touched[1][0]) / 2
    if abs(touched[1][0] - touched[0][2]) > SPLIT_GUTTER * (bottom - top):
        return [line]
    share = (gutter - left) / (right - left)
    widths = [2 if is_wide(one) else 1 for one in line.text]
    ends = list(itertools.accumulate(widths))
    spaces = [number for number, one in enumerate(line.text) if one == " "]
    if not spaces:
        return [line]
    cut = min(spaces, key=lambda number: abs(ends[number] - share * ends[-1]))
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = line.corners
    upper = (x0 + share * (x1 - x0), y0 + share * (y1 - y0))
    lower = (x3 + share * (x2 - x3), y3 + share * (y2 - y3))
    return [
        line.part(0, cut, ((x0, y0), upper, lower, (x3, y3))),
        line.part(cut, len(line.text), (upper, (x1, y1), (x2, y2), lower)),
    ]
