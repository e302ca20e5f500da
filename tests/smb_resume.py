"""An SMB client that goes on with an upload: `smb_resume.py PORT NAME SOURCE`.

Appends to NAME on the share `scan` what of SOURCE is not there yet, through libsmbclient,
which file managers use. The `reput` of smbclient 4.17 cannot be used: it writes the rest
over the beginning of the file.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_BLOCK = 65536

AskForUser = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_void_p, ctypes.c_int] * 3
)


def main(port: str, name: str, source: str) -> None:
    library = ctypes.CDLL("libsmbclient.so.0", use_errno=True)
    library.smbc_lseek.restype = ctypes.c_longlong
    library.smbc_lseek.argtypes = [ctypes.c_int, ctypes.c_longlong, ctypes.c_int]
    library.smbc_write.restype = ctypes.c_ssize_t
    library.smbc_write.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]

    def done(result: int) -> int:
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    as_guest = AskForUser(lambda *_: None)
    done(library.smbc_init(as_guest, 0))
    url = f"smb://127.0.0.1:{port}/scan/{name}"
    handle = done(library.smbc_open(url.encode(), os.O_RDWR, 0o666))
    rest = Path(source).read_bytes()[done(library.smbc_lseek(handle, 0, os.SEEK_END)) :]
    while rest:
        rest = rest[done(library.smbc_write(handle, rest, min(len(rest), _BLOCK))) :]
    done(library.smbc_close(handle))


if __name__ == "__main__":
    main(*sys.argv[1:])
