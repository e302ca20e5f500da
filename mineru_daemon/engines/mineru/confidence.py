"""How surely the model wrote: probabilities of tokens -> scores of blocks and of a page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence

from mineru_daemon.engines.mineru.prompt import Tokenizer
from mineru_daemon.engines.ppocr.lines import LOW_SCORE
from mineru_daemon.results import Confidence

_SPECIAL = re.compile(r"<\|?\w+\|?>")
"""A token that is a mark, such as the cells of a table; not text of the page."""


def score(logprobs: Sequence[float]) -> float | None:
    """Geometric mean of the tokens' probabilities; None without tokens."""
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else None


def of(
    texts: Iterable[tuple[Sequence[int], Sequence[float]]], tokenizer: Tokenizer
) -> Confidence | None:
    """Of a page by its texts, each as tokens and the logarithms of their probabilities.

    A token's probability is that of each of its characters; white space and special tokens
    do not count. A word is unsure when the mean of its characters is. None without text.
    """
    total = 0.0
    characters = low = 0
    for tokens, logprobs in texts:
        for word in _words(tokens, logprobs, tokenizer):
            count = sum(length for length, _ in word)
            summed = sum(length * probability for length, probability in word)
            total += summed
            characters += count
            low += count if summed < LOW_SCORE * count else 0
    if not characters:
        return None
    return Confidence(
        mean_score=round(min(total / characters, 1.0), 4),
        low_share=round(low / characters, 4),
        characters=characters,
    )


def _words(
    tokens: Sequence[int], logprobs: Sequence[float], tokenizer: Tokenizer
) -> Iterator[list[tuple[int, float]]]:
    """Words as lists of characters and probability, one entry for each token."""
    word: list[tuple[int, float]] = []
    for token, logprob in zip(tokens, logprobs, strict=True):
        text = tokenizer.decode([token])
        if _SPECIAL.fullmatch(text):
            continue
        if text[:1].isspace() and word:
            yield word
            word = []
        length = sum(not sign.isspace() for sign in text)
        if length:
            word.append((length, math.exp(logprob)))
    if word:
        yield word
