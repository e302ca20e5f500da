"""Files that stay in the inbox (`on_success = keep`): which were read, which are in work.

The ledger remembers across restarts what was read. Of what is in work only this process
knows; it is told again when a job is recovered. What other daemons on the same inbox read is
told by their marks.
"""

from __future__ import annotations

import errno
from pathlib import Path

import structlog

from mineru_daemon.jobs import Job
from mineru_daemon.ledger import Ledger
from mineru_daemon.marks import Marks
from mineru_daemon.storage import Identity, digest, present

SWEEP_SECONDS = 3600.0
"""How often marks of files that are gone are looked for."""

SWEPT_AT_ONCE = 200
"""Files that are looked for at a time, as shares may be slow."""

_ELSEWHERE, _GONE = "elsewhere", "gone"
"""What the ledger says of files that another daemon reads, and of those whose mark was freed."""

_UNMARKABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR})
"""What is answered by an inbox that does not take marks, or where something else lies."""

_log = structlog.get_logger()


class KeptFiles:
    """Used by the inbox's thread, which adds files, and the worker's, which finishes them."""

    def __init__(self, inbox: Path) -> None:
        self.ledger: Ledger | None = None
        self._inbox = inbox
        self._marks: Marks | None = None
        self._unmarked = False
        """Whether it was told that the inbox takes no marks."""
        self._swept = ""
        self._sweep_at = 0.0
        self._in_work: dict[Identity, tuple[str, str]] = {}
        """Files whose copies are in work: path and hash of the content."""

    def open(self, path: Path) -> None:
        """Open the ledger at `path`. Raises StorageError, OSError."""
        self.ledger = Ledger(path)
        self._marks = Marks(self._inbox, self.ledger.owner())

    def close(self) -> None:
        """Close the ledger; what is in work stays known."""
        if self.ledger is not None:
            self.ledger.close()
        self.ledger = None

    def in_work(self, file: Identity) -> bool:
        """Whether a copy of this file is in work."""
        return file in self._in_work

    def was_read(self, file: Identity) -> bool:
        """Whether the ledger has this file."""
        return self.ledger is not None and self.ledger.has(file)

    def take(self, job: Job, sha256: str) -> bool:
        """Whether this daemon is to read the content of a job's file. One that was touched
        since, by a scanner that announces twice, is known by its new identity from here on.

        Raises OSError when a disk refuses; asking again is harmless.
        """
        assert self.ledger
        content = (job.path, sha256)
        if content in list(self._in_work.values()):
            self._in_work[job.identity] = content
            return False
        if self.ledger.has_content(*content):
            self.ledger.record(job.path, job.identity, sha256, job.id, "success")
            return False
        if not self._mark(*content):
            self.ledger.record(job.path, job.identity, sha256, job.id, _ELSEWHERE)
            return False
        return True

    def _mark(self, path: str, sha256: str) -> bool:
        """Whether no other daemon reads this. Where marks cannot be made, nobody knows."""
        assert self._marks
        try:
            free = self._marks.take(path, sha256)
        except OSError as error:
            if error.errno not in _UNMARKABLE:
                raise
            if not self._unmarked:
                _log.warning(
                    "inbox-unmarked",
                    inbox=str(self._inbox),
                    error=error.strerror,
                    advice="let the daemon write there if several daemons share this inbox; "
                    "each reads every file now",
                )
            self._unmarked = True
            return True
        self._unmarked = False
        return free

    def sweep(self, now: float) -> None:
        """Free the marks of files that are gone, some at a time; `now` in seconds of a clock
        that is never set. What a disk refuses is tried again at the next time."""
        if self.ledger is None or self._marks is None or now < self._sweep_at:
            return
        try:
            rows = self.ledger.after(self._swept, SWEPT_AT_ONCE, (_ELSEWHERE, _GONE))
            for path, sha256 in rows:
                known = (path, sha256) in list(self._in_work.values())
                if not known and not present(self._inbox / path):
                    self._marks.free(path, sha256)
                    self.ledger.set_status(path, _GONE)
        except OSError as error:
            _log.debug("marks-not-freed", error=str(error))
            rows = []
        self._swept = rows[-1][0] if rows else ""
        if not rows:
            self._sweep_at = now + SWEEP_SECONDS

    def begin(self, job: Job, sha256: str) -> None:
        """The job has a copy of this content."""
        self._in_work[job.identity] = (job.path, sha256)

    def resume(self, job: Job) -> None:
        """The same for a job of an earlier run."""
        self.begin(job, digest(job.document))

    def finish(self, job: Job) -> None:
        """Remember the file of a decided job as read. Raises OSError when a disk refuses."""
        assert job.commit
        if self.ledger is None:
            raise OSError(errno.ENODEV, "the ledger is not open")
        self.ledger.record(
            job.path, job.identity, job.commit.sha256 or "", job.id, job.commit.outcome
        )
        content = self._in_work.get(job.identity)
        # A copy, as the inbox's thread may add to it meanwhile.
        for file, known in list(self._in_work.items()):
            if known == content:
                del self._in_work[file]
