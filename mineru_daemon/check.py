"""Is a file that has been still finished? What its writer and its content say.

Nothing is claimed here. A file that is not finished is given back to the settler, with
when to look again; one that will never be is finished too, with the reason to set it
aside.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from mineru_daemon import documents
from mineru_daemon.errors import CrashedError, EmptyError, IncompleteError
from mineru_daemon.lookout import Lookout
from mineru_daemon.printable import printable
from mineru_daemon.reading import limits_of
from mineru_daemon.results import ErrorInfo
from mineru_daemon.settings import Settings
from mineru_daemon.settle import Settler
from mineru_daemon.status import Status
from mineru_daemon.storage import (
    RETRY_SECONDS,
    Identity,
    open_for_writing_elsewhere,
    open_itself,
)
from mineru_daemon.suspects import CheckJournal

WRITER_RETRY_SECONDS = 1.0

_log = structlog.get_logger()


@dataclass(frozen=True)
class Finished:
    """A file that is to be claimed, to be read or to be set aside unread."""

    reason: ErrorInfo | None = None


class Checker:
    """Checks files that the settler found still; used by the inbox's thread."""

    def __init__(
        self,
        settings: Settings,
        status: Status,
        settler: Settler,
        lookout: Lookout,
        told: Callable[[OSError], str],
    ) -> None:
        """`told` puts a disk's refusal into words."""
        self.settings = settings
        self._status = status
        self._settler = settler
        self._lookout = lookout
        self._told = told
        self._journal = CheckJournal(settings.spool)
        self._refused: dict[Path, tuple[int, str]] = {}
        """Files that a disk did not give: how often, and what it said."""
        self._held: set[Path] = set()
        """Files that were still, and yet open for writing, when last looked at."""

    def check(self, path: Path, now: float) -> Finished | None:
        """None while a file that has been still is not finished; sees to when to look again.

        Raises OSError where the spool takes no note of it.
        """
        found = self._unchanged(path, now)
        if found is None:
            return None
        if crashed := self._crashed(path, found):
            return crashed
        if found.size > self.settings.max_file_bytes:
            return Finished()  # set aside unread by the worker
        self._journal.begin(found)  # raises OSError where the spool is full
        try:
            with self._lookout.listing.place(path) as folder:
                if self._is_held(path, folder / path.name, now):
                    return None
                return Finished() if self._complete(path, folder / path.name, found) else None
        except FileNotFoundError:
            self._settler.forget(path)
        except PermissionError as error:
            if self._settler.still(path, now) >= self.settings.incomplete_seconds:
                return _aside(
                    "unreadable",
                    f"{printable(path.name)} may not be read by the daemon; "
                    "give its user the right to.",
                )
            self.refuse(path, error, now)
        except OSError as error:
            if self._lookout.listing.now(path) != found:
                self._lookout.hint(str(path))  # swapped in the meantime, for a link perhaps
            else:
                self.refuse(path, error, now)
        finally:
            self._journal.end(found)
        return None

    def expire(self, path: Path, now: float) -> Finished | None:
        """The same for a file that has been incomplete and still for too long."""
        found = self._unchanged(path, now)
        if found is None:
            return None
        if crashed := self._crashed(path, found):
            return crashed
        still = f"{self.settings.incomplete_seconds:.0f} seconds"
        if found.size == 0:
            return _aside(
                EmptyError.code,
                f"{printable(path.name)} is empty and has been so for {still}; deliver it again.",
            )
        return _aside(
            IncompleteError.code,
            f"{printable(path.name)} ends before its end and has not changed "
            f"for {still}; deliver it again.",
        )

    def claimed(self, file: Identity) -> None:
        """The file is in a job, where its attempts are counted from here on."""
        self._journal.end(file)

    def refuse(self, path: Path, error: OSError, now: float) -> None:
        """A disk does not give this file: try again, later each time."""
        times = self._refused.get(path, (0, ""))[0] + 1
        pause = RETRY_SECONDS[min(times, len(RETRY_SECONDS)) - 1]
        self._refused[path] = (times, f"{printable(path.name)} waits: {self._told(error)}")
        self._settler.postpone(path, now + pause)
        log = _log.warning if times == 1 else _log.debug
        log("refused", file=str(path), error=self._told(error), retry_seconds=pause)

    def refusals(self) -> list[str]:
        """What a disk said to each file that it does not give."""
        self._refused = {path: why for path, why in self._refused.items() if path in self._settler}
        return [why for _, why in self._refused.values()]

    def held(self, now: float) -> list[Path]:
        """Files that writers have kept, changing them or not, for `incomplete_seconds`."""
        seconds = self.settings.incomplete_seconds
        self._held.intersection_update(self._settler.known())
        return self._settler.unfinished(now, seconds) + [
            path for path in self._held if self._settler.still(path, now) >= seconds
        ]

    def _unchanged(self, path: Path, now: float) -> Identity | None:
        """The identity of what lies there, if it is what the settler saw; else it is told."""
        found = self._lookout.listing.now(path)
        if found is None:
            self._settler.forget(path)
        elif found != self._settler.identity(path):
            self._settler.see(path, found, now)
            return None
        return found

    def _crashed(self, path: Path, found: Identity) -> Finished | None:
        """The reason to set a file aside that ends the process when it is looked into."""
        attempts = self.settings.max_attempts
        if self._journal.deaths(found) < attempts:
            return None
        return _aside(
            CrashedError.code,
            f"{printable(path.name)} ended the process {attempts} times while it was checked; "
            "it is damaged, or an attack.",
        )

    def _is_held(self, path: Path, place: Path, now: float) -> bool:
        if not open_for_writing_elsewhere(place):
            self._held.discard(path)
            return False
        self._held.add(path)
        still = self._settler.still(path, now)
        self._settler.postpone(path, now + max(WRITER_RETRY_SECONDS, still / 10))
        return True

    def _complete(self, path: Path, place: Path, found: Identity) -> bool:
        """Whether the content is whole. Raises OSError when it is not given."""
        with open_itself(place) as stream:
            if Identity.of(os.fstat(stream.fileno())) != found:
                self._lookout.hint(str(path))
                return False
            # What is looked into is the open file, whatever takes its name meanwhile.
            opened = Path(f"/proc/self/fd/{stream.fileno()}")
            try:
                patience = self.settings.append_seconds
                if documents.may_be_continued(opened) and self._settler.wait(path, patience):
                    return False
                documents.check_complete(
                    opened, limits_of(self.settings), lambda: self._status.beat("inbox")
                )
            except (IncompleteError, EmptyError) as error:
                _log.debug("incomplete", file=str(path), reason=error.code)
                self._settler.refuse(path)
                return False
        return True


def _aside(code: str, message: str) -> Finished:
    return Finished(ErrorInfo(code=code, message=message))
