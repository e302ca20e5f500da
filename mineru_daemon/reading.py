"""From an open document and an engine to page results, and from those to a result document.

What the worker (through the spool) and `parse` (without it) have in common.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import structlog

from mineru_daemon import markdown, pictures, results
from mineru_daemon.documents import Document, Limits
from mineru_daemon.engines.base import Engine, Progress
from mineru_daemon.errors import (
    CancelledError,
    CrashedError,
    DocumentError,
    EngineError,
    HungError,
    SlowError,
    StartError,
    StorageError,
)
from mineru_daemon.jobs import Outcome
from mineru_daemon.printable import printable
from mineru_daemon.results import EngineInfo, ErrorInfo, PageResult, Source
from mineru_daemon.settings import Format, Settings

CONTENT_LIST = ".mineru/_content_list.json"
LINKED_MARKDOWN = ".mineru/.md"
PICTURES = f".mineru/{pictures.FOLDER}"
"""What the format `content_list` asks for: a folder as MinerU has it, whose content list and
Markdown name the pictures beside them. The Markdown in the outbox cannot: what the folder is
called in the end is decided when all is written.

Its file `scan.pdf.mineru/scan.pdf_content_list.json`: tools find it by the end of its name,
and in the outbox itself, where readers wait for `*.json`, it is not taken for a result."""

TRIED_AGAIN = frozenset({CrashedError.code, HungError.code})
"""Errors that may not be the page's fault: memory that others took, a machine that was busy."""

_log = structlog.get_logger()


def limits_of(settings: Settings) -> Limits:
    """The limits on documents that the settings ask for."""
    return Limits(
        max_file_bytes=settings.max_file_bytes,
        max_pages=settings.max_pages,
        max_page_pixels=settings.max_page_pixels,
        render_seconds=settings.render_seconds,
        max_memory_bytes=settings.max_memory_bytes,
    )


def read_page(
    engine: Engine,
    document: Document,
    index: int,
    progress: Progress,
    pictures_in: Path | None = None,
    seconds: float = math.inf,
) -> PageResult:
    """Read one page, within so many seconds; what is wrong with it stands in its `error`.

    With `pictures_in` the pictures of its blocks are cut out into that folder.

    Raises CancelledError, and StorageError or StartError when this machine fails rather than
    the page.
    """
    began = time.perf_counter()
    progress = document.progress = _bounded(progress, index, seconds)
    try:
        progress("open")
        page = document.page(index)
        try:
            reading = engine.read(page, progress)
            width_pt, height_pt = page.width_pt, page.height_pt
            if (reading.rotation - page.rotation) % 180:
                width_pt, height_pt = height_pt, width_pt
            if pictures_in is not None:
                cut_began = time.perf_counter()
                progress("pictures")
                reading.blocks = pictures.cut_out(
                    page, reading.rotation, reading.blocks, pictures_in
                )
                reading.timings["pictures"] = time.perf_counter() - cut_began
        finally:
            page.close()
    except (CancelledError, StorageError, StartError):
        raise
    except (DocumentError, EngineError) as error:
        return failed_page(index, ErrorInfo(code=error.code, message=str(error)))
    except MemoryError:
        message = f"Page {index + 1} needs more memory than there is; lower max_page_pixels."
        return failed_page(index, ErrorInfo(code="memory", message=message))
    except Exception as error:
        _log.exception("page-failed", page=index)
        return failed_page(index, unexpected(f"Page {index + 1}", error))
    return PageResult(
        index=index,
        width_px=reading.width_px,
        height_px=reading.height_px,
        width_pt=width_pt,
        height_pt=height_pt,
        dpi=reading.dpi,
        rotation=reading.rotation,
        origin=reading.origin,
        origin_reason=reading.origin_reason,
        confidence=reading.confidence,
        blocks=reading.blocks,
        warnings=reading.warnings,
        timings=_rounded(reading.timings | {"total": time.perf_counter() - began}),
    )


def _bounded(progress: Progress, index: int, seconds: float) -> Progress:
    """`progress` that raises SlowError when the page has taken so long. What `progress` itself
    takes, as it may rest, does not count."""
    deadline = time.monotonic() + seconds

    def bounded(stage: str) -> None:
        nonlocal deadline
        now = time.monotonic()
        if now > deadline:
            raise SlowError(
                f"Page {index + 1} was given up after {seconds:g} s; raise page_seconds, or "
                "deliver it simpler or at a lower resolution."
            )
        progress(stage)
        deadline += time.monotonic() - now

    return bounded


