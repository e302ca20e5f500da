"""An inbox with a spool whose clock is given, for tests of what it offers."""

from __future__ import annotations

import os
import shutil

from mineru_daemon.inbox import Inbox
from mineru_daemon.jobs import Job
from mineru_daemon.samples import paths
from mineru_daemon.status import Status

PDF, PNG = paths()


class Desk:
    """An inbox with a spool, and what it offered."""

    def __init__(self, settings, spool, room=1000):
        self.settings, self.spool, self.status = settings, spool, Status()
        self.jobs: list[Job] = []
        self.room = room
        self.inbox = Inbox(
            settings, spool, self.status, self.jobs.append, lambda: len(self.jobs) < self.room
        )
        self.now = 1000.0

    def after(self, seconds):
        """Look now and again when this time has passed; names that were offered in all."""
        self.now += 0.2  # no listing follows another one at once
        self.inbox.hint(None)
        self.inbox.step(self.now)
        self.now += seconds
        self.inbox.hint(None)
        self.inbox.step(self.now)
        return [job.name for job in self.jobs]


def deliver(desk, name, source=PNG, mtime=None):
    """Copy a sample into the inbox; its path."""
    path = desk.settings.inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)
    if mtime:
        os.utime(path, (mtime, mtime))
    return path
