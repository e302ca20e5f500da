"""Deliveries and jobs made of them, for tests of spool, claim and commit."""

from __future__ import annotations

from mineru_daemon.storage import identity


def deliver(settings, name="scan.pdf", content="content"):
    """Lay a file into the inbox; its path."""
    path = settings.inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def outputs(text="{}"):
    """What a commit is to write."""
    return {".md": lambda s: s.write("md"), ".json": lambda s: s.write(text)}


def names(folder):
    """Files below a folder, relative to it."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def known(path):
    """The identity of a file that is there."""
    found = identity(path)
    assert found is not None
    return found


def claim(spool, path):
    """A job that a file in the inbox becomes."""
    job = spool.claim(path, known(path))
    assert job is not None
    return job
