"""What a job is, and how its state lies on disk.

A job is a folder in the spool: the claimed document, its state and the pages read so
far. Everything needed to go on after a kill stands in it.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mineru_daemon.results import ErrorInfo, PageResult
from mineru_daemon.storage import Identity, replace_text

Outcome = Literal["success", "partial", "failed"]


class PageStore:
    """Results of pages, kept on disk until their document is finished."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, page: PageResult) -> None:
        """Keep a page's result: this page is not read again."""
        self._folder.mkdir(exist_ok=True)
        replace_text(self._path(page.index), page.model_dump_json(), durable=False)

    def load(self, index: int) -> PageResult | None:
        """The kept result of a page, or None if there is none that is whole."""
        try:
            return PageResult.model_validate_json(self._path(index).read_bytes())
        except (OSError, ValueError):
            return None

    def all(self, count: int) -> Iterator[PageResult]:
        """The first `count` pages, one at a time. Raises OSError if one is missing."""
        for index in range(count):
            page = self.load(index)
            if page is None:
                raise OSError(errno.EIO, "a kept page is missing", str(self._path(index)))
            yield page

    @property
    def pictures(self) -> Path:
        """Where pictures of the pages' blocks are kept, in a folder `pictures.FOLDER`."""
        return self._folder

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:06d}.json"


@dataclass
class Move:
    """One rename of a commit. It was done if and only if `source` is gone."""

    source: str
    target: str


@dataclass
class Commit:
    """A decided commit: from here a job only ever goes forward."""

    outcome: Outcome
    moves: list[Move]
    sha256: str | None
    witness: str
    """A hidden file beside the results until they are published. While it is missing,
    the folder is not the one that was staged into: unmounted, or replaced."""
    published: bool = False
    device: int = 0
    """Of the file system that the results were staged on."""


@dataclass
class Job:
    """A claimed file. Changed by one thread at a time: first the inbox's, then the worker's."""

    folder: Path
    name: str
    """The delivered file's name, as the file system has it (surrogate escapes)."""
    subfolder: str
    """Folder below the inbox, '' at its top."""
    origin: str
    identity: Identity
    on_success: Literal["move", "delete", "keep"]
    source: str = ""
    """Whom the rate limit counts it for."""
    reason: dict[str, str] | None = None
    """Set aside without being opened: code and message."""
    claim_file: str | None = None
    """Where the file waits while it is copied from another file system."""
    attempts: dict[str, int] = field(default_factory=dict)
    """Stages begun and not ended: 'open' or a page's index -> how often."""
    given_up: int = 0
    """Pages that were not read because they ended the process again and again."""
    commit: Commit | None = None

    @property
    def id(self) -> str:
        """Unique, and in the order of claims."""
        return self.folder.name

    @property
    def document(self) -> Path:
        """The claimed document. Its own folder lets it keep a name of any length."""
        return self.folder / "document" / self.name

    @property
    def path(self) -> str:
        """Relative to the inbox."""
        return os.path.join(self.subfolder, self.name)  # noqa: PTH118 - not a path on disk

    def save(self, durable: bool = False) -> None:
        """Write the state; with `durable` it survives a power cut, not only a kill."""
        state = asdict(self)
        del state["folder"]
        replace_text(self.folder / "job.json", json.dumps(state), durable)

    @classmethod
    def load(cls, folder: Path) -> Job | None:
        """The job in `folder`; one whose state was lost is rebuilt from its document.

        None if there is nothing in it. Raises OSError when the disk does not tell.
        """
        try:
            state: dict[str, Any] = json.loads((folder / "job.json").read_text("utf-8"))
            commit = state.pop("commit")
            return cls(
                **state | {"identity": Identity(*state["identity"]), "folder": folder},
                commit=None
                if commit is None
                else Commit(**commit | {"moves": [Move(**move) for move in commit["moves"]]}),
            )
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            try:
                names = [path.name for path in (folder / "document").iterdir()]
            except FileNotFoundError:
                names = []
            if not names:
                return None
            return cls(
                folder=folder,
                name=names[0],
                subfolder="",
                origin="",
                identity=Identity.of((folder / "document" / names[0]).lstat()),
                on_success="move",
            )

    def begin(self, stage: str) -> int:
        """Note that a stage is begun; returns how often it was by now.

        A stage that ends the process stays noted. No flush: a kill loses nothing that
        was handed to the kernel.
        """
        self.attempts[stage] = self.attempts.get(stage, 0) + 1
        self.save()
        return self.attempts[stage]

    def end(self, stage: str) -> None:
        """Note that the process survived the stage. Written with the next `save`."""
        self.attempts.pop(stage, None)

    def forgive(self) -> None:
        """Take back the last attempts: a stop or a disk cut them short, not the file.

        Written with the next `save`.
        """
        self.attempts = {stage: n - 1 for stage, n in self.attempts.items() if n > 1}

    @property
    def pages(self) -> PageStore:
        """The pages read so far."""
        return PageStore(self.folder / "pages")

    def refuse(self, reason: ErrorInfo) -> None:
        """Have the job set aside with this reason instead of being read."""
        self.reason = reason.model_dump()


def new_id(after: str = "") -> str:
    """Sorts by the time of the claim, and behind `after` even when the clock was set back."""
    last, _, _ = after.partition("-")
    stamp = max(time.time_ns(), int(last) + 1 if last.isdecimal() else 0)
    return f"{stamp:020d}-{secrets.token_hex(4)}"
