"""What was read from an inbox whose originals stay where they are (`on_success = keep`).

Remembers files by identity, and by path and content, so that a restart, a touched file
or a share that was mounted anew does not have them read again. SQLite, one small table.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mineru_daemon.errors import StorageError
from mineru_daemon.storage import Identity

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY,      -- relative to the inbox, as the file system has it
    device INTEGER NOT NULL, inode INTEGER NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL, job TEXT NOT NULL, status TEXT NOT NULL, recorded REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS by_identity ON files (device, inode, size, mtime_ns);
CREATE TABLE IF NOT EXISTS owner (id TEXT PRIMARY KEY);
"""


_ERRNO = {"SQLITE_FULL": errno.ENOSPC, "SQLITE_READONLY": errno.EROFS}


class Ledger:
    """An open ledger; may be used from several threads. Raises OSError when a disk refuses,
    as a full one passes."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError for a file that is no ledger, which does not pass."""
        self._path = path
        self._lock = threading.Lock()
        with self._refusals(opening=True):
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
            self._db.execute(
                "INSERT INTO owner SELECT ? WHERE NOT EXISTS (SELECT 1 FROM owner)",
                (uuid.uuid4().hex,),
            )

    def owner(self) -> str:
        """What tells this ledger from all others."""
        row = self._one("SELECT id FROM owner", ())
        return str(row[0])

    def has(self, identity: Identity) -> bool:
        """Whether this very file, unchanged, was read: under this or an earlier name."""
        row = self._one(
            "SELECT 1 FROM files WHERE device = ? AND inode = ? AND size = ? AND mtime_ns = ?",
            (identity.device, _signed(identity.inode), identity.size, identity.mtime_ns),
        )
        return row is not None

    def has_content(self, path: str, sha256: str) -> bool:
        """Whether the file at this path was read with this content before."""
        row = self._one(
            "SELECT 1 FROM files WHERE path = ? AND sha256 = ?", (os.fsencode(path), sha256)
        )
        return row is not None

    def record(self, path: str, identity: Identity, sha256: str, job: str, status: str) -> None:
        """Remember a file as read; saying it twice is harmless."""
        with self._lock, self._refusals():
            self._db.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    os.fsencode(path),
                    identity.device,
                    _signed(identity.inode),
                    identity.size,
                    identity.mtime_ns,
                    sha256,
                    job,
                    status,
                    time.time(),
                ),
            )

    def after(self, path: str, most: int, but: tuple[str, str]) -> list[tuple[str, str]]:
        """Path and hash of at most so many files behind `path`, without those of two statuses."""
        with self._lock, self._refusals():
            rows = self._db.execute(
                "SELECT path, sha256 FROM files WHERE path > ? AND status NOT IN (?, ?) "
                "ORDER BY path LIMIT ?",
                (os.fsencode(path), *but, most),
            ).fetchall()
        return [(os.fsdecode(row[0]), row[1]) for row in rows]

    def set_status(self, path: str, status: str) -> None:
        """Say something else of a file that is remembered."""
        with self._lock, self._refusals():
            self._db.execute(
                "UPDATE files SET status = ? WHERE path = ?", (status, os.fsencode(path))
            )

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def _one(self, query: str, values: tuple[object, ...]) -> Any:
        with self._lock, self._refusals():
            return self._db.execute(query, values).fetchone()

    @contextlib.contextmanager
    def _refusals(self, opening: bool = False) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if opening and not isinstance(error, sqlite3.OperationalError):
                raise StorageError(
                    f"The ledger {self._path} is damaged ({error}); put back a copy, or remove it "
                    "and .mineru-kept in the inbox, and have all files there read again."
                ) from error
            name = str(getattr(error, "sqlite_errorname", ""))
            number = next((n for key, n in _ERRNO.items() if name.startswith(key)), errno.EIO)
            raise OSError(number, f"the ledger {self._path}: {error}") from error


def _signed(inode: int) -> int:
    """SQLite's integers are signed; some file systems use all 64 bits of an inode number."""
    return inode - (1 << 64) if inode >= 1 << 63 else inode
