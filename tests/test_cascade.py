"""What the quick recogniser is unsure of is read again by the thorough one, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mineru_daemon import cpu
from mineru_daemon.engines.ppocr import cascade, recognition_model
from mineru_daemon.engines.ppocr.cascade import Cascade, Span
from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.recognition import Reading, Recogniser

FONT = ImageFont.load_default(size=32)


def drawn(text: str) -> Pixels:
    """A crop of a line (48, w, 3)."""
    width = round(FONT.getlength(text)) + 16
    image = Image.new("RGB", (width, 48), "white")
    ImageDraw.Draw(image).text((8, 4), text, fill="black", font=FONT)
    return np.asarray(image)


def reading(text: str, unsure: str = "", score: float = 0.4) -> tuple[Reading, Pixels]:
    """A drawn line and its reading, all characters sure but those of `unsure`."""
    line = drawn(text)
    start = text.find(unsure) if unsure else len(text)
    middles = [
        (8 + FONT.getlength(text[:n]) + FONT.getlength(text[n]) / 2) / line.shape[1]
        for n in range(len(text))
    ]
    scores = [score if start <= n < start + len(unsure) else 0.99 for n in range(len(text))]
    return Reading(text, float(np.mean(scores)), tuple(middles), tuple(scores)), line


def test_a_line_that_is_sure_is_not_read_again() -> None:
    assert cascade.spans_to_read_again(*reading("Nothing is doubtful here")) == []


def test_a_word_with_one_unsure_character_is_cut_out_between_its_neighbours() -> None:
    text = "A long line of ordinary words with one that is smudged"
    (span,) = cascade.spans_to_read_again(*reading(text, "dina"))
    assert text[span.first : span.end] == "ordinary"
    left, right = (
        8 + FONT.getlength("A long line of"),
        8 + FONT.getlength("A long line of ordinary"),
    )
    assert left <= span.left <= 8 + FONT.getlength("A long line of ")
    assert right <= span.right <= 8 + FONT.getlength("A long line of ordinary ")


def test_the_first_and_the_last_word_reach_to_the_ends_of_the_line() -> None:
    text = "Smudged words at both ends of a line are blurred"
    found, line = reading(text, "Smudged")
    assert cascade.spans_to_read_again(found, line)[0].left == 0
    found, line = reading(text, "blurred")
    assert cascade.spans_to_read_again(found, line)[0].right == line.shape[1]


def test_doubtful_words_close_to_each_other_are_read_together() -> None:
    text = "Many sure words first then two bad ones and many sure words last"
    (span,) = cascade.spans_to_read_again(*reading(text, "two bad"))
    assert text[span.first : span.end] == "two bad"


def test_a_line_that_is_doubtful_for_the_most_part_is_read_again_as_a_whole() -> None:
    found, line = reading("Hardly anything is sure", "Hardly anything")
    assert cascade.spans_to_read_again(found, line) == [Span(0, 23, 0, line.shape[1])]


def test_a_line_where_nothing_was_read_is_read_again() -> None:
    line = drawn("something")
    assert cascade.spans_to_read_again(Reading("", 0.0), line) == [Span(0, 0, 0, line.shape[1])]


@pytest.mark.parametrize(("score", "again"), [(0.85, True), (0.95, False)])
def test_ideographs_must_be_surer_and_have_no_words(score: float, again: bool) -> None:
    text = "漢字かな交じり文"
    found = Reading(text, score, tuple(np.linspace(0.05, 0.95, 8)), (score,) * 8)
    line = np.full((48, 400, 3), 255, np.uint8)
    assert cascade.spans_to_read_again(found, line) == ([Span(0, 8, 0, 400)] if again else [])


def test_a_stray_ideograph_makes_its_word_doubtful() -> None:
    text = "Total amount with 京 in the middle of English words"
    found, line = reading(text)
    (span,) = cascade.spans_to_read_again(found, line)
    assert text[span.first : span.end] == "京"


def test_the_second_reading_takes_the_place_of_the_first() -> None:
    first = Reading("one twq three", 0.8, tuple(n / 13 for n in range(13)), (0.8,) * 13)
    second = Reading("two", 0.99, (0.1, 0.5, 0.9), (0.97, 0.98, 0.99))
    whole = cascade.joined(first, [Span(4, 7, 60, 110)], [second], 200)
    assert whole.text == "one two three"
    assert whole.scores == (*(0.8,) * 4, 0.97, 0.98, 0.99, *(0.8,) * 6)
    assert whole.places[4:7] == pytest.approx((65 / 200, 85 / 200, 105 / 200))
    assert whole.score == pytest.approx(sum(whole.scores) / 13)


def test_readings_of_other_lengths_move_what_follows() -> None:
    first = Reading("a bb c dd e", 0.8, tuple(n / 11 for n in range(11)), (0.8,) * 11)
    longer = Reading("b b b", 0.9, (0.1, 0.3, 0.5, 0.7, 0.9), (0.9,) * 5)
    nothing = Reading("", 0.0)
    spans = [Span(2, 4, 10, 40), Span(7, 9, 70, 90)]
    whole = cascade.joined(first, spans, [longer, nothing], 110)
    assert whole.text == "a b b b c dd e"
    assert len(whole.places) == len(whole.scores) == len(whole.text)


@pytest.fixture(scope="module")
def quick() -> Recogniser:
    model = recognition_model.shipped(cpu.plan_threads(1), "tiny")
    return Recogniser(model.session, model.characters)


@pytest.fixture(scope="module")
def thorough() -> Recogniser:
    model = recognition_model.shipped(cpu.plan_threads(1), "small")
    return Recogniser(model.session, model.characters)


def test_only_the_smudged_word_of_a_clear_line_is_read_twice(
    quick: Recogniser, thorough: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "The quick brown fox jumps over the lazy dog again"
    image = Image.fromarray(drawn(text))
    place = (8 + FONT.getlength(text[:26]), 4)
    ImageDraw.Draw(image).text(place, "HKMW", fill="black", font=FONT)
    line = np.asarray(image)
    widths: list[int] = []
    read = Recogniser.read

    def watched(recogniser: Recogniser, crop: Pixels, before_run: object) -> Reading:
        if recogniser is thorough:
            widths.append(crop.shape[1])
        return read(recogniser, crop, lambda: None)

    monkeypatch.setattr(Recogniser, "read", watched)
    found = Cascade(quick, thorough).read(line, lambda: None)
    assert found.text.startswith("The quick brown fox jumps")
    assert found.text.endswith("lazy dog again")
    assert widths
    assert sum(widths) < line.shape[1] / 2


class Scripted(Recogniser):
    """Reads lines as it was told to, by their width."""

    def __init__(self, lines: Sequence[tuple[Reading, Pixels]]) -> None:
        self.told = {line.shape[1]: found for found, line in lines}

    def read(self, line: Pixels, before_run: Callable[[], object]) -> Reading:
        return self.told[line.shape[1]]


def test_a_word_that_is_nearly_sure_is_read_again_on_a_bad_page_only(thorough: Recogniser) -> None:
    clear, doubtful = reading("All of it is clear"), reading("Hardly anything", "Hardly anything")
    nearly = reading("All of it is nearly sure", "nearly", 0.95)
    runs: list[str] = []
    for before, expected in ((clear, 0), (doubtful, 1)):
        page = Cascade(Scripted([clear, doubtful, nearly]), thorough)
        for _ in range(5):
            page.read(before[1], lambda: None)
        runs.clear()
        page.read(nearly[1], lambda: runs.append("run"))
        assert len(runs) == expected


def test_every_model_run_of_a_cascade_is_announced(quick: Recogniser, thorough: Recogniser) -> None:
    runs: list[str] = []
    noise = np.random.default_rng(3).integers(0, 256, (48, 300, 3), np.uint8)
    Cascade(quick, thorough).read(noise, lambda: runs.append("run"))
    assert len(runs) == 2
    runs.clear()
    Cascade(quick, thorough).read(drawn("Clear print"), lambda: runs.append("run"))
    assert len(runs) == 1
