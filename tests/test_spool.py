"""The spool: what is recovered, remembered and refused; what a kill does is in test_crash."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from job_building import claim, deliver, known, names, outputs

from mineru_daemon.errors import AlreadyRunningError
from mineru_daemon.results import ErrorInfo
from mineru_daemon.spool import Spool
from mineru_daemon.storage import digest, identity


def test_a_claim_can_carry_the_reason_to_set_the_file_aside(settings, spool):
    path = deliver(settings)
    job = spool.claim(path, identity(path), reason=ErrorInfo(code="empty", message="It is empty."))
    assert job is not None
    assert spool.recover()[0].reason == {"code": "empty", "message": "It is empty."}


def test_a_kept_file_in_work_is_finished_after_the_setting_has_changed(make_settings):
    settings = make_settings(on_success="keep")
    path = deliver(settings)
    with Spool.opened(settings) as spool:
        claim(spool, path)
    with Spool.opened(make_settings(on_success="move")) as spool:
        (job,) = spool.recover()
        assert spool.was_claimed(known(path)), "or it would be moved, and read twice"
        spool.commit(job, "success", outputs(), digest(path))
        assert not spool.was_claimed(known(path)), "as all that was read while it was kept"
    assert names(settings.outbox) == ["scan.pdf.json", "scan.pdf.md"]
    assert names(settings.spool / "jobs") == []
    with Spool.opened(settings) as spool:
        assert spool.was_claimed(known(path))


def test_open_jobs_are_recovered_oldest_first(settings, spool):
    ids = [claim(spool, deliver(settings, name)).id for name in ("c", "a", "b")]
    assert [job.id for job in spool.recover()] == ids


def test_a_job_whose_state_was_lost_is_rebuilt_from_its_document(settings, spool):
    job = claim(spool, deliver(settings))
    (job.folder / "job.json").write_text("")
    (found,) = spool.recover()
    assert found.name == "scan.pdf"
    spool.commit(found, "success", outputs(), None)
    assert names(settings.done) == ["scan.pdf"]


def test_a_job_that_the_disk_does_not_show_is_left_as_it_is(settings, spool, monkeypatch):
    job = claim(spool, deliver(settings))
    read_text = Path.read_text

    def refuse(path, *arguments):
        if path.name == "job.json":
            raise OSError(5, "Input/output error")
        return read_text(path, *arguments)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert spool.recover() == []
    monkeypatch.undo()
    assert [one.id for one in spool.recover()] == [job.id]


def test_ids_go_on_behind_the_last_one_when_the_clock_is_set_back(settings, spool, monkeypatch):
    first = claim(spool, deliver(settings, "a"))
    monkeypatch.setattr("mineru_daemon.jobs.time.time_ns", lambda: 5)
    second = claim(spool, deliver(settings, "b"))
    assert [job.id for job in spool.recover()] == [first.id, second.id]
    with_three = claim(spool, deliver(settings, "c"))
    assert with_three.id > second.id


def test_a_second_daemon_on_the_same_spool_is_refused(settings, spool):
    with (
        pytest.raises(AlreadyRunningError, match="Another mineru-daemon already works"),
        Spool.opened(settings),
    ):
        pass


def test_keeping_leaves_the_original_untouched_and_remembers_it(make_settings):
    settings = make_settings(on_success="keep")
    path = deliver(settings)
    before = known(path)
    with Spool.opened(settings) as spool:
        assert spool.kept.ledger is not None
        job = claim(spool, path)
        assert not spool.kept.ledger.has(before)
        spool.commit(job, "success", outputs(), digest(path))
        assert known(path) == before
    with Spool.opened(settings) as spool:
        assert spool.kept.ledger is not None
        assert spool.kept.ledger.has(before)
        os.utime(path, ns=(1, 1))
        assert not spool.kept.ledger.has(known(path))
        assert spool.claim(path, known(path)) is None, "same path, same content"
        assert spool.kept.ledger.has(known(path))
        path.write_text("something else")
        assert spool.claim(path, known(path)) is not None
    assert names(settings.done) == []
