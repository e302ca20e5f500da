"""The log: one line an event, whatever stands in a file name."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from mineru_daemon import log


@pytest.mark.parametrize("form", ["json", "console"])
def test_every_event_is_one_line_without_control_characters(capsys, form):
    log.configure("info", form)
    structlog.get_logger().info("claimed", file="a\n\x1b[2J\udcff.pdf")
    (line,) = capsys.readouterr().err.splitlines()
    assert "\x1b[2J" not in line
    assert "claimed" in line
    if form == "json":
        assert json.loads(line)["file"] == r"a\n\x1b[2J\udcff.pdf"


def test_the_level_bounds_what_is_logged(capsys):
    log.configure("warning", "json")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["loud"]


def test_libraries_are_heard_only_when_something_is_wrong(capsys):
    log.configure("info", "json")
    logging.getLogger("some.module").warning("chatter")
    logging.getLogger("some.module").error("broken\nthing")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == r"broken\nthing"
    assert json.loads(line)["logger"] == "some.module"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_line_for_journald_begins_with_its_priority_and_no_other_does(
    tmp_path: Path, monkeypatch: Any, form: Any
) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        for journal in ("0:0", "{0.st_dev}:{0.st_ino}".format(os.fstat(stream.fileno()))):
            monkeypatch.setenv("JOURNAL_STREAM", journal)
            log.configure("info", form)
            structlog.get_logger().info("claimed")
            structlog.get_logger().warning("failed")
            logging.getLogger("some.module").error("broken")
            try:
                raise ValueError("a bug")
            except ValueError:
                structlog.get_logger().exception("unexpected", exc_info=form == "json")
    lines = (tmp_path / "stderr").read_text().splitlines()
    assert not any(line.startswith("<") for line in lines[:4])
    assert [line[:3] for line in lines[4:]] == ["<6>", "<4>", "<3>", "<3>"]
    if form == "json":
        assert json.loads(lines[5][3:])["event"] == "failed"


def test_a_log_on_a_full_disk_does_not_stop_what_is_logged(monkeypatch):
    full = open("/dev/full", "w")  # noqa: SIM115 - its end fails too
    monkeypatch.setattr(sys, "stderr", full)
    log.configure("info", "json")
    for _ in range(3000):
        structlog.get_logger().error("claimed", file="x" * 100)
    with pytest.raises(OSError, match="No space left"):
        full.close()


def test_a_traceback_cannot_move_a_cursor(capsys):
    log.configure("info", "console")
    try:
        raise ValueError("name\x1b[2Jof a file\u202e")
    except ValueError:
        structlog.get_logger().exception("unexpected")
    said = capsys.readouterr().err
    assert "\x1b[2J" not in said
    assert "\u202e" not in said
    assert said.count("\n") > 3
