"""A process that does not outlive the one that started it."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
"""prctl(2)."""

_libc = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that started it ends, even by SIGKILL.

    A parent that has ended before this call is not noticed.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
