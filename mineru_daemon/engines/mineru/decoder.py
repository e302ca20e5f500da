"""The decoder: token embedding, key-value cache and the two graphs that work on it.

Rows of the cache are the sequences of a batch, always the first ones. Which sequence
lies in which row, and what becomes of the logits, is the business of `generate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.mineru import rope
from mineru_daemon.engines.mineru.architecture import TextArchitecture
from mineru_daemon.engines.mineru.folder import ModelFolder
from mineru_daemon.engines.mineru.image import Float
from mineru_daemon.engines.mineru.rope import Angles
from mineru_daemon.engines.onnx import Session, on_cpu

CACHE_STEP = 256
"""Tokens by which a cache grows. Decoding attends to the whole of it, used or not, so that it
should not be much too large; to copy it every 256 tokens costs next to nothing."""


class Embedding:
    """The token embedding, memory-mapped: only the rows of tokens that occur are read."""

    def __init__(self, folder: ModelFolder) -> None:
        embedding = folder.manifest.embedding
        self._coarse = embedding.dtype == "bfloat16"
        dtype = np.uint16 if self._coarse else np.dtype(embedding.dtype)
        self._rows = np.memmap(folder.embedding, dtype, "r", shape=embedding.shape)

    def __call__(self, ids: Sequence[int]) -> Float:
        """Embeddings float32 [tokens, hidden]."""
        rows: npt.NDArray[Any] = self._rows[np.asarray(ids)]
        if self._coarse:
            # bfloat16 is the upper half of float32.
            return (rows.astype(np.uint32) << 16).view(np.float32)
        return rows.astype(np.float32)


class Cache:
    """Keys and values of all layers, for `rows` sequences of up to `capacity` tokens."""

    def __init__(self, architecture: TextArchitecture, rows: int, capacity: int) -> None:
        shape = (rows, architecture.kv_heads, capacity, architecture.head_dim)
        # Not `empty`: what lies behind a sequence is multiplied by zero, and must be finite.
        self._arrays = [np.zeros(shape, np.float32) for _ in range(2 * architecture.layers)]
        self.rows = rows
        self.capacity = capacity

    def layers(self, first: int, last: int) -> list[Float]:
        """Keys and values in turn, layer after layer, of rows `first` to before `last`."""
        return [array[first:last] for array in self._arrays]

    def taken(self, row: int, length: int) -> list[Float]:
        """A copy of what the first `length` tokens of `row` left."""
        return [array[row, :, :length].copy() for array in self._arrays]

    def put(self, row: int, kept: Sequence[Float]) -> None:
        """Give `row` back what `taken` took, of whatever cache."""
        for array, one in zip(self._arrays, kept, strict=True):
            array[row, :, : one.shape[1]] = one

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of one row over another."""
        for array in self._arrays:
            array[target, :, :length] = array[source, :, :length]

    def resize(self, rows: int, capacity: int, used: int) -> None:
        """Have `rows` rows of `capacity` tokens; the first `used` rows keep what they hold."""
        length = min(capacity, self.capacity)
        for number, array in enumerate(self._arrays):
            fresh = np.zeros((rows, array.shape[1], capacity, array.shape[3]), np.float32)
            fresh[:used, :, :length] = array[:used, :, :length]
            self._arrays[number] = fresh
        self.rows, self.capacity = rows, capacity


