"""Two daemons on one shared inbox, each with folders of its own otherwise: every file is
taken by one of them, once."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mineru_daemon.bench import cases
from mineru_daemon.bench.process import Served, files_of
from mineru_daemon.errors import MineruError
from mineru_daemon.settings import FOLDER_NAMES, Settings
from mineru_daemon.spool import Spool
from mineru_daemon.storage import identity

pytestmark = pytest.mark.shares

FILES = 300
KEPT_FILES = 100
PATIENCE_SECONDS = 240.0
OPTIONS = (
    "--settle-seconds=0.3",
    "--append-seconds=0.6",
    "--rescan-seconds=1",
    # Kills come from outside, and no page is to be given up for them.
    "--max-attempts=100",
)


@pytest.fixture(params=["one file system", "the share is another file system"])
def inbox(request, tmp_path: Path) -> Path:
    """An inbox beside the daemons' folders, where a claim is one rename, or one from which
    files are copied."""
    if request.param == "one file system":
        return tmp_path / "inbox"
    elsewhere: Path = request.getfixturevalue("elsewhere")
    return elsewhere / "inbox"


def files() -> Iterator[tuple[str, bytes, str]]:
    """Name, content and outcome. Most need no engine, so that claims come thick and fast."""
    for number in range(FILES):
        if number % 10 == 0:
            yield f"{number:03}.png", cases.png(f"shared {number}"), "success"
        elif number % 10 == 5:
            yield f"{number:03}.pdf", cases.pdf([f"shared {number}"]), "success"
        else:
            yield f"{number:03}.txt", cases.unsupported(str(number)), "failed"


@contextlib.contextmanager
def two_daemons(tmp_path: Path, inbox: Path, *options: str) -> Iterator[list[Served]]:
    daemons = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        daemons.append(Served(tmp_path / name, *OPTIONS, *options, elsewhere={"inbox": inbox}))
    try:
        for served in daemons:
            served.start()
        for served in daemons:
            served.wait_until_ready()
        yield daemons
    finally:
        for served in daemons:
            if served.alive():
                served.kill()


def deliver(inbox: Path, tmp_path: Path, count: int = FILES) -> dict[str, str]:
    """So many files by renames, in a moment; their outcomes by hash."""
    stage = inbox.with_name("stage")
    stage.mkdir()
    outcomes = {}
    for name, content, outcome in itertools.islice(files(), count):
        (stage / name).write_bytes(content)
        outcomes[hashlib.sha256(content).hexdigest()] = outcome
    for path in sorted(stage.iterdir()):
        path.rename(inbox / path.name)
    return outcomes


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def nothing_left(daemons: list[Served]) -> bool:
    folders = [daemons[0].inbox, *(served.spool / "jobs" for served in daemons)]
    return not any(files_of(folder) for folder in folders)


def results(served: Served) -> list[tuple[str, str]]:
    """Hash of the original that lies under a result's name, and the result's status."""
    found = []
    for folder, originals in ((served.outbox, served.done), (served.failed, served.failed)):
        for path in folder.glob("*.json"):
            content = (originals / path.name.removesuffix(".json")).read_bytes()
            result = json.loads(path.read_bytes())
            found.append((hashlib.sha256(content).hexdigest(), result["status"]))
    return found


def check(daemons: list[Served], outcomes: dict[str, str]) -> None:
    """Each file has one result of the right kind at one of the daemons, and none elsewhere."""
    found = Counter(pair for served in daemons for pair in results(served))
    assert found == Counter(outcomes.items())
    assert all(results(served) for served in daemons), "one did all the work"


def test_each_file_of_a_shared_inbox_is_read_by_one_daemon(tmp_path, inbox):
    with two_daemons(tmp_path, inbox) as daemons:
        outcomes = deliver(inbox, tmp_path)
        until(lambda: nothing_left(daemons))
        check(daemons, outcomes)
        claims = Counter(
            event["file"]
            for served in daemons
            for event in served.events()
            if event["event"] == "claimed"
        )
        assert len(claims) == FILES
        assert set(claims.values()) == {1}
        assert [served.stop() for served in daemons] == [0, 0]


def test_daemons_that_are_killed_over_a_shared_inbox_neither_lose_nor_double_a_file(
    tmp_path, inbox
):
    with two_daemons(tmp_path, inbox) as daemons:
        outcomes = deliver(inbox, tmp_path)
        for part in (1, 2, 3, 4):
            victim = daemons[part % 2]
            wait_until_fewer(inbox, FILES * (5 - part) // 5)
            victim.kill()
            victim.start()
        until(lambda: nothing_left(daemons))
        check(daemons, outcomes)


def wait_until_fewer(inbox: Path, files: int) -> None:
    until(lambda: len(visible(inbox)) < files)


def visible(inbox: Path) -> list[Path]:
    return [path for path in files_of(inbox) if path.name[0] != "."]


def kept_results(daemons: list[Served]) -> list[tuple[str, str]]:
    """Hash of the original and status, as all results tell it."""
    found = []
    for served in daemons:
        for folder in (served.outbox, served.failed):
            for path in folder.glob("[!.]*.json"):
                result = json.loads(path.read_bytes())
                found.append((result["source"]["sha256"], result["status"]))
    return found


def until_read(daemons: list[Served], count: int) -> None:
    until(lambda: len(kept_results(daemons)) >= count)


def test_files_that_stay_in_a_shared_inbox_are_each_read_by_one_daemon_whoever_is_killed(
    tmp_path, inbox
):
    with two_daemons(tmp_path, inbox, "--on-success=keep") as daemons:
        outcomes = deliver(inbox, tmp_path, KEPT_FILES)
        for part in (1, 2, 3, 4):
            wanted = len(outcomes) * part // 5
            until_read(daemons, wanted)
            victim = daemons[part % 2]
            victim.kill()
            victim.start()
        until_read(daemons, len(outcomes))
        for served in daemons:
            served.wait_until_ready()
        # Whoever looks once more finds nothing that is left for it.
        for served in daemons:
            assert served.stop() == 0
            served.start()
            served.wait_until_ready()
        (inbox / "last.txt").write_bytes(cases.unsupported("last"))
        until_read(daemons, len(outcomes) + 1)
        assert [served.stop() for served in daemons] == [0, 0]
        found = Counter(kept_results(daemons))
        del found[hashlib.sha256(cases.unsupported("last")).hexdigest(), "failed"]
        assert found == Counter(outcomes.items())
        assert all(kept_results([served]) for served in daemons), "one did all the work"
        assert len(list(inbox.glob("[!.]*"))) == len(outcomes) + 1


# --- the claim itself, asked for by several at the same instant -----------------


def claim_all(base: str, inbox: str, names: list[str], barrier: Any, won: Any) -> None:
    """A process of its own: tries to claim each file at the same moment as the others."""
    folders: dict[str, Any] = {name: Path(base) / name for name in FOLDER_NAMES if name != "inbox"}
    for folder in folders.values():
        folder.mkdir(parents=True)
    settings = Settings(inbox=Path(inbox), **folders)
    with Spool.opened(settings) as spool:
        for name in names:
            path = Path(inbox) / name
            file = identity(path)
            barrier.wait()
            if file is not None and (job := spool.claim(path, file)) is not None:
                won.append((name, job.document.read_bytes().decode()))
            barrier.wait()


def test_of_three_that_claim_a_file_at_the_same_instant_one_gets_it(tmp_path, inbox):
    names = [f"{number:03}.txt" for number in range(FILES)]
    inbox.mkdir()
    for name in names:
        (inbox / name).write_text(name)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        won, barrier = manager.list(), context.Barrier(3)
        rivals = [
            context.Process(
                target=claim_all, args=(str(tmp_path / who), str(inbox), names, barrier, won)
            )
            for who in ("a", "b", "c")
        ]
        for rival in rivals:
            rival.start()
        for rival in rivals:
            rival.join(PATIENCE_SECONDS)
        assert [rival.exitcode for rival in rivals] == [0, 0, 0]
        assert sorted(won) == [(name, name) for name in names]
    assert files_of(inbox) == []
    documents = Counter(
        path.name for who in ("a", "b", "c") for path in tmp_path.glob(f"{who}/spool/jobs/*/*/*")
    )
    assert documents == Counter(names)


def test_a_second_daemon_on_one_spool_is_refused_and_leaves_the_first_alone(tmp_path):
    first = Served(tmp_path, *OPTIONS)
    first.start()
    try:
        first.wait_until_ready()
        second = Served(tmp_path, *OPTIONS)
        second.start()
        with pytest.raises(MineruError):
            second.wait_until_ready()
        assert "Another mineru-daemon already works with the spool" in second.journal.read_text()
        (first.inbox / "after.txt").write_bytes(cases.unsupported("after"))
        until((first.failed / "after.txt.json").exists)
        assert first.stop() == 0
    finally:
        if first.alive():
            first.kill()
