"""Arithmetic of upright boxes: extent, overlap, what lies in what.

Pure functions on plain tuples, in pixels, points or shares of a page: whoever calls keeps
to one unit. What boxes stand for, and from which overlap on they belong together, is left
to the callers.
"""

from __future__ import annotations

from collections.abc import Iterable

Box = tuple[float, float, float, float]
"""Left, top, right, bottom; the origin is at the top left."""


def plain(edges: Iterable[float]) -> Box:
    """Four edges, numbers of NumPy for instance, as a box of plain numbers."""
    left, top, right, bottom = (float(edge) for edge in edges)
    return left, top, right, bottom


def around(corners: Iterable[tuple[float, float]]) -> Box:
    """The box around points; at least one is needed."""
    across, down = zip(*corners, strict=True)
    return min(across), min(down), max(across), max(down)


def union(boxes: Iterable[Box]) -> Box:
    """The box around boxes; at least one is needed."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def shifted(box: Box, across: float, down: float) -> Box:
    """The box moved to the right and down."""
    return box[0] + across, box[1] + down, box[2] + across, box[3] + down


def middle_x(box: Box) -> float:
    """Where the middle of the box lies across."""
    return (box[0] + box[2]) / 2


def middle_y(box: Box) -> float:
    """Where the middle of the box lies down the page."""
    return (box[1] + box[3]) / 2


def area(box: Box) -> float:
    """Area, 0 where the right edge lies left of the left one."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def common_width(one: Box, other: Box) -> float:
    """Length that both boxes have in common across; below 0 it is the gap between them."""
    return min(one[2], other[2]) - max(one[0], other[0])


def common_height(one: Box, other: Box) -> float:
    """Length that both boxes have in common down the page; below 0 the gap between them."""
    return min(one[3], other[3]) - max(one[1], other[1])


def common_area(one: Box, other: Box) -> float:
    """Area that lies in both boxes."""
    return max(0.0, common_width(one, other)) * max(0.0, common_height(one, other))


def share(inner: Box, outer: Box) -> float:
    """Share of the inner box's area that lies in the outer one."""
    return common_area(inner, outer) / max(area(inner), 1e-6)


def overlap(one: Box, other: Box) -> bool:
    """Whether some area lies in both boxes."""
    return common_width(one, other) > 0 and common_height(one, other) > 0


def touch(one: Box, other: Box, gap: float = 0.0) -> bool:
    """Whether boxes overlap, meet at an edge, or lie within `gap` of each other."""
    return (
        one[0] <= other[2] + gap
        and other[0] <= one[2] + gap
        and one[1] <= other[3] + gap
        and other[1] <= one[3] + gap
    )


def centre_in(inner: Box, outer: Box) -> bool:
    """Whether the middle of the inner box lies in the outer one."""
    return outer[0] <= middle_x(inner) <= outer[2] and outer[1] <= middle_y(inner) <= outer[3]


def fractions(box: Box, width: float, height: float) -> Box:
    """The box as shares of a page of `width` by `height`, cut to it."""
    return (
        min(max(box[0] / width, 0.0), 1.0),
        min(max(box[1] / height, 0.0), 1.0),
        min(max(box[2] / width, 0.0), 1.0),
        min(max(box[3] / height, 0.0), 1.0),
    )


def scaled(box: Box, width: float, height: float) -> Box:
    """The box of shares on a page of `width` by `height`."""
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height
