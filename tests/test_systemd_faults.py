"""The service under a real systemd when its engine dies, hangs or takes too much memory.

Each mishap happens in the engine, in native code (see `mishaps`), while a page is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from PIL import Image, ImageDraw, ImageFont
from systemd_service import DOCUMENTS, HOME, SAMPLE, Service, needs_systemd, service

pytestmark = needs_systemd

PAGES = 12
LONG = "long.pdf"


@pytest.fixture(scope="module")
def mineru(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("systemd")) as booted:
        _draw_pages(booted)
        yield booted


def _draw_pages(mineru: Service) -> None:
    """A scan of many pages, each with its number."""
    pages = []
    for number in range(PAGES):
        page = Image.new("RGB", (700, 200), "white")
        font = ImageFont.load_default(32)
        ImageDraw.Draw(page).text((30, 60), f"Page {number}", fill="black", font=font)
        pages.append(page)
    path = mineru.documents / LONG
    pages[0].save(path, save_all=True, append_images=pages[1:], resolution=100)
    path.chmod(0o644)


def back(mineru: Service, restarts: int) -> None:
    """Wait until systemd has started it again as often as this."""
    mineru.until(lambda: int(mineru.state("NRestarts")) >= restarts)
    mineru.until(lambda: mineru.state("ActiveState") == "active")


def nothing_is_left(mineru: Service) -> None:
    assert mineru.run("ls", "-A", f"{HOME}/inbox") == ""
    assert mineru.run("find", f"{HOME}/.spool", "-name", "*.png") == ""


@pytest.mark.parametrize(
    ("mishap", "unit", "ends", "said"),
    [
        ("segfault", (), "(killed|dumped), status=11/SEGV", None),
        ("devour", ("MemoryMax=1200M",), "(killed, status=9/KILL|oom-kill)", None),
        ("hang", (), "exited, status=70", "hung"),
        ("hang-all", ("WatchdogSec=3",), "Watchdog timeout", None),
    ],
)
def test_the_file_is_finished_after(
    mineru: Service, mishap: str, unit: tuple[str, ...], ends: str, said: str | None
) -> None:
    mineru.fresh(*unit, config="settle_seconds = 0.2\nstall_seconds = 5")
    mineru.mishap(mishap)
    mineru.deliver(SAMPLE)
    result = mineru.result(SAMPLE.name)
    assert result["status"] == "success"
    back(mineru, 1)
    assert mineru.state("NRestarts") == "1"
    mineru.wait_for(HOME / "done" / SAMPLE.name)
    nothing_is_left(mineru)
    assert mineru.run("find", f"{HOME}/outbox", "-name", "*.json").split("\n") == [
        f"{HOME}/outbox/{SAMPLE.name}.json"
    ]
    assert len(mineru.run("journalctl", "--unit=mineru", f"--grep={ends}").splitlines()) >= 1
    assert len(mineru.events("resumed")) == 1
    assert bool(mineru.events("hung")) == (said == "hung")


def test_a_file_that_always_crashes_is_set_aside_and_the_next_one_served(mineru: Service) -> None:
    mineru.fresh(config="settle_seconds = 0.2")
    mineru.mishap("segfault", "segfault", "segfault")
    mineru.deliver(SAMPLE, "crashes.png")
    document = mineru.result("crashes.png", "failed")
    assert document["error"]["code"] == "crashed"
    assert mineru.state("NRestarts") == "3"
    mineru.deliver(SAMPLE, "next.png")
    assert mineru.result("next.png")["status"] == "success"
    mineru.wait_for(HOME / "done/next.png")
    assert mineru.state("NRestarts") == "3"
    nothing_is_left(mineru)


def test_pages_that_were_read_before_a_stop_are_not_read_again(mineru: Service) -> None:
    mineru.fresh(config='settle_seconds = 0.2\nlog_level = "debug"')
    mineru.deliver(DOCUMENTS / LONG)
    mineru.until(lambda: len(mineru.events("page")) >= 3)
    mineru.systemctl("stop")
    assert mineru.state("Result") == "success"
    before = [event["page"] for event in mineru.events("page")]
    assert before == list(range(len(before)))
    assert len(before) < PAGES
    assert len(mineru.events("checkpointed")) == 1
    mineru.systemctl("start")
    result = mineru.result(LONG)
    assert [event["page"] for event in mineru.events("page")] == list(range(PAGES))
    assert result["status"] == "success"
    assert [page["blocks"][0]["content"] for page in result["pages"]] == [
        f"Page {number}" for number in range(PAGES)
    ]


def test_a_page_that_never_ends_does_not_hold_up_a_stop(mineru: Service) -> None:
    """It is given up after stop_seconds, long before systemd would kill; it is read later."""
    mineru.fresh(config='settle_seconds = 0.2\nstop_seconds = 1\nlog_level = "debug"')
    mineru.deliver(DOCUMENTS / LONG)
    mineru.until(lambda: len(mineru.events("page")) >= 2)
    mineru.mishap("hang")
    mineru.until(lambda: mineru.run("find", f"{HOME}/mishaps", "-type", "f") == "")
    mineru.systemctl("stop")
    assert mineru.state("Result") == "success"
    assert mineru.events("stop-forced")
    before = [event["page"] for event in mineru.events("page")]
    mineru.systemctl("start")
    assert mineru.result(LONG)["status"] == "success"
    assert [event["page"] for event in mineru.events("page")] == list(range(PAGES))
    assert len(before) < PAGES


def test_every_entry_of_the_journal_is_an_event_with_its_priority(mineru: Service) -> None:
    mineru.fresh(config='settle_seconds = 0.2\nlog_level = "debug"')
    mineru.deliver(SAMPLE, "good.png")
    mineru.result("good.png")
    mineru.shell(f"echo 'no picture' >{HOME}/inbox/bad.png")
    mineru.result("bad.png", "failed")
    mineru.systemctl("stop")
    entries = mineru.journal()
    priorities = {"debug": "7", "info": "6", "warning": "4", "error": "3"}
    for entry in entries:
        event = json.loads(entry["MESSAGE"])
        assert {"event", "level", "timestamp"} <= set(event)
        assert entry["PRIORITY"] == priorities[event["level"]]
        assert entry["_SYSTEMD_UNIT"] == "mineru.service"
        assert entry["SYSLOG_IDENTIFIER"] == "mineru-daemon"
    [warning] = [entry for entry in entries if int(entry["PRIORITY"]) < 6]
    event = json.loads(warning["MESSAGE"])
    assert (event["event"], event["file"]) == ("failed", "bad.png")
    # Asked as README tells; with a cursor journalctl would leave out the first.
    words = ("journalctl", "--unit=mineru", "--priority=warning", "--output=cat")
    assert mineru.run(*words).splitlines()[-1] == warning["MESSAGE"]
    of_one = [
        e for e in map(json.loads, (e["MESSAGE"] for e in entries)) if e.get("file") == "good.png"
    ]
    assert {"claimed", "page", "success"} <= {event["event"] for event in of_one}
    assert len({event["job"] for event in of_one}) == 1
