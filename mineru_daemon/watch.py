"""Hints that something in the inbox changed, by watchdog's observer.

Hints may come late, twice or never; `lookout` treats them so. This module's care is that
they do not stay away for ever: an observer whose folder was replaced or mounted over
says nothing and looks alive, so the folder's identity is compared at every `ensure`.

Where the kernel knows of no changes there are no hints, and `lookout` lists the folder more
often. watchdog's PollingObserver would do the same, but it holds every file's state in
memory, follows links out of the folder, and descends without an end.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import structlog
from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from mineru_daemon.mounts import file_system_type, is_network

# What it says, as an error, whenever it is stopped.
_STOPPED = "called when the thread is inactive"
logging.getLogger("watchdog.observers.inotify").addFilter(
    lambda record: _STOPPED not in record.getMessage()
)

Hint = Callable[[str | None], None]
"""Called with a path that may have changed, or None when the folder is to be listed."""

_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileClosedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]
"""'Opened' and 'closed without writing' are left out: our own looking makes them."""

_log = structlog.get_logger()


class Watcher:
    """Keeps an observer on the inbox, whatever happens to the folder."""

    def __init__(
        self,
        inbox: Path,
        hint: Hint,
        recursive: bool = False,
        mode: Literal["auto", "inotify", "poll"] = "auto",
    ) -> None:
        self._inbox = inbox
        self._handler = _Handler(hint)
        self._recursive = recursive
        self._mode = mode
        self._observer: BaseObserver | None = None
        self._root: tuple[int, int] | None = None
        self.kind = ""
        """How the folder is watched now: inotify, poll (no hints come), '' while it is not."""

    def ensure(self) -> bool:
        """See that the present inbox is watched; True when the watch was begun anew.

        Raises OSError while the inbox is missing.
        """
        try:
            stat = self._inbox.stat()
            root = (stat.st_dev, stat.st_ino)
            if not self._inbox.is_dir():
                raise NotADirectoryError(
                    errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self._inbox)
                )
        except OSError:
            self.stop()
            raise
        if root == self._root and self._alive():
            return False
        self.stop()
        self._start()
        self._root = root
        return True

    def _alive(self) -> bool:
        if self.kind == "poll":
            return True
        observer = self._observer
        return (
            observer is not None
            and observer.is_alive()
            and bool(observer.emitters)
            and all(emitter.is_alive() for emitter in observer.emitters)
        )

    def _start(self) -> None:
        file_system = file_system_type(self._inbox)
        network = is_network(file_system)
        poll = self._mode == "poll" or (self._mode == "auto" and network)
        if not poll:
            try:
                self._observe()
            except (OSError, RecursionError) as error:
                # Out of inotify watches or instances, or folders in folders without an end:
                # polling needs none.
                _log.warning("inotify-refused", error=str(error), inbox=str(self._inbox))
                poll = True
        self.kind = "poll" if poll else "inotify"
        _log.info("watching", inbox=str(self._inbox), by=self.kind, file_system=file_system)

    def _observe(self) -> None:
        observer: BaseObserver = Observer()
        observer.schedule(
            self._handler, str(self._inbox), recursive=self._recursive, event_filter=_EVENTS
        )
        observer.start()
        self._observer = observer

    def stop(self) -> None:
        """Stop watching."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
        self._observer, self._root, self.kind = None, None, ""


class _Handler(FileSystemEventHandler):
    """Turns events into hints."""

    def __init__(self, hint: Hint) -> None:
        self._hint = hint

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.is_directory:
            self._hint(None)
        else:
            self._hint(os.fsdecode(event.dest_path or event.src_path))
