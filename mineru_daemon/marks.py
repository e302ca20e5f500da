"""Marks in an inbox whose files stay there: which daemon reads which of them.

Several daemons may share such an inbox. Before one reads a file it makes the file's mark,
which only one can make, in a hidden folder that lies where the file does:

    inbox/.mineru-kept/<path>-<content>      both hashed; in it stands who made it

A hard link makes it with its content in one step. File systems without such links have a new
file that only one can create; an empty one, whose maker died before it could tell who it was,
is followed by a next one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from socket import gethostname

from mineru_daemon.printable import printable
from mineru_daemon.storage import beneath, create_durably, fsync_folder, open_itself

FOLDER = ".mineru-kept"
"""Hidden, so that no inbox takes what lies in it for a delivery."""

UNNAMED_SECONDS = 1.0
"""A mark without content for so long was left by a death; its maker needs a moment to name
itself."""

_LOOKS = 20
_MOST_BYTES = 16_384
"""Of a mark. It holds a path in JSON, and others may put anything there."""

_NO_LINKS = frozenset(
    {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EMLINK, errno.EACCES}
)
"""What file systems without hard links answer."""


class Marks:
    """The marks of one inbox; used by one thread."""

    def __init__(self, inbox: Path, owner: str) -> None:
        """`owner` names this daemon, and no other, across restarts."""
        self._inbox = inbox
        self._owner = owner

    def take(self, path: str, sha256: str) -> bool:
        """Make the mark of a file with this content; False when another daemon has made it.

        Whoever has made it may take it again. Raises OSError.
        """
        with self._folder(create=True) as folder:
            for number in itertools.count():
                mark = folder / (_name(path, sha256) + (f".{number}" if number else ""))
                if self._make(mark, path):
                    return True
                if maker := _maker(mark):
                    return maker == self._owner
        raise AssertionError("there is always a next number")

    def free(self, path: str, sha256: str) -> None:
        """Remove the mark of a file that is gone, if this daemon has made it. Raises OSError."""
        with self._folder(create=False) as folder:
            mark = folder / _name(path, sha256)
            if _maker(mark) == self._owner:
                mark.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _folder(self, create: bool) -> Iterator[Path]:
        """The folder of marks, whatever else may be put in its place."""
        made = False
        try:
            if create:
                with contextlib.suppress(FileExistsError):
                    (self._inbox / FOLDER).mkdir()
                    made = True
            with beneath(self._inbox, Path(FOLDER)) as folder:
                if made:
                    # Who may deliver, other daemons among them, may mark.
                    found = self._inbox.stat()
                    with contextlib.suppress(OSError):
                        os.chown(folder, -1, found.st_gid)
                    folder.chmod(stat.S_IMODE(found.st_mode))
                yield folder
        except OSError as error:
            # The way through the open folder says nothing to people.
            error.filename = os.fspath(self._inbox / FOLDER)
            raise

    def _make(self, mark: Path, path: str) -> bool:
        """Whether the mark was made now."""
        who = {"daemon": self._owner, "host": gethostname(), "file": printable(path)}
        content = json.dumps(who).encode()
        fresh = mark.with_name(f".{self._owner}")
        fresh.unlink(missing_ok=True)
        create_durably(fresh, content)
        try:
            os.link(fresh, mark)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            try:
                create_durably(mark, content)
            except FileExistsError:
                return False
        finally:
            fresh.unlink(missing_ok=True)
        fsync_folder(mark.parent)
        return True


def _name(path: str, sha256: str) -> str:
    return f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}-{sha256[:32]}"


def _maker(mark: Path) -> str | None:
    """The daemon that has made a mark; None where it does not tell. Raises OSError."""
    for _ in range(_LOOKS):
        try:
            with open_itself(mark) as stream:
                content = stream.read(_MOST_BYTES)
        except FileNotFoundError:
            return None
        if content:
            break
        time.sleep(UNNAMED_SECONDS / _LOOKS)
    try:
        told = json.loads(content)
    except ValueError:
        return None
    maker = told.get("daemon") if isinstance(told, dict) else None
    return maker if isinstance(maker, str) else None
