"""Files that stay in the inbox (`on_success = keep`): which were read, which are in work.

The ledger remembers across restarts what was read. Of what is in work only this process
knows; it is told again when a job is recovered.
"""

from __future__ import annotations

import errno
from pathlib import Path

from mineru_daemon.jobs import Job
from mineru_daemon.ledger import Ledger
from mineru_daemon.storage import Identity, digest


class KeptFiles:
    """Used by the inbox's thread, which adds files, and the worker's, which finishes them."""

    def __init__(self) -> None:
        self.ledger: Ledger | None = None
        self._in_work: dict[Identity, tuple[str, str]] = {}
        """Files whose copies are in work: path and hash of the content."""

    def open(self, path: Path) -> None:
        """Open the ledger at `path`. Raises StorageError, OSError."""
        self.ledger = Ledger(path)

    def close(self) -> None:
        """Close the ledger; what is in work stays known."""
        if self.ledger is not None:
            self.ledger.close()
        self.ledger = None

    def knows(self, file: Identity) -> bool:
        """Whether a file was read, or is in work."""
        return self.ledger is not None and (file in self._in_work or self.ledger.has(file))

    def is_new(self, job: Job, sha256: str) -> bool:
        """Whether the content of a job's file is to be read. One that was touched since, by
        a scanner that announces twice, is known by its new identity from here on."""
        assert self.ledger
        content = (job.path, sha256)
        if content in list(self._in_work.values()):
            self._in_work[job.identity] = content
            return False
        if self.ledger.has_content(*content):
            self.ledger.record(job.path, job.identity, sha256, job.id, "success")
            return False
        return True

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
