"""Clients that deliver files step by step: at once, slowly, and with mishaps.

Each is a generator that does a piece of work and yields how many seconds it pauses. All
write through a folder that they hold open, so that they deliver to the real inbox though
it is renamed away or covered; what a disk refuses they try again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from mineru_daemon.bench.cases import Case
from mineru_daemon.storage import rename_noreplace

Steps = Iterator[float]

RETRY_SECONDS = 0.5

BURST_SECONDS = (0.1, 1.2)
"""Pauses of a slow writer; the settle time of the daemon under test lies between."""

ABORT_SECONDS = (2.0, 4.0)
"""Until somebody comes back to an upload that broke off: long enough for the daemon to
find the part still, and look into it."""


def renamed(inbox: Path, case: Case, _choice: random.Random) -> Steps:
    """Under a hidden name, then renamed."""
    hidden = inbox / f".{os.urandom(6).hex()}"
    while True:
        try:
            hidden.write_bytes(case.content)
            rename_noreplace(hidden, inbox / case.name)
            return
        except (FileExistsError, OSError) as error:
            if not _passes(error):
                raise
            yield RETRY_SECONDS


def written(inbox: Path, case: Case, _choice: random.Random) -> Steps:
    """Under its name, in one go."""
    yield from _create(inbox / case.name)
    yield from _append(inbox / case.name, case.content)


def in_bursts(inbox: Path, case: Case, choice: random.Random) -> Steps:
    """Piece by piece with pauses, through one handle."""
    path = inbox / case.name
    yield from _create(path)
    with path.open("ab", buffering=0) as stream:
        for piece in _pieces(case.content, choice):
            yield from _write(stream.fileno(), piece)
            yield choice.uniform(*BURST_SECONDS)


def reopened(inbox: Path, case: Case, choice: random.Random) -> Steps:
    """Piece by piece with pauses, the file closed in between."""
    yield from _create(inbox / case.name)
    for piece in _pieces(case.content, choice):
        yield from _append(inbox / case.name, piece)
        yield choice.uniform(*BURST_SECONDS)


def aborted_and_resumed(inbox: Path, case: Case, choice: random.Random) -> Steps:
    """Broken off in the middle; later the rest is appended."""
    middle = _middle(case.content, choice)
    yield from _create(inbox / case.name)
    yield from _append(inbox / case.name, case.content[:middle])
    yield choice.uniform(*ABORT_SECONDS)
    yield from _append(inbox / case.name, case.content[middle:])


def aborted_and_sent_anew(inbox: Path, case: Case, choice: random.Random) -> Steps:
    """Broken off in the middle; later all of it is written over what there was."""
    path = inbox / case.name
    yield from _create(path)
    yield from _append(path, case.content[: _middle(case.content, choice)])
    yield choice.uniform(*ABORT_SECONDS)
    os.truncate(path, 0)
    yield from _append(path, case.content)


WHOLE = (renamed, written)
SLOW = (in_bursts, reopened, aborted_and_resumed, aborted_and_sent_anew)


def way_for(case: Case, choice: random.Random) -> Callable[[Path, Case, random.Random], Steps]:
    """A way to deliver this file. What is of no known kind comes in one go: no reader can
    tell a part of it from the whole."""
    whole_only = len(case.content) < 200 or case.name.endswith(".txt")
    return choice.choice(WHOLE if whole_only or choice.random() < 0.5 else SLOW)


def _pieces(content: bytes, choice: random.Random) -> list[bytes]:
    ends = sorted(choice.randrange(len(content)) for _ in range(2))
    return [content[: ends[0]], content[ends[0] : ends[1]], content[ends[1] :]]


def _middle(content: bytes, choice: random.Random) -> int:
    return int(len(content) * choice.uniform(0.1, 0.9))


def _create(path: Path) -> Steps:
    """Take the name, once it is free: an earlier file of this name is the daemon's to take."""
    while True:
        try:
            path.touch(exist_ok=False)
            return
        except (FileExistsError, OSError) as error:
            if not _passes(error):
                raise
            yield RETRY_SECONDS


def _append(path: Path, piece: bytes) -> Steps:
    # No O_CREAT: a file that was taken away in the midst of its upload is to be noticed.
    handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        yield from _write(handle, piece)
    finally:
        with contextlib.suppress(OSError):
            os.close(handle)


def _write(handle: int, piece: bytes) -> Steps:
    rest = memoryview(piece)
    while rest:
        try:
            rest = rest[os.write(handle, rest) :]
        except OSError as error:
            if not _passes(error):
                raise
            yield RETRY_SECONDS


def _passes(error: OSError) -> bool:
    return isinstance(error, FileExistsError) or error.errno in (errno.ENOSPC, errno.EDQUOT)
