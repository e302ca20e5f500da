"""Who of the inbox's files is next.

What lies there is told by `lookout`, what of it is finished by `settle` and `check`.
Files are offered oldest first, while the queue has room and the source's rate allows;
everything else stays where it is.
"""

from __future__ import annotations

import pwd
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from mineru_daemon.check import Checker, Finished
from mineru_daemon.jobs import Job
from mineru_daemon.lookout import Lookout
from mineru_daemon.printable import printable
from mineru_daemon.rate import RateLimiter
from mineru_daemon.settings import Settings
from mineru_daemon.settle import Settler
from mineru_daemon.spool import Spool
from mineru_daemon.status import Status
from mineru_daemon.storage import RETRY_SECONDS

WATCH_CHECK_SECONDS = 5.0

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
        self._wake = threading.Event()
        self._lookout = Lookout(settings, spool, status, self._settler, self._wake.set)
        self._checker = Checker(settings, status, self._settler, self._lookout, self._told)
        self._refusals = 0
        """Claims that were refused in a row."""
        self._claims_after = 0.0

    # --- from other threads --------------------------------------------------

    def hint(self, path: str | None) -> None:
        """Something may have happened to this path, or (None) anywhere."""
        self._lookout.hint(path)

    def wake(self) -> None:
        """There may be room again, or the daemon is to stop."""
        self._wake.set()

    def reload(self, settings: Settings) -> None:
        """Take over settings that may change while running."""
        self._settings = settings
        self._settler.settle_seconds = settings.settle_seconds
        self._settler.append_seconds = settings.append_seconds
        self._rate.per_minute = settings.rate_limit
        self._checker.settings = settings
        self._lookout.reload(settings)

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
        self._lookout.stop()

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
        if self._room():
            self._lookout.refill()
        self._tell(now)
        return max(0.0, min(wait, self._lookout.next_look(now), WATCH_CHECK_SECONDS))

    def _look_around(self, now: float) -> bool:
        """See what has changed in the inbox; False where it cannot be seen."""
        try:
            self._status.trouble("inbox", self._lookout.look(now))
        except OSError as error:
            self._status.trouble("inbox", self._told(error))
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
        self._status.set(settling=len(self._settler), watch=self._lookout.kind)
        refusals, listing = self._checker.refusals(), self._lookout.listing
        refused = len(refusals) + listing.refused
        told = refusals[0] if refusals else listing.refusal
        more = f", and {refused - 1} more like it" if refused > 1 else ""
        self._status.trouble("refused", f"{told}{more}; others are served" if refused else None)
        late = self._checker.held(now)
        minutes = f"{self._settings.incomplete_seconds / 60:.0f} minutes"
        self._status.trouble(
            "writers",
            f"{len(late)} files have been written to, or held open for it, for more than "
            f"{minutes}, {printable(min(late).name)} among them; they wait for their writers, "
            "others are served"
            if late
            else None,
        )

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
            if expired := self._checker.expire(path, now):
                self._claim(path, expired, self._source(path), now)
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
            elif (finished := self._checker.check(path, now)) and self._claim(
                path, finished, source, now
            ):
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

    def _claim(self, path: Path, finished: Finished, source: str, now: float) -> bool:
        expected = self._settler.identity(path)
        try:
            job = self._spool.claim(path, expected, source, finished.reason)
        except OSError as error:
            self._checker.refuse(path, error, now)
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
        self._checker.claimed(expected)
        _log.info("claimed", job=job.id, file=job.path, bytes=expected.size, source=source)
        self._status.claimed()
        self._offer(job)
        return True
