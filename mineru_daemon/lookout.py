"""What lies in the inbox now, as far as it is watched.

The listing is the truth; events only say where to look sooner. Of a long backlog only a
window is held in memory: the oldest files, besides those that wait for something of their
own. What is seen goes to the settler; what is done with it is up to `inbox`.
"""

from __future__ import annotations

import errno
import heapq
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mineru_daemon.listing import Listing
from mineru_daemon.settings import Settings
from mineru_daemon.settle import Settler
from mineru_daemon.spool import Spool
from mineru_daemon.status import Status
from mineru_daemon.storage import Identity
from mineru_daemon.watch import Watcher

WINDOW = 1000
"""Files watched at once, besides incomplete ones. The rest of a backlog is on disk."""

MAX_HINTS = 1000
"""More hints than this between two looks: the folder is listed instead."""

SCAN_SHARE = 20.0
"""A listing may take a twentieth of the time at most: a slow one is made less often."""

HINTED_SCAN_SHARE = 5.0
"""The same when events ask for a listing: a flood of them takes a sixth of the time."""

MAX_STUCK = 10_000
"""Of files that wait for something of their own (the rest of their content, the end of
their writer, their source's rate) so many are watched beside the window, lest they fill it."""


class Lookout:
    """Looks at one inbox: `hint` from any thread, all else from the inbox's."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        status: Status,
        settler: Settler,
        wake: Callable[[], None],
    ) -> None:
        """`wake` is called when there is a new hint."""
        self._settings = settings
        self._spool = spool
        self._status = status
        self._settler = settler
        self._wake = wake
        self.listing = Listing(settings.inbox, settings.recursive, settings.ignore)
        self._hints: set[str] = set()
        self._hints_lock = threading.Lock()
        self._rescan = True
        self._next_scan = 0.0
        self._next_hinted_scan = 0.0
        self._more = False
        self._watcher = Watcher(settings.inbox, self.hint, settings.recursive, settings.watch)

    @property
    def kind(self) -> str:
        """How the inbox is watched now, as `Watcher` tells."""
        return self._watcher.kind

    def hint(self, path: str | None) -> None:
        """Something may have happened to this path, or (None) anywhere."""
        with self._hints_lock:
            if path is None or len(self._hints) >= MAX_HINTS:
                self._rescan = True
            else:
                self._hints.add(path)
        self._wake()

    def reload(self, settings: Settings) -> None:
        """Take over settings that may change while running."""
        self._settings = settings
        self.listing = Listing(settings.inbox, settings.recursive, settings.ignore)
        self.hint(None)

    def look(self, now: float) -> str | None:
        """See what has changed in the inbox; tells of a mount that is missing.

        Raises OSError where nothing can be seen.
        """
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
                    self._look_at(path, now)
        except OSError:
            self._rescan = True
            raise
        return unmounted

    def refill(self) -> None:
        """There is room: of a backlog, list more before the window is empty."""
        if self._more and len(self._settler) < WINDOW // 2:
            self._rescan = True

    def next_look(self, now: float) -> float:
        """Seconds until the inbox is to be listed again; not above zero when it is due."""
        if self._rescan:
            return min(self._next_scan, self._next_hinted_scan) - now
        return self._next_scan - now

    def stop(self) -> None:
        """Stop watching."""
        self._watcher.stop()

    def _scan(self, now: float) -> None:
        """List the inbox; watch the oldest files and forget those that are gone."""
        began = time.monotonic()
        stuck = min(MAX_STUCK, self._settler.stuck(now))
        count = 0

        def counted() -> Iterator[tuple[int, str, Identity]]:
            nonlocal count
            for found in self.listing.files(lambda: self._status.beat("inbox")):
                if not self._spool.was_claimed(found.identity):
                    count += 1
                    yield found.age_ns, found.path, found.identity

        oldest = heapq.nsmallest(WINDOW + stuck, counted())
        self._more = count > len(oldest)
        for age, path, file in oldest:
            self._settler.see(Path(path), file, now, age)
        if count < len(self._settler) or self._more:
            for known in self._settler.known():
                if self.listing.now(known) is None:
                    self._settler.forget(known)
        took = time.monotonic() - began
        interval = self._settings.rescan_seconds
        if self._watcher.kind == "poll":
            interval = min(interval, self._settings.poll_seconds)
        self._next_scan = now + took + max(interval, took * SCAN_SHARE)
        self._next_hinted_scan = now + took + took * HINTED_SCAN_SHARE
        self._status.set(inbox_files=count, scan_seconds=round(took, 4))

    def _look_at(self, path: str, now: float) -> None:
        """Look at one path that an event named."""
        key = Path(path)
        try:
            found = self.listing.at(key)
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
