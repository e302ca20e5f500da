"""Commits, without crashes; what a kill does is in test_crash."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace

import pytest
from job_building import claim, deliver, names, outputs

from mineru_daemon import commit
from mineru_daemon.commit import Committer
from mineru_daemon.spool import Spool


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
    choose_names, first = commit._choose_names, True

    def choose_and_be_overtaken(*arguments):
        nonlocal first
        choose_names(*arguments)
        if first:
            (settings.outbox / "scan.pdf.json").write_text("overtaken")
        first = False

    monkeypatch.setattr(commit, "_choose_names", choose_and_be_overtaken)
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
    publish = Committer.publish

    def publish_overtaken(*arguments):
        (settings.outbox / "scan.pdf.json").write_text("overtaken")
        return publish(*arguments)

    monkeypatch.setattr(Committer, "publish", publish_overtaken)
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


def decide_only(spool, job):
    """A commit that is cut short between its decision and its first step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Committer, "publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            spool.commit(job, "success", outputs(), None)


def test_results_that_were_removed_before_they_were_published_are_written_again(settings, spool):
    job = claim(spool, deliver(settings))
    decide_only(spool, job)
    shutil.rmtree(settings.outbox)
    (waiting,) = spool.recover()
    assert waiting.commit is None
    spool.commit(waiting, "success", outputs(), None)
    assert names(settings.outbox) == ["scan.pdf.json", "scan.pdf.md"]
    assert names(settings.done) == ["scan.pdf"]


def test_a_commit_waits_while_its_folder_lies_on_another_disk(settings, spool, tmp_path):
    job = claim(spool, deliver(settings))
    decide_only(spool, job)
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
