"""A file that is swapped between a look at it and its use, at each moment there is.

Every call that goes to the file by its name (open, stat, rename) is a moment. The same delivery is
made once for each, and just before that call what lies there is replaced, by whoever may write to
the inbox. The secret is of the same size and time, so that nothing but the file itself tells.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mineru_daemon import check, claim, listing, storage
from mineru_daemon.inbox import Inbox
from mineru_daemon.jobs import Job
from mineru_daemon.samples import paths
from mineru_daemon.settings import FOLDER_NAMES, Settings
from mineru_daemon.spool import Spool
from mineru_daemon.status import Status

_, PNG = paths()
HONEST, SECRET = (PNG.read_bytes() + mark for mark in (b"honest", b"SECRET"))
THEN = (1_700_000_000, 1_700_000_000)
NAME = "a.png"

CALLS: tuple[tuple[ModuleType, str], ...] = (
    (os, "open"), (os, "stat"), (os, "lstat"), (os, "rename"), (io, "open"),
)  # fmt: skip
"""Through which all that a daemon does with names goes."""


class Place:
    """An inbox with a folder, a file in it, a secret beside the inbox, and a daemon's folders."""

    def __init__(self, base: Path, inbox: Path, mode: str) -> None:
        folders: dict[str, Any] = {name: base / name for name in FOLDER_NAMES} | {"inbox": inbox}
        for folder in folders.values():
            folder.mkdir(parents=True)
        self.settings = Settings(
            recursive=True, watch="poll", poll_seconds=3600,
            on_success="keep" if mode == "keep" else "move", **folders,
        )  # fmt: skip
        self.sub = inbox / "sub"
        self.file = self.sub / NAME
        self.outside = inbox.with_name(inbox.name + "-outside")
        self.secret = self.outside / NAME
        for path, content in ((self.file, HONEST), (self.secret, SECRET)):
            path.parent.mkdir()
            path.write_bytes(content)
            os.utime(path, THEN)
        self.inode = self.secret.stat().st_ino


def symlink(place: Place) -> None:
    place.file.unlink(missing_ok=True)
    place.file.symlink_to(place.secret)


def hard_link(place: Place) -> None:
    place.file.unlink(missing_ok=True)
    os.link(place.secret, place.file)


def directory(place: Place) -> None:
    place.file.unlink(missing_ok=True)
    place.file.mkdir()


def pipe(place: Place) -> None:
    place.file.unlink(missing_ok=True)
    os.mkfifo(place.file)


def folder(place: Place) -> None:
    """Not the file: the folder that it lies in, for a link."""
    place.sub.rename(place.sub.with_name("was-sub"))
    place.sub.symlink_to(place.outside)


Swap = Callable[[Place], None]
SWAPS: tuple[Swap, ...] = (symlink, hard_link, directory, pipe, folder)


class Moments:
    """Counts the calls that name the file, and swaps it just before one of them."""

    def __init__(self, place: Place, swap: Swap, at: int) -> None:
        self.count = 0
        self.opened = False
        """Whether the secret was opened, under whatever name."""
        self.waits = False
        """Whether a pipe was opened so that it would be waited for."""
        self._place, self._swap, self._at = place, swap, at
        self._real: dict[tuple[ModuleType, str], Callable[..., Any]] = {
            (module, name): getattr(module, name) for module, name in CALLS
        }

    def __enter__(self) -> Moments:
        for module, name in CALLS:
            setattr(module, name, self._wrapped(module, name))
        return self

    def __exit__(self, *_: object) -> None:
        for (module, name), real in self._real.items():
            setattr(module, name, real)

    def _wrapped(self, module: ModuleType, name: str) -> Callable[..., Any]:
        real = self._real[module, name]

        def call(path: Any, *rest: Any, **named: Any) -> Any:
            if self._is_the_file(path):
                self.count += 1
                if self.count == self._at:
                    self.__exit__()
                    self._swap(self._place)
                    self.__enter__()
                if name == "open" and self._is_waited_for(module, path, rest):
                    self.waits = True
                    raise OSError(errno.EIO, "it would wait for ever")
            answer = real(path, *rest, **named)
            if name == "open" and self._stat(_number(answer)).st_ino == self._place.inode:
                self.opened = True
            return answer

        return call

    def _stat(self, what: Any) -> os.stat_result:
        found: os.stat_result = self._real[os, "stat"](what)
        return found

    def _is_waited_for(self, module: ModuleType, path: Any, rest: tuple[Any, ...]) -> bool:
        if module is os and rest[0] & (os.O_NONBLOCK | os.O_PATH):
            return False
        try:
            return stat.S_ISFIFO(self._stat(path).st_mode)
        except OSError:
            return False

    def _is_the_file(self, path: Any) -> bool:
        if isinstance(path, int) or os.path.basename(path) != NAME:
            return False
        try:
            parent = self._stat(os.path.dirname(path))
            return os.path.samestat(parent, self._stat(self._place.sub))
        except OSError:
            return False


