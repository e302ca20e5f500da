"""However a file arrives in the inbox, and whatever it is called, it gives one result.

Inbox, spool and worker are real and run in threads of their own; only the engine reads
nothing. All deliveries are made at once, as on a busy share, and then looked at one by one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mineru_daemon.bench import cases
from mineru_daemon.engines.base import PageReading
from mineru_daemon.inbox import Inbox
from mineru_daemon.results import EngineInfo
from mineru_daemon.settings import FOLDER_NAMES, Settings
from mineru_daemon.spool import Spool
from mineru_daemon.status import Status
from mineru_daemon.suspects import CheckJournal
from mineru_daemon.worker import Worker

SETTLE, APPEND, INCOMPLETE = 1.0, 3.0, 6.0
"""Settings, in seconds: scaled down, yet so long that a busy machine does not make a pause
of a writer look like its end."""

PAUSE = 0.2
LONG_PAUSE = 1.5
"""Longer than a file has to be still, as scanners make them between pages."""

WAIT_SECONDS = 90.0


class SilentEngine:
    """Reads nothing, as soon as it may."""

    info = EngineInfo(name="silent", model="none", precision="none", settings={})

    def __init__(self):
        self.may_read = threading.Event()
        self.may_read.set()

    def warm_up(self):
        pass

    def read(self, page, progress):
        self.may_read.wait()
        return PageReading(blocks=[], width_px=1, height_px=1, dpi=None)

    def close(self):
        pass


@contextlib.contextmanager
def serving(base: Path, **changes) -> Iterator[tuple[Settings, SilentEngine]]:
    engine = SilentEngine()
    options: dict[str, Any] = {
        **{name: base / name for name in FOLDER_NAMES},
        "settle_seconds": SETTLE,
        "append_seconds": APPEND,
        "incomplete_seconds": INCOMPLETE,
        "rescan_seconds": 2.0,
        "recursive": True,
        **changes,
    }
    settings = Settings(**options)
    for name in FOLDER_NAMES:
        getattr(settings, name).mkdir()
    # The daemon ignores it too: the kernel's word that a read lease is to be given back.
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    stop = threading.Event()
    with Spool.opened(settings) as spool:
        status = Status()
        worker = Worker(settings, spool, status, engine)
        inbox = Inbox(settings, spool, status, worker.offer, worker.has_room)
        worker.on_room = inbox.wake
        threads = [
            threading.Thread(target=worker.run),
            threading.Thread(target=inbox.run, args=(stop,)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield settings, engine
        finally:
            stop.set()
            engine.may_read.set()
            inbox.wake()
            worker.stop(0)
            for thread in threads:
                thread.join()
            signal.signal(signal.SIGIO, before)


def files_below(folder: Path) -> list[Path]:
    """As seen while others move them: folders that go away are no error to `os.walk`."""
    return [Path(base) / name for base, _, names in os.walk(folder) for name in names]


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not reached():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def served_up(settings: Settings) -> bool:
    """Whether nothing is left to do, now and after one more look at the inbox."""
    return not files_below(settings.inbox) and not files_below(settings.spool / "jobs")


def results_of(settings: Settings) -> list[tuple[str, str]]:
    """Status, and hash of the original that lies under the result's name."""
    found = []
    for results, originals in (
        (settings.outbox, settings.done),
        (settings.failed, settings.failed),
    ):
        for path in results.rglob("*.json"):
            original = originals / path.relative_to(results).parent / path.name[: -len(".json")]
            found.append((json.loads(path.read_text())["status"], sha256(original.read_bytes())))
    return found


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def in_parts(path: Path, content: bytes, parts: int, pause: float = PAUSE) -> None:
    """Write, close, wait, reopen, as scanners do between pages."""
    size = len(content) // parts + 1
    for start in range(0, len(content), size):
        with path.open("ab") as stream:
            stream.write(content[start : start + size])
        time.sleep(pause)


# --- the ways: each returns the contents that were delivered ------------------


def whole(inbox: Path) -> list[bytes]:
    content = cases.png("whole")
    (inbox / "whole.png").write_bytes(content)
    return [content]


def pdf_page_by_page(inbox: Path) -> list[bytes]:
    content = cases.pdf(["part one", "part two", "part three"])
    in_parts(inbox / "parts.pdf", content, 4)
    return [content]


def pdf_with_long_pauses(inbox: Path) -> list[bytes]:
    content = cases.pdf(["slow one", "slow two", "slow three"])
    in_parts(inbox / "slow.pdf", content, 3, LONG_PAUSE)
    return [content]


def tiff_that_grows_page_by_page(inbox: Path) -> list[bytes]:
    texts = ["growing one", "growing two", "growing three"]
    path = inbox / "growing.tif"
    for count in range(1, len(texts) + 1):
        content = cases.tiff(texts[:count])
        path.write_bytes(content)
        time.sleep(LONG_PAUSE)
    return [content]


def rewritten_with_a_longer_version(inbox: Path) -> list[bytes]:
    for count in (1, 2, 3):
        content = cases.pdf(["longer"] * count)
        (inbox / "longer.pdf").write_bytes(content)
        time.sleep(PAUSE)
    return [content]


