"""Memory of a process: how much it is, and giving back what is not used any more."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path


def give_back() -> None:
    """Have Python drop what nobody refers to, and the C library what is free in its heaps.

    Only glibc keeps free memory to itself and can be told to return it, see malloc_trim(3).
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_mib(process: int | None = None) -> float:
    """Resident memory of this process or of another, MiB; the second field of proc_pid_statm(5).

    Raises OSError when there is no such process.
    """
    pages = int(Path(f"/proc/{process or 'self'}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
