"""Texts for many prompts: continuous batching over the rows of one key-value cache.

Prompts are read one at a time, each into the next free row; then all rows go on together,
one token per step. A row that is done leaves, the last one moves into the gap, and the
next prompt comes in. A text that outgrows its share of the cache waits aside while there
is not enough for all. How tokens are chosen is told in `sampling`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

import numpy as np

from mineru_daemon.engines.base import Progress
from mineru_daemon.engines.mineru import rope
from mineru_daemon.engines.mineru.architecture import Architecture
from mineru_daemon.engines.mineru.decoder import Decoder
from mineru_daemon.engines.mineru.image import Float, Grid
from mineru_daemon.engines.mineru.prompt import shared
from mineru_daemon.engines.mineru.sampling import Sampler, Sampling
from mineru_daemon.engines.mineru.vision import VisionEncoder
from mineru_daemon.engines.timing import Timings, timed

CACHE_BYTES = 512 * 1024 * 1024
"""Of the key-value cache at most. Of MinerU2.5 that is 21,845 tokens: eight crops of 2,048
tokens each, or one text as long as the model allows."""

BATCH = 16
"""Rows that are decoded together: a page's blocks, mostly. Fifteen took 0.92 of the time of eight
for each token (int8 on Zen 3)."""

ROOM = 128
"""Tokens of text for which a new row finds place in the cache."""

NEGLIGIBLE = 25.0
"""Difference to the best logit from which on 150,000 tokens together are below 1e-5."""

Finish = Literal["stop", "length", "time", "loop"]
"""Why a text ended: by itself, at its bound of tokens or of time, or going in circles."""


@dataclass(frozen=True)
class Prompt:
    """What is asked of the model."""

    ids: Sequence[int]
    """With as many image tokens as the image has."""
    image: Callable[[], tuple[Float, Grid]] | None
    """Makes the patches, when their turn has come."""
    sampling: Sampling


@dataclass
class Generation:
    """What the model answered."""

    tokens: list[int] = field(default_factory=list)
    """Without the one that ended the text."""
    finish: Finish = "stop"
    logprobs: list[float] = field(default_factory=list)
    """Of each token before penalties, where they are asked for."""


@dataclass
class _Row:
    """A text in the making."""

    made: Generation
    sampler: Sampler
    length: int
    """Tokens in the cache."""
    place: int
    """Rotary position of the next token."""
    limit: int
    """Tokens that the text may have."""
    seconds: float = 0.0
    """Of decoding, together with other rows."""
    kept: list[Float] = field(default_factory=list)
    """Its part of the cache, while it waits aside."""


class Generator:
    """Answers prompts with a vision encoder and a decoder. Serves one thread."""

    def __init__(
        self,
        architecture: Architecture,
        vision: VisionEncoder,
        decoder: Decoder,
        stops: frozenset[int],
        *,
        prefix: Sequence[int] = (),
        batch: int = BATCH,
        max_tokens: int | None = None,
        max_seconds: float | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """At most `batch` texts are written together, none with more than `max_tokens`
        tokens or with more than `max_seconds` of decoding (None: as long as the model can).

        The tokens of `prefix`, text without an image, are read once for all prompts that
        begin with them.
        """
        self._architecture = architecture
        self._vision = vision
        self._decoder = decoder
        self._stops = stops
        self._prefix = list(prefix)
        self._prefix_kept: list[Float] = []
        self._batch = batch
        self._max_tokens = max_tokens
        self._max_seconds = max_seconds
        self._cache_tokens = cache_bytes // decoder.token_bytes

    def generate(
        self,
        prompts: Sequence[Prompt],
        progress: Progress,
        timings: Timings,
        *,
        logprobs: bool = False,
    ) -> list[Generation]:
        """Answers in the order of the prompts.

        `progress` is called before every run of a model, and all the while a long one
        lasts; what it raises ends the work. `timings` is added to: wall seconds of
        preprocess and inference.vision, .prefill and .decode.
        """
        made = [Generation() for _ in prompts]
        waiting = deque(zip(prompts, made, strict=True))
        rows: list[_Row] = []
        aside: deque[_Row] = deque()
        try:
            while waiting or rows or aside:
                while waiting and self._fits(rows, len(waiting[0][0].ids) + ROOM):
                    self._admit(rows, *waiting.popleft(), progress, timings, logprobs)
                while aside and not waiting and self._fits(rows, aside[0].length + 1):
                    rows.append(aside.popleft())
                    self._decoder.cache.put(len(rows) - 1, rows[-1].kept)
                    rows[-1].kept = []
                self._make_room(rows, aside)
                if rows:
                    self._step(rows, progress, timings, logprobs)
        finally:
            self._decoder.release()
        return made

    # --- rows and cache ------------------------------------------------------

    def _rows_for(self, tokens: int) -> int:
        """Rows that the cache may have when the longest has so many tokens."""
        share = self._cache_tokens // self._decoder.capacity_for(tokens)
        return max(1, min(self._batch, share))

    def _fits(self, rows: Sequence[_Row], tokens: int) -> bool:
        """Whether one more row of `tokens` can be taken in; the cache then has place for it."""
        longest = max([tokens, *(row.length + 1 for row in rows)])
        if rows and len(rows) >= self._rows_for(longest):
            return False
        self._decoder.reserve(self._rows_for(longest), longest, len(rows))
        return True

    def _make_room(self, rows: list[_Row], aside: deque[_Row]) -> None:
        """Let the cache grow for the longest row, or put that one aside."""
        while rows:
            longest = max(rows, key=lambda row: row.length)
            if len(rows) <= self._rows_for(longest.length + 1):
                self._decoder.reserve(len(rows), longest.length + 1, len(rows))
                return
            place = rows.index(longest)
            longest.kept = self._decoder.cache.taken(place, longest.length)
            aside.append(longest)
            self._leave(rows, place)

    def _leave(self, rows: list[_Row], place: int) -> None:
        """Take a row out of the batch; the last one takes its place."""
        last = rows.pop()
        if place < len(rows):
            self._decoder.cache.move(len(rows), place, last.length)
            rows[place] = last

    # --- the model -----------------------------------------------------------

    def _admit(
        self,
        rows: list[_Row],
        prompt: Prompt,
        made: Generation,
        progress: Progress,
        timings: Timings,
        logprobs: bool,
    ) -> None:
        """Read a prompt into the next row and choose the first token."""
        text = self._architecture.text
        limit = text.max_positions - len(prompt.ids)
        for bound in (self._max_tokens, prompt.sampling.max_new_tokens):
            limit = limit if bound is None else min(limit, bound)
        if limit <= 0:
            made.finish = "length"
            return
        grid = tokens = None
        if prompt.image is not None:
            progress("preprocess")
            with timed(timings, "preprocess"):
                patches, grid = prompt.image()
            progress("inference.vision")
            with timed(timings, "inference.vision"):
                tokens = self._vision(patches, grid, lambda: progress("inference.vision"))
        progress("inference.prefill")
        with timed(timings, "inference.prefill"):
            places, place = rope.positions(prompt.ids, self._architecture.image_token_id, grid)
            past = self._begun(len(rows), prompt.ids)
            embeds = self._decoder.embedding(prompt.ids[past:])
            if tokens is not None:
                start = prompt.ids.index(self._architecture.image_token_id) - past
                embeds[start : start + len(tokens)] = tokens
            logits = self._decoder.prefill(
                len(rows),
                past,
                embeds,
                rope.text_angles(places, text),
                lambda: progress("inference.prefill"),
            )
            sampler = Sampler(prompt.sampling, prompt.ids)
        row = _Row(made, sampler, len(prompt.ids), place, limit)
        if not self._goes_on(row, logits, logprobs):
            return
        rows.append(row)

    def _begun(self, row: int, ids: Sequence[int]) -> int:
        """Put what is known of the beginning of a prompt into `row`: so many tokens."""
        count = min(shared(ids, self._prefix), len(ids) - 1)
        if not count:
            return 0
        if not self._prefix_kept:
            length = len(self._prefix)
            places, _ = rope.positions(self._prefix, self._architecture.image_token_id, None)
            angles = rope.text_angles(places, self._architecture.text)
            self._decoder.prefill(row, 0, self._decoder.embedding(self._prefix), angles)
            self._prefix_kept = self._decoder.cache.taken(row, length)
        self._decoder.cache.put(row, [one[:, :count] for one in self._prefix_kept])
        return count

    def _step(self, rows: list[_Row], progress: Progress, timings: Timings, logprobs: bool) -> None:
        """One token more for each row; those that are done leave."""
        progress("inference.decode")
        began = perf_counter()
        logits = self._decoder.decode(
            [row.made.tokens[-1] for row in rows],
            [row.length for row in rows],
            [row.place for row in rows],
        )
        seconds = perf_counter() - began
        done = []
        for place, row in enumerate(rows):
            row.length += 1
            row.place += 1
            row.seconds += seconds
            if not self._goes_on(row, logits[place], logprobs):
                done.append(place)
        for place in reversed(done):
            self._leave(rows, place)
        timings["inference.decode"] += perf_counter() - began

    def _goes_on(self, row: _Row, logits: Float, logprobs: bool) -> bool:
        """Choose the next token by `logits`; False if the text is at its end."""
        unchanged = logits.copy() if logprobs else logits
        token = row.sampler.choose(logits)
        made = row.made
        if token in self._stops:
            return False
        made.tokens.append(token)
        row.sampler.append(token)
        if logprobs:
            made.logprobs.append(_logprob(unchanged, token))
        if len(made.tokens) >= row.limit:
            made.finish = "length"
        elif self._max_seconds is not None and row.seconds > self._max_seconds:
            made.finish = "time"
        elif row.sampler.looping:
            made.finish = "loop"
        return made.finish == "stop"


def _logprob(logits: Float, token: int) -> float:
    """Logarithm of a token's probability; see `NEGLIGIBLE`."""
    best = logits.max()
    near = logits[logits > best - NEGLIGIBLE]
    return float(logits[token] - best - np.log(np.exp(near - best).sum()))
