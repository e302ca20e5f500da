"""Runs a command whose process is killed by the kernel (SIGSYS) when it opens a socket.

`python without_sockets.py COMMAND…`: a seccomp filter that every thread and child inherits,
native code too. seccomp(2), and the numbers in asm/unistd_64.h and asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

SOCKET_CALLS = {
    # socket, socketpair, io_uring_setup (a ring can open sockets too)
    "x86_64": (41, 53, 425),
    "aarch64": (198, 199, 425),
}

_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL_PROCESS = 0x7FFF0000, 0x80000000
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def forbid(numbers: tuple[int, ...]) -> None:
    """From now on these system calls end the process. Raises OSError where that is refused."""
    count = len(numbers)
    code = [(_LOAD_WORD, 0, 0, 0)]
    code += [(_JUMP_IF_EQUAL, count - at, 0, number) for at, number in enumerate(numbers)]
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _KILL_PROCESS)]
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
    program = _Program(len(code), ctypes.addressof(text))
    libc = ctypes.CDLL(None, use_errno=True)
    for words in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, ctypes.byref(program))):
        if libc.prctl(*words) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    forbid(SOCKET_CALLS[platform.machine()])
    os.execvp(sys.argv[1], sys.argv[1:])
