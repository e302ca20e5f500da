"""The running child and the two pipes to it: messages and pixels, with a look while waiting.

What is asked and answered is told by `child`, which is the other end; when it is started and
ended is decided by `reader`. What comes from the child is not trusted: it has handled hostile
files. Its messages can make no other objects than plain values and our own records.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib
import io
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from mineru_daemon.documents.child import LENGTH_BYTES, framed
from mineru_daemon.documents.page import Pixels

LOOK_SECONDS = 0.05
"""How often a child that works is looked at. Memory is filled with 2 GB a second at most, so a
limit is exceeded by 100 MB before it is seen."""

MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""Of an answer without its pixels. The text layer with the most characters that are read comes
to a tenth of that."""

_PIPE_BYTES = 1 << 20
"""Of the pipe for answers: as much as the kernel allows everybody."""

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# With our own search path: of the working directory, which may be full of hostile files,
# nothing is imported.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from mineru_daemon.documents.child import main; main(*map(int, sys.argv[2:]))"
)


class Child:
    """A child that was started. `EOFError` from any method: it has ended."""

    def __init__(self, memory: int) -> None:
        """Start it, granted `memory` bytes. Raises OSError."""
        self.look: Callable[[], None] = lambda: None
        """Called every `LOOK_SECONDS` while it is waited for; what it raises passes through."""
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        try:
            command = [sys.executable, "-P", "-c", _START, json.dumps(sys.path)]
            command += [str(one) for one in (requests, answers, os.getpid(), memory)]
            # A group of its own: Ctrl-C on a terminal is for the parent.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(requests, answers),
                process_group=0,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        except BaseException:
            os.close(self._requests)
            os.close(self._answers)
            raise
        finally:
            os.close(requests)
            os.close(answers)
        for pipe in (self._requests, self._answers):
            os.set_blocking(pipe, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._answers, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._next_look = time.monotonic() + LOOK_SECONDS
        self._resident = Path(f"/proc/{self._process.pid}/statm")

    def send(self, content: object) -> None:
        """Send a message."""
        self._next_look = time.monotonic() + LOOK_SECONDS
        rest = memoryview(framed(content))
        poll = select.poll()
        poll.register(self._requests, select.POLLOUT)
        while rest:
            self._wait(poll)
            try:
                rest = rest[os.write(self._requests, rest) :]
            except BrokenPipeError:
                raise EOFError from None

    def receive(self) -> Any:
        """The next message."""
        length = int.from_bytes(self._read(bytearray(LENGTH_BYTES)), "big")
        if length > MAX_ANSWER_BYTES:
            raise EOFError
        body = self._read(bytearray(length))
        try:
            return _Unpickler(io.BytesIO(body)).load()
        except Exception as error:
            raise EOFError from error

    def pixels(self, width: int, height: int) -> Pixels:
        """So many pixels, as they follow a message."""
        pixels = np.empty((height, width, 3), np.uint8)
        self._read(pixels.data.cast("B"))
        return pixels

    def resident(self) -> int:
        """Bytes of memory that it has; 0 when it has ended."""
        try:
            return int(self._resident.read_text().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError):
            return 0

    def ending(self) -> str:
        """How it ended, for a sentence."""
        self.end()
        code = self._process.returncode
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def end(self) -> None:
        """End it at once; harmless when repeated."""
        if self._requests < 0:
            return
        os.close(self._requests)
        os.close(self._answers)
        self._requests = self._answers = -1
        self._process.kill()
        self._process.wait()

    def _read(self, sink: bytearray | memoryview) -> bytearray | memoryview:
        rest = memoryview(sink)
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        while rest:
            self._wait(poll)
            count = os.readv(self._answers, [rest])
            if not count:
                raise EOFError
            rest = rest[count:]
        return sink

    def _wait(self, poll: select.poll) -> None:
        """Until the pipe in `poll` can be used."""
        ready: list[Any] = []
        while not ready:
            ready = poll.poll(max(0.0, self._next_look - time.monotonic()) * 1000)
            if time.monotonic() >= self._next_look:
                self.look()
                self._next_look = time.monotonic() + LOOK_SECONDS


class _Unpickler(pickle.Unpickler):
    """Knows no classes but records of this package: dataclasses and models."""

    def find_class(self, module: str, name: str) -> Any:
        """The record `name` of `module`."""
        if module.startswith("mineru_daemon."):
            found = getattr(importlib.import_module(module), name, None)
            if isinstance(found, type) and (
                dataclasses.is_dataclass(found) or issubclass(found, BaseModel)
            ):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no record")
