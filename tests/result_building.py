"""Results of pages for tests of what is made of them."""

from __future__ import annotations

from mineru_daemon.results import Block, PageResult


def block(kind, content, **more):
    """A block in the upper part of a page; keywords are its other fields."""
    return Block(type=kind, bbox=(0.1, 0.2, 0.5, 0.25), content=content, **more)


def page(index, *blocks):
    """A page of 100 x 200 pixels."""
    return PageResult(
        index=index, width_px=100, height_px=200, width_pt=None, height_pt=None, dpi=None,
        blocks=list(blocks),
    )  # fmt: skip
