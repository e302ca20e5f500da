"""One memory arena of ONNX Runtime for many sessions, and giving back what is free in it.

By itself each session has an arena of its own, as large as its largest run. As one session works
at a time, they can take turns in the memory of the largest. Which sessions do is left to `onnx`,
whose module of ONNX Runtime is given to each function.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

_IDENTITY = (
    b'\x08\x08\x12\x00:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08'
    b"\x08\x01\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04"
    b"\n\x00\x10\r"
)
"""A model in ONNX's format, y = x for one float: the arena shrinks after a run only."""


def use(runtime: Any, options: Any) -> None:
    """Have the session that is made with `options` use the common arena.

    Weights are kept outside: beside them the arena could not shrink.
    """
    _registered(runtime)
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")


def shrinking(options: Any) -> None:
    """Have a run with these `RunOptions` give back what is free in its arena when it ends."""
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")


def give_back(runtime: Any) -> None:
    """Give back what no session needs; to be called while none runs, after one was closed."""
    session_options, run_options = runtime.SessionOptions(), runtime.RunOptions()
    session_options.intra_op_num_threads = session_options.inter_op_num_threads = 1
    use(runtime, session_options)
    shrinking(run_options)
    session = runtime.InferenceSession(
        _IDENTITY, session_options, providers=["CPUExecutionProvider"]
    )
    session.run(None, {"x": np.zeros(1, np.float32)}, run_options)


@functools.cache
def _registered(runtime: Any) -> None:
    """Make the arena, once for the process.

    Its regions double (0): regions as large as what is asked for (1) are not used again by
    runs of other sizes, and took 80 MiB more with the networks of `ppocr`.
    """
    place = runtime.OrtMemoryInfo(
        "Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT
    )
    sizes = {
        "max_mem": 0,
        "arena_extend_strategy": 0,
        "initial_chunk_size_bytes": -1,
        "max_dead_bytes_per_chunk": -1,
    }
    runtime.create_and_register_allocator(place, runtime.OrtArenaCfg(sizes))
