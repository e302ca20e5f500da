"""Claims, without crashes; what a kill does is in test_crash."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from job_building import claim, deliver, known, names

from mineru_daemon.storage import identity


def test_a_claimed_file_is_in_the_spool_and_nowhere_else(settings, spool):
    path = deliver(settings)
    job = claim(spool, path)
    assert not path.exists()
    assert job.document.read_text() == "content"


def test_a_file_that_changed_since_it_was_seen_is_left_where_it_is(settings, spool):
    path = deliver(settings)
    seen = identity(path)
    path.write_text("longer content")
    assert spool.claim(path, seen) is None
    assert path.read_text() == "longer content"
    assert names(settings.spool / "jobs") == []


def test_a_file_that_is_being_written_is_left_where_it_is(settings, spool):
    path = deliver(settings)
    with path.open("a"):
        assert spool.claim(path, identity(path)) is None
    assert path.exists()
    assert claim(spool, path)


def test_a_file_that_is_gone_is_no_claim(settings, spool):
    path = deliver(settings)
    seen = identity(path)
    path.unlink()
    assert spool.claim(path, seen) is None
    assert names(settings.spool / "jobs") == []


def test_an_undone_claim_does_not_overwrite_what_came_meanwhile(settings, spool, monkeypatch):
    path = deliver(settings)
    seen = identity(path)
    rename = Path.rename

    def rename_then_deliver_again(source, target):
        moved = rename(source, target)
        if source == path:
            Path(target).write_text("changed behind our back")
            path.write_text("second delivery")
        return moved

    monkeypatch.setattr(Path, "rename", rename_then_deliver_again)
    assert spool.claim(path, seen) is None
    monkeypatch.undo()
    assert path.read_text() == "second delivery"
    assert (settings.inbox / "scan-2.pdf").read_text() == "changed behind our back"


def test_a_link_that_was_taken_before_a_kill_goes_back_unread(settings, spool, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    job = claim(spool, deliver(settings))
    job.document.unlink()
    job.document.symlink_to(secret)  # what a rename takes that came a moment too late
    assert spool.recover() == []
    assert (settings.inbox / "scan.pdf").is_symlink()
    assert names(settings.spool / "jobs") == []


def test_who_has_another_name_of_a_file_cannot_change_what_is_read(settings, spool, tmp_path):
    path = deliver(settings)
    os.link(path, tmp_path / "other name")
    job = claim(spool, path)
    (tmp_path / "other name").write_text("changed")
    assert job.document.read_text() == "content"
    assert job.document.stat().st_mtime_ns == job.identity.mtime_ns


def test_a_document_that_a_disk_does_not_show_is_never_taken_for_gone(settings, spool, monkeypatch):
    path = deliver(settings)
    seen = known(path)
    look = Path.lstat

    def refuse(one):
        if one.parent.name == "document":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(one))
        return look(one)

    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(OSError, match="Input/output"):
        spool.claim(path, seen)
    assert spool.trouble()
    assert spool.tidy() == []
    monkeypatch.undo()
    assert any(name.endswith("document/scan.pdf") for name in names(settings.spool / "jobs"))
    spool.tidy()
    assert spool.trouble() is None
    assert path.read_text() == "content"
    assert names(settings.spool / "jobs") == []
