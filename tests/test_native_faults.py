"""A daemon whose native libraries crash and hang on files: the process that reads documents ends,
the daemon does not, and goes on with the next file."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from hostile_building import CRASH, FAULTS, LOOP, pages

from mineru_daemon.samples import paths

_, PNG = paths()
TRIES = 3
"""What `max_attempts` is without being set."""


@pytest.mark.slow  # the loops take processor time for 9 seconds each
@pytest.mark.parametrize("scheduling", ["fair", "fifo"])
def test_files_that_crash_and_hang_native_code_are_set_aside_and_others_are_served(
    start, tmp_path, scheduling
):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for age, (name, width) in enumerate({"hang.pdf": LOOP, "crash.pdf": CRASH}.items()):
        (inbox / name).write_bytes(pages(width))
        os.utime(inbox / name, (1000 + age, 1000 + age))
    shutil.copy(PNG, inbox / "beside.png")
    search = os.pathsep.join([str(FAULTS), os.environ.get("PYTHONPATH", "")])
    daemon = start(
        f"--scheduling={scheduling}", "--render-seconds=1", "--pdf-mode=ocr",
        "--append-seconds=0.3", PYTHONPATH=search,
    ).ready()  # fmt: skip
    for name, code in (("hang.pdf", "hung"), ("crash.pdf", "crashed")):
        error = daemon.result(name, "failed")["error"]
        assert error["code"] == code
        assert name in error["message"]
        again = [event for event in daemon.events("tried-again") if event["file"] == name]
        assert len(again) == TRIES - 1
    assert daemon.result("beside.png")["status"] == "success"
    hostile = ["hang.pdf.json", "crash.pdf.json"]
    # In turns, what is tried again comes last.
    expected = (
        ["beside.png.json", *hostile] if scheduling == "fair" else [*hostile, "beside.png.json"]
    )
    results = [*tmp_path.glob("failed/*.json"), *tmp_path.glob("outbox/*.json")]
    assert [path.name for path in sorted(results, key=written)] == expected

    began = time.monotonic()
    daemon.drop(PNG, "next.png")
    assert daemon.result("next.png")["status"] == "success"
    print(f"the next file was read {time.monotonic() - began:.1f} s later")
    assert daemon.stop() == 0


def written(path: Path) -> int:
    return path.stat().st_mtime_ns
