"""What lies in the inbox, what of it is finished, and who is next.

The listing is the truth; events only say where to look sooner. Files are offered
oldest first, while the queue has room and the source's rate allows; everything else
stays where it is. Of a long backlog only a window is held in memory.
"""

from __future__ import annotations

import fnmatch
import heapq
import os
import pwd
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from mineru_daemon import documents
from mineru_daemon.errors import CrashedError, EmptyError, IncompleteError
from mineru_daemon.jobs import Job
from mineru_daemon.log import printable
from mineru_daemon.rate import RateLimiter
from mineru_daemon.reading import limits_of
from mineru_daemon.results import ErrorInfo
from mineru_daemon.settings import Settings
from mineru_daemon.settle import Settler
from mineru_daemon.spool import Spool
from mineru_daemon.status import Status
from mineru_daemon.storage import Identity, identity, open_for_writing_elsewhere
from mineru_daemon.suspects import CheckJournal
from mineru_daemon.watch import Watcher

WINDOW = 1000
"""Files watched at once, besides incomplete ones. The rest of a backlog is on disk."""

MAX_HINTS = 1000
"""More hints than this between two looks: the folder is listed instead."""

SCAN_SHARE = 20.0
"""A listing may take a twentieth of the time at most: a slow one is made less often."""

HINTED_SCAN_SHARE = 5.0
"""The same when events ask for a listing: a flood of them takes a sixth of the time."""

WATCH_CHECK_SECONDS = 5.0
WRITER_RETRY_SECONDS = 1.0

IGNORED = (
    ".*", "~*", "*~", "*.tmp", "*.temp", "*.part", "*.partial", "*.crdownload", "*.download",
    "*.filepart", "*.lock", "*.lck", "*.swp", "Thumbs.db", "desktop.ini", "@eaDir",
)  # fmt: skip
"""Names of files that are not (yet) documents, of browsers, editors, FTP clients and NAS."""

_log = structlog.get_logger()


def ignore_pattern(extra: list[str]) -> re.Pattern[str]:
    """One pattern for all names to be passed over; without regard to case."""
    return re.compile(
        "|".join(fnmatch.translate(name) for name in (*IGNORED, *extra)), re.IGNORECASE | re.DOTALL
    )


