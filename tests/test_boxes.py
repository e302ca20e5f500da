"""Boxes know their extent and what they share with others."""

from __future__ import annotations

from mineru_daemon.engines.ppocr import boxes

WIDE = (0.0, 0.0, 10.0, 2.0)


def test_boxes_around_points_and_around_boxes():
    assert boxes.around([(3, 1), (0, 2), (1, 5)]) == (0, 1, 3, 5)
    assert boxes.union([WIDE, (5.0, -1.0, 12.0, 1.0)]) == (0, -1, 12, 2)


def test_what_boxes_have_in_common():
    other = (8.0, 1.0, 12.0, 5.0)
    assert (boxes.common_width(WIDE, other), boxes.common_height(WIDE, other)) == (2, 1)
    assert boxes.common_area(WIDE, other) == 2
    assert boxes.share(WIDE, other) == 0.1
    assert boxes.overlap(WIDE, other)


def test_boxes_apart_share_nothing_however_they_lie():
    aside, askew = (13.0, 0.0, 14.0, 2.0), (13.0, 5.0, 14.0, 6.0)
    assert boxes.common_width(WIDE, aside) == -3
    assert boxes.share(WIDE, aside) == boxes.share(WIDE, askew) == 0
    assert not boxes.overlap(WIDE, askew)
    assert boxes.touch(WIDE, aside, gap=3)
    assert not boxes.touch(WIDE, aside, gap=2)


def test_boxes_that_meet_at_an_edge_touch_without_overlap():
    below = (0.0, 2.0, 10.0, 4.0)
    assert boxes.touch(WIDE, below)
    assert not boxes.overlap(WIDE, below)


def test_a_box_without_area_shares_nothing():
    assert boxes.area((5.0, 0.0, 3.0, 2.0)) == 0
    assert boxes.share((1.0, 1.0, 1.0, 1.0), WIDE) == 0


def test_a_box_lies_in_another_with_its_middle():
    assert boxes.centre_in((8.0, 0.0, 12.0, 2.0), WIDE)
    assert not boxes.centre_in((8.0, 0.0, 13.0, 2.0), WIDE)


def test_shares_of_a_page_end_at_its_edges():
    assert boxes.fractions((-5.0, 10.0, 50.0, 300.0), 100, 200) == (0, 0.05, 0.5, 1)
