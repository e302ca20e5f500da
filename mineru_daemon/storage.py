"""Files on disk: whole or not at all, never over another, never lost.

Small steps that survive a kill or a power cut at any instruction, from which `claim`
and `commit` build their protocols. They know nothing of jobs.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
"""linux/fs.h, renameat2(2)."""

_NO_RENAMEAT2 = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})
"""What kernels and file systems without the flags of renameat2 answer."""

_COPY_CHUNK = 1 << 20

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses while a disk refuses; the last one is repeated."""

_libc = ctypes.CDLL(None, use_errno=True)


class Identity(NamedTuple):
    """Which file, in which state: what changes when it is replaced or written to."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Identity:
        """The identity that a stat result tells."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def identity(path: Path) -> Identity | None:
    """The identity of what lies at `path` (links are not followed), or None."""
    try:
        return Identity.of(path.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return None


def present(path: Path) -> bool:
    """Whether anything lies at `path`; links are not followed.

    Raises OSError where the disk does not tell. `os.path.lexists` says no then, and what
    only cannot be seen for a moment would be taken for gone.
    """
    return identity(path) is not None


@contextmanager
def beneath(base: Path, relative: Path) -> Iterator[Path]:
    """The folder `relative` below `base`, as a path that cannot lead anywhere else.

    Who may write to `base` may put a link in the place of a folder at any moment. Each
    part is opened without following links, and the path that is given goes through the
    open folder. Raises OSError (ELOOP, ENOTDIR) where a part is a link.
    """
    if not relative.parts:
        yield base
        return
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in relative.parts:
            inner = os.open(part, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def open_itself(path: Path) -> BinaryIO:
    """Open the regular file at `path` for reading, and nothing else that may lie there by now.

    Raises OSError for a link, a pipe, a device or a folder; never blocks on one.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return os.fdopen(descriptor, "rb")


def rename_noreplace(source: Path, target: Path) -> None:
    """Rename, and never replace `target`: FileExistsError instead.

    Atomic where the file system knows RENAME_NOREPLACE; elsewhere (some network and
    FUSE file systems) there is a gap between look and rename.
    """
    if _renameat2(source, target, _RENAME_NOREPLACE):
        return
    if present(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)


def exchange(fresh: Path, present: Path) -> None:
    """Let two folders of one parent take each other's name.

    Atomic where the file system knows RENAME_EXCHANGE: at every instant one of the two
    lies at `present`. Elsewhere there is nothing for a moment, and a death in it leaves
    what was there at the name `fresh` + `.old`.
    """
    if _renameat2(fresh, present, _RENAME_EXCHANGE):
        return
    aside = fresh.with_name(fresh.name + ".old")
    present.rename(aside)
    fresh.rename(present)
    aside.rename(fresh)


def _renameat2(source: Path, target: Path, flag: int) -> bool:
    """Rename as `flag` says; False where system or file system do not know it."""
    renameat2 = getattr(_libc, "renameat2", None)
    if renameat2 is None:
        return False
    where = (_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target))
    if renameat2(*where, ctypes.c_uint(flag)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_RENAMEAT2:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


def fsync_folder(folder: Path) -> None:
    """Make names in `folder` durable; file systems that cannot are let pass."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP):
            error.filename = os.fspath(folder)
            raise
    finally:
        os.close(descriptor)


def write_durably(path: Path, write: Callable[[IO[str]], object]) -> None:
    """Write a new file of UTF-8 text and flush it to the disk. It is not yet published.

    What a disk did not take as a whole is removed again: it may be the last space there is.
    """
    with _whole(path), path.open("w", encoding="utf-8", newline="\n") as stream:
        write(stream)
        stream.flush()
        os.fsync(stream.fileno())


def write_bytes_durably(path: Path, content: bytes) -> None:
    """Write a file of bytes, over what may lie there of an earlier try, and flush it."""
    with _whole(path), path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def create_durably(path: Path, content: bytes) -> None:
    """Write a small file that others may read, and flush it; FileExistsError if there is one."""
    with path.open("xb") as stream, _whole(path):
        os.fchmod(stream.fileno(), 0o644)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def replace_text(path: Path, text: str, durable: bool) -> None:
    """Replace `path` by `text` in one step: readers see the old or the new, never a part.

    With `durable` it survives a power cut, without only the death of the process.
    """
    fresh = path.with_name(path.name + ".new")
    with _whole(fresh), fresh.open("w", encoding="utf-8") as stream:
        stream.write(text)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())
    fresh.replace(path)
    if durable:
        fsync_folder(path.parent)


def digest(path: Path, progress: Callable[[int], object] | None = None) -> str:
    """SHA-256 of the file's content, in hex. `progress` is told the bytes of each step."""
    found = hashlib.sha256()
    buffer = memoryview(bytearray(_COPY_CHUNK))
    with path.open("rb", buffering=0) as stream:
        while size := stream.readinto(buffer):
            found.update(buffer[:size])
            if progress is not None:
                progress(size)
    return found.hexdigest()


def copy_durably(source: Path, target: Path, expected: Identity | None = None) -> str:
    """Copy content, mode and times, flush, read back and compare; returns the SHA-256 in hex.

    Raises OSError(EIO) when what was read back differs, FileNotFoundError when the file
    that lies at `source` is not the `expected` one, OSError when it is no regular file.
    What was not copied as a whole is removed.
    """
    content = hashlib.sha256()
    with _whole(target):
        with open_itself(source) as reader, target.open("wb") as writer:
            found = os.fstat(reader.fileno())
            if expected is not None and Identity.of(found) != expected:
                raise FileNotFoundError(errno.ENOENT, "another file lies there now", str(source))
            while chunk := reader.read(_COPY_CHUNK):
                content.update(chunk)
                writer.write(chunk)
            writer.flush()
            os.fsync(writer.fileno())
            os.fchmod(writer.fileno(), stat.S_IMODE(found.st_mode) & 0o777)
            os.utime(writer.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
        if digest(target) != content.hexdigest():
            raise OSError(errno.EIO, "the copy differs from the original", str(target))
    return content.hexdigest()


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """A file that is written in this block is complete after it, or gone."""
    try:
        yield
    except Exception as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = os.fspath(path)  # a full disk is told by write(2), which has none
        raise


def open_for_writing_elsewhere(path: Path) -> bool | None:
    """Whether a process has the file open for writing; None where that cannot be known.

    A read lease (fcntl(2), F_SETLEASE) is granted only if nobody has. It can be asked
    for on local file systems, for files of one's own or with CAP_LEASE.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        # A write lease of another, as file servers take for clients that cache their writes.
        return True if error.errno == errno.EAGAIN else None
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    else:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    finally:
        os.close(descriptor)


def name_limit(folder: Path) -> int:
    """Longest name in bytes that `folder`'s file system takes."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return 255


def numbered(name: str, number: int, limit: int) -> str:
    """`scan.pdf`, `scan-2.pdf`, `scan-3.pdf`, … in at most `limit` bytes.

    A name that has to be cut keeps its suffix and gets eight hex digits of its hash, so
    that two long names that begin alike stay apart.
    """
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - names are not paths here
    tail = (f"-{number}" if number > 1 else "") + suffix
    raw, tail_bytes = os.fsencode(stem), os.fsencode(tail)
    if len(raw) + len(tail_bytes) <= limit:
        return stem + tail
    mark = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
    if len(tail_bytes) + len(mark) >= limit:
        tail_bytes = b""
        mark += f"-{number}"
    kept = raw[: limit - len(mark) - len(tail_bytes)]
    try:
        kept.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            kept = kept[: error.start]
    return os.fsdecode(kept + mark.encode() + tail_bytes)


def first_free(is_free: Callable[[int], bool]) -> int:
    """A number from 1 on that is free, found in few looks however many are taken.

    Doubles until one is free, then halves the gap: with 10,000 files of one name that
    is 27 looks rather than 10,000. Gaps in the sequence are harmless.
    """
    if is_free(1):
        return 1
    taken, free = 1, 2
    while not is_free(free):
        taken, free = free, free * 2
    while free - taken > 1:
        middle = (taken + free) // 2
        if is_free(middle):
            free = middle
        else:
            taken = middle
    return free


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the folder's lock; yields whether it was to be had. Released by any death."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
