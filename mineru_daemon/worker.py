"""The loop that turns claimed jobs into results: one engine, one page at a time.

Takes jobs from the queue, gives each its turns, and tries again where a disk refuses. What
is done in a turn is told in `serving`, whose turn it is in `scheduling`.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable

import structlog

from mineru_daemon.documents.reader import Reader
from mineru_daemon.engines.base import Engine
from mineru_daemon.errors import CancelledError, StartError, StorageError
from mineru_daemon.jobs import Job
from mineru_daemon.pacing import Pacer
from mineru_daemon.printable import printable
from mineru_daemon.reading import limits_of, unexpected
from mineru_daemon.results import ErrorInfo
from mineru_daemon.scheduling import Rotation
from mineru_daemon.serving import Means, Serving
from mineru_daemon.settings import Settings
from mineru_daemon.spool import Spool
from mineru_daemon.status import Status
from mineru_daemon.storage import RETRY_SECONDS

OPEN_DOCUMENTS = 2
"""At the same time. A book and a screenshot in turn are opened once each; of more jobs, all
but one are opened anew for each page, which takes milliseconds, and memory stays as it is."""

READ_TRIES = 5
"""A document that a disk does not give is set aside after so many tries, lest it hold up
all others. What a disk does not take is tried for ever."""

_log = structlog.get_logger()


class Worker:
    """Serves the queue: `run` in a thread of its own."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        status: Status,
        engine: Engine,
    ) -> None:
        self.settings = settings
        self._spool = spool
        self._status = status
        self.on_room: Callable[[], None] = lambda: None
        """Called when another job may be offered."""
        self.on_idle: Callable[[], None] = lambda: None
        """Called once when nothing was to be done for `unload_after` seconds."""
        self.before_page: Callable[[], None] = lambda: None
        """Called before each page; it may raise CancelledError."""
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._rotation: Rotation[Serving] = Rotation()
        self._claimed = 0
        """Jobs that were offered and are not done."""
        self._count_lock = threading.Lock()
        self._stop_at: float | None = None
        self._stopping = threading.Event()
        self._pacer = Pacer(lambda: self.settings, status, self._stopping)
        self._reader = Reader()
        self._means = Means(
            settings=lambda: self.settings,
            spool=spool,
            status=status,
            engine=engine,
            reader=self._reader,
            pacer=self._pacer,
            progress=self._progress,
            go_on=self._go_on,
        )

    # --- from other threads --------------------------------------------------

    def has_room(self) -> bool:
        """Whether another claimed job may be offered."""
        return self._waiting() < self.settings.queue_depth

    def offer(self, job: Job) -> None:
        """Put a claimed job behind the others. Who claims sees to `has_room` first."""
        self._count(+1)
        self._queue.put(job)

    def stop(self, grace: float) -> None:
        """Stop after the current page, or within `grace` seconds in the midst of it."""
        self._stop_at = time.monotonic() + grace
        self._stopping.set()
        self._queue.put(None)

    # --- the loop ------------------------------------------------------------

    def run(self) -> None:
        """Serve until `stop`."""
        with contextlib.suppress(StartError):  # said, and tried again, when it is needed
            self._reader.start(limits_of(self.settings))
        with self._reader:
            self._run()

    def _run(self) -> None:
        while self._take_up():
            serving = self._rotation.next()
            self._make_room_for(serving)
            done = self._serve(serving)
            self._rotation.turn_over(done=done)
            if done:
                self._count(-1)
                self.on_room()
            if not self._rotation:
                self._status.rest("worker")
        for left in self._rotation:
            left.park()
            with contextlib.suppress(OSError):
                left.job.save()
            _log.info("checkpointed", job=left.job.id, file=left.job.path)

    def _take_up(self) -> bool:
        """Take waiting jobs into work, and wait for one if there is none; False at a stop."""
        while not self._stopping.is_set() and self._rotation.room(self.settings.scheduling):
            try:
                job = self._queue.get_nowait() if self._rotation else self._wait()
            except queue.Empty:
                break
            if job is None:
                return False
            self._rotation.add(Serving(job, self._means))
            self._count(0)
            self.on_room()
        return not self._stopping.is_set()

    def _wait(self) -> Job | None:
        """The next job, whenever it comes."""
        if seconds := self.settings.unload_after:
            try:
                return self._queue.get(timeout=seconds)
            except queue.Empty:
                self.on_idle()
        return self._queue.get()

    def _make_room_for(self, serving: Serving) -> None:
        """Close the document that is opened again most easily, if too many would be open."""
        others = [one for one in self._rotation if one is not serving and one.open_pages]
        if len(others) >= OPEN_DOCUMENTS:
            min(others, key=lambda one: one.open_pages).park()

    def _waiting(self) -> int:
        """Jobs that were offered, but for the one whose page is read."""
        return self._claimed - bool(self._rotation)

    def _count(self, change: int) -> None:
        with self._count_lock:
            self._claimed += change
        self._status.set(queued=self._waiting())

    def _serve(self, serving: Serving) -> bool:
        """Give a job its turn, which is tried until the disk allows it; True if it is done."""
        job = serving.job
        tries = 0
        with structlog.contextvars.bound_contextvars(job=job.id, file=job.path):
            while not self._stopping.is_set():
                self._status.beat("worker")
                try:
                    done = serving.turn()
                    self._status.trouble("worker", None)
                    return done
                except CancelledError:
                    job.forgive()
                    try:
                        job.save()
                    except OSError as error:
                        # The pages are kept all the same; this stop counts as an attempt.
                        _log.warning("checkpoint-refused", error=self._told(error))
                        return True
                    _log.info("checkpointed")
                    return True
                except (OSError, StorageError) as error:
                    job.forgive()
                    tries += 1
                    unreadable = isinstance(error, StorageError)
                    if unreadable and tries >= READ_TRIES and self._spool.gives(job):
                        job.refuse(ErrorInfo(code=StorageError.code, message=str(error)))
                    self._pause(job, error, tries)
                except Exception as error:
                    _log.exception("unexpected")
                    if job.reason is not None or job.commit is not None:
                        # Setting it aside is what failed. It stays in the spool, for the
                        # next start; the files behind it are served.
                        what = f"{printable(job.name)} could not be finished and stays in the spool"
                        self._status.trouble(job.id, f"{what}: {error}; see the log")
                        return True
                    job.refuse(unexpected(printable(job.name), error))
        return True

    def _pause(self, job: Job, error: Exception, tries: int) -> None:
        """Say what is wrong, and wait a little longer each time."""
        pause = RETRY_SECONDS[min(tries, len(RETRY_SECONDS)) - 1]
        told = self._told(error)
        self._status.trouble("worker", f"{printable(job.name)} waits: {told}")
        _log.error("storage", error=told, retry_seconds=pause)
        self._status.rest("worker")
        self._stopping.wait(pause)

    def _told(self, error: Exception) -> str:
        return self._spool.places.told(error) if isinstance(error, OSError) else str(error)

    # --- what is called while a page is read ---------------------------------

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise CancelledError("The daemon is stopping.")
        self.before_page()

    def _progress(self, _stage: str) -> None:
        self._status.beat("worker")
        self._pacer.within_page()
        if self._stop_at is not None and time.monotonic() > self._stop_at:
            raise CancelledError("The daemon is stopping.")