class Inbox:
    """Serves one inbox: `run` in a thread of its own; all other methods from any thread."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        status: Status,
        offer: Callable[[Job], None],
        room: Callable[[], bool],
    ) -> None:
        """`offer` takes a claimed job; `room` tells whether it would without waiting."""
        self._settings = settings
        self._spool = spool
        self._status = status
        self._offer = offer
        self._room = room
        self._settler = Settler(settings.settle_seconds, settings.append_seconds)
        self._rate = RateLimiter(settings.rate_limit)
        self._ignored = ignore_pattern(settings.ignore)
        self._journal = CheckJournal(settings.spool)
        self._passed_over: set[str] = set()
        self._wake = threading.Event()
        self._hints: set[str] = set()
        self._hints_lock = threading.Lock()
        self._rescan = True
        self._next_scan = 0.0
        self._next_hinted_scan = 0.0
        self._more = False
        self._watcher = Watcher(
            settings.inbox, self.hint, settings.recursive, settings.watch, settings.poll_seconds
        )

    # --- from other threads --------------------------------------------------

    def hint(self, path: str | None) -> None:
        """Something may have happened to this path, or (None) anywhere."""
        with self._hints_lock:
            if path is None or len(self._hints) >= MAX_HINTS:
                self._rescan = True
            else:
                self._hints.add(path)
        self._wake.set()

    def wake(self) -> None:
        """There may be room again, or the daemon is to stop."""
        self._wake.set()

    def reload(self, settings: Settings) -> None:
        """Take over settings that may change while running."""
        self._settings = settings
        self._settler.settle_seconds = settings.settle_seconds
        self._settler.append_seconds = settings.append_seconds
        self._rate.per_minute = settings.rate_limit
        self._ignored = ignore_pattern(settings.ignore)
        self.hint(None)

    # --- the loop ------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set."""
        while not stop.is_set():
            self._wake.clear()
            self._status.beat("inbox")
            pause = self.step(time.monotonic(), stop)
            # A pause may be as long as the shortest patience with a thread that hangs.
            self._status.rest("inbox")
            self._wake.wait(pause)
        self._watcher.stop()

    def step(self, now: float, stop: threading.Event | None = None) -> float:
        """Look once, claim what is due; returns the seconds until the next look is needed."""
        try:
            if self._watcher.ensure():
                self._rescan = True
            with self._hints_lock:
                hints, self._hints = self._hints, set()
                listing = now >= self._next_scan or (self._rescan and now >= self._next_hinted_scan)
                self._rescan = self._rescan and not listing
            if listing:
                self._scan(now)
            else:
                for path in hints:
                    self._look(path, now)
            self._status.trouble("inbox", None)
        except OSError as error:
            self._status.trouble("inbox", f"the inbox {self._settings.inbox}: {error.strerror}")
            self._rescan = True
            return WATCH_CHECK_SECONDS
        try:
            wait = self._serve(now, stop)
            self._status.trouble("files", None)
        except OSError as error:
            # A full disk under the spool, a folder that may not be read any more.
            self._status.trouble("files", f"files cannot be looked into: {error}")
            wait = WATCH_CHECK_SECONDS
        if self._more and len(self._settler) < WINDOW // 2 and self._room():
            self._rescan = True
        if self._rescan:
            wait = min(wait, self._next_hinted_scan - now)
        self._status.set(settling=len(self._settler), watch=self._watcher.kind)
        return max(0.0, min(wait, self._next_scan - now, WATCH_CHECK_SECONDS))

    def _scan(self, now: float) -> None:
        """List the inbox; watch the oldest files and forget those that are gone."""
        began = time.monotonic()
        refused = sum(1 for _ in self._settler.refused(now, 0.0))
        count = 0

        def counted() -> Iterator[tuple[int, str, Identity]]:
            nonlocal count
            for path, file in self._files(str(self._settings.inbox)):
                count += 1
                yield file.mtime_ns, path, file

        oldest = heapq.nsmallest(WINDOW + refused, counted())
        self._more = count > len(oldest)
        for _, path, file in oldest:
            self._settler.see(Path(path), file, now)
        if count < len(self._settler) or self._more:
            for known in self._settler.known():
                if identity(known) is None:
                    self._settler.forget(known)
        took = time.monotonic() - began
        self._next_scan = now + took + max(self._settings.rescan_seconds, took * SCAN_SHARE)
        self._next_hinted_scan = now + took + took * HINTED_SCAN_SHARE
        self._status.set(inbox_files=count, scan_seconds=round(took, 4))

    def _files(self, folder: str) -> Iterator[tuple[str, Identity]]:
        """Regular files below `folder` that are documents by name and were not read yet."""
        with os.scandir(folder) as entries:
            for entry in entries:
                if self._ignored.match(entry.name):
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode):
                        if self._settings.recursive:
                            yield from self._files(entry.path)
                    elif self._regular(entry.path, found):
                        file = Identity.of(found)
                        if not self._spool.was_claimed(file):
                            yield entry.path, file
                except FileNotFoundError:
                    continue  # taken away since it was listed

    def _regular(self, path: str, found: os.stat_result) -> bool:
        if stat.S_ISREG(found.st_mode):
            return True
        if path not in self._passed_over and len(self._passed_over) < MAX_HINTS:
            self._passed_over.add(path)
            _log.warning("passed-over", file=path, reason="neither a file nor a folder")
        return False

    def _look(self, path: str, now: float) -> None:
        """Look at one path that an event named."""
        try:
            parts = Path(path).relative_to(self._settings.inbox).parts
        except ValueError:
            return
        if not parts or any(self._ignored.match(part) for part in parts):
            return
        if len(parts) > 1 and not self._settings.recursive:
            return
        key = Path(path)
        try:
            found = key.lstat()
        except (FileNotFoundError, NotADirectoryError):
            self._settler.forget(key)
            return
        if not self._regular(path, found):
            return
        file = Identity.of(found)
        if self._spool.was_claimed(file):
            return
        if key not in self._settler and len(self._settler) >= WINDOW:
            self._more = True  # an older backlog comes first; a listing finds it again
            return
        self._settler.see(key, file, now)

    # --- offering ------------------------------------------------------------

    def _serve(self, now: float, stop: threading.Event | None) -> float:
        """Claim what is settled, as far as there is room; seconds until more may be."""
        wait = self._settler.next_due(now, self._settings.incomplete_seconds)
        delays = [WATCH_CHECK_SECONDS if wait is None else wait]
        for path in self._settler.refused(now, self._settings.incomplete_seconds):
            if not self._room():
                return WATCH_CHECK_SECONDS
            self._expire(path, now)
        for path in self._settler.settled(now):
            if not self._room():
                # Whoever makes room wakes this thread.
                return WATCH_CHECK_SECONDS
            if stop is not None and stop.is_set():
                break
            source = self._source(path)
            delay = self._rate.delay(source, now)
            if delay > 0:
                self._settler.postpone(path, now + delay)
                delays.append(delay)
            elif self._ready(path, now) and self._claim(path, source):
                self._rate.take(source, now)
            self._status.beat("inbox")
        again = self._settler.next_due(now, self._settings.incomplete_seconds)
        return min(delays if again is None else [*delays[1:], again])

    def _source(self, path: Path) -> str:
        """Whom a file counts for: its sub-folder of the inbox, or its owner."""
        if self._settings.rate_source == "owner":
            try:
                owner = path.lstat().st_uid
                return pwd.getpwuid(owner).pw_name
            except KeyError:
                return str(owner)
            except OSError:
                return ""
        parts = path.relative_to(self._settings.inbox).parts
        return parts[0] if len(parts) > 1 else ""

    def _ready(self, path: Path, now: float) -> bool:
        """Whether a file that has been still is finished; if not, sees to when to look again."""
        expected = self._settler.identity(path)
        found = identity(path)
        if found is None:
            self._settler.forget(path)
            return False
        if found != expected:
            self._settler.see(path, found, now)
            return False
        if self._journal.deaths(found) >= self._settings.max_attempts:
            return True  # `_claim` knows it too
        if found.size > self._settings.max_file_bytes:
            return True  # set aside unread by the worker
        if open_for_writing_elsewhere(path):
            still = self._settler.still(path, now)
            self._settler.postpone(path, now + max(WRITER_RETRY_SECONDS, still / 10))
            return False
        return self._complete(path, found)

    def _complete(self, path: Path, found: Identity) -> bool:
        self._journal.begin(found)
        try:
            patience = self._settings.append_seconds
            if documents.may_be_continued(path) and self._settler.wait(path, patience):
                return False
            documents.check_complete(
                path, limits_of(self._settings), lambda: self._status.beat("inbox")
            )
        except (IncompleteError, EmptyError) as error:
            _log.debug("incomplete", file=str(path), reason=str(error))
            self._settler.refuse(path)
            return False
        except FileNotFoundError:
            self._settler.forget(path)
            return False
        except OSError as error:
            _log.warning("unreadable", file=str(path), error=str(error))
            self._settler.refuse(path)
            return False
        finally:
            self._journal.end(found)
        return True

    def _claim(self, path: Path, source: str, reason: ErrorInfo | None = None) -> bool:
        expected = self._settler.identity(path)
        if self._journal.deaths(expected) >= self._settings.max_attempts:
            reason = ErrorInfo(
                code=CrashedError.code,
                message=f"{printable(path.name)} ended the process "
                f"{self._settings.max_attempts} times while it was checked; "
                "it is damaged, or an attack.",
            )
        self._settler.forget(path)
        try:
            job = self._spool.claim(path, expected, source, reason)
        except OSError as error:
            self._status.trouble(
                "spool", f"{printable(path.name)} could not be claimed: {error.strerror}"
            )
            self._settler.see(path, expected, time.monotonic())
            return False
        self._status.trouble("spool", None)
        if job is None:
            self.hint(str(path))
            return False
        self._journal.end(expected)
        _log.info("claimed", job=job.id, file=job.path, bytes=expected.size, source=source)
        self._status.claimed()
        self._offer(job)
        return True

    def _expire(self, path: Path, now: float) -> None:
        """Set a file aside that has been incomplete and still for too long."""
        found = identity(path)
        if found != self._settler.identity(path):
            if found is None:
                self._settler.forget(path)
            else:
                self._settler.see(path, found, now)
            return
        still = f"{self._settings.incomplete_seconds:.0f} seconds"
        if found.size == 0:
            reason = ErrorInfo(
                code=EmptyError.code,
                message=f"{printable(path.name)} is empty and has been so for {still}; "
                "deliver it again.",
            )
        elif not os.access(path, os.R_OK):
            reason = ErrorInfo(
                code="unreadable",
                message=f"{printable(path.name)} may not be read by the daemon; "
                "give its user the right to.",
            )
        else:
            reason = ErrorInfo(
                code=IncompleteError.code,
                message=f"{printable(path.name)} ends before its end and has not changed "
                f"for {still}; deliver it again.",
            )
        self._claim(path, self._source(path), reason)
