"""Marks of files that stay in an inbox: one daemon makes them, whatever it lies on."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mineru_daemon import kept as module
from mineru_daemon import marks
from mineru_daemon.marks import FOLDER, Marks
from mineru_daemon.settings import FOLDER_NAMES, Settings
from mineru_daemon.spool import Spool
from mineru_daemon.storage import digest, identity

SHA = "0" * 64
FILES = 100


def no_links(*_: Any, **__: Any) -> None:
    raise OSError(errno.EPERM, "not on this file system")


@pytest.fixture(params=["hard links", "none"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "none":
        monkeypatch.setattr(os, "link", no_links)
    return str(request.param)


@pytest.mark.usefixtures("links")
def test_one_makes_a_mark_and_may_take_it_again(tmp_path: Path) -> None:
    one, other = Marks(tmp_path, "one"), Marks(tmp_path, "other")
    assert one.take("a/ö.pdf", SHA)
    assert not other.take("a/ö.pdf", SHA)
    assert one.take("a/ö.pdf", SHA), "a death may have come behind it"
    assert other.take("a/ö.pdf", "1" * 64), "other content"
    assert other.take("b.pdf", SHA), "another file"
    assert len(list((tmp_path / FOLDER).iterdir())) == 3, "nothing else is left there"


@pytest.mark.usefixtures("links")
def test_only_its_maker_frees_a_mark(tmp_path: Path) -> None:
    one, other = Marks(tmp_path, "one"), Marks(tmp_path, "other")
    one.take("a", SHA)
    other.free("a", SHA)
    assert not other.take("a", SHA)
    one.free("a", SHA)
    one.free("a", SHA)
    assert other.take("a", SHA)


def test_a_mark_that_a_death_left_empty_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "UNNAMED_SECONDS", 0.0)
    one, other = Marks(tmp_path, "one"), Marks(tmp_path, "other")
    one.take("a", SHA)
    (mark,) = (tmp_path / FOLDER).iterdir()
    mark.write_bytes(b"")
    assert one.take("a", SHA)
    assert not other.take("a", SHA)


@pytest.mark.parametrize("content", [b"[]", b"\xff", b'{"daemon": 3}', b"x" * 100_000])
def test_a_mark_that_says_nothing_is_followed_by_another(tmp_path: Path, content: bytes) -> None:
    one, other = Marks(tmp_path, "one"), Marks(tmp_path, "other")
    one.take("a", SHA)
    (mark,) = (tmp_path / FOLDER).iterdir()
    mark.write_bytes(content)
    assert other.take("a", SHA)
    assert not one.take("a", SHA)


def test_no_link_is_followed(tmp_path: Path) -> None:
    outside, inbox = tmp_path / "outside", tmp_path / "inbox"
    outside.mkdir()
    inbox.mkdir()
    (inbox / FOLDER).symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        Marks(inbox, "one").take("a", SHA)
    assert list(outside.iterdir()) == []
    (inbox / FOLDER).unlink()
    Marks(inbox, "one").take("a", SHA)
    (mark,) = (inbox / FOLDER).iterdir()
    mark.unlink()
    mark.symlink_to(outside / "new")
    with pytest.raises(OSError, match="symbolic links"):
        Marks(inbox, "two").take("a", SHA)
    assert list(outside.iterdir()) == []


def test_who_may_deliver_may_mark(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    Marks(tmp_path, "one").take("a", SHA)
    assert (tmp_path / FOLDER).stat().st_mode & 0o7777 == 0o2770


def mark_all(inbox: Path, owner: str, barrier: Any, won: Any, linked: bool) -> None:
    """A process of its own, which takes each mark at the same moment as the others."""
    if not linked:
        os.link = no_links
    mine = Marks(inbox, owner)
    for number in range(FILES):
        barrier.wait()
        if mine.take(str(number), SHA):
            won.append(number)


def test_of_three_that_make_a_mark_at_the_same_instant_one_does(tmp_path: Path, links: str) -> None:
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        won, barrier = manager.list(), context.Barrier(3)
        rivals = [
            context.Process(
                target=mark_all, args=(tmp_path, who, barrier, won, links == "hard links")
            )
            for who in ("a", "b", "c")
        ]
        for rival in rivals:
            rival.start()
        for rival in rivals:
            rival.join(60)
        assert sorted(won) == list(range(FILES))


# --- what the spool makes of them ---------------------------------------------


@pytest.fixture
def shared(tmp_path: Path) -> tuple[Settings, Settings]:
    """Two daemons' settings, with one inbox that lies a file in."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.txt").write_text("content")
    both = []
    for who in ("one", "two"):
        folders: dict[str, Any] = {name: tmp_path / who / name for name in FOLDER_NAMES}
        folders["inbox"] = inbox
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        both.append(Settings(on_success="keep", **folders))
    return both[0], both[1]


