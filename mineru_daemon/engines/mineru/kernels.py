"""Which of a model's decoding graphs is the fastest on this CPU: measured while it is loaded.

The same 8-bit weights can be multiplied by two kernels of ONNX Runtime: int8 GEMM, with a scale
for each row, and MatMulNBits, in blocks. Which one is faster depends on what the CPU has (VNNI,
AMX or neither), on its memory and on the threads that were granted, so that no table of flags
says it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import perf_counter

import structlog

from mineru_daemon.engines.mineru.architecture import TextArchitecture
from mineru_daemon.engines.mineru.decoder import Decoder, Embedding
from mineru_daemon.engines.onnx import Session

TOKENS = 128
"""In the cache while it is measured: those of a short prompt."""

STEPS = 3

MARGIN = 0.85
"""Share of the first candidate's time that another must stay below to be taken: what is nearly
equal would be taken now and then, and a model should not answer differently after a restart."""

SINGLE_SHARE = 4
"""How many steps of one row count as much as one of a whole batch. A page of MinerU has a
layout of some 500 tokens, read alone, and 900 tokens of text in batches of eight."""

_log = structlog.get_logger()


def fastest(
    candidates: Sequence[Session],
    prefill: Session,
    embedding: Embedding,
    architecture: TextArchitecture,
    batch: int,
) -> Session:
    """The session that decodes fastest, the first unless another is clearly faster.

    The others are closed. One alone is not measured.
    """
    if len(candidates) == 1:
        return candidates[0]
    costs = {}
    for session in candidates:
        decoder = Decoder(prefill, session, embedding, architecture)
        decoder.reserve(batch, TOKENS + STEPS + 1, 0)
        single, whole = (_seconds(decoder, rows) for rows in (1, batch))
        decoder.release()
        costs[session] = SINGLE_SHARE * single + whole
        _log.debug("kernel", model=session.name, single=round(single, 4), batch=round(whole, 4))
    costs[candidates[0]] *= MARGIN
    best = min(candidates, key=lambda session: costs[session])
    for session in candidates:
        if session is not best:
            session.close()
    return best


def _seconds(decoder: Decoder, rows: int) -> float:
    """Median wall seconds of a step; the first is not counted."""
    taken = []
    for step in range(STEPS + 1):
        began = perf_counter()
        place = [TOKENS + step] * rows
        decoder.decode([0] * rows, place, place)
        taken.append(perf_counter() - began)
    return median(taken[1:])
