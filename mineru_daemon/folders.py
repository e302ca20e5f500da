"""Can the folders that the settings name be used, and are they still the ones they were?

A folder that is unmounted leaves another one in its place, empty and on another disk;
what is put there is hidden when the mount comes back. So a folder that lies on fewer
mounts than before is waited for, while one that was removed and made anew is taken.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from mineru_daemon.errors import ConfigError, StorageError
from mineru_daemon.mounts import lies_on, mount_points
from mineru_daemon.settings import FOLDER_NAMES, Settings

_PASSING = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN}
)
"""Troubles of disks and shares that end without anybody changing a setting."""

_ADVICE = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there or raise the quota",
    errno.EROFS: "mount it for writing",
    errno.EACCES: "give the daemon's user the right to it",
    errno.EPERM: "give the daemon's user the right to it",
    errno.ENOENT: "put back what was there",
}


def prepare_folders(settings: Settings) -> None:
    """Create missing folders, and see that all can be used.

    A read-only file system is most often the service's sandbox, which only `install`
    opens for other folders.

    Raises ConfigError, one sentence for each folder that cannot; StorageError when a disk
    refuses for now and another try may help.
    """
    problems: list[str] = []
    passing: list[str] = []
    for name in FOLDER_NAMES:
        folder: Path = getattr(settings, name)
        access = os.R_OK | os.X_OK
        if name != "inbox" or settings.on_success != "keep":
            access |= os.W_OK
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            problems.append(f"The {name} {folder} is not a folder; move the file away.")
        except OSError as error:
            advice = "; run mineru-daemon install again" if error.errno == errno.EROFS else ""
            told = passing if error.errno in _PASSING else problems
            told.append(
                f"The {name} folder {folder} does not exist and cannot be created: "
                f"{error.strerror}{advice}."
            )
        else:
            if not os.access(folder, access, effective_ids=True):
                how = "written" if access & os.W_OK else "read"
                problems.append(
                    f"The {name} folder {folder} cannot be {how} by user id {os.geteuid()}; "
                    "change its owner or mode."
                )
    if problems:
        raise ConfigError("\n".join(problems))
    if passing:
        raise StorageError("\n".join(passing))


@dataclass(frozen=True)
class _Place:
    """Where a folder lies: device and inode of itself and its parent, how many mounts are
    above it, and what it takes to make it anew."""

    itself: tuple[int, int]
    parent: tuple[int, int]
    mounts: int
    mode: int
    group: int


class Places:
    """Where the folders lay when last seen. Methods may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._folders: dict[str, Path] = {name: getattr(settings, name) for name in FOLDER_NAMES}
        self._places = {name: _place(folder) for name, folder in self._folders.items()}

    def check(self, name: str, create: bool = False, take: bool = True) -> None:
        """Return when the folder can be used. With `create` one that was removed is made anew,
        but never below a parent that changed as well: that is a mount that went away. With
        `take` what lies there now is what is compared with from here on.

        Raises OSError, whose text says what is to be done.
        """
        folder, known = self._folders[name], self._places[name]
        try:
            found = folder.stat()
        except FileNotFoundError:
            if not (create and _holds_still(folder.parent, known.parent)):
                raise FileNotFoundError(
                    errno.ENOENT, f"the {name} {folder} is not there; mount it, or make it again"
                ) from None
            folder.mkdir()
            folder.chmod(known.mode)
            if folder.stat().st_gid != known.group:
                with contextlib.suppress(OSError):
                    os.chown(folder, -1, known.group)
            found = folder.stat()
        if _key(found) == known.itself:
            return
        if not folder.is_dir():
            raise NotADirectoryError(
                errno.ENOTDIR, f"the {name} {folder} is not a folder any more; move the file away"
            )
        place = _place(folder)
        if place.mounts < known.mounts:
            raise OSError(errno.ENODEV, f"the {name} {folder} is not mounted any more; mount it")
        if take:
            self._places[name] = place

    def told(self, error: OSError) -> str:
        """A disk's refusal for a person: which folder, what it said, what to do."""
        what = error.strerror or str(error)
        advice = _ADVICE.get(error.errno or 0, "see to its disk")
        paths = [os.fsdecode(path) for path in (error.filename, error.filename2) if path]
        known = [
            f"the {name} {folder}"
            for name, folder in self._folders.items()
            if any(path == str(folder) or path.startswith(f"{folder}/") for path in paths)
        ]
        if known:
            return f"{' or '.join(known)}: {what}; {advice}, it then goes on by itself"
        if not paths:
            return what
        return f"{paths[0]}: {what}; {advice}" if "/fd/" not in paths[0] else f"{what}; {advice}"

    def same(self, name: str) -> bool:
        """Whether the very folder that was seen last lies there. Raises OSError."""
        return _key(self._folders[name].stat()) == self._places[name].itself


def _holds_still(folder: Path, known: tuple[int, int]) -> bool:
    try:
        return _key(folder.stat()) == known
    except OSError:
        return False


def _key(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _place(folder: Path) -> _Place:
    real = os.path.realpath(folder)
    found = Path(real).stat()
    return _Place(
        itself=_key(found),
        parent=_key(folder.parent.stat()),
        mounts=sum(1 for point, _ in mount_points() if lies_on(real, point)),
        mode=found.st_mode & 0o7777,
        group=found.st_gid,
    )
