"""What goes wrong around a daemon in an office: kills, a full disk, an inbox that drops out.

The disk that is full is a small tmpfs in a mount namespace of this process, so that nothing
is mounted for others and nothing stays.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mineru_daemon.bench.process import Served, files_of
from mineru_daemon.bench.soak_report import Soaked

KILLS_UNTIL = 0.6
"""Of all files: what follows is one life, long enough to be judged."""

FAULTS_UNTIL = 0.9

FULL_SECONDS = (4.0, 8.0)
AWAY_SECONDS = (3.0, 6.0)
UP_AGAIN_SECONDS = (0.0, 2.0)
"""After every fourth kill the daemon is killed once more, so soon after its start."""

TICK_SECONDS = 0.02
"""Between two looks at what is due."""

_CLONE_NEWNS = 0x00020000
"""linux/sched.h."""


class Faults:
    """Harms one daemon by a plan, a little at each call of `go_on`."""

    def __init__(
        self,
        served: Served,
        disk: Path,
        inbox: Path,
        files: int,
        choice: random.Random,
        soaked: Soaked,
        killed: Callable[[], None],
    ) -> None:
        """`inbox` leads to the inbox wherever it is; `killed` is called after each kill and
        starts the daemon again. What is done is counted in `soaked`; where that says why some
        faults are left out, nothing is mounted and `disk` is not filled."""
        self._served = served
        self._disk = disk
        self._inbox = inbox
        self._files = files
        self._choice = choice
        self._soaked = soaked
        self._killed = killed
        self._plan = self._planned(mounting=not soaked.left_out)
        self._phase: Iterator[float] | None = None
        self._phase_due = 0.0
        self._again = -1.0

    def _planned(self, mounting: bool) -> list[tuple[float, str]]:
        """Faults, and after which part of all files they come; the last one first."""
        kills, phases = max(2, self._files // 100), max(1, self._files // 300)
        plan = [(self._choice.uniform(0, KILLS_UNTIL), "kill") for _ in range(kills)]
        for kind in ["renamed away", *(["full disk", "covered"] if mounting else [])]:
            plan += [(self._choice.uniform(0, FAULTS_UNTIL), kind) for _ in range(phases)]
        return sorted(plan, reverse=True)

    @property
    def left(self) -> bool:
        """Whether any is still to come, or lasts."""
        return bool(self._plan) or self._phase is not None

    def go_on(self, now: float, finished: int) -> None:
        """Go on with the fault that lasts; begin the one that is due at `now` seconds, when so
        many files were `finished`."""
        if self._again >= 0 and now >= self._again:
            self._again = -1.0
            self._kill("kill soon after a start")
        if self._phase is not None and now >= self._phase_due:
            pause = next(self._phase, None)
            self._phase_due = now + (pause or 0.0)
            self._phase = self._phase if pause is not None else None
        due = bool(self._plan) and finished >= self._plan[-1][0] * self._files
        if not due:
            return
        kind = self._plan[-1][1]
        if kind == "kill":
            self._plan.pop()
            self._kill(kind)
            if self._soaked.faults[kind] % 4 == 0 and self._again < 0:
                self._again = now + self._choice.uniform(*UP_AGAIN_SECONDS)
        elif self._phase is None:
            self._plan.pop()
            self._soaked.faults[kind] += 1
            self._phase = {
                "full disk": self._full_disk,
                "renamed away": self._renamed_away,
                "covered": self._covered,
            }[kind]()
            self._phase_due = now

    def _kill(self, kind: str) -> None:
        self._served.kill()
        self._soaked.faults[kind] += 1
        self._killed()

    def _full_disk(self) -> Iterator[float]:
        """Everything that is free is taken, and what becomes free meanwhile too."""
        ballast = self._disk / "ballast"
        until = time.monotonic() + self._choice.uniform(*FULL_SECONDS)
        with ballast.open("wb") as stream:
            while time.monotonic() < until:
                place = os.statvfs(self._disk)
                if place.f_bavail:
                    with contextlib.suppress(OSError):
                        os.posix_fallocate(
                            stream.fileno(),
                            os.fstat(stream.fileno()).st_size,
                            place.f_bavail * place.f_frsize,
                        )
                yield TICK_SECONDS
        ballast.unlink()

    def _renamed_away(self) -> Iterator[float]:
        away = self._served.inbox.with_name("away")
        self._served.inbox.rename(away)
        yield self._choice.uniform(*AWAY_SECONDS)
        # A daemon that was started meanwhile has made itself an empty one.
        with contextlib.suppress(FileNotFoundError):
            self._served.inbox.rmdir()
        away.rename(self._served.inbox)

    def _covered(self) -> Iterator[float]:
        inbox = str(self._served.inbox)
        subprocess.run(["mount", "-t", "tmpfs", "mineru-soak", inbox], check=True)
        yield self._choice.uniform(*AWAY_SECONDS)
        if found := files_of(self._served.inbox):
            self._soaked.findings.blame(f"{found[0]} was put into the wrong folder")
        # Somebody may be looking into it just now.
        while subprocess.run(["umount", inbox], capture_output=True, check=False).returncode:
            yield TICK_SECONDS

    def undo(self) -> None:
        """End what lasts, whatever became of the run."""
        while self._phase is not None and next(self._phase, None) is not None:
            time.sleep(TICK_SECONDS)


def small_disk(folder: Path, files: int) -> str:
    """Mount a tmpfs on `folder`, seen by this process and its children only.

    Returns why it cannot be, or ''.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        return f"mounting needs root ({os.strerror(ctypes.get_errno())})"
    size = max(64, files // 4)
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", f"size={size}m", "mineru-soak", str(folder)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"mounting is refused ({done.stderr.strip()})"
    return ""
