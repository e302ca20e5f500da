"""A real daemon as a process of its own, seen from outside: its log, its folders, /proc."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mineru_daemon import budget, memory
from mineru_daemon.errors import MineruError
from mineru_daemon.parent import die_with_parent
from mineru_daemon.settings import ENV_PREFIX, FOLDER_NAMES

START_SECONDS = 120.0
"""A daemon that is not ready by then never will be, however slow the machine."""


class Served:
    """Folders below `base` and the daemon that serves them; may be started many times."""

    def __init__(
        self,
        base: Path,
        *options: str,
        elsewhere: Mapping[str, Path] | None = None,
        within: Sequence[str] = (),
        module: str = "mineru_daemon",
    ) -> None:
        """`options` are those of `mineru-daemon run`, after the folders; `elsewhere` tells by
        name which folders do not lie below `base`; `within` is a command that takes another
        as arguments and becomes it, as `nice` does; `module` runs it."""
        folders = {name: base / name for name in FOLDER_NAMES} | dict(elsewhere or {})
        self.inbox, self.outbox, self.done, self.failed, self.spool = folders.values()
        self.journal = base / "daemon.log"
        self.journal.touch()
        self._config = base / "config.toml"
        self._config.touch()  # An empty one, lest the user's own is taken.
        self._command = [*within, sys.executable, "-m", module, "run"]
        self._command += [f"--config={self._config}"]
        self._command += [f"--{name}={folder}" for name, folder in folders.items()]
        self._command += ["--log-format=json", *options]
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0
        self.inbox.mkdir(exist_ok=True)

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        assert self._process
        return self._process.pid

    def configure(self, toml: str) -> None:
        """Put settings into its file, for the next start or `reload`; options come before them."""
        self._config.write_text(f"{toml}\n", "utf-8")

    def reload(self) -> None:
        """Have it read its settings again."""
        assert self._process
        self._process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        """Start the daemon, in a process group of its own; does not wait for it.

        It ends with the thread that calls this.
        """
        own = {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX)}
        with self.journal.open("ab") as journal:
            self._began = journal.tell()
            self._process = subprocess.Popen(
                self._command,
                env=own,
                stderr=journal,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, of a loaded library
            )

    def kill(self) -> None:
        """End it as a power cut for the process: SIGKILL to the whole group."""
        os.killpg(self.pid, signal.SIGKILL)
        assert self._process
        self._process.wait()

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise MineruError(f"The daemon did not stop; see {self.journal}.") from None

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    # --- what it says --------------------------------------------------------

    def events(self) -> Iterator[dict[str, Any]]:
        """What it has logged since its last start."""
        with self.journal.open("rb") as journal:
            journal.seek(self._began)
            for line in journal:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue  # cut by a kill, or a word of the interpreter
                if isinstance(event, dict):
                    yield event

    def count(self, *names: str) -> int:
        """How many of these events it has logged since its last start."""
        return sum(1 for event in self.events() if event.get("event") in names)

    def wait_until_ready(self) -> None:
        """Return when it serves. Raises MineruError when it does not come to that."""
        deadline = time.monotonic() + START_SECONDS
        while not self.count("watching"):
            if not self.alive() or time.monotonic() > deadline:
                raise MineruError(f"The daemon did not start; see {self.journal}.")
            time.sleep(0.05)

    # --- what it costs -------------------------------------------------------

    def cpu_seconds(self) -> float:
        """Processor time of all its threads and children, user and system.

        To the nanosecond but for children that have ended: the ticks of /proc/PID/stat would
        miss an idle daemon's short looks altogether.
        """
        living = [self.pid, *budget.descendants(self.pid)]
        return sum(map(budget.process_seconds, living)) + self._ended_seconds()

    def _ended_seconds(self) -> float:
        """Of children that were waited for; fields 16 and 17 of proc_pid_stat(5)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self) -> float:
        """Of the daemon and its living children, in MiB; what they share counts for each.

        Raises OSError when the daemon is gone.
        """
        total = memory.resident_mib(self.pid)
        for child in budget.descendants(self.pid):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                total += memory.resident_mib(child)
        return total


def files_of(folder: Path) -> list[Path]:
    """All files below a folder; what is moved away meanwhile is left out."""
    return [Path(base) / name for base, _, names in os.walk(folder) for name in names]