class Decoder:
    """Runs `prefill.onnx` and `decode.onnx`; their interface is told in `export.models`."""

    def __init__(
        self,
        prefill: Session,
        decode: Session,
        embedding: Embedding,
        architecture: TextArchitecture,
    ) -> None:
        """`prefill` and `decode` may be the same session."""
        self.embedding = embedding
        self.architecture = architecture
        self._prefill = prefill
        self._decode = decode
        places = np.arange(architecture.max_positions)
        self._angles = rope.text_angles(np.tile(places, (3, 1)), architecture)
        self._cache: Cache | None = None
        self._steps: dict[int, _Step] = {}

    @property
    def cache(self) -> Cache:
        """The cache that `reserve` made."""
        assert self._cache is not None
        return self._cache

    @property
    def token_bytes(self) -> int:
        """Bytes of the cache for each token."""
        text = self.architecture
        return 2 * text.layers * text.kv_heads * text.head_dim * np.dtype(np.float32).itemsize

    def capacity_for(self, tokens: int) -> int:
        """The smallest capacity of a cache that holds `tokens` tokens."""
        return -(-tokens // CACHE_STEP) * CACHE_STEP

    def reserve(self, rows: int, tokens: int, used: int) -> None:
        """Have a cache of at least `rows` rows for `tokens` tokens; `used` rows are kept."""
        cache = self._cache
        if cache is not None and rows <= cache.rows and tokens <= cache.capacity:
            return
        self._steps.clear()
        capacity = self.capacity_for(tokens)
        if cache is None:
            self._cache = Cache(self.architecture, rows, capacity)
        else:
            cache.resize(rows, capacity, used)

    def release(self) -> None:
        """Give the cache's memory back."""
        self._steps.clear()
        self._cache = None

    def prefill(
        self,
        row: int,
        past: int,
        embeds: Float,
        angles: Angles,
        watch: Callable[[], object] | None = None,
    ) -> Float:
        """Read a prompt into `row`; logits float32 [vocabulary] for the token after it.

        `embeds` float32 [tokens, hidden] are those of the prompt behind its first `past`
        tokens, which the row holds already; `angles` are those of the whole prompt.
        `watch` is called all the while and can end the run by raising.
        """
        count = len(embeds)
        total = past + count
        feeds: dict[str, npt.NDArray[Any]] = {
            "inputs_embeds": embeds[None],
            "positions": np.arange(past, total, dtype=np.int64)[None],
            "cos": angles[0],
            "sin": angles[1],
            "seqlens_k": np.array([total - 1], np.int32),
            "total_len": np.array(total, np.int32),
            "last": np.array([[count - 1]], np.int64),
        }
        logits: Float = np.empty((1, self.architecture.vocabulary), np.float32)
        layers = self.cache.layers(row, row + 1)
        self._prefill.run_bound(_bound(self._prefill, feeds, layers, logits), watch)
        row_logits: Float = logits[0]
        return row_logits

    def decode(self, tokens: Sequence[int], lengths: Sequence[int], places: Sequence[int]) -> Float:
        """One token more in each of the first rows; logits float32 [rows, vocabulary].

        `lengths` are the tokens that the rows hold, `places` the rotary positions of the
        new ones. The result is overwritten by the next call for as many rows.
        """
        rows = len(tokens)
        if rows not in self._steps:
            self._steps[rows] = _Step(self._decode, self, rows)
        return self._steps[rows](tokens, lengths, places)

    @property
    def text_angles(self) -> Angles:
        """Angles of text at all positions that the model knows."""
        return self._angles

    def close(self) -> None:
        """Give sessions and cache back."""
        self.release()
        self._prefill.close()
        self._decode.close()


class _Step:
    """A binding of the decoding graph for so many rows, used again for every token.

    Binding anew would cost more than all else that is done per token outside of the graph:
    there are two tensors of the cache in each layer. Inputs are changed in place.
    """

    def __init__(self, session: Session, decoder: Decoder, rows: int) -> None:
        text = decoder.architecture
        cos, sin = decoder.text_angles
        self._session = session
        self._embedding = decoder.embedding
        self._embeds = np.zeros((rows, 1, text.hidden_size), np.float32)
        self._positions = np.zeros((rows, 1), np.int64)
        self._seqlens = np.zeros(rows, np.int32)
        self._total = np.zeros((), np.int32)
        self._logits = np.empty((rows, text.vocabulary), np.float32)
        feeds: dict[str, npt.NDArray[Any]] = {
            "inputs_embeds": self._embeds,
            "positions": self._positions,
            "cos": cos,
            "sin": sin,
            "seqlens_k": self._seqlens,
            "total_len": self._total,
            "last": np.zeros((rows, 1), np.int64),
        }
        self._binding = _bound(session, feeds, decoder.cache.layers(0, rows), self._logits)
        self._feeds = feeds

    def __call__(
        self, tokens: Sequence[int], lengths: Sequence[int], places: Sequence[int]
    ) -> Float:
        self._embeds[:, 0] = self._embedding(tokens)
        self._positions[:, 0] = places
        self._seqlens[:] = lengths
        self._total[...] = max(lengths) + 1
        self._session.run_bound(self._binding)
        return self._logits


def _bound(
    session: Session,
    feeds: dict[str, npt.NDArray[Any]],
    layers: Sequence[Float],
    logits: Float,
) -> Any:
    """A binding in which past and present are the same memory."""
    binding = session.native.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, on_cpu(array))
    for number, array in enumerate(layers):
        name = f"{number // 2}.{'kv'[number % 2]}"
        value = on_cpu(array)
        binding.bind_ortvalue_input(f"past.{name}", value)
        binding.bind_ortvalue_output(f"present.{name}", value)
    binding.bind_ortvalue_output("logits", on_cpu(logits))
    return binding
