"""What is going on: for the supervisor, for people, for monitoring.

Threads report here; the daemon's main thread turns it into systemd's STATUS= line, the
watchdog's verdict and `status.json` in the spool, which `mineru-daemon status` reads.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mineru_daemon.printable import printable
from mineru_daemon.storage import replace_text

FILE_NAME = "status.json"
RATE_WINDOW_SECONDS = 300.0
RATE_SAMPLES = 5000


class Status:
    """The state of one daemon. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._beats: dict[str, float] = {}
        self._troubles: dict[str, str] = {}
        self._pages: deque[float] = deque(maxlen=RATE_SAMPLES)
        self._changed = True
        self._state: dict[str, Any] = {
            "state": "starting",
            "started": time.time(),
            "pid": os.getpid(),
            "engine": None,
            "unloaded": False,
            "threads": None,
            "cpus": None,
            "cpu_quota": None,
            "watch": None,
            "inbox_files": 0,
            "scan_seconds": 0.0,
            "settling": 0,
            "queued": 0,
            "current": None,
            "resting": None,
            "claimed": 0,
            "success": 0,
            "partial": 0,
            "failed": 0,
            "pages": 0,
            "page_seconds": 0.0,
            "last_failure": None,
        }

    def set(self, **values: Any) -> None:
        """Change plain values; unknown names are a programming error."""
        with self._lock:
            for key, value in values.items():
                if self._state[key] != value:
                    self._state[key] = value
                    self._changed = True

    # --- progress ------------------------------------------------------------

    def beat(self, who: str) -> None:
        """This thread makes progress."""
        self._beats[who] = time.monotonic()

    @contextlib.contextmanager
    def beating(self, who: str, seconds: float) -> Iterator[None]:
        """Counts as progress, for so long: what is done inside cannot report any."""
        over = threading.Event()

        def beat() -> None:
            deadline = time.monotonic() + seconds
            while not over.wait(1.0) and time.monotonic() < deadline:
                self.beat(who)

        thread = threading.Thread(target=beat, name="beat", daemon=True)
        self.beat(who)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.beat(who)

    def rest(self, who: str) -> None:
        """This thread has nothing to do and need not show progress."""
        self._beats.pop(who, None)

    def stalled(self, seconds: float) -> str | None:
        """Name of a thread that should but did not show progress for this long."""
        now = time.monotonic()
        for who, last in list(self._beats.items()):
            if now - last > seconds:
                return who
        return None

    # --- reports -------------------------------------------------------------

    def trouble(self, where: str, what: str | None) -> None:
        """A lasting trouble that a person should know of, or (None) its end."""
        what = what and printable(what)
        with self._lock:
            if self._troubles.get(where) == what:
                return
            if what is None:
                del self._troubles[where]
            else:
                self._troubles[where] = what
            self._changed = True

    def troubles(self) -> dict[str, str]:
        """The troubles of now, by place."""
        with self._lock:
            return dict(self._troubles)

    def claimed(self) -> None:
        """A file was claimed."""
        with self._lock:
            self._state["claimed"] += 1
            self._changed = True

    def working_on(self, file: str, page: int | None, pages: int | None) -> None:
        """The worker reads this page (from 0) of this file; None while it is opened."""
        self.set(current={"file": printable(file), "page": page, "pages": pages})

    def page_done(self, seconds: float) -> None:
        """A page was read in this time."""
        with self._lock:
            self._state["pages"] += 1
            self._state["page_seconds"] += seconds
            self._pages.append(time.monotonic())
            self._changed = True

    def file_done(self, outcome: str, file: str, reason: str | None) -> None:
        """A file was finished as success, partial or failed."""
        with self._lock:
            self._state[outcome] += 1
            self._state["current"] = None
            if outcome == "failed":
                self._state["last_failure"] = {
                    "file": printable(file),
                    "reason": printable(reason or ""),
                    "time": time.time(),
                }
            self._changed = True

    # --- views ---------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Everything as JSON-ready values."""
        with self._lock:
            since = time.monotonic() - RATE_WINDOW_SECONDS
            recent = sum(1 for moment in self._pages if moment > since)
            state = dict(self._state)
            total = state.pop("page_seconds")
            return state | {
                "updated": time.time(),
                "pages_per_minute": round(recent * 60 / RATE_WINDOW_SECONDS, 2),
                "mean_page_seconds": round(total / state["pages"], 3) if state["pages"] else None,
                "troubles": dict(self._troubles),
            }

    def line(self) -> str:
        """One line for `systemctl status`."""
        with self._lock:
            state, troubles = dict(self._state), dict(self._troubles)
        parts = [str(state["state"])]
        if threads := state["threads"]:
            parts[0] += f" with {threads} thread{'s' if threads > 1 else ''}"
        if state["unloaded"]:
            parts.append("engine unloaded until the next file")
        if current := state["current"]:
            parts.append(f"reading {current['file']}")
            if current["page"] is not None and current["pages"]:
                parts[-1] += f" (page {current['page'] + 1} of {current['pages']})"
        if resting := state["resting"]:
            parts.append(f"resting for {resting}")
        parts.append(f"{state['inbox_files']} in the inbox, {state['queued']} queued")
        parts.append(
            f"{state['success']} read, {state['partial']} in part, {state['failed']} failed"
        )
        if troubles:
            parts.insert(1, "TROUBLE: " + "; ".join(printable(text) for text in troubles.values()))
        return "; ".join(parts)

    def write_to(self, spool: Path) -> bool:
        """Write `status.json` if anything changed; whether it had.

        A disk that refuses is passed over: the file is a convenience, the journal tells.
        """
        with self._lock:
            if not self._changed:
                return False
            self._changed = False
        with contextlib.suppress(OSError):
            replace_text(spool / FILE_NAME, json.dumps(self.snapshot()), durable=False)
        return True


