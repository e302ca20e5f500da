"""Which files the inbox offers, in which order, and how often.

The real watcher, spool and file system; only the clock is given.
"""

from __future__ import annotations

from inbox_desk import PDF, PNG, deliver


def test_a_settled_file_is_offered_once(desk):
    one = desk()
    deliver(one, "a.png")
    assert one.after(1.9) == []
    assert one.after(0.2) == ["a.png"]
    assert one.after(60) == ["a.png"]


def test_what_lay_there_before_is_served_oldest_first(desk):
    one = desk()
    for name, mtime in (("new.png", 3000), ("old.png", 1000), ("mid.pdf", 2000)):
        deliver(one, name, PDF if name.endswith("pdf") else PNG, mtime)
    assert one.after(3) == ["old.png", "mid.pdf", "new.png"]


def test_without_room_files_stay_in_the_inbox(desk):
    one = desk(room=2)
    for number in range(4):
        deliver(one, f"{number}.png", mtime=1000 + number)
    assert one.after(3) == ["0.png", "1.png"]
    assert len(list(one.settings.inbox.iterdir())) == 2
    one.room = 10
    assert one.after(3) == ["0.png", "1.png", "2.png", "3.png"]


def test_a_spool_that_is_renamed_away_is_waited_for(desk, tmp_path):
    one = desk()
    away = tmp_path / "away"
    deliver(one, "a.png")
    assert one.after(3) == ["a.png"]
    one.settings.spool.rename(away)
    one.settings.spool.write_text("something else lies there")
    deliver(one, "b.png")
    assert one.after(10) == ["a.png"]
    assert "spool" in one.status.troubles()["spool"]
    one.settings.spool.unlink()
    away.rename(one.settings.spool)
    assert one.after(10) == ["a.png", "b.png"]
    assert one.status.troubles() == {}


def test_a_spool_that_is_removed_is_made_anew_and_old_jobs_come_back_with_the_old_one(
    desk, tmp_path
):
    one = desk()
    away = tmp_path / "away"
    deliver(one, "a.png")
    assert one.after(3) == ["a.png"]
    one.settings.spool.rename(away)
    deliver(one, "b.png")
    assert one.after(10) == ["a.png", "b.png"]
    assert not one.spool.complete(one.jobs[0]), "given up by the worker"
    one.spool.commit(one.jobs[1], "success", {".json": lambda s: s.write("{}")}, "0")
    one.settings.spool.rename(tmp_path / "other")
    away.rename(one.settings.spool)
    assert one.after(10) == ["a.png", "b.png", "a.png"]
    assert one.jobs[2].document.exists()


def test_the_rate_limit_delays_a_source_and_drops_nothing(desk):
    one = desk(rate_limit=2, recursive=True)
    for number in range(3):
        deliver(one, f"a/{number}.png", mtime=1000 + number)
    deliver(one, "b/9.png", mtime=5000)
    assert one.after(3) == ["0.png", "1.png", "9.png"]
    assert one.after(55) == ["0.png", "1.png", "9.png"]
    assert one.after(10) == ["0.png", "1.png", "9.png", "2.png"]


def test_an_owner_can_be_the_source(desk):
    one = desk(rate_source="owner")
    path = deliver(one, "a.png")
    assert one.inbox._source(path) in ("root", path.owner())


def test_kept_files_are_not_offered_again(desk):
    one = desk(on_success="keep")
    path = deliver(one, "a.png")
    assert one.after(3) == ["a.png"]
    one.spool.commit(one.jobs[0], "success", {".json": lambda s: s.write("{}")}, "0")
    assert one.after(100) == ["a.png"]
    path.write_bytes(PDF.read_bytes())
    assert one.after(20) == ["a.png", "a.png"]


def test_a_kept_file_in_work_is_not_offered_twice(desk):
    one = desk(on_success="keep")
    deliver(one, "a.png")
    assert one.after(3) == ["a.png"]
    assert one.after(100) == ["a.png"]
