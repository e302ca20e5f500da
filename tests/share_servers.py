"""Real servers for real clients, on a free port of the loopback: Samba and vsftpd.

Both serve one folder to guests, in the foreground and out of folders of their own, and
touch nothing of the machine's own servers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from daemon_process import END_WITH_TESTS

START_SECONDS = 60.0

GUEST = "nobody"
"""As whom Samba's guests deliver."""


def missing(*programs: str) -> str:
    """What of it is not installed, as a reason to skip; '' when all is there."""
    found = [name for name in programs if shutil.which(name, path=_path()) is None]
    return f"not installed: {', '.join(found)}" if found else ""


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


@contextlib.contextmanager
def samba(base: Path, share: Path) -> Iterator[int]:
    """smbd serves `share` as //127.0.0.1/scan to guests; yields its port."""
    port = _free_port()
    base.mkdir()
    folders = ("private", "lock", "state", "cache", "pid", "ncalrpc")
    for name in folders:
        (base / name).mkdir()
    config = base / "smb.conf"
    config.write_text(
        f"""[global]
server role = standalone server
smb ports = {port}
interfaces = lo
bind interfaces only = yes
map to guest = bad user
guest account = {GUEST}
private dir = {base}/private
lock directory = {base}/lock
state directory = {base}/state
cache directory = {base}/cache
pid directory = {base}/pid
ncalrpc dir = {base}/ncalrpc
log file = {base}/log
disable netbios = yes
disable spoolss = yes
load printers = no
printcap name = /dev/null
# Small writes, so that a file that trickles in is seen to grow.
smb2 max write = 65536
[scan]
path = {share}
guest ok = yes
read only = no
# Clients differ in whom they say they are; what one began another may go on with.
force user = {GUEST}
create mask = 0666
"""
    )
    command = ["smbd", "--foreground", "--no-process-group", f"--configfile={config}"]
    with _running(command, base / "out", port):
        yield port


def smbclient(port: int, commands: str) -> list[str]:
    """The command line that has a scanner give these commands to the share."""
    return ["smbclient", "//127.0.0.1/scan", f"--port={port}", "--no-pass", "-c", commands]


@contextlib.contextmanager
def vsftpd(base: Path, root: Path) -> Iterator[int]:
    """vsftpd serves what lies below `root` to anonymous guests; yields its port.

    It refuses a root that its guests may write to; a folder in it is another thing.
    """
    port = _free_port()
    base.mkdir()
    (base / "empty").mkdir()
    config = base / "vsftpd.conf"
    config.write_text(
        f"""listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
local_enable=NO
anonymous_enable=YES
no_anon_password=YES
anon_root={root}
write_enable=YES
anon_upload_enable=YES
anon_other_write_enable=YES
anon_umask=022
secure_chroot_dir={base}/empty
seccomp_sandbox=NO
xferlog_enable=NO
"""
    )
    with _running(["vsftpd", str(config)], base / "out", port):
        yield port


def lftp(port: int, commands: str, rate: int = 0) -> list[str]:
    """The command line that has an FTP client give these commands; `rate` in bytes a second."""
    settings = f"set net:max-retries 1; set net:limit-rate {rate}"
    return ["lftp", "-e", f"{settings}; {commands}; bye", "-u", "anonymous,x", f"127.0.0.1:{port}"]


@contextlib.contextmanager
def slow_line(port: int, rate: int, pauses: Sequence[int] = (), pause: float = 0) -> Iterator[int]:
    """A line to a server on which no more than `rate` bytes a second get through, and which
    stands still for `pause` seconds after so many bytes; yields the port of its near end."""
    with socket.create_server(("127.0.0.1", 0)) as near:
        threading.Thread(target=_accept, args=(near, port, rate, pauses, pause)).start()
        yield near.getsockname()[1]
        near.shutdown(socket.SHUT_RDWR)


def _accept(near: socket.socket, port: int, rate: int, pauses: Sequence[int], pause: float) -> None:
    while True:
        try:
            client, _ = near.accept()
        except OSError:
            return
        server = socket.create_connection(("127.0.0.1", port))
        threading.Thread(target=_forward, args=(client, server, rate, pauses, pause)).start()
        threading.Thread(target=_forward, args=(server, client, 0, (), 0)).start()


def _forward(
    source: socket.socket, target: socket.socket, rate: int, pauses: Sequence[int], pause: float
) -> None:
    passed, waiting = 0, list(pauses)
    with contextlib.suppress(OSError):
        while data := source.recv(8192):
            target.sendall(data)
            passed += len(data)
            if rate:
                time.sleep(len(data) / rate)
            if waiting and passed >= waiting[0]:
                waiting.pop(0)
                time.sleep(pause)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _running(command: list[str], out: Path, port: int) -> Iterator[None]:
    program = shutil.which(command[0], path=_path())
    assert program
    with out.open("wb") as said:
        server = subprocess.Popen(
            [*END_WITH_TESTS, program, *command[1:]],
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            assert server.poll() is None, out.read_text()
            assert time.monotonic() < deadline, f"{command[0]} does not answer"
            time.sleep(0.05)
        yield
    finally:
        # Its children are of its group; the processes of others are not.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
