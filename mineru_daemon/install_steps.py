"""The steps of an installation: files, folders and commands, described or carried out.

What is to be done is planned by `install`. Carrying a plan out twice changes nothing the
second time; what is somebody else's is left alone.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mineru_daemon.errors import InstallError, StorageError
from mineru_daemon.storage import replace_text

MARK = "# Written by `mineru-daemon install"
"""How a file of ours begins; others are not replaced."""

_COMMAND_SECONDS = 120


@dataclass(frozen=True)
class Account:
    """Whom the service runs as. `uid` and `gid` are None for a user that is yet to be made."""

    name: str
    group: str
    home: Path
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True)
class File:
    """A file to be written, readable for everybody."""

    path: Path
    text: str


@dataclass(frozen=True)
class Folder:
    """A folder to be made below `base`, which must exist. One that exists stays as it is."""

    base: Path
    name: str
    owner: Account
    mode: int = 0o700


@dataclass(frozen=True)
class Command:
    """A command to be run, when `needs` exists (a sign that the manager is running)."""

    words: tuple[str, ...]
    needs: Path | None = None


Step = File | Folder | Command


@dataclass(frozen=True)
class Plan:
    """What is to be done, in this order; what stands against it; what to tell at the end."""

    steps: tuple[Step, ...]
    obstacles: tuple[str, ...]
    advice: tuple[str, ...]


def describe(plan: Plan) -> str:
    """The plan for people: each file with its text, each folder, each command."""
    lines = []
    for step in plan.steps:
        match step:
            case File(path, text):
                lines += [f"# file {path}", *text.splitlines(), ""]
            case Folder(base, name, owner, mode):
                lines.append(f"# folder {base / name} {owner.name}:{owner.group} {mode:04o}")
            case Command(words):
                lines.append("# command " + " ".join(words))
    return "\n".join(lines) + "\n"


def carry_out(plan: Plan, root: Path = Path("/")) -> Iterable[str]:
    """Do what `plan` says, below `root`, and tell each step in a line.

    Below another root no command is run. Raises InstallError or StorageError at the first
    step that fails; the steps before it remain done, and the next run continues.
    """
    elsewhere = root != Path("/")
    for step in plan.steps:
        match step:
            case File(path, text):
                changed = _write(_below(root, path), text)
                yield f"{'written' if changed else 'unchanged'}: {path}"
            case Folder(base, name, owner, mode):
                changed = _make(_below(root, base), name, owner, mode)
                yield f"{'made' if changed else 'unchanged'}: {base / name}"
            case Command(words, needs):
                if elsewhere or (needs is not None and not needs.exists()):
                    yield "not run, because systemd is not running here: " + " ".join(words)
                else:
                    _run(words)
                    yield "run: " + " ".join(words)


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _write(path: Path, text: str) -> bool:
    """Write `path` whole or not at all; False when it has this text already."""
    try:
        if path.is_symlink():
            raise InstallError(
                f"{path} is a symbolic link to {path.readlink()} (masked?); remove it first."
            )
        try:
            present = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            present = None
        if present == text:
            return False
        if present is not None and not present.startswith(MARK):
            raise InstallError(
                f"{path} was not written by `mineru-daemon install` and is left alone; "
                "move it away first."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text, durable=True)
        path.chmod(0o644)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}; check its folder."
        ) from error
    return True


def _make(base: Path, name: str, owner: Account, mode: int) -> bool:
    """Make the folder `name` below `base`; False when it exists and belongs to `owner`.

    The folders above belong to a user while root makes this one, so no symbolic link below
    `base` is followed: it could lead anywhere.
    """
    path = base / name
    try:
        handle = os.open(base, os.O_DIRECTORY)
        made = False
        try:
            for part in Path(name).parts:
                try:
                    os.mkdir(part, 0o700, dir_fd=handle)
                    made = True
                except FileExistsError:
                    made = False
                inner = os.open(part, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
                os.close(handle)
                handle = inner
            if made:
                # Only root can, and needs to, give it to somebody else.
                if os.geteuid() == 0 and owner.uid is not None and owner.gid is not None:
                    os.fchown(handle, owner.uid, owner.gid)
                os.fchmod(handle, mode)
            found = os.fstat(handle).st_uid
        finally:
            os.close(handle)
    except OSError as error:
        raise StorageError(
            f"The folder {path} cannot be made: {error.strerror}; it and the folders above it "
            "must be folders, not files or symbolic links."
        ) from error
    if not made and owner.uid is not None and found != owner.uid:
        raise InstallError(
            f"The folder {path} does not belong to {owner.name}; give it to that user: "
            f"chown {owner.name}: '{path}'"
        )
    return made


def _run(words: tuple[str, ...]) -> None:
    shown = " ".join(words)
    try:
        done = subprocess.run(
            words, check=False, capture_output=True, text=True, timeout=_COMMAND_SECONDS
        )
    except FileNotFoundError as error:
        raise InstallError(
            f"The command {words[0]} does not exist here; the service needs systemd."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise InstallError(
            f"`{shown}` did not end within {_COMMAND_SECONDS} s; try it yourself."
        ) from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise InstallError(f"`{shown}` failed ({said}); correct that and install again.")
