"""Tells systemd how the daemon is: ready, reloading, stopping, alive, and what it does.

The protocol of sd_notify(3): datagrams to the AF_UNIX socket that systemd names in the
environment. It is the only socket in the product. When to say what, and whether there is
reason to call oneself alive, is left to `daemon`.

Nothing here raises: a notification that is lost must not stop the daemon. Without systemd
every call does nothing.
"""

from __future__ import annotations

import os
import socket
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

_SEND_SECONDS = 2.0
"""How long a full socket is waited for. systemd reads late while it reloads its units."""

_STATUS_BYTES = 512
"""systemd drops a datagram of more than 4096 bytes as a whole; people read one line."""


@dataclass(frozen=True)
class Notifier:
    """What systemd asked for when it started this process. Safe to use from any thread."""

    address: bytes | None = None
    """Where datagrams go; None where nobody listens. A leading NUL is the abstract
    namespace."""
    watchdog_seconds: float | None = None
    """systemd ends the process when `watchdog` was not called for this long; call it at
    half the time. None where no watchdog is set for this process."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Notifier:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID."""
        return cls(
            _address(environ.get("NOTIFY_SOCKET", "")),
            _watchdog_seconds(environ.get("WATCHDOG_USEC"), environ.get("WATCHDOG_PID")),
        )

    def ready(self, status: str = "") -> None:
        """Starting up, or reloading, is over."""
        self._send("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """The line that `systemctl status` shows. `text` may hold names of files."""
        self._send(*_status(text))

    def reloading(self) -> None:
        """Settings are being read again; `ready` must follow."""
        # Type=notify-reload takes the time to tell this reload from an earlier one.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self, status: str = "") -> None:
        """The daemon is on its way out."""
        self._send("STOPPING=1", *_status(status))

    def watchdog(self) -> None:
        """The daemon is alive."""
        self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if self.address is None or not assignments:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(_SEND_SECONDS)
                channel.sendto("\n".join(assignments).encode(), self.address)
        except OSError:
            # Nobody to tell: systemd itself is what would be told.
            return


def _address(name: str) -> bytes | None:
    """The socket's address. Only paths and abstract names; systemd also knows vsock:."""
    if name.startswith("/"):
        return os.fsencode(name)
    if name.startswith("@") and len(name) > 1:
        return b"\0" + os.fsencode(name[1:])
    return None


def _watchdog_seconds(microseconds: str | None, pid: str | None) -> float | None:
    # A child inherits the variables, but the watchdog is not set for it.
    if pid and pid != str(os.getpid()):
        return None
    try:
        seconds = int(microseconds or 0) / 1e6
    except ValueError:
        return None
    return seconds if seconds > 0 else None


def _status(text: str) -> tuple[str, ...]:
    """`text` as at most one assignment: a line break in it would begin another one.

    Control characters and characters that are not text (bytes of file names that are no
    UTF-8) are replaced; systemd drops what is no UTF-8.
    """
    line = "".join(
        " " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in text
    ).strip()
    if not line:
        return ()
    return ("STATUS=" + line.encode(errors="replace")[:_STATUS_BYTES].decode(errors="ignore"),)
