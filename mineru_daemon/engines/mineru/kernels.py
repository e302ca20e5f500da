"""Which of a model's decoding graphs is the fastest on this CPU.

Attention of a step is fused, or made of matrix products (see `export.models`); which is faster was
another on each of two CPUs, and is told by their flags.

The same 8-bit weights can be multiplied by two kernels of ONNX Runtime: int8 GEMM, with a scale
for each row, and MatMulNBits, in blocks. The latter is made for CPUs with instructions for int8
dot products (VNNI, AMX); where there are none it was never the faster of both (Zen 3: a batch of
eight took it 1.5 times as long), and is not even loaded. Where there are, both are measured, as
memory and granted threads count too; but not with AVX-512, where it was no faster either (Zen 5,
3 and 5 % slower than the prompts' graph with one and eight sequences) and took a second to load.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from mineru_daemon import cpu
from mineru_daemon.engines.mineru.architecture import TextArchitecture
from mineru_daemon.engines.mineru.decoder import Decoder, Embedding
from mineru_daemon.engines.mineru.folder import Graphs
from mineru_daemon.engines.onnx import Session

INT8_DOT = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
"""Flags of CPUs that multiply and add int8 in one instruction; the last two are ARM's."""

FUSED = frozenset({"avx512f"})
"""Flags of CPUs on which fused attention decodes faster. Zen 5 (int4, two threads): one sequence
10 %, eight 2 %, sixteen 5 %. With int8 the prompts' graph decodes too then, one sequence of 200
tokens 14 % and eight 6 % faster, one of 1500 tokens 2 % slower, and half a GB is saved."""

SHARE, ZERO = "activation.share", "activation.zero"
"""Names of the constants that say how many levels quantised activations have on each side of zero:
what one level is of the largest number, float32, and what stands for zero, uint8."""

LEVELS = 127
"""Of activations where products are added in 32 bits at once; elsewhere fewer, as written in the
graphs, lest sums in 16 bits saturate (see `export.linear`)."""

TOKENS = 128
"""In the cache while it is measured: those of a short prompt."""

STEPS = 3

MARGIN = 0.85
"""Share of the first candidate's time that another must stay below to be taken: what is nearly
equal would be taken now and then, and a model should not answer differently after a restart."""

SINGLE_SHARE = 4
"""How many steps of one row count as much as one of a whole batch. A page of MinerU has a
layout of some 500 tokens, read alone, and 900 tokens of text in batches."""

_log = structlog.get_logger()


def candidates(graphs: Graphs) -> list[str]:
    """File names of the decoding graphs that are worth a try here; `prefill` may be one."""
    flags = cpu.flags()
    if graphs.decode_fused is not None and FUSED & flags:
        return [graphs.decode_fused]
    found = [graphs.decode or graphs.prefill]
    if graphs.decode_blocks is not None and INT8_DOT & flags:
        found.append(graphs.decode_blocks)
    return found


def constants() -> dict[str, npt.NDArray[Any]]:
    """What is to stand in for constants of the graphs on this CPU."""
    if not INT8_DOT & cpu.flags():
        return {}
    return {SHARE: np.array(1 / LEVELS, np.float32), ZERO: np.array(LEVELS + 1, np.uint8)}


def fastest(
    sessions: Sequence[Session],
    prefill: Session,
    embedding: Embedding,
    architecture: TextArchitecture,
    batch: int,
) -> Session:
    """The session that decodes fastest, the first unless another is clearly faster.

    The others are closed, but not `prefill`. One alone is not measured.
    """
    if len(sessions) == 1:
        return sessions[0]
    costs = {}
    for session in sessions:
        decoder = Decoder(prefill, session, embedding, architecture)
        decoder.reserve(batch, TOKENS + STEPS + 1, 0)
        single, whole = (_seconds(decoder, rows) for rows in (1, batch))
        decoder.release()
        costs[session] = SINGLE_SHARE * single + whole
        _log.debug("kernel", model=session.name, single=round(single, 4), batch=round(whole, 4))
    costs[sessions[0]] *= MARGIN
    best = min(sessions, key=lambda session: costs[session])
    for session in sessions:
        if session not in (best, prefill):
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