def _number(opened: Any) -> int:
    return opened if isinstance(opened, int) else opened.fileno()


def served(place: Place, swap: Swap, at: int) -> tuple[list[str], int]:
    """Have the file seen, and claimed while it is swapped at moment `at` (0: never). What should
    not have been, and the number of moments."""
    jobs: list[Job] = []
    with Spool.opened(place.settings) as spool:
        one = Inbox(place.settings, spool, Status(), jobs.append, lambda: True)
        one.step(1000.0)
        one.hint(None)
        with Moments(place, swap, at) as moments:
            one.step(1010.0)
        one._lookout.stop()
    wrong = []
    if at == 0 and len(jobs) != 1:
        wrong.append("an honest file was not claimed")
    # What a hard link leads to is only known once it is open.
    if moments.opened and swap is not hard_link:
        wrong.append("the secret was opened")
    if moments.waits:
        wrong.append("a pipe was opened to be waited for")
    if place.secret.read_bytes() != SECRET:
        wrong.append("the secret was taken away")
    for job in jobs:
        if not stat.S_ISREG(job.document.lstat().st_mode) or job.document.read_bytes() != HONEST:
            wrong.append("something else was claimed")
    for path in place.settings.spool.rglob("*"):
        if path.is_file() and b"SECRET" in path.read_bytes():
            wrong.append(f"the secret is in {path.relative_to(place.settings.spool)}")
    if 0 < at <= moments.count and not os.path.lexists(place.file):
        wrong.append("what was put there is gone")
    return wrong, moments.count


def attacks(base: Path, inboxes: Path, mode: str, swap: Swap) -> Iterator[list[str]]:
    """What went wrong, for each moment at which the file is swapped."""
    at = last = 0
    while at <= last:
        place = Place(base / f"{swap.__name__}-{at}", inboxes / f"{swap.__name__}-{at}", mode)
        wrong, count = served(place, swap, at)
        yield [f"{mode}, {swap.__name__}, moment {at} of {count}: {what}" for what in wrong]
        # A swap changes what is done from there on, not what was done before.
        last = count if at == 0 else last
        at += 1
    assert last >= 3, "looked at, opened and taken"


@pytest.fixture(params=["move", "keep", "across"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def inboxes(request: pytest.FixtureRequest, tmp_path: Path, mode: str) -> Path:
    """Where inboxes are made: for `across` on another file system than the spool."""
    if mode != "across":
        return tmp_path / "inboxes"
    elsewhere: Path = request.getfixturevalue("elsewhere")
    return elsewhere


@pytest.mark.parametrize("swap", SWAPS, ids=lambda swap: swap.__name__)
def test_a_file_that_is_swapped_at_any_moment_is_never_taken_for_the_one_that_was_seen(
    tmp_path: Path, inboxes: Path, mode: str, swap: Swap
) -> None:
    assert [one for wrong in attacks(tmp_path, inboxes, mode, swap) for one in wrong] == []


def followed(path: Path) -> Any:
    return path.open("rb")


@contextlib.contextmanager
def through_links(base: Path, relative: Path) -> Iterator[Path]:
    yield base / relative


UNPROTECTED: tuple[tuple[str, Swap, list[tuple[object, str, Callable[..., Any]]]], ...] = (
    ("move", symlink, [(claim, "_untouched", lambda *_: True)]),
    ("move", hard_link, [(claim, "_untouched", lambda *_: True)]),
    ("across", hard_link, [(claim, "_untouched", lambda *_: True)]),
    ("keep", symlink, [(storage, "open_itself", followed), (check, "open_itself", followed)]),
    ("keep", pipe, [(storage, "open_itself", followed), (check, "open_itself", followed)]),
    ("move", folder, [(claim, "beneath", through_links), (listing, "beneath", through_links)]),
)


@pytest.mark.parametrize(("mode", "swap", "without"), UNPROTECTED)
def test_without_what_protects_it_the_race_would_be_lost(
    tmp_path: Path, inboxes: Path, mode: str, swap: Swap, without: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for where, name, careless in without:
        monkeypatch.setattr(where, name, careless)
    assert [one for wrong in attacks(tmp_path, inboxes, mode, swap) for one in wrong]
