"""An engine that nobody needs is given back with its memory, and is there again when needed."""

from __future__ import annotations

import signal

from mineru_daemon.memory import resident_mib
from mineru_daemon.samples import paths

PDF, PNG = paths()


def test_the_memory_of_an_idle_engine_goes_back_to_the_system_and_the_next_file_is_read(start):
    daemon = start("--unload-after=0.5").ready()
    assert daemon.events("engine-ready"), "it is loaded at the start, however lazy it is later"
    daemon.until(lambda: daemon.events("engine-unloaded"))
    (gone,) = daemon.events("engine-unloaded")
    assert resident_mib(daemon.process.pid) < 0.6 * gone["before_mib"]
    daemon.until(lambda: "engine unloaded" in daemon.told[-1])
    daemon.drop(PNG)
    assert daemon.result(PNG.name)["status"] == "success"
    assert len(daemon.events("engine-loaded")) == 1
    daemon.until(lambda: len(daemon.events("engine-unloaded")) == 2)
    before = resident_mib(daemon.process.pid)
    daemon.drop(PDF)
    assert len(daemon.result(PDF.name)["pages"]) == 2
    daemon.until(lambda: len(daemon.events("engine-unloaded")) == 3)
    assert resident_mib(daemon.process.pid) < before + 20, "nothing of it stays"
    assert daemon.stop() == 0


def test_a_file_that_no_engine_has_to_read_does_not_load_it(start, tmp_path):
    daemon = start("--unload-after=0.2").ready()
    daemon.until(lambda: daemon.events("engine-unloaded"))
    (tmp_path / "letter.txt").write_text("plain text")
    daemon.drop(tmp_path / "letter.txt")
    assert daemon.result("letter.txt", "failed")["error"]["code"] == "unsupported"
    assert not daemon.events("engine-loaded")


def test_without_the_setting_the_engine_stays(start):
    daemon = start("--unload-after=0").ready()
    daemon.drop(PNG)
    daemon.result(PNG.name)
    daemon.drop(PNG, "again.png")
    daemon.result("again.png")
    assert not daemon.events("engine-unloaded")


def test_an_unloaded_daemon_stops_and_reloads_like_any_other(start):
    daemon = start("--unload-after=0.2").ready()
    daemon.until(lambda: daemon.events("engine-unloaded"))
    daemon.process.send_signal(signal.SIGHUP)
    daemon.until(lambda: daemon.events("reloaded"))
    assert daemon.stop() == 0
