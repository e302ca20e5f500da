"""`mineru-daemon parse`: files read directly, without inbox and spool."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from tqdm import tqdm

from mineru_daemon import markdown
from mineru_daemon.documents.reader import Reader
from mineru_daemon.engines import select
from mineru_daemon.engines.base import Engine
from mineru_daemon.errors import EX_USAGE, MineruError
from mineru_daemon.furniture import across_pages
from mineru_daemon.jobs import Outcome, PageStore
from mineru_daemon.listing import ignore_pattern
from mineru_daemon.printable import printable
from mineru_daemon.reading import (
    head,
    limits_of,
    out_of_time,
    outcome_of,
    read_page,
    source_of,
    summed,
    writers,
)
from mineru_daemon.results import ErrorInfo
from mineru_daemon.settings import Settings
from mineru_daemon.storage import digest


def run(settings: Settings, names: Sequence[Path], output_dir: Path | None) -> int:
    """Read files and folders; 0 when all were read, 1 when any failed.

    With `output_dir` each file NAME gives NAME.json and NAME.md in it (those of a folder
    keep their sub-folders); without, Markdown goes to standard output.
    """
    files = list(_files(names, settings))
    if not files:
        print("There is no document among what was named.", file=sys.stderr)
        return EX_USAGE
    engine = select.load(settings)
    failures = 0
    with (
        Reader() as reader,
        tqdm(total=len(files), unit="file", disable=not sys.stderr.isatty()) as bar,
    ):
        for number, (path, relative) in enumerate(files):
            bar.set_description(printable(path.name)[:40])
            target = output_dir / relative if output_dir else None
            if target is None and number:
                print()
            outcome, message = _read(settings, engine, reader, path, target, bar)
            if outcome != "success":
                bar.write(message, file=sys.stderr)
            failures += outcome == "failed"
            bar.update()
    engine.close()
    return 1 if failures else 0


def _files(names: Sequence[Path], settings: Settings) -> Iterator[tuple[Path, Path]]:
    """Files to read, each with its place below the output folder."""
    ignored = ignore_pattern(settings.ignore)
    for name in names:
        if not name.is_dir():
            yield name, Path(name.name)
            continue
        for folder, folders, found in os.walk(name):
            folders[:] = sorted(one for one in folders if not ignored.match(one))
            for file in sorted(found):
                path = Path(folder, file)
                if not ignored.match(file) and path.is_file():
                    yield path, path.relative_to(name)


def _read(
    settings: Settings,
    engine: Engine,
    reader: Reader,
    path: Path,
    target: Path | None,
    bar: tqdm,
) -> tuple[Outcome, str]:
    began = time.perf_counter()
    sha256 = media_type = page_count = None
    timings: defaultdict[str, float] = defaultdict(float)
    errors: list[ErrorInfo] = []
    with tempfile.TemporaryDirectory(prefix="mineru-parse-") as folder:
        store = PageStore(Path(folder) / "pages")
        asked = target is not None and "content_list" in settings.formats
        pictures_in = store.pictures if asked else None
        outcome: Outcome
        error: ErrorInfo | None
        try:
            with reader.open(path, limits_of(settings), settings.pdf_dpi) as document:
                sha256 = digest(path)
                media_type, page_count = document.media_type, document.page_count
                for index in range(page_count):
                    if page_count > 1:
                        bar.set_postfix_str(f"page {index + 1} of {page_count}")
                    page = out_of_time(index, time.perf_counter() - began, settings) or read_page(
                        engine,
                        document,
                        index,
                        lambda _stage: None,
                        pictures_in,
                        settings.page_seconds,
                    )
                    errors += [page.error] if page.error else []
                    summed(timings, page.timings)
                    store.save(page)
        except MineruError as failure:
            outcome, error = "failed", ErrorInfo(code=failure.code, message=str(failure))
        else:
            outcome, error = outcome_of(path.name, errors, page_count)
        bar.set_postfix_str("")
        kept = 0 if outcome == "failed" and not errors else page_count or 0
        pages = across_pages(lambda: store.all(kept))
        if target is None:
            markdown.write(sys.stdout, pages())
            sys.stdout.flush()
        else:
            source = source_of(path, "", sha256, media_type, page_count)
            outputs = writers(
                head(secrets.token_hex(8), outcome, error, source, engine.info),
                pages,
                lambda: dict(timings) | {"total": time.perf_counter() - began},
                settings.formats,
                pictures_in,
            )
            _write(target, outputs)
    return outcome, error.message if error else ""


def _write(target: Path, outputs: Mapping[str, Callable[[IO[str]], object] | Path]) -> None:
    """Write what `writers` gave beside `target`, over what an earlier run left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix, write in outputs.items():
        beside, _, inside = suffix.partition("/")
        place = target.with_name(target.name + beside)
        if isinstance(write, Path):
            place.mkdir(exist_ok=True)
            shutil.rmtree(place / inside, ignore_errors=True)
            if write.is_dir():
                shutil.copytree(write, place / inside)
            continue
        if inside:
            place.mkdir(exist_ok=True)
            place /= target.name + inside
        fresh = place.with_name(f".{place.name}.part")
        with fresh.open("w", encoding="utf-8") as stream:
            write(stream)
        fresh.replace(place)
