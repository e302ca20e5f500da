"""Results on their way to the outbox, and the original on its way to where it belongs.

Results are staged under a hidden name in the folder that they are for, and published by
rename. A commit is first written down (`Job.commit`), then carried out; each of its steps
is done if and only if its source is gone, so that it can be carried on after a kill at any
instruction, even when a reader has taken the results away in the meantime.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

from mineru_daemon.folders import Places
from mineru_daemon.jobs import Commit, Job, Move, Outcome
from mineru_daemon.settings import Settings
from mineru_daemon.storage import (
    copy_durably,
    first_free,
    fsync_folder,
    identity,
    name_limit,
    numbered,
    present,
    rename_noreplace,
    write_durably,
)

Outputs = Mapping[str, Callable[[IO[str]], object] | Path]
"""Suffixes of results and what writes them. They appear in the given order, so the one
that readers wait for comes last. A suffix `.folder/.file` is a file in a folder of its
own, which one rename publishes like the others; a path stands for the files of a folder,
which are copied into `.folder/NAME`."""

_SUFFIXES = (".json", ".md", ".mineru")
"""Of results; the last one is a folder's."""
_LONGEST_SUFFIX = max(map(len, _SUFFIXES))


class Committer:
    """Decides and carries out commits, all of whose state lies in the job and on disk."""

    def __init__(self, settings: Settings, places: Places) -> None:
        self._settings = settings
        self._places = places

    def decide(self, job: Job, outcome: Outcome, outputs: Outputs, sha256: str | None) -> None:
        """Stage the results and write down in `job.commit` where everything goes.

        Raises OSError when a disk refuses; nothing has happened then.
        """
        self._check_folders()
        # An earlier try may have ended elsewhere: as a success that no disk would take.
        self.unstage(job)
        try:
            _choose_names(job, self._stage(job, outcome, outputs, sha256))
        except BaseException:
            if job.commit is None:
                # What is left of it may be the last space that others have.
                with contextlib.suppress(OSError):
                    self.unstage(job)
            raise

    def publish(self, job: Job) -> list[Path]:
        """Carry a decided commit out, from wherever it stopped; returns the results' paths.

        Raises OSError when a disk refuses; call again later, or `decide` anew where
        `job.commit` is gone: what was staged was lost, and can be written again.
        """
        assert job.commit
        if not job.commit.published:
            self._publish(job)
        Path(job.commit.witness).unlink(missing_ok=True)
        return [Path(move.target) for move in job.commit.moves if _suffix_of(job, move)]

    def unstage(self, job: Job) -> None:
        """Remove what was staged for a commit that was never decided. Raises OSError."""
        for base in (self._settings.outbox, self._settings.failed, self._settings.done):
            folder = _mirrored(base, job, create=False)
            for suffix in ("", ".witness", *_SUFFIXES):
                staged = _staged(job, folder, suffix)
                if staged.is_dir():
                    shutil.rmtree(staged)
                else:
                    staged.unlink(missing_ok=True)

    def _check_folders(self) -> None:
        for name in ("outbox", "done", "failed"):
            self._places.check(name, create=True)

    def _stage(self, job: Job, outcome: Outcome, outputs: Outputs, sha256: str | None) -> Commit:
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

    def _publish(self, job: Job) -> None:
        assert job.commit
        witness = Path(job.commit.witness)
        if not present(witness):
            self._forget_staged(job, witness.parent)
        while True:
            try:
                for move in job.commit.moves:
                    _carry_out(job, move)
                break
            except FileExistsError:
                # Somebody took the name since it was chosen: all go to the next free one.
                for move in job.commit.moves:
                    if not present(Path(move.source)) and present(Path(move.target)):
                        rename_noreplace(Path(move.target), Path(move.source))
                _choose_names(job, job.commit)
        for folder in {Path(move.target).parent for move in job.commit.moves}:
            fsync_folder(folder)
        _write_down(job, replace(job.commit, published=True))

    def _forget_staged(self, job: Job, folder: Path) -> None:
        """What was staged is not there. Always raises OSError; `job.commit` is gone if it
        may be staged anew."""
        assert job.commit
        original = job.commit.moves[0].source == str(job.document)
        if original and present(job.document):
            # Nothing was published: the original goes first.
            self._check_folders()
            parent = next(one for one in (folder, *folder.parents) if present(one))
            if parent.stat().st_dev == job.commit.device:
                _write_down(job, None)
                raise OSError(
                    errno.ENOENT, "the results were removed before they were published; once more"
                )
        raise OSError(
            errno.ENOENT,
            "the folder is not the one that results were staged in; "
            "mount it again, or put back what was there",
            str(folder),
        )


def _write_down(job: Job, commit: Commit | None) -> None:
    """Have a decision on the disk before it counts."""
    before, job.commit = job.commit, commit
    try:
        job.save(durable=True)
    except BaseException:
        job.commit = before
        raise


def _choose_names(job: Job, commit: Commit) -> None:
    """Choose names that are free for all files of the commit, and write it down."""
    folders = {Path(move.target).parent for move in commit.moves}
    limit = min(name_limit(folder) for folder in folders) - _LONGEST_SUFFIX

    def target(move: Move, number: int) -> Path:
        suffix = _suffix_of(job, move)
        return Path(move.target).with_name(numbered(job.name, number, limit) + suffix)

    number = first_free(lambda n: not any(present(target(move, n)) for move in commit.moves))
    moves = [replace(move, target=str(target(move, number))) for move in commit.moves]
    _write_down(job, replace(commit, moves=moves))


def _carry_out(job: Job, move: Move) -> None:
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
