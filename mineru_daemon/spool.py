"""Claim, recover, commit: the only module that moves documents.

A file is claimed by one rename into a job folder, and leaves it by one rename into
`done` or `failed`. Results are staged under a hidden name in the folder that they are
for, and published by rename. A commit is first written down (`Job.commit`), then
carried out; each of its steps is done if and only if its source is gone, so that it can
be carried on after a kill at any instruction, even when a reader has taken the results
away in the meantime.

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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

import structlog

from mineru_daemon.errors import AlreadyRunningError
from mineru_daemon.jobs import Commit, Job, Move, Outcome, new_id
from mineru_daemon.ledger import Ledger
from mineru_daemon.results import ErrorInfo
from mineru_daemon.settings import Settings
from mineru_daemon.storage import (
    Identity,
    copy_durably,
    digest,
    first_free,
    fsync_folder,
    identity,
    locked,
    name_limit,
    numbered,
    open_for_writing_elsewhere,
    rename_noreplace,
    write_durably,
)

_FINISHED = ".finished"
_SUFFIXES = (".json", ".md", ".mineru")
"""Of results; the last one is a folder's."""
_LONGEST_SUFFIX = max(map(len, _SUFFIXES))

_log = structlog.get_logger()


class Spool:
    """The jobs on disk. Open one with `Spool.opened`, which holds the lock."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs = settings.spool / "jobs"
        self._jobs.mkdir(exist_ok=True)
        keep = settings.on_success == "keep"
        self.ledger = Ledger(settings.spool / "ledger.sqlite3") if keep else None
        self._kept_in_work: dict[Identity, tuple[str, str]] = {}
        """Files of the inbox whose copies are in work: path and hash of the content."""

    @classmethod
    @contextlib.contextmanager
    def opened(cls, settings: Settings) -> Iterator[Spool]:
        """The spool, locked against a second daemon until the block ends.

        Raises AlreadyRunningError.
        """
        with locked(settings.spool) as first:
            if not first:
                raise AlreadyRunningError(
                    f"Another mineru-daemon already works with the spool {settings.spool}; "
                    "stop it, or give this one folders of its own."
                )
            spool = cls(settings)
            try:
                yield spool
            finally:
                if spool.ledger:
                    spool.ledger.close()

    def was_claimed(self, file: Identity) -> bool:
        """Whether a file that still lies in the inbox was read, or is being read, already.

        Only with `on_success = keep`: otherwise what was claimed is gone from the inbox.
        """
        if self.ledger is None:
            return False
        return file in self._kept_in_work or self.ledger.has(file)

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
        relative = path.relative_to(self._settings.inbox)
        job = Job(
            folder=self._jobs / new_id(),
            name=path.name,
            subfolder="" if relative.parent == Path() else str(relative.parent),
            origin=str(path),
            identity=expected,
            on_success=self._settings.on_success,
            source=source,
        )
        if reason:
            job.refuse(reason)
        job.document.parent.mkdir(parents=True)
        try:
            taken = self._take(job)
        except BaseException:
            self._put_back(job)
            raise
        if not taken:
            self._put_back(job)
            return None
        return job

    def _take(self, job: Job) -> bool:
        origin = Path(job.origin)
        if job.on_success == "keep":
            return self._take_copy(job, origin)
        job.save(durable=True)
        try:
            origin.rename(job.document)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return self._take_across(job, origin)
        return _untouched(job.document, job.identity)

    def _take_copy(self, job: Job, origin: Path) -> bool:
        assert self.ledger
        incoming = job.folder / "incoming"
        try:
            sha256 = copy_durably(origin, incoming)
        except FileNotFoundError:
            return False
        if not _untouched(origin, job.identity):
            return False
        content = (job.path, sha256)
        if content in list(self._kept_in_work.values()):
            # Touched since, by a scanner that announces twice.
            self._kept_in_work[job.identity] = content
            return False
        if self.ledger.has_content(job.path, sha256):
            self.ledger.record(job.path, job.identity, sha256, job.id, "success")
            return False
        job.save(durable=True)
        incoming.rename(job.document)
        self._kept_in_work[job.identity] = content
        return True

    def _take_across(self, job: Job, origin: Path) -> bool:
        """Inbox and spool are on different file systems: claim by a rename beside the
        file, so that of two daemons only one gets it, then copy in peace."""
        claim_file = origin.with_name(f".{job.id}.mineru-claim")
        job.claim_file = str(claim_file)
        job.save(durable=True)
        try:
            origin.rename(claim_file)
        except FileNotFoundError:
            return False
        if not _untouched(claim_file, job.identity):
            return False
        self._fetch(job)
        return True

    def _fetch(self, job: Job) -> None:
        """Copy the claimed file over; the original goes only when the copy is safe."""
        assert job.claim_file
        incoming = job.folder / "incoming"
        copy_durably(Path(job.claim_file), incoming)
        incoming.rename(job.document)
        fsync_folder(job.document.parent)
        Path(job.claim_file).unlink()

    def _put_back(self, job: Job) -> None:
        """Undo a claim. What has been taken goes back under its name, or beside it."""
        taken = job.document
        if job.claim_file and os.path.lexists(job.claim_file):
            taken = Path(job.claim_file)
        if job.on_success != "keep" and os.path.lexists(taken):
            self._publish_free(taken, Path(job.origin))
        self._remove(job)

    def _publish_free(self, source: Path, target: Path) -> None:
        limit = name_limit(target.parent)
        while True:
            number = first_free(
                lambda n: not os.path.lexists(target.with_name(numbered(target.name, n, limit)))
            )
            with contextlib.suppress(FileExistsError):
                rename_noreplace(source, target.with_name(numbered(target.name, number, limit)))
                return

    # --- recover -------------------------------------------------------------

    def recover(self) -> list[Job]:
        """What an earlier run left: finishes its commits, returns its open jobs, oldest first."""
        jobs = []
        for folder in sorted(self._jobs.iterdir()):
            if folder.suffix == _FINISHED:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                job = Job.load(folder)
            except OSError as error:
                _log.error("job-unreadable", job=folder.name, error=str(error))
                continue  # left as it is: a later start may read it
            if job is None:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                if self._resume(job):
                    jobs.append(job)
            except OSError as error:
                _log.warning("recovery-delayed", job=job.id, file=job.path, error=str(error))
                jobs.append(job)
        return jobs

    def _resume(self, job: Job) -> bool:
        """Whether a job of an earlier run is still open."""
        if job.commit is not None:
            self.finish(job)
            _log.info("commit-finished", job=job.id, file=job.path)
            return False
        if not self.complete(job):
            self._remove(job)
            return False
        if job.on_success == "keep":
            self._kept_in_work[job.identity] = (job.path, digest(job.document))
        self._unstage(job)
        return True

    def complete(self, job: Job) -> bool:
        """Whether the document is in the job; completes a claim that was cut short.

        Raises OSError when a disk refuses; call again later.
        """
        waiting = job.claim_file is not None and os.path.lexists(job.claim_file)
        if os.path.lexists(job.document):
            if waiting:
                assert job.claim_file
                Path(job.claim_file).unlink()
            return True
        if waiting:
            self._fetch(job)
            return True
        return False

    # --- commit --------------------------------------------------------------

    def commit(
        self,
        job: Job,
        outcome: Outcome,
        outputs: Mapping[str, Callable[[IO[str]], object] | Path],
        sha256: str | None,
    ) -> list[Path]:
        """Publish results and put the original where it belongs; returns the results' paths.

        `outputs` maps suffixes (`.json`, …) to what writes them; they appear in the given
        order, so the one that readers wait for comes last. A suffix `.folder/.file` is a
        file in a folder of its own, which one rename publishes like the others; a path
        stands for the files of a folder, which are copied into `.folder/NAME`. Raises
        OSError when a disk refuses; the job is then as it was, or `job.commit` is set and
        `finish` goes on.
        """
        # An earlier try may have ended elsewhere: as a success that no disk would take.
        self._unstage(job)
        folder = self._settings.failed if outcome == "failed" else self._settings.outbox
        folder = folder / job.subfolder
        folder.mkdir(parents=True, exist_ok=True)
        witness = _staged(job, folder, ".witness")
        write_durably(witness, lambda _stream: None)
        moves: list[Move] = []
        for suffix, write in outputs.items():
            beside, _, inside = suffix.partition("/")
            staged = _staged(job, folder, beside)
            if isinstance(write, Path):
                staged.mkdir(exist_ok=True)
                _copy_folder(write, staged / inside)
                fsync_folder(staged)
            elif inside:
                staged.mkdir(exist_ok=True)
                limit = name_limit(staged) - len(inside)
                write_durably(staged / (numbered(job.name, 1, limit) + inside), write)
                fsync_folder(staged)
            else:
                write_durably(staged, write)
            if any(move.source == str(staged) for move in moves):
                continue
            moves.append(Move(str(staged), str(folder / (job.name + beside))))
        if job.on_success == "move" or (job.on_success == "delete" and outcome == "failed"):
            rest = self._settings.failed if outcome == "failed" else self._settings.done
            rest = rest / job.subfolder
            rest.mkdir(parents=True, exist_ok=True)
            moves.insert(0, Move(str(job.document), str(rest / job.name)))
        # The decision must not outlive a power cut that what it speaks of does not.
        fsync_folder(folder)
        self._decide(job, Commit(outcome, moves, sha256, str(witness)))
        return self.finish(job)

    def finish(self, job: Job) -> list[Path]:
        """Carry a decided commit out, from wherever it stopped; returns the results' paths.

        Raises OSError when a disk refuses; call again later.
        """
        assert job.commit
        if not job.commit.published:
            self._publish(job)
        Path(job.commit.witness).unlink(missing_ok=True)
        if self.ledger and job.on_success == "keep":
            self.ledger.record(
                job.path, job.identity, job.commit.sha256 or "", job.id, job.commit.outcome
            )
            content = self._kept_in_work.get(job.identity)
            # A copy, as the inbox's thread may add to it meanwhile.
            for file, known in list(self._kept_in_work.items()):
                if known == content:
                    del self._kept_in_work[file]
        results = [Path(m.target) for m in job.commit.moves if _suffix_of(job, m)]
        self._remove(job)
        return results

    def _publish(self, job: Job) -> None:
        assert job.commit
        witness = Path(job.commit.witness)
        if not witness.exists():
            raise OSError(
                errno.ENOENT,
                "the folder is not the one that results were staged in; "
                "mount it again, or put back what was there",
                str(witness.parent),
            )
        while True:
            try:
                for move in job.commit.moves:
                    self._carry_out(job, move)
                break
            except FileExistsError:
                # Somebody took the name since it was chosen: all go to the next free one.
                for move in job.commit.moves:
                    if not os.path.lexists(move.source) and os.path.lexists(move.target):
                        rename_noreplace(Path(move.target), Path(move.source))
                self._decide(job, job.commit)
        for folder in {Path(move.target).parent for move in job.commit.moves}:
            fsync_folder(folder)
        job.commit.published = True
        job.save(durable=True)

    def _decide(self, job: Job, commit: Commit) -> None:
        """Choose names that are free for all files of the commit, and write it down."""
        folders = {Path(move.target).parent for move in commit.moves}
        limit = min(name_limit(folder) for folder in folders) - _LONGEST_SUFFIX

        def target(move: Move, number: int) -> Path:
            suffix = _suffix_of(job, move)
            return Path(move.target).with_name(numbered(job.name, number, limit) + suffix)

        number = first_free(
            lambda n: not any(os.path.lexists(target(move, n)) for move in commit.moves)
        )
        moves = [replace(move, target=str(target(move, number))) for move in commit.moves]
        job.commit = replace(commit, moves=moves)
        job.save(durable=True)

    def _carry_out(self, job: Job, move: Move) -> None:
        source, target = Path(move.source), Path(move.target)
        if not os.path.lexists(source):
            return
        try:
            rename_noreplace(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # The original's copy is staged beside its place; the document itself goes
            # with the job folder.
            staged = _staged(job, target.parent, "")
            copy_durably(source, staged)
            move.source = str(staged)
            job.save(durable=True)
            rename_noreplace(staged, target)

    def _unstage(self, job: Job) -> None:
        """Remove what was staged for a commit that was never decided."""
        for folder in (self._settings.outbox, self._settings.failed, self._settings.done):
            for suffix in ("", ".witness", *_SUFFIXES):
                staged = _staged(job, folder / job.subfolder, suffix)
                if staged.is_dir():
                    shutil.rmtree(staged)
                else:
                    staged.unlink(missing_ok=True)

    def _remove(self, job: Job) -> None:
        """Remove the job folder; the rename makes it one step."""
        finished = job.folder.with_name(job.id + _FINISHED)
        job.folder.rename(finished)
        shutil.rmtree(finished, ignore_errors=True)


def _staged(job: Job, folder: Path, suffix: str) -> Path:
    return folder / f".{job.id}{suffix}.part"


def _copy_folder(source: Path, target: Path) -> None:
    """The files of a folder; nothing if there is none."""
    if not source.is_dir():
        return
    target.mkdir()
    for file in source.iterdir():
        copy_durably(file, target / file.name)
    fsync_folder(target)


def _suffix_of(job: Job, move: Move) -> str:
    """`.json` of `….part` staged for it; nothing for the original."""
    name = Path(move.source).name
    if move.source == str(job.document):
        return ""
    return name.removeprefix(f".{job.id}").removesuffix(".part")


def _untouched(path: Path, expected: Identity) -> bool:
    """Whether a file is as it was when it was found settled, and nobody can write to it."""
    return identity(path) == expected and open_for_writing_elsewhere(path) is not True