def known(path: Path) -> Any:
    return identity(path)


def test_what_another_daemon_reads_is_passed_over_from_then_on(
    shared: tuple[Settings, Settings],
) -> None:
    path = shared[0].inbox / "a.txt"
    with Spool.opened(shared[0]) as one, Spool.opened(shared[1]) as two:
        assert one.claim(path, known(path))
        assert not two.was_claimed(known(path))
        assert two.claim(path, known(path)) is None
        assert two.was_claimed(known(path))
        assert list((shared[1].spool / "jobs").iterdir()) == []
        os.utime(path, ns=(1, 1))
        assert two.claim(path, known(path)) is None, "touched"
        path.write_text("something else")
        assert two.claim(path, known(path)), "a new file"
    with Spool.opened(shared[1]) as two:
        (job,) = two.recover()
        assert job.document.read_text() == "something else"


def test_an_inbox_that_takes_no_marks_is_told_of_once_and_served(
    shared: tuple[Settings, Settings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object) -> bool:
        raise OSError(errno.EROFS, "Read-only file system")

    inbox = shared[0].inbox
    (inbox / "b.txt").write_text("more")
    monkeypatch.setattr(Marks, "take", refuse)
    with Spool.opened(shared[0]) as one:
        for name in ("a.txt", "b.txt"):
            assert one.claim(inbox / name, known(inbox / name))
    assert capsys.readouterr().out.count("inbox-unmarked") == 1


def test_a_full_inbox_delays_a_claim(
    shared: tuple[Settings, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shared[0].inbox / "a.txt"
    with Spool.opened(shared[0]) as one:
        with monkeypatch.context() as full:

            def refuse(*_: object) -> bool:
                raise OSError(errno.ENOSPC, "No space left on device")

            full.setattr(Marks, "take", refuse)
            with pytest.raises(OSError, match="No space"):
                one.claim(path, known(path))
        assert one.claim(path, known(path))


def test_the_mark_of_a_file_that_is_gone_is_freed(
    shared: tuple[Settings, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEPT_AT_ONCE", 1)
    inbox = shared[0].inbox
    (inbox / "b.txt").write_text("more")

    def marked() -> int:
        return len(list((inbox / FOLDER).iterdir()))

    with Spool.opened(shared[0]) as one:
        for name in ("a.txt", "b.txt"):
            job = one.claim(inbox / name, known(inbox / name))
            assert job
            outputs = {".json": lambda stream: stream.write("{}")}
            one.commit(job, "success", outputs, digest(job.document))
        one.kept.sweep(0.0)
        assert marked() == 2
        (inbox / "a.txt").unlink()
        now = 0.0
        for _ in range(4):
            now += module.SWEEP_SECONDS + 1
            one.kept.sweep(now)
        assert marked() == 1
        (inbox / "b.txt").unlink()
        shutil.rmtree(inbox / FOLDER)
        one.kept.sweep(now + module.SWEEP_SECONDS)
        assert not (inbox / FOLDER).exists(), "an inbox that is not there is not marked"


def test_a_mark_tells_people_what_it_is_of(tmp_path: Path) -> None:
    Marks(tmp_path, "one").take("sub/scan\n.pdf", SHA)
    (mark,) = (tmp_path / FOLDER).iterdir()
    told = json.loads(mark.read_text())
    assert (told["daemon"], told["file"]) == ("one", r"sub/scan\n.pdf")
    assert told["host"]