def read(spool: Path) -> dict[str, Any] | None:
    """The last written status of the daemon on this spool, with `running` added.

    None when no daemon has ever written one. Raises OSError when it may not be read.
    """
    try:
        state: dict[str, Any] = json.loads((spool / FILE_NAME).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return None
    return state | {"running": state["state"] != "stopped" and _is_daemon(state["pid"])}


def _is_daemon(pid: int) -> bool:
    """Whether the process exists and is a mineru-daemon, not a later one of its number."""
    try:
        return b"mineru" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def describe(state: dict[str, Any] | None, spool: Path) -> str:
    """The status for a person, several lines."""
    if state is None:
        return f"No daemon has run with the spool {spool} yet; start one with mineru-daemon run."
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state["started"]))
    running = f"{state['state']}, process {state['pid']}" if state["running"] else "not running"
    lines = [
        f"Daemon     {running} (started {when})",
        f"Engine     {state['engine'] or 'not loaded'}"
        + (" (unloaded until the next file)" if state.get("unloaded") else ""),
        f"Threads    {_threads(state)}",
        f"Inbox      {state['inbox_files']} files at the last listing, {state['settling']} watched"
        f" ({state['watch'] or 'not watched'})",
        f"Queue      {state['queued']} claimed and waiting",
    ]
    if current := state["current"]:
        page = ""
        if current["page"] is not None:
            page = f", page {current['page'] + 1} of {current['pages']}"
        lines.append(f"Reading    {current['file']}{page}")
    if resting := state.get("resting"):
        lines.append(f"Resting    for {resting}")
    mean = state["mean_page_seconds"]
    lines += [
        f"Read       {state['success']} files, {state['partial']} in part, "
        f"{state['failed']} failed; {state['pages']} pages",
        f"Rate       {state['pages_per_minute']} pages per minute"
        + (f", {mean:.2f} s a page" if mean is not None else ""),
    ]
    if failure := state["last_failure"]:
        lines.append(f"Failure    {failure['file']}: {failure['reason']}")
    lines += [f"Trouble    {text}" for text in state["troubles"].values()]
    return "\n".join(lines)


def _threads(state: dict[str, Any]) -> str:
    """How many threads may compute at a time, and what bounds them."""
    if not state.get("threads"):
        return "none yet"
    cpus, quota = state["cpus"], state["cpu_quota"]
    granted = f"{cpus} CPU{'s' if cpus > 1 else ''}"
    return f"{state['threads']} ({granted}" + (f", quota of {quota:g})" if quota else ", no quota)")
