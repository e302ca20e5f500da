"""A file's way from the inbox into its job's folder, and back.

A claim is one rename; where inbox and spool lie on different file systems it is a rename
beside the file, then a copy. Whoever delivers may still change what lies in the inbox, so
each step goes through opened folders, and what was taken is compared with what was seen.
"""

from __future__ import annotations

import contextlib
import errno
import stat
from pathlib import Path

from mineru_daemon.jobs import Job
from mineru_daemon.kept import KeptFiles
from mineru_daemon.storage import (
    Identity,
    beneath,
    copy_durably,
    first_free,
    fsync_folder,
    identity,
    name_limit,
    numbered,
    open_for_writing_elsewhere,
    present,
    rename_noreplace,
)

_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What is answered for a folder that is gone, or a link by now."""


def take(job: Job, kept: KeptFiles) -> bool:
    """Take the job's file out of the inbox, or a copy of it with `on_success = keep`.

    False when it is not there any more, is not what was seen, is open for writing, or is
    nothing to be read of the `kept`; `put_back` then undoes what was done. The same when it
    raises OSError.
    """
    if job.on_success == "keep":
        return _take_copy(job, kept)
    job.save(durable=True)
    try:
        with _beside(job) as inbox:
            (inbox / job.name).rename(job.document)
    except OSError as error:
        if error.errno in _NO_FOLDER:
            return False
        if error.errno != errno.EXDEV:
            raise
        return _take_across(job)
    if not _untouched(job.document, job.identity):
        return False
    if job.document.lstat().st_nlink > 1:
        # Who has the other name could change the file while it is read.
        incoming = job.folder / "incoming"
        copy_durably(job.document, incoming)
        incoming.replace(job.document)
    return True


def _take_copy(job: Job, kept: KeptFiles) -> bool:
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
    if not kept.take(job, sha256):
        return False
    job.save(durable=True)
    incoming.rename(job.document)
    kept.begin(job, sha256)
    return True


def _take_across(job: Job) -> bool:
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
    _fetch(job)
    return True


def _fetch(job: Job) -> None:
    """Copy the claimed file over; the original goes only when the copy is safe."""
    assert job.claim_file
    incoming = job.folder / "incoming"
    with _beside(job) as inbox:
        claim_file = inbox / Path(job.claim_file).name
        copy_durably(claim_file, incoming)
        incoming.rename(job.document)
        fsync_folder(job.document.parent)
        claim_file.unlink()


def complete(job: Job) -> bool:
    """Whether the document is in the job; completes a claim that was cut short. Raises OSError."""
    waiting = job.claim_file is not None and present(Path(job.claim_file))
    if present(job.document):
        if waiting:
            assert job.claim_file
            Path(job.claim_file).unlink()
        return True
    if waiting:
        _fetch(job)
    return waiting


def was_taken(job: Job) -> bool:
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


def put_back(job: Job, base: Path) -> bool:
    """Undo a claim. What has been taken goes back under its name, or beside it; into the
    inbox `base` itself where its folder is gone by now.

    Returns whether what may still lie in the job's folder is a copy. Raises OSError.
    """
    if job.on_success == "keep":
        return True
    across = False
    with contextlib.suppress(FileNotFoundError), _beside(job) as inbox:
        claim_file = inbox / f".{job.id}.mineru-claim"
        across = job.claim_file is not None and present(claim_file)
        if across:
            _publish_free(claim_file, inbox / job.name)
    if not across and present(job.document):
        try:
            with _beside(job) as inbox:
                _publish_free(job.document, inbox / job.name)
        except OSError as error:
            if not job.subfolder or error.errno not in _NO_FOLDER:
                raise
            _publish_free(job.document, base / job.name)
    return across


def _publish_free(source: Path, target: Path) -> None:
    limit = name_limit(target.parent)
    while True:
        number = first_free(
            lambda n: not present(target.with_name(numbered(target.name, n, limit)))
        )
        with contextlib.suppress(FileExistsError):
            rename_noreplace(source, target.with_name(numbered(target.name, number, limit)))
            return


def _beside(job: Job) -> contextlib.AbstractContextManager[Path]:
    """The folder that the job's file was delivered to, without following links below the
    inbox: whoever delivers could have put one there since."""
    relative = Path(job.subfolder)
    folder = Path(job.origin).parent
    return beneath(folder.parents[len(relative.parts) - 1] if relative.parts else folder, relative)


def _untouched(path: Path, expected: Identity) -> bool:
    """Whether a file is as it was when it was found settled, and nobody can write to it."""
    return identity(path) == expected and open_for_writing_elsewhere(path) is not True
