"""The jobs on disk: taken in, recovered after a death, finished.

Only `claim` and `commit` move documents; this is what they are called by. A file is
claimed by one rename into a job folder, and leaves it by one rename into `done` or
`failed`. Whatever a kill or a disk cut short is carried on from what lies here:

    spool/jobs/<id>/job.json          state
                    document/<name>   the claimed file
                    pages/<n>.json    pages read so far
    spool/ledger.sqlite3              only for on_success = keep
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from mineru_daemon.claim import complete, put_back, take, was_taken
from mineru_daemon.commit import Committer, Outputs
from mineru_daemon.errors import AlreadyRunningError
from mineru_daemon.folders import Places
from mineru_daemon.jobs import Job, Outcome, new_id
from mineru_daemon.kept import KeptFiles
from mineru_daemon.results import ErrorInfo
from mineru_daemon.settings import Settings
from mineru_daemon.storage import Identity, locked

_FINISHED = ".finished"

_log = structlog.get_logger()


class Spool:
    """The jobs on disk. Open one with `Spool.opened`, which holds the lock."""

    def __init__(self, settings: Settings) -> None:
        self.places = Places(settings)
        self.kept = KeptFiles(settings.inbox)
        self._settings = settings
        self._committer = Committer(settings, self.places)
        self._jobs = settings.spool / "jobs"
        self._lock: contextlib.ExitStack | None = None
        self._open: set[str] = set()
        """Ids of jobs that somebody works on; what is recovered later leaves them alone."""
        self._last_id = ""
        self._to_give_back: list[Job] = []
        """Undone claims whose file could not be put back yet."""
        self._left_over: dict[Path, str] = {}
        """Folders of finished jobs that could not be removed yet, and why."""
        self._unreadable: set[str] = set()
        """Jobs of an earlier run whose state a disk did not give yet."""

    @classmethod
    @contextlib.contextmanager
    def opened(cls, settings: Settings) -> Iterator[Spool]:
        """The spool, locked against a second daemon until the block ends.

        Raises AlreadyRunningError, OSError.
        """
        spool = cls(settings)
        try:
            spool._take_hold()
            yield spool
        finally:
            spool._let_go()

    def _take_hold(self) -> None:
        """Lock the folder, and open what lies in it."""
        with contextlib.ExitStack() as stack:
            if not stack.enter_context(locked(self._settings.spool)):
                raise AlreadyRunningError(
                    f"Another mineru-daemon already works with the spool {self._settings.spool}; "
                    "stop it, or give this one folders of its own."
                )
            self._jobs.mkdir(exist_ok=True)
            if self._settings.on_success == "keep":
                self._open_ledger(stack)
            self._lock = stack.pop_all()

    def _open_ledger(self, until: contextlib.ExitStack) -> None:
        self.kept.open(self._settings.spool / "ledger.sqlite3")
        until.callback(self.kept.close)

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
        self._lock = None

    def was_claimed(self, file: Identity) -> bool:
        """Whether a file that still lies in the inbox was read, or is being read, already.

        Only with `on_success = keep`: otherwise what was claimed is gone from the inbox. What
        an earlier run with this setting left in work is not read again either.
        """
        if self.kept.in_work(file):
            return True
        return self._settings.on_success == "keep" and self.kept.was_read(file)

    # --- claim ---------------------------------------------------------------

    def claim(
        self,
        path: Path,
        expected: Identity,
        source: str = "",
        reason: ErrorInfo | None = None,
    ) -> Job | None:
        """Take a file out of the inbox; from here it belongs to the returned job.

        None when it is not there any more, has changed since `expected` was seen, or is
        open for writing: it then lies in the inbox as before. With `on_success = keep`
        the job gets a copy; None also when the ledger knows the content. Raises OSError
        when a disk refuses; the file then is where it was.
        """
        self._check_spool()
        relative = path.relative_to(self._settings.inbox)
        self._last_id = new_id(self._last_id)
        job = Job(
            folder=self._jobs / self._last_id,
            name=path.name,
            subfolder="" if relative.parent == Path() else str(relative.parent),
            origin=str(path),
            identity=expected,
            on_success=self._settings.on_success,
            source=source,
        )
        if reason:
            job.refuse(reason)
        job.folder.mkdir()
        try:
            job.document.parent.mkdir()
            taken = take(job, self.kept)
        except BaseException:
            self._give_back(job)
            raise
        if not taken:
            self._give_back(job)
            return None
        self._open.add(job.id)
        return job

    def _give_back(self, job: Job) -> None:
        """Undo a claim, now or (`tidy`) when the disk allows it."""
        try:
            self._put_back(job)
        except OSError as error:
            _log.warning("put-back-delayed", job=job.id, file=job.path, error=str(error))
            self._open.add(job.id)
            self._to_give_back.append(job)

    def _put_back(self, job: Job) -> None:
        self._remove(job, consumed=put_back(job, self._settings.inbox))

    # --- recover -------------------------------------------------------------

    def recover(self) -> list[Job]:
        """What an earlier run left: finishes its commits, returns its open jobs, oldest first.

        To be called while nobody works on a job.
        """
        self._open.clear()
        return self._recover_others()

    def _recover_others(self) -> list[Job]:
        """The same for jobs that nobody works on."""
        jobs = []
        for folder in sorted(self._jobs.iterdir()):
            if folder.suffix == _FINISHED:
                self._clear(folder)
            elif folder.name not in self._open:
                self._last_id = max(self._last_id, folder.name)
                jobs += self._recover_job(folder)
        return jobs

    def _recover_job(self, folder: Path) -> list[Job]:
        self._unreadable.discard(folder.name)
        try:
            job = Job.load(folder)
        except OSError as error:
            _log.error("job-unreadable", job=folder.name, error=str(error))
            self._unreadable.add(folder.name)
            return []
        if job is None:
            shutil.rmtree(folder, ignore_errors=True)
            return []
        try:
            if not self._resume(job):
                return []
        except OSError as error:
            _log.warning("recovery-delayed", job=job.id, file=job.path, error=str(error))
        self._open.add(job.id)
        return [job]

    def _resume(self, job: Job) -> bool:
        """Whether a job of an earlier run is still open."""
        if job.commit is not None:
            self.finish(job)
            _log.info("commit-finished", job=job.id, file=job.path)
            return False
        if not was_taken(job):
            self._put_back(job)
            return False
        if not self.complete(job):
            self._remove(job)
            return False
        if job.on_success == "keep":
            self.kept.resume(job)
        self._committer.unstage(job)
        return True

    def complete(self, job: Job) -> bool:
        """Whether the document is in the job; completes a claim that was cut short.

        Raises OSError when a disk refuses; call again later.
        """
        self._check_spool()
        if complete(job):
            return True
        self._open.discard(job.id)
        return False

    def gives(self, job: Job) -> bool:
        """Whether the disk gives what lies beside a document: then it is the document's fault
        that it is not given."""
        try:
            return self.complete(job) and Job.load(job.folder) is not None
        except OSError:
            return False

    def _check_spool(self) -> None:
        """Raises OSError while another folder lies where the locked one was."""
        if not self.places.same("spool"):
            raise OSError(
                errno.ENODEV,
                f"the spool {self._settings.spool} is not the folder that it was; "
                "mount it, or put it back",
            )

    def _take_over(self) -> list[Job]:
        """Another folder lies where the spool was: take it as the spool, unless it is only
        what a mount left behind. Jobs whose folders went with the old one are given up by
        whoever holds them; should it come back, they are recovered."""
        self.places.check("spool", create=True, take=False)
        self._let_go()
        try:
            self._take_hold()
        except AlreadyRunningError as error:
            raise OSError(errno.EBUSY, str(error)) from error
        self.places.check("spool")
        _log.warning("spool-replaced", spool=str(self._settings.spool))
        return self._recover_others()

    def tidy(self) -> list[Job]:
        """Carry on with what a disk refused: claims to be undone, jobs to be read, a spool
        that was made anew. Returns jobs that were found. Raises OSError while the spool
        is not there."""
        found = []
        try:
            same = self.places.same("spool")
        except FileNotFoundError:
            same = False
        if not same:
            found += self._take_over()
        for job in list(self._to_give_back):
            with contextlib.suppress(OSError):
                self._put_back(job)
                self._to_give_back.remove(job)
        for finished in list(self._left_over):
            self._clear(finished)
        for name in sorted(self._unreadable):
            found += self._recover_job(self._jobs / name)
        self.kept.sweep(time.monotonic())
        return found

    def trouble(self) -> str | None:
        """What `tidy` could not do yet."""
        parts = []
        if self._to_give_back:
            parts.append(f"{len(self._to_give_back)} files could not be put back into the inbox")
        if self._unreadable:
            parts.append(f"{len(self._unreadable)} jobs in the spool cannot be read")
        if self._left_over:
            why = next(iter(self._left_over.values()))
            parts.append(f"{len(self._left_over)} finished jobs cannot be removed ({why})")
        return " and ".join(parts) + "; see to the disk" if parts else None

    # --- commit --------------------------------------------------------------

    def commit(
        self, job: Job, outcome: Outcome, outputs: Outputs, sha256: str | None
    ) -> list[Path]:
        """Publish results and put the original where it belongs; returns the results' paths.

        Raises OSError when a disk refuses; the job is then as it was, or `job.commit` is
        set and `finish` goes on.
        """
        self._check_spool()
        self._committer.decide(job, outcome, outputs, sha256)
        return self.finish(job)

    def finish(self, job: Job) -> list[Path]:
        """Carry a decided commit out, from wherever it stopped; returns the results' paths.

        Raises OSError when a disk refuses; call again later, or `commit` anew where
        `job.commit` is gone: what was staged was lost, and can be written again.
        """
        self._check_spool()
        results = self._committer.publish(job)
        if job.on_success == "keep":
            if self.kept.ledger is None and self._lock is not None:
                # The setting was another one when the file was claimed.
                self._open_ledger(self._lock)
            self.kept.finish(job)
        self._remove(job, consumed=True)
        return results

    def _remove(self, job: Job, consumed: bool = False) -> None:
        """Remove the job folder; the rename makes it one step. Only with `consumed` a
        document may be in it."""
        if not consumed:
            with contextlib.suppress(FileNotFoundError):
                job.document.parent.rmdir()
        finished = job.folder.with_name(job.id + _FINISHED)
        job.folder.rename(finished)
        self._open.discard(job.id)
        self._clear(finished)

    def _clear(self, finished: Path) -> None:
        """Remove what is left of a finished job, now or (`tidy`) later."""
        self._left_over.pop(finished, None)
        try:
            shutil.rmtree(finished)
        except FileNotFoundError:
            return
        except OSError as error:
            error.filename = os.fspath(finished)
            self._left_over[finished] = self.places.told(error)
