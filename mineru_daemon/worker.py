"""Turns claimed jobs into results: one job, one page at a time.

Work done is kept page by page, so that a job goes on where a kill or a stop cut it. A
page that ends the process is given up after `max_attempts`, the rest is still read.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from mineru_daemon.documents import Document, open_document
from mineru_daemon.engines.base import Engine, Progress
from mineru_daemon.errors import CancelledError, CrashedError, DocumentError, StorageError
from mineru_daemon.furniture import across_pages
from mineru_daemon.jobs import Job
from mineru_daemon.log import printable
from mineru_daemon.reading import (
    failed_page,
    head,
    limits_of,
    outcome_of,
    read_page,
    source_of,
    summed,
    unexpected,
    writers,
)
from mineru_daemon.results import ErrorInfo, PageResult, Source
from mineru_daemon.settings import Settings
from mineru_daemon.spool import Spool
from mineru_daemon.status import Status
from mineru_daemon.storage import RETRY_SECONDS, digest

_OPEN = "open"

PAGES_GIVEN_UP = 3
"""A document with this many pages that end the process is set aside as a whole."""

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
        self._engine = engine
        self.on_room: Callable[[], None] = lambda: None
        """Called when a waiting job was taken from the queue."""
        self.before_page: Callable[[], None] = lambda: None
        """Called before each page; it may raise CancelledError."""
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._unsaved: tuple[str, PageResult] | None = None
        """A page that was read and that no disk would take: job and result."""
        self._stop_at: float | None = None
        self._stopping = threading.Event()

    # --- from other threads --------------------------------------------------

    def has_room(self) -> bool:
        """Whether another claimed job may be offered."""
        return self._queue.qsize() < self.settings.queue_depth

    def offer(self, job: Job) -> None:
        """Put a claimed job behind the others. Who claims sees to `has_room` first."""
        self._queue.put(job)
        self._status.set(queued=self._queue.qsize())

    def stop(self, grace: float) -> None:
        """Stop after the current page, or within `grace` seconds in the midst of it."""
        self._stop_at = time.monotonic() + grace
        self._stopping.set()
        self._queue.put(None)

    # --- the loop ------------------------------------------------------------

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._stopping.is_set():
            job = self._queue.get()
            self._status.set(queued=self._queue.qsize())
            if job is None or self._stopping.is_set():
                return
            self.on_room()
            self._serve(job)
            self._status.rest("worker")

    def _serve(self, job: Job) -> None:
        """See one job through; whatever a disk does, it is tried until it works."""
        tries = 0
        with structlog.contextvars.bound_contextvars(job=job.id, file=job.path):
            while not self._stopping.is_set():
                self._status.beat("worker")
                try:
                    self._process(job)
                    self._status.trouble("worker", None)
                    return
                except CancelledError:
                    job.forgive()
                    try:
                        job.save()
                    except OSError as error:
                        # The pages are kept all the same; this stop counts as an attempt.
                        _log.warning("checkpoint-refused", error=self._told(error))
                        return
                    _log.info("checkpointed")
                    return
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
                        return
                    job.refuse(unexpected(printable(job.name), error))

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

    def _process(self, job: Job) -> None:
        began = time.perf_counter()
        if job.commit is not None:
            self._log_done(job, self._spool.finish(job), began)
            return
        if not self._spool.complete(job):
            _log.error("document-gone", advice="somebody removed it from the spool")
            return
        self._status.working_on(job.path, None, None)
        if job.reason is not None:
            self._set_aside(job, ErrorInfo(**job.reason), None, began)
            return
        if job.begin(_OPEN) > self.settings.max_attempts:
            self._set_aside(job, self._crashed(job, "while it was opened"), None, began)
            return
        try:
            sha256 = digest(job.document)
        except OSError as error:
            raise StorageError(
                f"{printable(job.name)} cannot be read: {error.strerror}; see to its disk or mode."
            ) from error
        try:
            with open_document(
                job.document, limits_of(self.settings), self.settings.pdf_dpi
            ) as document:
                job.end(_OPEN)
                source = source_of(
                    job.document, job.subfolder, sha256, document.media_type, document.page_count
                )
                self._read_pages(job, document)
        except DocumentError as error:
            self._set_aside(job, ErrorInfo(code=error.code, message=str(error)), sha256, began)
            return
        self._commit(job, source, began)

    def _crashed(self, job: Job, when: str) -> ErrorInfo:
        return ErrorInfo(
            code=CrashedError.code,
            message=f"{printable(job.name)} ended the process again and again {when}; "
            "it is damaged, or an attack.",
        )

    def _read_pages(self, job: Job, document: Document) -> None:
        for index in range(document.page_count):
            if job.pages.load(index) is not None:
                continue
            self._status.working_on(job.path, index, document.page_count)
            self.before_page()
            began = time.perf_counter()
            if job.begin(str(index)) > self.settings.max_attempts:
                job.given_up += 1
                page = failed_page(index, self._crashed(job, f"on page {index + 1}"))
            elif job.given_up >= PAGES_GIVEN_UP:
                page = failed_page(index, self._crashed(job, "on earlier pages"))
            elif self._unsaved is not None and self._unsaved[0] == job.id:
                page = self._unsaved[1]  # the first one that is not kept
            else:
                page = read_page(
                    self._engine, document, index, self._progress(), self._pictures_of(job)
                )
            job.end(str(index))
            self._unsaved = (job.id, page)
            job.pages.save(page)
            self._unsaved = None
            seconds = time.perf_counter() - began
            self._status.page_done(seconds)
            _log.debug("page", page=index, seconds=round(seconds, 3))
            if self._stopping.is_set() and index + 1 < document.page_count:
                raise CancelledError("The daemon is stopping.")

    def _pictures_of(self, job: Job) -> Path | None:
        """Where pictures of a job's pages are kept, if they are asked for."""
        return job.pages.pictures if "content_list" in self.settings.formats else None

    def _progress(self) -> Progress:
        def progress(_stage: str) -> None:
            self._status.beat("worker")
            if self._stop_at is not None and time.monotonic() > self._stop_at:
                raise CancelledError("The daemon is stopping.")

        return progress

    # --- results -------------------------------------------------------------

    def _commit(self, job: Job, source: Source, began: float) -> None:
        assert source.pages is not None
        page_count = source.pages

        def pages() -> Iterable[PageResult]:
            for page in job.pages.all(page_count):
                self._status.beat("worker")
                yield page

        timings: defaultdict[str, float] = defaultdict(float)
        errors = []
        for page in pages():
            summed(timings, page.timings)
            errors += [page.error] if page.error else []
        outcome, error = outcome_of(job.name, errors, page_count)
        outputs = writers(
            head(job.id, outcome, error, source, self._engine.info),
            across_pages(pages),
            lambda: dict(timings) | {"total": time.perf_counter() - began},
            self.settings.formats if outcome != "failed" else ["json"],
            self._pictures_of(job),
        )
        results = self._spool.commit(job, outcome, outputs, source.sha256)
        self._log_done(job, results, began, error, page_count)

    def _set_aside(self, job: Job, error: ErrorInfo, sha256: str | None, began: float) -> None:
        """Commit a failure: the original goes to `failed` beside its reason."""
        source = source_of(job.document, job.subfolder, sha256, None, None)
        outputs = writers(
            head(job.id, "failed", error, source, None),
            lambda: (),
            lambda: {"total": time.perf_counter() - began},
            ["json"],
        )
        self._log_done(job, self._spool.commit(job, "failed", outputs, sha256), began, error)

    def _log_done(
        self,
        job: Job,
        results: list[Path],
        began: float,
        error: ErrorInfo | None = None,
        pages: int | None = None,
    ) -> None:
        assert job.commit
        seconds = round(time.perf_counter() - began, 3)
        reason = error.message if error else None
        self._status.file_done(job.commit.outcome, job.path, reason)
        log = _log.warning if job.commit.outcome == "failed" else _log.info
        log(
            job.commit.outcome,
            result=os.fspath(results[-1]) if results else None,
            pages=pages,
            seconds=seconds,
            reason=reason,
        )
