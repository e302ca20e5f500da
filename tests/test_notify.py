"""What systemd hears: real datagrams over real sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from mineru_daemon.notify import Notifier


class Ear:
    """The end of the socket at which systemd would listen."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(5)

    def hear(self) -> list[str]:
        return self.socket.recv(65536).decode().split("\n")

    def hears_nothing(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(65536)
        except BlockingIOError:
            return True
        return False


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    ear = Ear(str(tmp_path / "notify"))
    yield ear
    ear.socket.close()


@pytest.fixture
def notifier(ear: Ear) -> Notifier:
    return Notifier.from_environment({"NOTIFY_SOCKET": ear.socket.getsockname()})


def test_each_state_is_one_datagram(ear: Ear, notifier: Notifier) -> None:
    notifier.ready("waiting for documents")
    assert ear.hear() == ["READY=1", "STATUS=waiting for documents"]
    notifier.ready()
    assert ear.hear() == ["READY=1"]
    notifier.status("reading scan.pdf, page 3 of 12")
    assert ear.hear() == ["STATUS=reading scan.pdf, page 3 of 12"]
    notifier.watchdog()
    assert ear.hear() == ["WATCHDOG=1"]
    notifier.stopping("finishing page 3")
    assert ear.hear() == ["STOPPING=1", "STATUS=finishing page 3"]


def test_a_reload_carries_the_monotonic_time(ear: Ear, notifier: Notifier) -> None:
    before = time.monotonic()
    notifier.reloading()
    after = time.monotonic()
    first, second = ear.hear()
    assert first == "RELOADING=1"
    key, _, value = second.partition("=")
    assert key == "MONOTONIC_USEC"
    assert before - 0.001 <= int(value) / 1e6 <= after + 0.001


def test_the_abstract_namespace_is_reached() -> None:
    name = f"mineru-test-{os.getpid()}"
    ear = Ear("\0" + name)
    try:
        Notifier.from_environment({"NOTIFY_SOCKET": "@" + name}).ready()
        assert ear.hear() == ["READY=1"]
    finally:
        ear.socket.close()


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\0", "\x0b", "\u2028", "\x85"])
def test_a_file_name_cannot_inject_an_assignment(
    ear: Ear, notifier: Notifier, line_break: str
) -> None:
    notifier.status(f"reading a{line_break}MAINPID=1{line_break}.pdf")
    heard = ear.hear()
    assert len(heard) == 1
    assert heard[0].startswith("STATUS=reading a ")
    assert line_break not in heard[0]


def test_a_status_is_short_and_whole_utf_8(ear: Ear, notifier: Notifier) -> None:
    notifier.status("ä" * 5000)
    (heard,) = ear.hear()
    assert heard.startswith("STATUS=ää")
    assert len(heard.encode()) < 600
    notifier.status("a" + "€" * 5000)
    (heard,) = ear.hear()
    assert heard.endswith("€")


def test_a_file_name_that_is_no_utf_8_is_still_told(ear: Ear, notifier: Notifier) -> None:
    notifier.status("reading " + os.fsdecode(b"scan\xff.pdf"))
    assert ear.hear() == ["STATUS=reading scan?.pdf"]


def test_an_empty_status_says_nothing(ear: Ear, notifier: Notifier) -> None:
    notifier.status(" \n ")
    assert ear.hears_nothing()


@pytest.mark.parametrize("address", [None, "", "@", "vsock:2:1234", "relative/path"])
def test_without_a_socket_nothing_is_sent(address: str | None) -> None:
    environ = {} if address is None else {"NOTIFY_SOCKET": address}
    notifier = Notifier.from_environment(environ)
    assert notifier.address is None
    notifier.ready("x")
    notifier.reloading()
    notifier.stopping()
    notifier.watchdog()


@pytest.mark.parametrize("address", ["/nonexistent/notify", "/" + "long" * 100, "/a\0b"])
def test_a_lost_notification_does_not_raise(address: str) -> None:
    Notifier.from_environment({"NOTIFY_SOCKET": address}).ready("x")


def test_a_listener_that_does_not_read_does_not_block_for_ever(
    ear: Ear, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mineru_daemon.notify._SEND_SECONDS", 0.01)
    queue = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())

    def send_more_than_may_wait_unread() -> None:
        for _ in range(queue + 5):
            notifier.watchdog()

    sender = Thread(target=send_more_than_may_wait_unread, daemon=True)
    sender.start()
    sender.join(timeout=10)
    assert not sender.is_alive()
    assert ear.hear() == ["WATCHDOG=1"]


def test_the_watchdog_time_is_in_seconds() -> None:
    environ = {"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}
    assert Notifier.from_environment(environ).watchdog_seconds == 1.5
    assert Notifier.from_environment({"WATCHDOG_USEC": "1500000"}).watchdog_seconds == 1.5


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"},
    ],
)
def test_no_watchdog_where_none_is_meant_for_this_process(environ: dict[str, str]) -> None:
    assert Notifier.from_environment(environ).watchdog_seconds is None


def test_importing_it_opens_nothing() -> None:
    code = "import os; before = os.listdir('/proc/self/fd'); import mineru_daemon.notify as n; "
    code += "n.Notifier.from_environment({'NOTIFY_SOCKET': '/x'}).ready(); "
    code += "assert os.listdir('/proc/self/fd') == before"
    subprocess.run([sys.executable, "-c", code], check=True)
