"""The next token is chosen as transformers and vLLM choose it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mineru_daemon.engines.mineru.image import Float
from mineru_daemon.engines.mineru.sampling import LOOP_BANS, LOOP_TOKENS, Sampler, Sampling

VOCABULARY = 12


def _by_the_book(logits: Float, sampling: Sampling, prompt: list[int], text: list[int]) -> Float:
    """All penalties over the whole vocabulary, written as their definitions say."""
    changed = logits.astype(np.float64)
    for token in {*prompt, *text}:
        factor = sampling.repetition_penalty
        changed[token] *= factor if changed[token] < 0 else 1 / factor
    size, whole = sampling.no_repeat_ngram_size, prompt + text
    if size and len(whole) >= size:
        tail = whole[len(whole) - size + 1 :]
        for start in range(len(whole) - size + 1):
            if whole[start : start + size - 1] == tail:
                changed[whole[start + size - 1]] = -np.inf
    for token, count in Counter(text).items():
        changed[token] -= sampling.presence_penalty + sampling.frequency_penalty * count
    return changed.astype(np.float32)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(no_repeat_ngram_size=1),
        Sampling(no_repeat_ngram_size=2),
        Sampling(no_repeat_ngram_size=4),
        Sampling(repetition_penalty=1.3),
        Sampling(presence_penalty=1.0, frequency_penalty=0.05),
        Sampling(3, 1.1, 0.5, 0.2),
    ],
)
def test_every_choice_is_that_of_the_definitions(sampling: Sampling) -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        prompt = rng.integers(0, 3, rng.integers(1, 12)).tolist()
        sampler = Sampler(sampling, prompt)
        text: list[int] = []
        for _ in range(40 if sampling.no_repeat_ngram_size != 1 else VOCABULARY // 2):
            logits = rng.standard_normal(VOCABULARY, np.float32)
            logits[:3] += 2  # few tokens, so that they repeat
            expected = int(_by_the_book(logits, sampling, prompt, text).argmax())
            token = sampler.choose(logits)
            assert token == expected
            sampler.append(token)
            text.append(token)


def test_only_tokens_of_the_text_are_touched() -> None:
    sampler = Sampler(Sampling(presence_penalty=1.0), [1, 2, 3])
    sampler.append(5)
    logits = np.zeros(VOCABULARY, np.float32)
    sampler.choose(logits)
    assert logits.tolist() == [0.0] * 5 + [-1.0] + [0.0] * 6


def _written(sampler: Sampler, tokens: list[int]) -> int | None:
    """After how many tokens the text counts as going in circles."""
    for count, token in enumerate(tokens, 1):
        sampler.append(token)
        if sampler.looping:
            return count
    return None


@pytest.mark.parametrize("period", [1, 2, 7, 100, 300])
def test_a_text_that_repeats_itself_exactly_is_found(period: int) -> None:
    start = list(range(1000, 1500))
    found = _written(Sampler(Sampling(), [1, 2]), start + list(range(period)) * (4000 // period))
    assert found is not None
    repeated = max(LOOP_TOKENS, 4 * period) + period
    assert repeated <= found - len(start) <= repeated + 128


def test_a_long_text_without_a_loop_goes_on() -> None:
    rng = np.random.default_rng(1)
    row = [5, 6, 5, 6, 5, 6, 7]
    table = [token for _ in range(400) for token in (*row, int(rng.integers(100, 200)))]
    assert _written(Sampler(Sampling(), [1]), table) is None


def test_a_text_that_is_broken_off_from_repeating_again_and_again_is_found() -> None:
    sampler = Sampler(Sampling(no_repeat_ngram_size=10), [1])
    count = 0
    while not sampler.looping:
        logits = np.zeros(VOCABULARY, np.float32)
        logits[[3, 4]] = 2, 1
        sampler.append(sampler.choose(logits))
        count += 1
        assert count < 100 * LOOP_BANS
    assert count >= LOOP_BANS


def test_many_different_tokens_are_all_counted() -> None:
    sampler = Sampler(Sampling(frequency_penalty=1.0), [])
    for token in [*range(500), *range(250)]:
        sampler.append(token)
    logits = np.zeros(600, np.float32)
    sampler.choose(logits)
    assert logits.tolist() == [-2.0] * 250 + [-1.0] * 250 + [0.0] * 100
