"""Many texts are written at once, each as if it were alone, and each comes to an end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_mineru.pages import pages

from mineru_daemon import cpu
from mineru_daemon.engines.mineru import loading
from mineru_daemon.engines.mineru.folder import ModelFolder
from mineru_daemon.engines.mineru.generate import Generation, Generator, Prompt
from mineru_daemon.engines.mineru.loading import SYSTEM_PROMPT, Model
from mineru_daemon.engines.mineru.prompt import chat
from mineru_daemon.engines.mineru.sampling import Sampling
from mineru_daemon.errors import CancelledError

TOKENS = 40


@pytest.fixture(scope="module")
def model(mineru_folder: ModelFolder) -> Iterator[Model]:
    loaded = loading.load(mineru_folder, cpu.plan_threads(1))
    yield loaded
    loaded.close()


def _generator(model: Model, **options: Any) -> Generator:
    stops = options.pop("stops", model.tokenizer.stops)
    return Generator(model.architecture, model.vision, model.decoder, stops, **options)


def _prompt(model: Model, image: Image.Image, text: str, **sampling: Any) -> Prompt:
    ids = model.tokenizer.encode(
        chat(SYSTEM_PROMPT, text, image=True), model.processor.tokens(*image.size)
    )
    return Prompt(ids, lambda: model.processor(image), Sampling(**sampling))


@pytest.fixture(scope="module")
def prompts(model: Model) -> list[Prompt]:
    """Crops of different sizes, and two texts without an image."""
    made = [
        _prompt(
            model,
            page.image.crop((10, 20, 10 + 60 * (n + 1), 20 + 35 * (n % 3 + 1))),
            "\nText Recognition:",
            max_new_tokens=TOKENS - 5 * n,
        )
        for n, page in enumerate(pages())
    ]
    for text in ("Hello", "What is the capital of France? " * 5):
        ids = model.tokenizer.encode(chat(SYSTEM_PROMPT, text, image=False))
        made.append(Prompt(ids, None, Sampling(max_new_tokens=TOKENS)))
    return made


def _answers(
    generator: Generator,
    prompts: list[Prompt],
    progress: Callable[[str], None] = lambda _stage: None,
    **options: Any,
) -> list[Generation]:
    return generator.generate(prompts, progress, defaultdict(float), **options)


@pytest.fixture(scope="module")
def alone(model: Model, prompts: list[Prompt]) -> list[list[int]]:
    """Each text written for itself; no token ends one, so that all are long."""
    generator = _generator(model, batch=1, stops=frozenset())
    return [_answers(generator, [prompt])[0].tokens for prompt in prompts]


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_a_text_does_not_depend_on_those_written_beside_it(
    model: Model, prompts: list[Prompt], alone: list[list[int]], batch: int
) -> None:
    generator = _generator(model, batch=batch, stops=frozenset())
    assert [made.tokens for made in _answers(generator, prompts)] == alone


def test_a_shared_beginning_changes_nothing(
    model: Model, prompts: list[Prompt], alone: list[list[int]]
) -> None:
    ids = prompts[0].ids
    prefix = ids[: ids.index(model.architecture.image_token_id)]
    generator = _generator(model, batch=3, stops=frozenset(), prefix=prefix)
    for _ in range(2):
        assert [made.tokens for made in _answers(generator, prompts)] == alone


def test_texts_that_outgrow_the_cache_wait_and_are_finished(model: Model) -> None:
    """The cache holds two short texts, but only one of the length that they get."""
    image = pages()[0].image
    prompts = [
        _prompt(model, image.crop((0, 0, 56 * n, 56)), "\nText:", max_new_tokens=300)
        for n in range(1, 6)
    ]
    one = _generator(model, batch=1, stops=frozenset())
    expected = [_answers(one, [prompt])[0].tokens for prompt in prompts]
    small = model.decoder.token_bytes * 2 * 256
    crowded = _generator(model, batch=4, stops=frozenset(), cache_bytes=small)
    assert [made.tokens for made in _answers(crowded, prompts)] == expected
    assert all(len(tokens) == 300 for tokens in expected)


def test_the_cache_is_no_larger_than_its_bound_and_is_given_back(
    model: Model, prompts: list[Prompt]
) -> None:
    sizes = []

    def progress(_stage: str) -> None:
        try:
            cache = model.decoder.cache
        except AssertionError:
            return
        sizes.append(cache.rows * cache.capacity * model.decoder.token_bytes)

    bound = model.decoder.token_bytes * 1024
    generator = _generator(model, batch=8, stops=frozenset(), cache_bytes=bound)
    _answers(generator, prompts, progress)
    assert 0 < max(sizes) <= bound
    with pytest.raises(AssertionError):
        _ = model.decoder.cache


def test_a_text_ends_with_a_stop_token_which_is_not_part_of_it(
    model: Model, prompts: list[Prompt], alone: list[list[int]]
) -> None:
    tokens = alone[0]
    stop = tokens[len(tokens) // 2]
    (made,) = _answers(_generator(model, stops=frozenset({stop})), prompts[:1])
    assert made.tokens == tokens[: tokens.index(stop)]
    assert made.finish == "stop"


def test_a_text_is_bounded_in_tokens(model: Model, prompts: list[Prompt]) -> None:
    made = _answers(_generator(model, stops=frozenset(), max_tokens=7), prompts)
    assert {(len(one.tokens), one.finish) for one in made} == {(7, "length")}


def test_a_text_is_bounded_in_time(model: Model, prompts: list[Prompt]) -> None:
    made = _answers(_generator(model, stops=frozenset(), max_seconds=0.0), prompts[:1])
    assert (len(made[0].tokens), made[0].finish) == (2, "time")


def test_a_prompt_that_fills_the_model_has_no_answer(model: Model) -> None:
    ids = [5] * model.architecture.text.max_positions
    (made,) = _answers(_generator(model), [Prompt(ids, None, Sampling())])
    assert (made.tokens, made.finish) == ([], "length")


def test_a_text_that_goes_in_circles_is_broken_off(model: Model) -> None:
    """A logit of one token far above all others: nothing else is ever written."""
    generator = _generator(model, stops=frozenset())
    ids = model.tokenizer.encode(chat(SYSTEM_PROMPT, "Hello", image=False))
    decode, prefill = model.decoder.decode, model.decoder.prefill

    def stubborn(found: Any) -> Any:
        found[..., 7] = 1e4
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.decoder, "decode", lambda *given: stubborn(decode(*given)))
        patch.setattr(model.decoder, "prefill", lambda *given: stubborn(prefill(*given)))
        (made,) = _answers(generator, [Prompt(ids, None, Sampling())])
    assert made.finish == "loop"
    assert set(made.tokens) == {7}
    assert len(made.tokens) < 1000


def test_work_can_be_given_up_between_any_two_runs(model: Model, prompts: list[Prompt]) -> None:
    stages: list[str] = []

    def progress(stage: str) -> None:
        stages.append(stage)
        if len(stages) == stop:
            raise CancelledError("Stopped.")

    generator = _generator(model, batch=2, stops=frozenset())
    stop = 0
    whole = _answers(generator, prompts[:3], progress)
    assert set(stages) == {
        "preprocess", "inference.vision", "inference.prefill", "inference.decode"
    }  # fmt: skip
    assert stages.count("inference.decode") >= max(len(made.tokens) for made in whole) - 1
    for stop in (1, 2, 4, len(stages) // 2, len(stages) - 1):
        stages.clear()
        with pytest.raises(CancelledError):
            _answers(generator, prompts[:3], progress)
        assert len(stages) == stop
    stop = 0
    assert _answers(generator, prompts[:3], progress) == whole


def test_the_probability_of_each_token_is_told_where_asked_for(
    model: Model, prompts: list[Prompt]
) -> None:
    generator = _generator(model, stops=frozenset())
    quiet, scored = (_answers(generator, prompts, logprobs=flag) for flag in (False, True))
    assert [made.tokens for made in quiet] == [made.tokens for made in scored]
    assert all(made.logprobs == [] for made in quiet)
    for made in scored:
        assert len(made.logprobs) == len(made.tokens)
        assert all(-20 < one <= 0 for one in made.logprobs)


def test_time_is_told_by_stage(model: Model, prompts: list[Prompt]) -> None:
    timings: defaultdict[str, float] = defaultdict(float)
    _generator(model).generate(prompts, lambda _stage: None, timings)
    assert set(timings) == {
        "preprocess", "inference.vision", "inference.prefill", "inference.decode"
    }  # fmt: skip
    assert all(seconds > 0 for seconds in timings.values())


def test_nothing_is_asked_and_nothing_answered(model: Model) -> None:
    assert _answers(_generator(model), []) == []


def test_the_embedding_is_that_of_the_checkpoint(model: Model) -> None:
    rows = model.decoder.embedding([3, 0, 3])
    assert rows.dtype == np.float32
    assert np.array_equal(rows[0], rows[2])
    assert not np.array_equal(rows[0], rows[1])