def overwritten_in_place(inbox: Path) -> list[bytes]:
    path = inbox / "overwritten.png"
    path.write_bytes(cases.png("first version"))
    time.sleep(PAUSE)
    content = cases.png("other version")
    with path.open("r+b") as stream:
        stream.write(content)
        stream.truncate()
    return [content]


def announced_twice(inbox: Path) -> list[bytes]:
    content = cases.png("announced")
    path = inbox / "announced.png"
    path.write_bytes(content)
    time.sleep(PAUSE)
    os.utime(path)
    return [content]


def temporary_name_then_rename(inbox: Path) -> list[bytes]:
    content = cases.pdf(["renamed"])
    path = inbox / "renamed.pdf.tmp"
    in_parts(path, content, 2, LONG_PAUSE)
    path.rename(inbox / "renamed.pdf")
    return [content]


def hidden_name_then_rename(inbox: Path) -> list[bytes]:
    content = cases.pdf(["synchronised"])
    path = inbox / ".synchronised.pdf.Xa3f9Q"
    in_parts(path, content, 2, LONG_PAUSE)
    path.rename(inbox / "synchronised.pdf")
    return [content]


def size_first_then_filled(inbox: Path) -> list[bytes]:
    delivered = []
    for name, content in (
        ("filled.png", cases.png("filled")),
        ("filled.pdf", cases.pdf(["filled one", "filled two"])),
    ):
        path = inbox / name
        path.touch()
        os.truncate(path, len(content))
        for start in range(0, len(content), len(content) // 3 + 1):
            time.sleep(LONG_PAUSE)
            with path.open("r+b") as stream:
                stream.seek(start)
                stream.write(content[start : start + len(content) // 3 + 1])
        delivered.append(content)
    return delivered


def held_open_though_complete(inbox: Path) -> list[bytes]:
    """The end is there, yet the writer goes on in the middle."""
    content = cases.png("held open")
    with (inbox / "held.png").open("wb", buffering=0) as stream:
        stream.write(content)
        time.sleep(2 * LONG_PAUSE)
        stream.write(b"appendix")
    return [content + b"appendix"]


def moved_in(inbox: Path) -> list[bytes]:
    content = cases.png("moved")
    outside = inbox.parent / "moved.png"
    outside.write_bytes(content)
    outside.rename(inbox / "moved.png")
    return [content]


def linked_in(inbox: Path) -> list[bytes]:
    content = cases.png("linked")
    outside = inbox.parent / "linked.png"
    outside.write_bytes(content)
    os.link(outside, inbox / "linked.png")
    return [content]


def a_folder_moved_in(inbox: Path) -> list[bytes]:
    outside = inbox.parent / "folder"
    (outside / "deeper").mkdir(parents=True)
    contents = [cases.png(f"in a folder {number}") for number in range(3)]
    for path, content in zip(("1.png", "2.png", "deeper/1.png"), contents, strict=True):
        (outside / path).write_bytes(content)
    outside.rename(inbox / "folder")
    return contents


def one_name_twice(inbox: Path) -> list[bytes]:
    contents = [cases.png("the first of a name"), cases.png("the second of a name")]
    for content in contents:
        wait_until(lambda: not (inbox / "again.png").exists())
        (inbox / "again.png").write_bytes(content)
    return contents


WAYS: dict[str, Callable[[Path], list[bytes]]] = {
    way.__name__.replace("_", " "): way
    for way in (
        whole,
        pdf_page_by_page,
        pdf_with_long_pauses,
        tiff_that_grows_page_by_page,
        rewritten_with_a_longer_version,
        overwritten_in_place,
        announced_twice,
        temporary_name_then_rename,
        hidden_name_then_rename,
        size_first_then_filled,
        held_open_though_complete,
        moved_in,
        linked_in,
        a_folder_moved_in,
        one_name_twice,
    )
}


def cut_off_for_good(inbox: Path) -> list[bytes]:
    content = cases.pdf(["cut off"])[:-60]
    (inbox / "cut.pdf").write_bytes(content)
    return [content]


def empty_for_good(inbox: Path) -> list[bytes]:
    (inbox / os.fsdecode(b"caf\xe9 empty\n.pdf")).touch()
    return [b""]


def no_document(inbox: Path) -> list[bytes]:
    content = cases.unsupported("a letter")
    (inbox / "letter.pdf").write_bytes(content)
    return [content]


BAD: dict[str, Callable[[Path], list[bytes]]] = {
    way.__name__.replace("_", " "): way for way in (cut_off_for_good, empty_for_good, no_document)
}

NAMES = {
    "spaces": b" two  spaces .png",
    "quotes": b'it\'s "quoted" `so` $(so).png',
    "newlines": b"line\nline\r\n.png",
    "no UTF-8": b"caf\xe9\xff\xfe.png",
    "255 bytes": b"n" * 251 + b".png",
    "255 bytes of three each": "頁".encode() * 83 + b"11.png",
    "255 bytes without suffix": b"s" * 255,
    "a leading dash": b"--output-dir=x.png",
    "emoji": "📄🧾.png".encode(),
    "right-to-left marks": "abc\u202egnp.exe\u200f.png".encode(),
    "control characters": b"bell\x07escape\x1b[31m.png",
    "no suffix": b"scan",
    "a result's name": b"scan.json",
    "a percent sign and a backslash": b"100%\\n%s.png",
}


def content_of(kind: str) -> bytes:
    return cases.png(f"named with {kind}")


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> tuple[Settings, dict[str, list[bytes]]]:
    """All deliveries made at once and served, and what each delivered."""
    with serving(tmp_path_factory.mktemp("deliveries")) as (settings, _):
        ways = {**WAYS, **BAD}
        for kind, name in NAMES.items():
            (settings.inbox / os.fsdecode(name)).write_bytes(content_of(kind))
        with ThreadPoolExecutor(len(ways)) as pool:
            futures = {name: pool.submit(way, settings.inbox) for name, way in ways.items()}
        delivered = {name: future.result() for name, future in futures.items()}
        wait_until(lambda: served_up(settings))
    return settings, delivered


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_delivery_gives_one_result_for_each_file(house, way):
    settings, delivered = house
    found = Counter(results_of(settings))
    for content in delivered[way]:
        assert found["success", sha256(content)] == 1


@pytest.mark.slow
@pytest.mark.parametrize("way", BAD)
def test_what_cannot_be_read_fails_once(house, way):
    settings, delivered = house
    found = Counter(results_of(settings))
    for content in delivered[way]:
        assert found["failed", sha256(content)] == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", NAMES)
def test_any_name_is_served_under_its_name(house, kind):
    settings, _ = house
    mine = [path for path in files_below(settings.done) if path.read_bytes() == content_of(kind)]
    (original,) = mine
    name = os.fsdecode(NAMES[kind])
    # The result's name is longer by its suffix: the longest names are cut, both alike.
    assert original.name == name or (len(NAMES[kind]) > 250 and original.name[:50] == name[:50])
    result = json.loads((settings.outbox / f"{original.name}.json").read_text())
    raw = result["source"]["name_hex"]
    assert (bytes.fromhex(raw) if raw else result["source"]["name"].encode()) == NAMES[kind]


@pytest.mark.slow
def test_nothing_else_comes_out_and_nothing_is_left_over(house):
    settings, delivered = house
    files = [content for contents in delivered.values() for content in contents]
    expected = Counter(sha256(content) for content in files)
    expected.update(sha256(content_of(kind)) for kind in NAMES)
    assert Counter(found for _, found in results_of(settings)) == expected
    for name in ("outbox", "done", "failed"):
        left = [path.name for path in files_below(getattr(settings, name))]
        assert not [name for name in left if name.startswith(".") or name.endswith(".part")]


@pytest.mark.slow
def test_an_inbox_that_is_removed_and_made_anew_is_served_again(tmp_path):
    with serving(tmp_path, settle_seconds=0.1) as (settings, _):
        whole(settings.inbox)
        wait_until(lambda: len(results_of(settings)) == 1)
        shutil.rmtree(settings.inbox)
        time.sleep(PAUSE)
        settings.inbox.mkdir()
        moved_in(settings.inbox)
        wait_until(lambda: len(results_of(settings)) == 2)


@pytest.mark.slow
def test_a_kept_file_that_is_touched_while_it_is_read_is_read_once(tmp_path):
    options: dict[str, Any] = {"settle_seconds": 0.1, "rescan_seconds": 0.2, "on_success": "keep"}
    with serving(tmp_path, **options) as (settings, engine):
        engine.may_read.clear()
        path = settings.inbox / "kept.png"
        path.write_bytes(cases.png("kept"))
        wait_until(lambda: bool(files_below(settings.spool / "jobs")))
        os.utime(path)
        # Files are taken one after the other: when this one is, the touched one was looked at.
        later = settings.inbox / "later.png"
        later.write_bytes(cases.png("later"))
        wait_until(lambda: any(settings.spool.glob("jobs/*/document/later.png")))
        engine.may_read.set()
        wait_until(lambda: not files_below(settings.spool / "jobs"))
        names = sorted(path.name for path in settings.outbox.glob("*.json"))
        assert names == ["kept.png.json", "later.png.json"]


@pytest.mark.slow
def test_a_disk_that_is_full_while_files_are_looked_into_only_delays_them(tmp_path, monkeypatch):
    begin, refusals = CheckJournal.begin, 2

    def refuse_first(journal, file):
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        begin(journal, file)

    monkeypatch.setattr(CheckJournal, "begin", refuse_first)
    monkeypatch.setattr("mineru_daemon.inbox.WATCH_CHECK_SECONDS", 0.2)
    with serving(tmp_path, settle_seconds=0.1) as (settings, _):
        (content,) = whole(settings.inbox)
        wait_until(lambda: results_of(settings) == [("success", sha256(content))])
        assert not refusals
