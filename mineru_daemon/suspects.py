"""Files that ended the process while they were only being looked into.

A claimed file's attempts are counted in its job; before the claim there is no job, and
a file that crashes the check would be met again after every restart.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from mineru_daemon.storage import Identity, replace_text


class CheckJournal:
    """Remembers which file is being looked into, so that one which ends the process in
    doing so is known after the restart, and not looked into for ever."""

    def __init__(self, spool: Path) -> None:
        self._current = spool / "checking.json"
        self._suspects_file = spool / "suspects.json"
        self._suspects: dict[str, int] = _read_json(self._suspects_file)
        interrupted = _read_json(self._current)
        for key in interrupted:
            self._suspects[key] = self._suspects.get(key, 0) + 1
        with contextlib.suppress(OSError):  # a full disk is no reason not to start
            if interrupted:
                self._keep()
            self._current.unlink(missing_ok=True)

    def deaths(self, file: Identity) -> int:
        """How often looking into this file has ended the process."""
        return self._suspects.get(_key(file), 0)

    def begin(self, file: Identity) -> None:
        """About to look into the file. Raises OSError."""
        try:
            self._current.write_text(json.dumps({_key(file): 1}))
        except OSError as error:
            error.filename = os.fspath(self._current)  # write(2) has none
            raise

    def end(self, file: Identity) -> None:
        """The process survived it. A disk that refuses costs the file an attempt at most."""
        with contextlib.suppress(OSError):
            self._current.unlink(missing_ok=True)
            if self._suspects.pop(_key(file), None) is not None:
                self._keep()

    def _keep(self) -> None:
        replace_text(self._suspects_file, json.dumps(self._suspects), durable=False)


def _key(file: Identity) -> str:
    return ":".join(str(part) for part in file)


def _read_json(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
