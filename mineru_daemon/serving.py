"""One claimed job on its way to its result: opened, read a page a turn, and published.

Work done is kept page by page, so that a job goes on where a kill or a stop cut it. A page
that ends the process is given up after `max_attempts`, the rest is still read. Whose turn it
is, and what becomes of a job whose disk refuses, is the worker's business.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from mineru_daemon.documents import Document
from mineru_daemon.documents.reader import Reader
from mineru_daemon.engines.base import Engine, Progress
from mineru_daemon.errors import CrashedError, DocumentError, StorageError
from mineru_daemon.furniture import across_pages
from mineru_daemon.jobs import Job
from mineru_daemon.pacing import Pacer
from mineru_daemon.printable import printable
from mineru_daemon.reading import (
    TRIED_AGAIN,
    failed_page,
    head,
    limits_of,
    out_of_time,
    outcome_of,
    read_page,
    source_of,
    summed,
    writers,
)
from mineru_daemon.results import ErrorInfo, PageResult, Source
from mineru_daemon.settings import Settings
from mineru_daemon.spool import Spool
from mineru_daemon.status import Status
from mineru_daemon.storage import digest

_OPEN = "open"

PAGES_GIVEN_UP = 3
"""A document with this many pages that end the process is set aside as a whole."""

_log = structlog.get_logger()


@dataclass(frozen=True)
class Means:
    """What all jobs are served with."""

    settings: Callable[[], Settings]
    """Those of the moment."""
    spool: Spool
    status: Status
    engine: Engine
    reader: Reader
    pacer: Pacer
    progress: Progress
    """Told of every step; raises CancelledError when the daemon has to end in its midst."""
    go_on: Callable[[], None]
    """Asked before each page; raises CancelledError when no other is to be begun."""


class Serving:
    """A job and what is known of it while it is in work."""

    def __init__(self, job: Job, means: Means) -> None:
        self.job = job
        self._means = means
        self._document: Document | None = None
        self._source: Source | None = None
        self._sha256: str | None = None
        self._page = 0
        """All before this one are read; what lies on disk is looked at anew after an error."""
        self._spent = 0.0
        """Seconds of its pages so far, those that were read before a restart among them."""
        self._unsaved: PageResult | None = None
        """The page that was read last, while no disk takes it."""
        self._seconds = 0.0
        """Of all turns so far."""

    @property
    def open_pages(self) -> int:
        """Pages of the document if it is open, or 0."""
        return self._document.page_count if self._document else 0

    def park(self) -> None:
        """Close the document; the next turn opens it again."""
        if self._document:
            self._document.close()
            self._document = None

    def turn(self) -> bool:
        """Go on as far as one page takes it; True when the job is done.

        Raises OSError and StorageError when a disk refuses: another turn tries it again.
        CancelledError when the daemon stops.
        """
        began = time.perf_counter()

        def seconds() -> float:
            return self._seconds + time.perf_counter() - began

        try:
            done = self._turn(seconds)
        except BaseException:
            self.park()
            self._page = 0
            self._spent = 0.0
            raise
        if done:
            self.park()
        self._seconds = seconds()
        return done

    def _turn(self, seconds: Callable[[], float]) -> bool:
        job, means = self.job, self._means
        if job.commit is not None:
            self._log_done(means.spool.finish(job), seconds)
            return True
        if self._document is None and not means.spool.complete(job):
            _log.error("document-gone", advice="somebody removed it from the spool")
            return True
        if job.reason is not None:
            means.status.working_on(job.path, None, None)
            self._set_aside(ErrorInfo(**job.reason), seconds)
            return True
        try:
            document = self._document or self._opened()
        except CrashedError as error:
            if job.attempts.get(_OPEN, 0) < means.settings().max_attempts:
                self._try_again(str(error))
                return False
            self._set_aside(ErrorInfo(code=error.code, message=str(error)), seconds)
            return True
        except DocumentError as error:
            self._set_aside(ErrorInfo(code=error.code, message=str(error)), seconds)
            return True
        self._document = document
        while self._page < document.page_count and (kept := job.pages.load(self._page)) is not None:
            self._spent += kept.timings.get("total", 0.0)
            self._page += 1
        if self._page < document.page_count and self._read_page(document, self._page):
            self._page += 1
        if self._page < document.page_count:
            return False
        self._commit(seconds)
        return True

    # --- reading -------------------------------------------------------------

    def _opened(self) -> Document:
        """Raises DocumentError when the document cannot be read, for good."""
        job, means = self.job, self._means
        settings = means.settings()
        means.status.working_on(job.path, None, None)
        if job.begin(_OPEN) > settings.max_attempts:
            raise self._crashed("while it was opened")
        try:
            self._sha256 = self._sha256 or digest(job.document)
        except OSError as error:
            raise StorageError(
                f"{printable(job.name)} cannot be read: {error.strerror}; see to its disk or mode."
            ) from error
        document = means.reader.open(
            job.document, limits_of(settings), settings.pdf_dpi, means.progress
        )
        job.end(_OPEN)
        self._source = source_of(
            job.document, job.subfolder, self._sha256, document.media_type, document.page_count
        )
        return document

    def _crashed(self, when: str) -> CrashedError:
        return CrashedError(
            f"{printable(self.job.name)} ended the process again and again {when}; "
            "it is damaged, or an attack."
        )

    def _given_up(self, index: int, when: str) -> PageResult:
        error = self._crashed(when)
        return failed_page(index, ErrorInfo(code=error.code, message=str(error)))

    def _try_again(self, reason: str) -> None:
        """Nothing is noted: the next turn, after those of others, begins where this one did."""
        _log.warning("tried-again", reason=reason)

    def _read_page(self, document: Document, index: int) -> bool:
        """Read a page and keep its result; False when it is to be tried once more."""
        job, means = self.job, self._means
        means.status.working_on(job.path, index, document.page_count)
        means.pacer.before_page()
        means.go_on()
        began, rested = time.perf_counter(), means.pacer.rested
        settings = means.settings()
        attempt = job.begin(str(index))
        if attempt > settings.max_attempts:
            job.given_up += 1
            page = self._given_up(index, f"on page {index + 1}")
        elif job.given_up >= PAGES_GIVEN_UP:
            page = self._given_up(index, "on earlier pages")
        elif self._unsaved is not None and self._unsaved.index == index:
            page = self._unsaved
        else:
            page = out_of_time(index, self._spent, settings) or read_page(
                means.engine,
                document,
                index,
                means.progress,
                self._pictures(),
                settings.page_seconds,
            )
            if page.error is not None and page.error.code in TRIED_AGAIN:
                if attempt < settings.max_attempts:
                    self._spent += time.perf_counter() - began
                    self._try_again(page.error.message)
                    return False
                job.given_up += 1
        job.end(str(index))
        rest = means.pacer.rested - rested
        if rest:
            page.timings["rest"] = round(rest, 6)
        self._unsaved = page
        job.pages.save(page)
        self._unsaved = None
        seconds = time.perf_counter() - began - rest
        self._spent += seconds
        means.status.page_done(seconds)
        _log.debug("page", page=index, seconds=round(seconds, 3))
        return True

    def _pictures(self) -> Path | None:
        """Where pictures of the pages are kept, if they are asked for."""
        asked = "content_list" in self._means.settings().formats
        return self.job.pages.pictures if asked else None

    # --- results -------------------------------------------------------------

    def _commit(self, seconds: Callable[[], float]) -> None:
        job, means, source = self.job, self._means, self._source
        assert source
        assert source.pages is not None
        page_count = source.pages

        def pages() -> Iterable[PageResult]:
            for page in job.pages.all(page_count):
                means.status.beat("worker")
                yield page

        timings: defaultdict[str, float] = defaultdict(float)
        errors = []
        for page in pages():
            summed(timings, page.timings)
            errors += [page.error] if page.error else []
        outcome, error = outcome_of(job.name, errors, page_count)
        outputs = writers(
            head(job.id, outcome, error, source, means.engine.info),
            across_pages(pages),
            lambda: dict(timings) | {"total": seconds()},
            means.settings().formats if outcome != "failed" else ["json"],
            self._pictures(),
        )
        results = means.spool.commit(job, outcome, outputs, source.sha256)
        self._log_done(results, seconds, error, page_count)

    def _set_aside(self, error: ErrorInfo, seconds: Callable[[], float]) -> None:
        """Commit a failure: the original goes to `failed` beside its reason."""
        job = self.job
        source = source_of(job.document, job.subfolder, self._sha256, None, None)
        outputs = writers(
            head(job.id, "failed", error, source, None),
            lambda: (),
            lambda: {"total": seconds()},
            ["json"],
        )
        results = self._means.spool.commit(job, "failed", outputs, self._sha256)
        self._log_done(results, seconds, error)

    def _log_done(
        self,
        results: list[Path],
        seconds: Callable[[], float],
        error: ErrorInfo | None = None,
        pages: int | None = None,
    ) -> None:
        job = self.job
        assert job.commit
        reason = error.message if error else None
        self._means.status.file_done(job.commit.outcome, job.path, reason)
        log = _log.warning if job.commit.outcome == "failed" else _log.info
        log(
            job.commit.outcome,
            result=os.fspath(results[-1]) if results else None,
            pages=pages,
            seconds=round(seconds(), 3),
            reason=reason,
        )
