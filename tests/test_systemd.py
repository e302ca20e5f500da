"""The service under a real systemd: installed, started, fed, reloaded, killed, stopped.

The tests are steps of one story, told in order by one container; each step needs the ones
before it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from systemd_service import COMMAND, HOME, SAMPLE, Service, build_by_pip, needs_systemd, service

from mineru_daemon import daemon, install

pytestmark = needs_systemd


@pytest.fixture(scope="module")
def mineru(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("systemd"), installed=False) as booted:
        booted.run("useradd", "--create-home", "alice")
        booted.run("useradd", "--create-home", "bob")
        yield booted


def test_it_is_installed_as_readme_tells(mineru: Service) -> None:
    assert "Successfully installed mineru-daemon" in build_by_pip(mineru.container)
    said = mineru.run(COMMAND, "install")
    assert "run: systemctl daemon-reload" in said
    assert "systemctl start mineru" in said
    assert "written" not in mineru.run(COMMAND, "install")
    assert mineru.state("LoadState") == "loaded"
    assert mineru.run("systemd-analyze", "verify", "mineru.service") == ""
    mineru.run("usermod", "--append", "--groups", install.SHARE_GROUP, "alice")


def test_it_is_ready_when_start_returns(mineru: Service) -> None:
    mineru.run("systemctl", "start", "mineru")
    assert mineru.state("ActiveState") == "active"
    assert mineru.state("StatusText").startswith("serving")
    assert mineru.state("NRestarts") == "0"


def test_the_process_runs_in_its_sandbox_and_within_its_share(mineru: Service) -> None:
    pid = mineru.state("MainPID")
    facts = dict(
        line.split(":\t", 1)
        for line in mineru.run("cat", f"/proc/{pid}/status").splitlines()
        if ":\t" in line
    )
    assert facts["NoNewPrivs"] == "1"
    assert facts["Seccomp"] == "2"
    assert set(facts["CapBnd"]) == {"0"}
    assert facts["Umask"] == "0027"
    first, _, last = facts["Cpus_allowed_list"].partition("-")
    assert int(first) == 0
    assert int(last or first) <= 3
    inside = ("nsenter", f"--target={pid}", "--mount", "--net")
    assert mineru.run(*inside, "ls", "-A", "/root", "/home", "/tmp") == "/home:\n\n/root:\n\n/tmp:"
    assert mineru.run(*inside, "sh", "-c", "echo x >/etc/x || true").endswith(
        "Read-only file system"
    )
    assert len(mineru.run(*inside, "cat", "/proc/net/dev").splitlines()) == 3  # lo alone
    assert mineru.quota() == 4.0


def test_the_share_group_delivers_and_fetches(mineru: Service) -> None:
    mineru.shell(f"umask 027; cp {SAMPLE} {HOME}/inbox/first.png", user="alice")
    result = HOME / "outbox/first.png.json"
    mineru.wait_for(result)
    assert json.loads(mineru.shell(f"cat {result}", user="alice"))["status"] == "success"
    mineru.wait_for(HOME / "done/first.png", 5)
    assert mineru.run("ls", "-A", f"{HOME}/inbox") == ""
    deadline = time.monotonic() + 2 * daemon.IDLE_TICK_SECONDS
    while "1 read" not in mineru.state("StatusText"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    for forbidden in (f"rm -f {result}", f"ls {HOME}/done", f"ls {HOME}/.spool"):
        with pytest.raises(AssertionError, match="denied"):
            mineru.shell(forbidden, user="alice")
    paths = mineru.run("find", str(HOME.parent), "/etc/systemd", "/etc/mineru", check=False)
    writable = 'while read -r path; do [ ! -w "$path" ] || echo "$path"; done'
    assert mineru.shell(f"{writable} <<'END'\n{paths}\nEND", user="alice") == f"{HOME}/inbox"
    for forbidden in (f"cat {result}", f"cp {SAMPLE} {HOME}/inbox/bob.png"):
        with pytest.raises(AssertionError, match="denied"):
            mineru.shell(forbidden, user="bob")


def test_it_reloads_without_a_restart(mineru: Service) -> None:
    pid = mineru.state("MainPID")
    mineru.shell("mkdir -p /etc/mineru; echo 'settle_seconds = 0.5' >/etc/mineru/config.toml")
    mineru.run("systemctl", "reload", "mineru")
    log = mineru.run("journalctl", "--unit=mineru", "--output=cat", "--lines=20")
    assert '"changed": ["settle_seconds"]' in log
    assert mineru.state("MainPID") == pid
    assert mineru.state("ActiveState") == "active"


def test_a_killed_daemon_is_back_and_has_lost_nothing(mineru: Service) -> None:
    pid = mineru.state("MainPID")
    mineru.shell(f"cp {SAMPLE} {HOME}/inbox/second.png")
    # Claimed, but not yet read.
    mineru.run(
        "timeout", "20", "sh", "-c", f"while [ -e {HOME}/inbox/second.png ]; do sleep .05; done"
    )
    mineru.run("kill", "-KILL", pid)
    began = time.monotonic()
    while mineru.state("ActiveState") != "active" or mineru.state("MainPID") == pid:
        assert time.monotonic() - began < 10
        time.sleep(0.1)
    mineru.wait_for(HOME / "outbox/second.png.json")
    assert mineru.state("NRestarts") == "1"
    assert mineru.shell(f"ls {HOME}/outbox").split() == [
        *("first.png.json", "first.png.md", "second.png.json", "second.png.md"),
    ]


def test_it_stops_in_peace(mineru: Service) -> None:
    mineru.run("systemctl", "stop", "mineru")
    assert mineru.state("Result") == "success"
    assert mineru.state("ActiveState") == "inactive"


def test_a_wrong_setting_is_not_tried_again(mineru: Service) -> None:
    mineru.shell("echo 'settle_seconds = -1' >/etc/mineru/config.toml")
    mineru.run("systemctl", "start", "mineru", check=False)
    assert mineru.state("ExecMainStatus") == "78"
    time.sleep(1.5)
    assert mineru.state("ActiveState") == "failed"
    assert "settle_seconds" in mineru.run("systemctl", "status", "mineru", check=False)
    mineru.run("rm", "/etc/mineru/config.toml")


def test_it_serves_the_folders_of_a_chosen_user(mineru: Service) -> None:
    """Also a drop-in is obeyed, and a folder beside the user's own is opened."""
    mineru.shell("install -d -o alice -g alice '/srv/scans 100%'")
    mineru.shell("echo 'inbox = \"/srv/scans 100%\"' >/etc/mineru/config.toml")
    drop_in = Path("/etc/systemd/system/mineru.service.d/less.conf")
    mineru.shell(
        f"mkdir {drop_in.parent}; printf '[Service]\\nCPUQuota=150%%\\nWatchdogSec=3\\n' >{drop_in}"
    )
    mineru.run(COMMAND, "install", "--service-user", "alice")
    mineru.run("systemctl", "start", "mineru")
    assert mineru.state("User") == "alice"
    pid = mineru.state("MainPID")
    assert mineru.quota() == 1.5
    inside = ("nsenter", f"--target={pid}", "--mount")
    assert mineru.run(*inside, "ls", "-A", "/home", "/home/alice") == (
        "/home:\nalice\n\n/home/alice:\nmineru"
    )
    mineru.shell(f"cp {SAMPLE} '/srv/scans 100%/third.png'", user="alice")
    mineru.wait_for(Path("/home/alice/mineru/outbox/third.png.json"))
    mineru.wait_for(Path("/home/alice/mineru/done/third.png"), 5)


def test_a_daemon_that_hangs_is_replaced(mineru: Service) -> None:
    """The drop-in of the step before left it three seconds to answer in, while it read."""
    assert mineru.state("NRestarts") == "0"
    mineru.run("kill", "-STOP", mineru.state("MainPID"))
    deadline = time.monotonic() + 20
    while (mineru.state("NRestarts"), mineru.state("ActiveState")) != ("1", "active"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    mineru.run("systemctl", "stop", "mineru")
    log = mineru.run("journalctl", "--unit=mineru", "--output=cat", "--lines=40")
    assert "Watchdog timeout" in log
