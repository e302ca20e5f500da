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
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

import structlog

from mineru_daemon.errors import AlreadyRunningError
from mineru_daemon.folders import Places
from mineru_daemon.jobs import Commit, Job, Move, Outcome, new_id
from mineru_daemon.ledger import Ledger
from mineru_daemon.results import ErrorInfo
from mineru_daemon.settings import Settings
from mineru_daemon.storage import (
    Identity,
    beneath,
    copy_durably,
    digest,
    first_free,
    fsync_folder,
    identity,
    locked,
    name_limit,
    numbered,
    open_for_writing_elsewhere,
    present,
    rename_noreplace,
    write_durably,
)

_FINISHED = ".finished"
_SUFFIXES = (".json", ".md", ".mineru")
"""Of results; the last one is a folder's."""
_LONGEST_SUFFIX = max(map(len, _SUFFIXES))

_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What is answered for a folder that is gone, or a link by now."""

_log = structlog.get_logger()


class Spool:
    """The jobs on disk. Open one with `Spool.opened`, which holds the lock."""

    def __init__(self, settings: Settings) -> None:
        self.places = Places(settings)
        self.ledger: Ledger | None = None
        self._settings = settings
        self._jobs = settings.spool / "jobs"
        self._lock: contextlib.ExitStack | None = None
        self._open: set[str] = set()
        """Ids of jobs that somebody works on; what is recovered later leaves them alone."""
        self._last_id = ""
        self._kept_in_work: dict[Identity, tuple[str, str]] = {}
        """Files of the inbox whose copies are in work: path and hash of the content."""
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
                self.ledger = Ledger(self._settings.spool / "ledger.sqlite3")
                stack.callback(self.ledger.close)
            self._lock = stack.pop_all()

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
        self._lock, self.ledger = None, None

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
        job.document.parent.mkdir()
        try:
            taken = self._take(job)
        except BaseException:
            self._give_back(job)
            raise
        if not taken:
            self._give_back(job)
            return None
        self._open.add(job.id)
        return job

    def _take(self, job: Job) -> bool:
        if job.on_success == "keep":
            return self._take_copy(job)
        job.save(durable=True)
        try:
            with _beside(job) as inbox:
                (inbox / job.name).rename(job.document)
        except OSError as error:
            if error.errno in _NO_FOLDER:
                return False
            if error.errno != errno.EXDEV:
                raise
            return self._take_across(job)
        if not _untouched(job.document, job.identity):
            return False
        if job.document.lstat().st_nlink > 1:
            # Who has the other name could change the file while it is read.
            incoming = job.folder / "incoming"
            copy_durably(job.document, incoming)
            incoming.replace(job.document)
        return True

    def _take_copy(self, job: Job) -> bool:
        assert self.ledger
        incoming = job.folder / "incoming"
        try:
            with _beside(job) as inbox:
                sha256 = copy_durably(inbox / job.name, incoming, job.identity)
                if not _untouched(inbox / job.name, job.identity):
                    return False
        except OSError as error:
            if error.errno in _NO_FOLDER:
                return False
            raise
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

    def _take_across(self, job: Job) -> bool:
        """Inbox and spool are on different file systems: claim by a rename beside the
        file, so that of two daemons only one gets it, then copy in peace."""
        with _beside(job) as inbox:
            claim_file = f".{job.id}.mineru-claim"
            job.claim_file = str(Path(job.origin).with_name(claim_file))
            job.save(durable=True)
            try:
                (inbox / job.name).rename(inbox / claim_file)
            except FileNotFoundError:
                return False
            if not _untouched(inbox / claim_file, job.identity):
                return False
        self._fetch(job)
        return True

    def _fetch(self, job: Job) -> None:
        """Copy the claimed file over; the original goes only when the copy is safe."""
        assert job.claim_file
        incoming = job.folder / "incoming"
        with _beside(job) as inbox:
            claim_file = inbox / Path(job.claim_file).name
            copy_durably(claim_file, incoming)
            incoming.rename(job.document)
            fsync_folder(job.document.parent)
            claim_file.unlink()

    def _give_back(self, job: Job) -> None:
        """Undo a claim, now or (`tidy`) when the disk allows it."""
        try:
            self._put_back(job)
        except OSError as error:
            _log.warning("put-back-delayed", job=job.id, file=job.path, error=str(error))
            self._open.add(job.id)
            self._to_give_back.append(job)

    def _put_back(self, job: Job) -> None:
        """Undo a claim. What has been taken goes back under its name, or beside it; into the
        inbox itself where its folder is gone by now."""
        if job.on_success == "keep":
            self._remove(job, consumed=True)
            return
        across = False
        with contextlib.suppress(FileNotFoundError), _beside(job) as inbox:
            claim_file = inbox / f".{job.id}.mineru-claim"
            across = job.claim_file is not None and present(claim_file)
            if across:
                self._publish_free(claim_file, inbox / job.name)
        if not across and present(job.document):
            try:
                with _beside(job) as inbox:
                    self._publish_free(job.document, inbox / job.name)
            except OSError as error:
                if not job.subfolder or error.errno not in _NO_FOLDER:
                    raise
                self._publish_free(job.document, self._settings.inbox / job.name)
        self._remove(job, consumed=across)

    def _publish_free(self, source: Path, target: Path) -> None:
        limit = name_limit(target.parent)
        while True:
            number = first_free(
                lambda n: not present(target.with_name(numbered(target.name, n, limit)))
            )
            with contextlib.suppress(FileExistsError):
                rename_noreplace(source, target.with_name(numbered(target.name, number, limit)))
                return

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
        if not self._was_taken(job):
            self._put_back(job)
            return False
        if not self.complete(job):
            self._remove(job)
            return False
        if job.on_success == "keep":
            self._kept_in_work[job.identity] = (job.path, digest(job.document))
        self._unstage(job)
        return True

    def _was_taken(self, job: Job) -> bool:
        """Whether what was claimed is what was to be claimed. A kill may have come between
        the claim and the look that tells; anything can lie there then, a link even."""
        if job.attempts or job.on_success == "keep" or present(job.folder / "pages"):
            return True
        taken = job.document
        if job.claim_file is not None:
            if present(taken):
                return True
            taken = Path(job.claim_file)
        found = identity(taken)
        # Devices get other numbers when a machine starts again.
        return found is None or (
            found[1:] == job.identity[1:]
            and stat.S_ISREG(taken.lstat().st_mode)
            and open_for_writing_elsewhere(taken) is not True
        )

    def complete(self, job: Job) -> bool:
        """Whether the document is in the job; completes a claim that was cut short.

        Raises OSError when a disk refuses; call again later.
        """
        self._check_spool()
        waiting = job.claim_file is not None and present(Path(job.claim_file))
        if present(job.document):
            if waiting:
                assert job.claim_file
                Path(job.claim_file).unlink()
            return True
        if waiting:
            self._fetch(job)
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
        self._check_spool()
        for name in ("outbox", "done", "failed"):
            self.places.check(name, create=True)
        # An earlier try may have ended elsewhere: as a success that no disk would take.
        self._unstage(job)
        try:
            self._decide(job, self._stage(job, outcome, outputs, sha256))
        except BaseException:
            if job.commit is None:
                # What is left of it may be the last space that others have.
                with contextlib.suppress(OSError):
                    self._unstage(job)
            raise
        return self.finish(job)

    def _stage(
        self,
        job: Job,
        outcome: Outcome,
        outputs: Mapping[str, Callable[[IO[str]], object] | Path],
        sha256: str | None,
    ) -> Commit:
        """Write the results under hidden names; returns what is to be decided."""
        failed = outcome == "failed"
        folder = _mirrored(self._settings.failed if failed else self._settings.outbox, job)
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
        if job.on_success == "move" or (job.on_success == "delete" and failed):
            rest = folder if failed else _mirrored(self._settings.done, job)
            moves.insert(0, Move(str(job.document), str(rest / job.name)))
        # The decision must not outlive a power cut that what it speaks of does not.
        fsync_folder(folder)
        return Commit(outcome, moves, sha256, str(witness), device=folder.stat().st_dev)

    def finish(self, job: Job) -> list[Path]:
        """Carry a decided commit out, from wherever it stopped; returns the results' paths.

        Raises OSError when a disk refuses; call again later, or `commit` anew where
        `job.commit` is gone: what was staged was lost, and can be written again.
        """
        assert job.commit
        self._check_spool()
        if not job.commit.published:
            self._publish(job)
        Path(job.commit.witness).unlink(missing_ok=True)
        if job.on_success == "keep":
            if self.ledger is None:
                raise OSError(errno.ENODEV, "the ledger is not open")
            self.ledger.record(
                job.path, job.identity, job.commit.sha256 or "", job.id, job.commit.outcome
            )
            content = self._kept_in_work.get(job.identity)
            # A copy, as the inbox's thread may add to it meanwhile.
            for file, known in list(self._kept_in_work.items()):
                if known == content:
                    del self._kept_in_work[file]
        results = [Path(m.target) for m in job.commit.moves if _suffix_of(job, m)]
        self._remove(job, consumed=True)
        return results

    def _publish(self, job: Job) -> None:
        assert job.commit
        witness = Path(job.commit.witness)
        if not present(witness):
            self._forget_staged(job, witness.parent)
        while True:
            try:
                for move in job.commit.moves:
                    self._carry_out(job, move)
                break
            except FileExistsError:
                # Somebody took the name since it was chosen: all go to the next free one.
                for move in job.commit.moves:
                    if not present(Path(move.source)) and present(Path(move.target)):
                        rename_noreplace(Path(move.target), Path(move.source))
                self._decide(job, job.commit)
        for folder in {Path(move.target).parent for move in job.commit.moves}:
            fsync_folder(folder)
        published = replace(job.commit, published=True)
        self._write_down(job, published)

    def _forget_staged(self, job: Job, folder: Path) -> None:
        """What was staged is not there. Always raises OSError; `job.commit` is gone if it
        may be staged anew."""
        assert job.commit
        original = job.commit.moves[0].source == str(job.document)
        if original and present(job.document):
            # Nothing was published: the original goes first.
            for name in ("outbox", "done", "failed"):
                self.places.check(name, create=True)
            parent = next(one for one in (folder, *folder.parents) if present(one))
            if parent.stat().st_dev == job.commit.device:
                self._write_down(job, None)
                raise OSError(
                    errno.ENOENT, "the results were removed before they were published; once more"
                )
        raise OSError(
            errno.ENOENT,
            "the folder is not the one that results were staged in; "
            "mount it again, or put back what was there",
            str(folder),
        )

    def _write_down(self, job: Job, commit: Commit | None) -> None:
        """Have a decision on the disk before it counts."""
        before, job.commit = job.commit, commit
        try:
            job.save(durable=True)
        except BaseException:
            job.commit = before
            raise

    def _decide(self, job: Job, commit: Commit) -> None:
        """Choose names that are free for all files of the commit, and write it down."""
        folders = {Path(move.target).parent for move in commit.moves}
        limit = min(name_limit(folder) for folder in folders) - _LONGEST_SUFFIX

        def target(move: Move, number: int) -> Path:
            suffix = _suffix_of(job, move)
            return Path(move.target).with_name(numbered(job.name, number, limit) + suffix)

        number = first_free(lambda n: not any(present(target(move, n)) for move in commit.moves))
        moves = [replace(move, target=str(target(move, number))) for move in commit.moves]
        self._write_down(job, replace(commit, moves=moves))

    def _carry_out(self, job: Job, move: Move) -> None:
        source, target = Path(move.source), Path(move.target)
        if not present(source):
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
            try:
                job.save(durable=True)
            except BaseException:
                move.source = str(source)
                raise
            rename_noreplace(staged, target)

    def _unstage(self, job: Job) -> None:
        """Remove what was staged for a commit that was never decided."""
        for base in (self._settings.outbox, self._settings.failed, self._settings.done):
            folder = _mirrored(base, job, create=False)
            for suffix in ("", ".witness", *_SUFFIXES):
                staged = _staged(job, folder, suffix)
                if staged.is_dir():
                    shutil.rmtree(staged)
                else:
                    staged.unlink(missing_ok=True)

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


def _beside(job: Job) -> contextlib.AbstractContextManager[Path]:
    """The folder that the job's file was delivered to, without following links below the
    inbox: whoever delivers could have put one there since."""
    relative = Path(job.subfolder)
    folder = Path(job.origin).parent
    return beneath(folder.parents[len(relative.parts) - 1] if relative.parts else folder, relative)


def _mirrored(base: Path, job: Job, create: bool = True) -> Path:
    """The job's sub-folder in a folder of results. Where a file has its name, as a result
    of an earlier document can, the sub-folder gets the next one."""
    folder = base
    for part in Path(job.subfolder).parts:
        limit = name_limit(folder)
        number = 1
        while True:
            candidate = folder / numbered(part, number, limit)
            if create:
                with contextlib.suppress(FileExistsError):
                    candidate.mkdir()
            if identity(candidate) is None or stat.S_ISDIR(candidate.lstat().st_mode):
                break
            number += 1
        folder = candidate
    return folder


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
