"""What lies in the inbox, what of it is finished, and who is next.

The listing is the truth; events only say where to look sooner. Files are offered
oldest first, while the queue has room and the source's rate allows; everything else
stays where it is. Of a long backlog only a window is held in memory.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import pwd
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from mineru_daemon import documents
from mineru_daemon.errors import CrashedError, EmptyError, IncompleteError
from mineru_daemon.jobs import Job
from mineru_daemon.listing import Listing
from mineru_daemon.printable import printable
from mineru_daemon.rate import RateLimiter
from mineru_daemon.reading import limits_of
from mineru_daemon.results import ErrorInfo
from mineru_daemon.settings import Settings
from mineru_daemon.settle import Settler
from mineru_daemon.spool import Spool
from mineru_daemon.status import Status
from mineru_daemon.storage import (
    RETRY_SECONDS,
    Identity,
    beneath,
    identity,
    open_for_writing_elsewhere,
    open_itself,
)
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

MAX_STUCK = 10_000
"""Of files that wait for something of their own (the rest of their content, the end of
their writer, their source's rate) so many are watched beside the window, lest they fill it."""

TIRED = 3
"""After so many claims in a row that a disk refused, the others are not tried either."""

_log = structlog.get_logger()


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
        self._listing = Listing(settings.inbox, settings.recursive, settings.ignore)
        self._journal = CheckJournal(settings.spool)
        self._refused: dict[Path, tuple[int, str]] = {}
        """Files that a disk did not give: how often, and what it said."""
        self._refusals = 0
        """Claims that were refused in a row."""
        self._claims_after = 0.0
        self._held: set[Path] = set()
        """Files that were still, and yet open for writing, when last looked at."""
        self._wake = threading.Event()
        self._hints: set[str] = set()
        self._hints_lock = threading.Lock()
        self._rescan = True
        self._next_scan = 0.0
        self._next_hinted_scan = 0.0
        self._more = False
        self._watcher = Watcher(settings.inbox, self.hint, settings.recursive, settings.watch)

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
        self._listing = Listing(settings.inbox, settings.recursive, settings.ignore)
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
        if not (self._look_around(now) and self._tidy()):
            return WATCH_CHECK_SECONDS
        try:
            wait = self._serve(now, stop)
            self._status.trouble("files", None)
        except OSError as error:
            self._status.trouble("files", f"files cannot be looked into: {self._told(error)}")
            wait = WATCH_CHECK_SECONDS
        if self._more and len(self._settler) < WINDOW // 2 and self._room():
            self._rescan = True
        if self._rescan:
            wait = min(wait, self._next_hinted_scan - now)
        self._tell(now)
        return max(0.0, min(wait, self._next_scan - now, WATCH_CHECK_SECONDS))

    def _look_around(self, now: float) -> bool:
        """See what has changed in the inbox; False where it cannot be seen."""
        unmounted = None
        try:
            try:
                self._spool.places.check("inbox")
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
                # What is delivered below the mount that is missing is served too.
                unmounted = str(error.strerror)
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
            self._status.trouble("inbox", unmounted)
        except OSError as error:
            self._status.trouble("inbox", self._told(error))
            self._rescan = True
            return False
        return True

    def _tidy(self) -> bool:
        """Go on with what a disk refused earlier; False while there is no spool."""
        try:
            for job in self._spool.tidy():
                _log.info("resumed", job=job.id, file=job.path)
                self._offer(job)
        except OSError as error:
            self._status.trouble("spool", self._told(error))
            return False
        self._status.trouble("spool", self._spool.trouble())
        return True

    def _told(self, error: OSError) -> str:
        return self._spool.places.told(error)

    def _tell(self, now: float) -> None:
        """Report what waits, and for what."""
        self._status.set(settling=len(self._settler), watch=self._watcher.kind)
        self._refused = {path: why for path, why in self._refused.items() if path in self._settler}
        self._held.intersection_update(self._settler.known())
        refused = len(self._refused) + self._listing.refused
        told = next((why for _, why in self._refused.values()), self._listing.refusal)
        more = f", and {refused - 1} more like it" if refused > 1 else ""
        self._status.trouble("refused", f"{told}{more}; others are served" if refused else None)
        late = self._settler.unfinished(now, self._settings.incomplete_seconds)
        late += [
            path
            for path in self._held
            if self._settler.still(path, now) >= self._settings.incomplete_seconds
        ]
        minutes = f"{self._settings.incomplete_seconds / 60:.0f} minutes"
        self._status.trouble(
            "writers",
            f"{len(late)} files have been written to, or held open for it, for more than "
            f"{minutes}, {printable(min(late).name)} among them; they wait for their writers, "
            "others are served"
            if late
            else None,
        )

    def _scan(self, now: float) -> None:
        """List the inbox; watch the oldest files and forget those that are gone."""
        began = time.monotonic()
        stuck = min(MAX_STUCK, self._settler.stuck(now))
        count = 0

        def counted() -> Iterator[tuple[int, str, Identity]]:
            nonlocal count
            for found in self._listing.files(lambda: self._status.beat("inbox")):
                if not self._spool.was_claimed(found.identity):
                    count += 1
                    yield found.age_ns, found.path, found.identity

        oldest = heapq.nsmallest(WINDOW + stuck, counted())
        self._more = count > len(oldest)
        for age, path, file in oldest:
            self._settler.see(Path(path), file, now, age)
        if count < len(self._settler) or self._more:
            for known in self._settler.known():
                if self._now(known) is None:
                    self._settler.forget(known)
        took = time.monotonic() - began
        interval = self._settings.rescan_seconds
        if self._watcher.kind == "poll":
            interval = min(interval, self._settings.poll_seconds)
        self._next_scan = now + took + max(interval, took * SCAN_SHARE)
        self._next_hinted_scan = now + took + took * HINTED_SCAN_SHARE
        self._status.set(inbox_files=count, scan_seconds=round(took, 4))

    def _look(self, path: str, now: float) -> None:
        """Look at one path that an event named."""
        key = Path(path)
        try:
            found = self._listing.at(key)
        except FileNotFoundError:
            self._settler.forget(key)
            return
        except OSError:
            return  # the next listing tells of it
        if found is None or self._spool.was_claimed(found.identity):
            return
        if key not in self._settler and len(self._settler) >= WINDOW:
            self._more = True  # an older backlog comes first; a listing finds it again
            return
        self._settler.see(key, found.identity, now, found.age_ns)

    def _place(self, path: Path) -> contextlib.AbstractContextManager[Path]:
        """The folder of a file of the inbox, without following links on the way."""
        return beneath(self._settings.inbox, path.relative_to(self._settings.inbox).parent)

    def _now(self, path: Path) -> Identity | None:
        """The identity of what lies at a path of the inbox now; None if nothing does, or
        nothing that can be seen."""
        try:
            with self._place(path) as folder:
                return identity(folder / path.name)
        except OSError:
            return None

    # --- offering ------------------------------------------------------------

    def _serve(self, now: float, stop: threading.Event | None) -> float:
        """Claim what is settled, as far as there is room; seconds until more may be."""
        wait = self._settler.next_due(now, self._settings.incomplete_seconds)
        delays = [WATCH_CHECK_SECONDS if wait is None else wait]
        if now < self._claims_after:
            return self._claims_after - now
        for path in self._settler.refused(now, self._settings.incomplete_seconds):
            if not self._room():
                return WATCH_CHECK_SECONDS
            self._expire(path, now)
        for path in self._settler.settled(now):
            if not self._room():
                # Whoever makes room wakes this thread.
                return WATCH_CHECK_SECONDS
            if (stop is not None and stop.is_set()) or now < self._claims_after:
                break
            source = self._source(path)
            delay = self._rate.delay(source, now)
            if delay > 0:
                self._settler.postpone(path, now + delay)
                delays.append(delay)
            elif self._ready(path, now) and self._claim(path, source, now):
                self._rate.take(source, now)
            self._status.beat("inbox")
        if now < self._claims_after:
            return self._claims_after - now
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
        found = self._now(path)
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
        self._journal.begin(found)  # raises OSError where the spool is full
        try:
            with self._place(path) as folder:
                if self._is_held(path, folder / path.name, now):
                    return False
                return self._complete(path, folder / path.name, found)
        except FileNotFoundError:
            self._settler.forget(path)
        except PermissionError as error:
            if self._settler.still(path, now) < self._settings.incomplete_seconds:
                self._refuse(path, error, now)
            else:
                self._claim(
                    path,
                    self._source(path),
                    now,
                    ErrorInfo(
                        code="unreadable",
                        message=f"{printable(path.name)} may not be read by the daemon; "
                        "give its user the right to.",
                    ),
                )
        except OSError as error:
            if self._now(path) != found:
                self.hint(str(path))  # swapped in the meantime, for a link perhaps
            else:
                self._refuse(path, error, now)
        finally:
            self._journal.end(found)
        return False

    def _refuse(self, path: Path, error: OSError, now: float) -> None:
        """A disk does not give this file: try again, later each time."""
        times = self._refused.get(path, (0, ""))[0] + 1
        pause = RETRY_SECONDS[min(times, len(RETRY_SECONDS)) - 1]
        self._refused[path] = (times, f"{printable(path.name)} waits: {self._told(error)}")
        self._settler.postpone(path, now + pause)
        log = _log.warning if times == 1 else _log.debug
        log("refused", file=str(path), error=self._told(error), retry_seconds=pause)

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
                self.hint(str(path))
                return False
            # What is looked into is the open file, whatever takes its name meanwhile.
            opened = Path(f"/proc/self/fd/{stream.fileno()}")
            try:
                patience = self._settings.append_seconds
                if documents.may_be_continued(opened) and self._settler.wait(path, patience):
                    return False
                documents.check_complete(
                    opened, limits_of(self._settings), lambda: self._status.beat("inbox")
                )
            except (IncompleteError, EmptyError) as error:
                _log.debug("incomplete", file=str(path), reason=error.code)
                self._settler.refuse(path)
                return False
        return True

    def _claim(self, path: Path, source: str, now: float, reason: ErrorInfo | None = None) -> bool:
        expected = self._settler.identity(path)
        if self._journal.deaths(expected) >= self._settings.max_attempts:
            reason = ErrorInfo(
                code=CrashedError.code,
                message=f"{printable(path.name)} ended the process "
                f"{self._settings.max_attempts} times while it was checked; "
                "it is damaged, or an attack.",
            )
        try:
            job = self._spool.claim(path, expected, source, reason)
        except OSError as error:
            self._refuse(path, error, now)
            self._refusals += 1
            if self._refusals >= TIRED:
                step = min(self._refusals - TIRED, len(RETRY_SECONDS) - 1)
                self._claims_after = now + RETRY_SECONDS[step]
            return False
        self._settler.forget(path)
        if job is None:
            self.hint(str(path))
            return False
        self._refusals, self._claims_after = 0, 0.0
        self._journal.end(expected)
        _log.info("claimed", job=job.id, file=job.path, bytes=expected.size, source=source)
        self._status.claimed()
        self._offer(job)
        return True

    def _expire(self, path: Path, now: float) -> None:
        """Set a file aside that has been incomplete and still for too long."""
        found = self._now(path)
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
        else:
            reason = ErrorInfo(
                code=IncompleteError.code,
                message=f"{printable(path.name)} ends before its end and has not changed "
                f"for {still}; deliver it again.",
            )
        self._claim(path, self._source(path), now, reason)
