"""What lies in the inbox: the regular files that are documents by name.

Whoever delivers may put anything there, at any moment: links, pipes, folders that cannot
be entered or that lead for ever down. Nothing is followed or opened here, a folder is
entered through its open parent, and what cannot be looked into is told, not waited for.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

from mineru_daemon.storage import Identity, beneath, identity

IGNORED = (
    ".*", "~*", "*~", "*.tmp", "*.temp", "*.part", "*.partial", "*.crdownload", "*.download",
    "*.filepart", "*.lock", "*.lck", "*.swp", "Thumbs.db", "desktop.ini", "@eaDir",
)  # fmt: skip
"""Names of files that are not (yet) documents, of browsers, editors, FTP clients and NAS."""

MAX_DEPTH = 32
MAX_FOLDER_BYTES = 1024
"""Sub-folders below these are passed over: their names are mirrored below other folders,
where paths must stay within PATH_MAX (4096 bytes)."""

MAX_TOLD = 1000
"""Names that are remembered so as not to be told again."""

_TICK_ENTRIES = 1000

_log = structlog.get_logger()


class Found(NamedTuple):
    """A file of the inbox."""

    path: str
    identity: Identity
    age_ns: int
    """What files are ordered by: when it was last written, as it says; when it was put here,
    where it says that it is from the future. Nanoseconds."""


def ignore_pattern(extra: list[str]) -> re.Pattern[str]:
    """One pattern for all names to be passed over; without regard to case."""
    return re.compile(
        "|".join(fnmatch.translate(name) for name in (*IGNORED, *extra)), re.IGNORECASE | re.DOTALL
    )


class Listing:
    """Looks into one inbox; used by one thread."""

    def __init__(self, inbox: Path, recursive: bool, ignore: list[str]) -> None:
        self._inbox = inbox
        self._recursive = recursive
        self._told: set[str] = set()
        self.ignored = ignore_pattern(ignore)
        self.refused = 0
        """Entries that the last listing could not look into, …"""
        self.refusal = ""
        """… and the first of them, with its reason."""

    def files(self, tick: Callable[[], None] = lambda: None) -> Iterator[Found]:
        """All files. `tick` is called now and then. Raises OSError for the inbox itself."""
        self.refused, self.refusal = 0, ""
        return self._below(os.open(self._inbox, _FOLDER), "", 0, tick)

    def _below(
        self, folder: int, relative: str, depth: int, tick: Callable[[], None]
    ) -> Iterator[Found]:
        """Files in and below an open folder, which is closed."""
        try:
            with os.scandir(folder) as entries:
                for count, entry in enumerate(entries):
                    if count % _TICK_ENTRIES == 0:
                        tick()
                    if self.ignored.match(entry.name):
                        continue
                    path = os.path.join(relative, entry.name)  # noqa: PTH118 - a million times
                    try:
                        found = entry.stat(follow_symlinks=False)
                        if stat.S_ISDIR(found.st_mode):
                            if self._enters(path, depth):
                                inner = os.open(entry.name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                                yield from self._below(inner, path, depth + 1, tick)
                        elif self._is_file(path, found):
                            yield self._found(path, found)
                    except FileNotFoundError:
                        continue  # taken away since it was listed
                    except OSError as error:
                        self._refuse(path, error)
        except OSError as error:
            if not relative:
                raise
            self._refuse(relative, error)
        finally:
            os.close(folder)

    def at(self, path: Path) -> Found | None:
        """The file at a path that an event named; None where it is none.

        Raises FileNotFoundError where nothing lies there, OSError where it is not told.
        """
        try:
            relative = path.relative_to(self._inbox)
        except ValueError:
            return None
        parts = relative.parts
        if not parts or any(self.ignored.match(part) for part in parts):
            return None
        folder = str(relative.parent)
        if len(parts) > 1 and not (self._recursive and self._enters(folder, len(parts) - 2)):
            return None
        try:
            with self.place(path) as inside:
                found = (inside / path.name).lstat()
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from error
        if stat.S_ISDIR(found.st_mode) or not self._is_file(str(relative), found):
            return None
        return self._found(str(relative), found)

    def place(self, path: Path) -> contextlib.AbstractContextManager[Path]:
        """The folder of a file of the inbox, without following links on the way."""
        return beneath(self._inbox, path.relative_to(self._inbox).parent)

    def now(self, path: Path) -> Identity | None:
        """The identity of what lies at a path of the inbox now; None if nothing does, or
        nothing that can be seen."""
        try:
            with self.place(path) as folder:
                return identity(folder / path.name)
        except OSError:
            return None

    def _found(self, relative: str, found: os.stat_result) -> Found:
        path = os.path.join(self._inbox, relative)  # noqa: PTH118 - a million times
        return Found(path, Identity.of(found), min(found.st_mtime_ns, found.st_ctime_ns))

    def _enters(self, folder: str, depth: int) -> bool:
        if not self._recursive:
            self._pass_over(folder, "a folder, and recursive is not set")
        elif depth >= MAX_DEPTH or len(os.fsencode(folder)) > MAX_FOLDER_BYTES:
            self._pass_over(folder, "a folder too deep to be mirrored")
        else:
            return True
        return False

    def _is_file(self, path: str, found: os.stat_result) -> bool:
        if stat.S_ISREG(found.st_mode):
            return True
        self._pass_over(path, "neither a file nor a folder")
        return False

    def _pass_over(self, path: str, reason: str) -> None:
        if path not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(path)
            _log.warning("passed-over", file=path, reason=reason)

    def _refuse(self, path: str, error: OSError) -> None:
        self.refused += 1
        self.refusal = self.refusal or f"{path}: {error.strerror}"


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
