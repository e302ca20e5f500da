"""Claim and commit, without crashes; what a kill does is in test_crash."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mineru_daemon.errors import AlreadyRunningError
from mineru_daemon.results import ErrorInfo
from mineru_daemon.spool import Spool
from mineru_daemon.storage import digest, identity


@pytest.fixture
def spool(settings):
    with Spool.opened(settings) as opened:
        yield opened


def deliver(settings, name="scan.pdf", content="content"):
    path = settings.inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def outputs(text="{}"):
    return {".md": lambda s: s.write("md"), ".json": lambda s: s.write(text)}


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def known(path):
    found = identity(path)
    assert found is not None
    return found


def claim(spool, path):
    job = spool.claim(path, known(path))
    assert job is not None
    return job


def test_a_claimed_file_is_in_the_spool_and_nowhere_else(settings, spool):
    path = deliver(settings)
    job = claim(spool, path)
    assert not path.exists()
    assert job.document.read_text() == "content"


def test_a_committed_file_leaves_results_and_original_and_an_empty_spool(settings, spool):
    job = claim(spool, deliver(settings))
    results = spool.commit(job, "success", outputs(), "0")
    assert names(settings.outbox) == ["scan.pdf.json", "scan.pdf.md"]
    assert [path.name for path in results] == ["scan.pdf.md", "scan.pdf.json"]
    assert names(settings.done) == ["scan.pdf"]
    assert names(settings.spool / "jobs") == []


def test_a_failed_original_lies_beside_its_reason(settings, spool):
    job = claim(spool, deliver(settings))
    spool.commit(job, "failed", {".json": lambda s: s.write("{}")}, "0")
    assert names(settings.failed) == ["scan.pdf", "scan.pdf.json"]
    assert names(settings.outbox) == names(settings.done) == []


def test_a_name_that_comes_again_never_overwrites(settings, spool):
    for text in ("1", "2", "3"):
        job = claim(spool, deliver(settings, content=text))
        spool.commit(job, "success", outputs(text), None)
    assert names(settings.done) == ["scan-2.pdf", "scan-3.pdf", "scan.pdf"]
    for name, text in (("scan", "1"), ("scan-2", "2"), ("scan-3", "3")):
        assert (settings.done / f"{name}.pdf").read_text() == text
        assert (settings.outbox / f"{name}.pdf.json").read_text() == text


def test_a_name_taken_in_any_folder_is_taken_for_all(settings, spool):
    (settings.outbox / "scan.pdf.md").write_text("a person's own")
    spool.commit(claim(spool, deliver(settings)), "success", outputs(), None)
    assert names(settings.done) == ["scan-2.pdf"]
    assert (settings.outbox / "scan.pdf.md").read_text() == "a person's own"


def test_a_name_taken_between_decision_and_rename_sends_all_to_the_next(
    settings, spool, monkeypatch
):
    job = claim(spool, deliver(settings))
    decide, first = spool._decide, True

    def decide_and_be_overtaken(*arguments):
        nonlocal first
        decide(*arguments)
        if first:
            (settings.outbox / "scan.pdf.json").write_text("overtaken")
        first = False

    monkeypatch.setattr(spool, "_decide", decide_and_be_overtaken)
    spool.commit(job, "success", outputs(), None)
    assert names(settings.done) == ["scan-2.pdf"]
    assert names(settings.outbox) == ["scan-2.pdf.json", "scan-2.pdf.md", "scan.pdf.json"]
    assert (settings.outbox / "scan.pdf.json").read_text() == "overtaken"


def with_folder():
    return {".mineru/_list.json": lambda s: s.write("[]"), **outputs()}


def test_a_result_may_be_a_file_in_a_folder_of_its_own(settings, spool):
    for _ in range(2):
        results = spool.commit(claim(spool, deliver(settings)), "success", with_folder(), None)
    assert [path.name for path in results][-1] == "scan-2.pdf.json"
    assert names(settings.outbox) == [
        "scan-2.pdf.json", "scan-2.pdf.md", "scan-2.pdf.mineru/scan.pdf_list.json",
        "scan.pdf.json", "scan.pdf.md", "scan.pdf.mineru/scan.pdf_list.json",
    ]  # fmt: skip
    assert {p.name for p in settings.outbox.glob("*.json")} == {"scan.pdf.json", "scan-2.pdf.json"}


def test_a_folder_that_was_staged_for_nothing_goes(settings, spool):
    job = claim(spool, deliver(settings))

    def refuse(_stream):
        raise OSError(errno.EIO, "made up")

    with pytest.raises(OSError, match="made up"):
        spool.commit(job, "success", {**with_folder(), ".json": refuse}, None)
    assert list(settings.outbox.iterdir()) == [], "the last space on a disk is not kept"
    spool.commit(job, "failed", {".json": lambda s: s.write("{}")}, None)
    assert list(settings.outbox.iterdir()) == []


def test_a_folder_follows_its_result_to_the_next_free_name(settings, spool, monkeypatch):
    publish = spool._publish

    def publish_overtaken(job):
        (settings.outbox / "scan.pdf.json").write_text("overtaken")
        publish(job)

    monkeypatch.setattr(spool, "_publish", publish_overtaken)
    spool.commit(claim(spool, deliver(settings)), "success", with_folder(), None)
    assert names(settings.outbox) == [
        "scan-2.pdf.json", "scan-2.pdf.md", "scan-2.pdf.mineru/scan.pdf_list.json",
        "scan.pdf.json",
    ]  # fmt: skip


def test_subfolders_are_mirrored(settings, spool):
    job = claim(spool, deliver(settings, "a/b/scan.pdf"))
    spool.commit(job, "success", outputs(), None)
    assert names(settings.done) == ["a/b/scan.pdf"]
    assert "a/b/scan.pdf.json" in names(settings.outbox)


@pytest.mark.parametrize(
    "name",
    ["a b.pdf", "quo'te\".pdf", "new\nline.pdf", "-rf.pdf", "😀.pdf", "\u202egnp.pdf", "…", "*?[x]",
     os.fsdecode(b"caf\xe9.pdf"), "x" * 251 + ".pdf", "ü" * 125 + ".pdf", "n", "a.pdf.json"],
)  # fmt: skip
def test_any_name_a_file_system_takes_works(settings, spool, name):
    job = claim(spool, deliver(settings, name))
    assert type(job).load(job.folder) == job
    spool.commit(job, "success", outputs(), None)
    (done,) = names(settings.done)
    assert sorted(names(settings.outbox)) == [f"{done}.json", f"{done}.md"]
    if len(os.fsencode(name)) < 249:
        assert done == name


def test_deleting_keeps_nothing_but_failures(make_settings):
    settings = make_settings(on_success="delete")
    with Spool.opened(settings) as spool:
        spool.commit(claim(spool, deliver(settings, "good")), "success", outputs(), None)
        spool.commit(claim(spool, deliver(settings, "bad")), "failed", outputs(), None)
    assert names(settings.done) == names(settings.inbox) == []
    assert "bad" in names(settings.failed)


def test_keeping_leaves_the_original_untouched_and_remembers_it(make_settings):
    settings = make_settings(on_success="keep")
    path = deliver(settings)
    before = known(path)
    with Spool.opened(settings) as spool:
        assert spool.ledger is not None
        job = claim(spool, path)
        assert not spool.ledger.has(before)
        spool.commit(job, "success", outputs(), digest(path))
        assert known(path) == before
    with Spool.opened(settings) as spool:
        assert spool.ledger is not None
        assert spool.ledger.has(before)
        os.utime(path, ns=(1, 1))
        assert not spool.ledger.has(known(path))
        assert spool.claim(path, known(path)) is None, "same path, same content"
        assert spool.ledger.has(known(path))
        path.write_text("something else")
        assert spool.claim(path, known(path)) is not None
    assert names(settings.done) == []


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


def test_a_claim_can_carry_the_reason_to_set_the_file_aside(settings, spool):
    path = deliver(settings)
    job = spool.claim(path, identity(path), reason=ErrorInfo(code="empty", message="It is empty."))
    assert job is not None
    assert spool.recover()[0].reason == {"code": "empty", "message": "It is empty."}


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


def test_results_that_were_removed_before_they_were_published_are_written_again(settings, spool):
    job = claim(spool, deliver(settings))
    publish = spool._publish
    spool._publish = lambda job: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        spool.commit(job, "success", outputs(), None)
    spool._publish = publish
    shutil.rmtree(settings.outbox)
    (waiting,) = spool.recover()
    assert waiting.commit is None
    spool.commit(waiting, "success", outputs(), None)
    assert names(settings.outbox) == ["scan.pdf.json", "scan.pdf.md"]
    assert names(settings.done) == ["scan.pdf"]


def test_a_commit_waits_while_its_folder_lies_on_another_disk(settings, spool, tmp_path):
    job = claim(spool, deliver(settings))
    publish = spool._publish
    spool._publish = lambda job: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        spool.commit(job, "success", outputs(), None)
    spool._publish = publish
    job.commit.device += 1  # a commit that was staged elsewhere
    job.save()
    away = tmp_path / "unmounted"
    settings.outbox.rename(away)
    settings.outbox.mkdir()
    (waiting,) = spool.recover()
    with pytest.raises(OSError, match="mount it again"):
        spool.finish(waiting)
    settings.outbox.rmdir()
    away.rename(settings.outbox)
    spool.finish(waiting)
    assert names(settings.outbox) == ["scan.pdf.json", "scan.pdf.md"]
    assert names(settings.done) == ["scan.pdf"]


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


def test_a_sub_folder_is_mirrored_beside_a_file_of_its_name(settings, spool):
    spool.commit(claim(spool, deliver(settings, "scan.pdf")), "success", outputs(), None)
    (settings.outbox / "scan.pdf").write_text("in the way")
    for folder in ("scan.pdf.json", "scan.pdf"):
        job = claim(spool, deliver(settings, f"{folder}/page.png", content=folder))
        spool.commit(job, "success", outputs(folder), None)
    assert (settings.outbox / "scan.pdf-2.json" / "page.png.json").exists()
    assert (settings.outbox / "scan-2.pdf" / "page.png.json").exists()
    assert (settings.done / "scan-2.pdf" / "page.png").read_text() == "scan.pdf"


def test_results_are_not_put_where_a_mount_has_been(settings, spool, monkeypatch):
    job = claim(spool, deliver(settings))
    known_place = spool.places._places["outbox"]
    # As seen after the mount above the outbox went away: another folder, one mount less.
    spool.places._places["outbox"] = replace(
        known_place, itself=(0, 0), mounts=known_place.mounts + 1
    )
    with pytest.raises(OSError, match="is not mounted any more; mount it"):
        spool.commit(job, "success", outputs(), None)
    assert names(settings.outbox) == []
    spool.places._places["outbox"] = known_place
    spool.commit(job, "success", outputs(), None)
    assert "scan.pdf.json" in names(settings.outbox)


def test_an_outbox_that_was_removed_is_made_anew_with_its_mode(settings, spool):
    settings.outbox.chmod(0o2750)
    spool.places._places["outbox"] = replace(spool.places._places["outbox"], mode=0o2750)
    job = claim(spool, deliver(settings))
    settings.outbox.rmdir()
    spool.commit(job, "success", outputs(), None)
    assert settings.outbox.stat().st_mode & 0o7777 == 0o2750
    assert "scan.pdf.json" in names(settings.outbox)


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
