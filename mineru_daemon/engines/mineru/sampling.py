"""From logits to the next token: greedy, with the penalties that the official client asks for.

State of one sequence. A vocabulary has 150,000 numbers, and a penalty concerns a few
hundred of them: only these are touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.mineru.image import Float

LOOP_BANS = 16
"""Repeated n-grams that were broken off after which a text counts as going in circles.
With n-grams of 100 tokens that is after 1,600 tokens of repetition at least."""

LOOP_CHECK = 64
"""Tokens between two looks for a text that repeats itself exactly."""

LOOP_TOKENS = 512
"""Tokens that repeat what stands before them from which a text goes in circles. Rows of an
empty table do so too, but rarely as long."""

LOOP_ROUNDS = 4
"""The same in rounds."""

_ITEM = 4
"""Bytes of a token in a history."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The defaults change nothing."""

    no_repeat_ngram_size: int = 0
    """No n-gram of prompt and text may occur twice; 0 is off. As in transformers."""
    repetition_penalty: float = 1.0
    """Positive logits of tokens in prompt or text are divided by it, negative ones
    multiplied. As in transformers."""
    presence_penalty: float = 0.0
    """Subtracted from the logit of each token that occurs in the text. As in vLLM."""
    frequency_penalty: float = 0.0
    """Subtracted for each time that it occurs in the text. As in vLLM."""
    max_new_tokens: int | None = None


class Sampler:
    """Chooses the tokens of one sequence."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._sampling = sampling
        self._history = bytearray(np.asarray(prompt, np.int32).tobytes())
        self._generated = 0
        self._bans = 0
        self._written = _Counts()
        self._seen = _Counts()
        if sampling.repetition_penalty != 1:
            for token in prompt:
                self._seen.add(token)

    def choose(self, logits: Float) -> int:
        """The best token by logits float32 [vocabulary], which are changed."""
        sampling = self._sampling
        if sampling.repetition_penalty != 1:
            ids = self._seen.ids
            found = logits[ids]
            penalty = np.float32(sampling.repetition_penalty)
            logits[ids] = np.where(found < 0, found * penalty, found / penalty)
        if sampling.no_repeat_ngram_size:
            banned = self._continuations(sampling.no_repeat_ngram_size)
            if banned:
                self._bans += 1
                logits[banned] = -np.inf
        if sampling.presence_penalty or sampling.frequency_penalty:
            ids = self._written.ids
            found = logits[ids]
            found -= np.float32(sampling.frequency_penalty) * self._written.counts
            found -= np.float32(sampling.presence_penalty)
            logits[ids] = found
        return int(logits.argmax())

    def append(self, token: int) -> None:
        """Go on with `token`."""
        self._history += token.to_bytes(_ITEM, "little")
        self._generated += 1
        self._written.add(token)
        if self._sampling.repetition_penalty != 1:
            self._seen.add(token)

    @property
    def looping(self) -> bool:
        """Whether the text goes in circles. Cheap, to be asked after every token."""
        if self._bans >= LOOP_BANS:
            return True
        return self._generated % LOOP_CHECK == 0 and self._periodic()

    def _periodic(self) -> bool:
        text = self._history[len(self._history) - self._generated * _ITEM :]
        if len(text) < (LOOP_TOKENS + 1) * _ITEM:
            return False
        tail = text[-LOOP_CHECK * _ITEM :]
        before = len(text) - len(tail)
        found = text.rfind(tail, 0, len(text) - 1)
        while found >= 0 and found % _ITEM:
            found = text.rfind(tail, 0, found + len(tail) - 1)
        if found < 0:
            return False
        period = before - found
        length = max(LOOP_TOKENS * _ITEM, LOOP_ROUNDS * period)
        return length + period <= len(text) and text[-length:] == text[-length - period : -period]

    def _continuations(self, size: int) -> list[int]:
        """What has followed the last `size` - 1 tokens wherever they occurred before."""
        history, width = self._history, (size - 1) * _ITEM
        last = len(history) - _ITEM
        tail = history[last + _ITEM - width :] if last >= width else None
        if tail is None:
            return []
        followed = []
        found = history.find(tail, 0, last)
        while found >= 0:
            if found % _ITEM == 0:
                end = found + width
                followed.append(int.from_bytes(history[end : end + _ITEM], "little"))
            found = history.find(tail, found + 1, last)
        return followed


class _Counts:
    """Which tokens occurred, and how often, as arrays that grow."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._ids = np.zeros(64, np.int64)
        self._counts = np.zeros(64, np.float32)

    def add(self, token: int) -> None:
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._ids[place] = token
        self._counts[place] += 1

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        return self._ids[: len(self._places)]

    @property
    def counts(self) -> Float:
        return self._counts[: len(self._places)]