def unexpected(what: str, error: Exception) -> ErrorInfo:
    """A programming error, told as one sentence; its traceback is in the log."""
    return ErrorInfo(
        code="internal",
        message=f"{what} met an unexpected error ({type(error).__name__}: "
        f"{printable(str(error))[:200]}); please report it with the log.",
    )


def out_of_time(index: int, spent: float, settings: Settings) -> PageResult | None:
    """Page `index` given up if its document has already taken its time, `spent` seconds."""
    if spent < settings.document_seconds:
        return None
    message = (
        f"Page {index + 1} was not read, the pages before it took {settings.document_seconds:g} s; "
        "split the document or raise document_seconds."
    )
    return failed_page(index, ErrorInfo(code=SlowError.code, message=message))


def failed_page(index: int, error: ErrorInfo) -> PageResult:
    """A page that could not be read."""
    return PageResult(
        index=index,
        width_px=None,
        height_px=None,
        width_pt=None,
        height_pt=None,
        dpi=None,
        error=error,
    )


def outcome_of(
    name: str, errors: Sequence[ErrorInfo], page_count: int
) -> tuple[Outcome, ErrorInfo | None]:
    """How a document came out whose pages failed with these errors."""
    if not errors:
        return "success", None
    if len(errors) < page_count:
        message = (
            f"{len(errors)} of {page_count} pages of {printable(name)} could not be read; "
            "each names its reason."
        )
        return "partial", ErrorInfo(code="partial", message=message)
    return "failed", errors[0]


def source_of(
    path: Path, folder: str, sha256: str | None, media_type: str | None, pages: int | None
) -> Source:
    """What the result says of the delivered file."""
    raw = os.fsencode(path.name)
    name = raw.decode("utf-8", "replace")
    try:
        size = path.stat().st_size
    except OSError:
        size = None
    return Source(
        name=name,
        folder=os.fsencode(folder).decode("utf-8", "replace"),
        name_hex=None if os.fsencode(name) == raw else raw.hex(),
        sha256=sha256,
        bytes=size,
        media_type=media_type,
        pages=pages,
    )


def head(
    job: str,
    status: Outcome,
    error: ErrorInfo | None,
    source: Source,
    engine: EngineInfo | None,
) -> dict[str, Any]:
    """The part of a result document that comes before its pages."""
    return {
        "job": job,
        "status": status,
        "error": error.model_dump() if error else None,
        "source": source.model_dump(),
        "engine": engine.model_dump() if engine else None,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def writers(
    head: dict[str, Any],
    pages: Callable[[], Iterable[PageResult]],
    timings: Callable[[], Mapping[str, float]],
    formats: Collection[Format],
    pictures_in: Path | None = None,
) -> dict[str, Callable[[IO[str]], object] | Path]:
    """What is written for a document, by suffix; JSON last, as readers wait for it.

    A suffix with a slash is that of a folder, and of the file in it; a path stands for the
    files of a folder. `pictures_in` is where `read_page` has put the pictures.

    The stage `write` counts Markdown and the pages of the JSON itself; what comes after
    (flush and renames) cannot be told in the file that is flushed.
    """
    began = 0.0

    def write_markdown(stream: IO[str]) -> None:
        nonlocal began
        began = time.perf_counter()
        markdown.write(stream, pages())

    def write_json(stream: IO[str]) -> None:
        start = began or time.perf_counter()
        results.write_json(
            stream,
            head,
            pages,
            lambda: _rounded({**timings(), "write": time.perf_counter() - start}),
        )

    def write_content_list(stream: IO[str]) -> None:
        results.write_content_list(stream, pages())

    def write_linked_markdown(stream: IO[str]) -> None:
        markdown.write(stream, pages(), pictures=True)

    outputs: dict[str, Callable[[IO[str]], object] | Path] = {}
    if "content_list" in formats:
        outputs[CONTENT_LIST] = write_content_list
        if "markdown" in formats:
            outputs[LINKED_MARKDOWN] = write_linked_markdown
        if pictures_in is not None:
            outputs[PICTURES] = pictures_in / pictures.FOLDER
    if "markdown" in formats:
        outputs[".md"] = write_markdown
    outputs[".json"] = write_json
    return outputs


def summed(into: MutableMapping[str, float], timings: Mapping[str, float]) -> None:
    """Add a page's timings, but for its total, to those of its document."""
    for stage, seconds in timings.items():
        if stage != "total":
            into[stage] = into.get(stage, 0.0) + seconds


def _rounded(timings: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(seconds, 6) for stage, seconds in timings.items()}
