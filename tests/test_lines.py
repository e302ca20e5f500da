"""Lines know which of their words were read unsurely."""

from __future__ import annotations

import pytest

from mineru_daemon.engines.ppocr.lines import TextLine, confidence, low_words
from mineru_daemon.engines.ppocr.structure import to_blocks

CORNERS = ((0.0, 0.0), (100.0, 0.0), (100.0, 20.0), (0.0, 20.0))


def line(text: str, *scores: float) -> TextLine:
    return TextLine(CORNERS, text, 0.9, scores=scores or (1.0,) * len(text))


def test_a_word_is_low_by_the_mean_of_its_characters():
    assert low_words("ab cd", [0.9, 0.9, 0.1, 0.5, 0.9]) == [(3, 5)]
    assert low_words("ab cd", [0.9, 0.9, 0.1, 0.99, 0.9]) == []


def test_each_character_of_chinese_counts_by_itself_and_neighbours_are_one_range():
    assert low_words("中文字很好", [1, 0.3, 0.4, 1, 1]) == [(1, 3)]
    assert low_words("中ab文", [1, 0.2, 0.3, 1]) == [(1, 3)]


def test_nothing_is_low_where_scores_are_unknown():
    assert low_words("ab cd", []) == []


def test_a_page_is_summed_up_over_characters_without_space():
    found = confidence([line("ab cd", 1, 1, 0, 0.5, 0.5), line("efghij")])
    assert found is not None
    assert found.characters == 10
    assert found.mean_score == pytest.approx(0.9)
    assert found.low_share == pytest.approx(0.2)


def test_lines_that_were_not_recognised_do_not_count():
    printed = TextLine(CORNERS, "printed", 1.0)
    assert confidence([]) is None
    assert confidence([printed]) is None
    found = confidence([printed, line("ab", 0.5, 0.5)])
    assert found is not None
    assert found.characters == 2


def test_low_words_are_told_at_the_lines_of_blocks():
    (block,) = to_blocks([line("ab cd", 1, 1, 1, 0.5, 0.5)], [], 200, 200)
    assert block.lines[0].low == [(3, 5)]


def test_a_part_of_a_line_keeps_the_scores_of_its_characters():
    whole = line("ab  cd ", 1, 1, 0, 0, 0.5, 0.6, 0)
    part = whole.part(2, 7, CORNERS)
    assert (part.text, part.scores) == ("cd", (0.5, 0.6))
