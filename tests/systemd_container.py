"""A real systemd for the tests: PID 1 of a container over this machine's own files.

Whatever is written inside is gone afterwards. Only units up to basic.target are started,
without a network, so that services which this machine happens to have stay asleep.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")

_NAME = "mineru-test-"
"""Of containers and their control groups; the process id of their tests follows."""

# What the tests themselves are run with is no business of what runs inside.
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}

# systemd-nspawn hands the controllers of version 1 over read-only, and then no limit of a
# unit takes effect.
_INIT = """
for each in /sys/fs/cgroup/*/; do mount -o remount,bind,rw "$each"; done 2>/dev/null
exec /lib/systemd/systemd systemd.unit=basic.target
"""

# It refuses "/" as the container's root together with an overlay, but not another name for
# it; and a /run that is not a tmpfs. Both are mounts of this process alone.
_OUTSIDE = """
for each in "$@"; do
    [ "$each" = -- ] && { shift; break; }
    echo $$ >"$each/cgroup.procs"
    shift
done
mount -t tmpfs -o mode=755 none /run
mount --bind / "$ROOT"
exec systemd-nspawn "$@"
"""


class Container:
    """One booted container. `folder` is scratch space; `read_only` maps paths inside to
    folders outside. Raises OSError where control groups may not be made."""

    def __init__(self, folder: Path, read_only: dict[Path, Path]) -> None:
        self._name = f"{_NAME}{os.getpid()}"
        self._console = folder / "console"
        root = folder / "root"
        root.mkdir()
        self._groups = [hierarchy / self._name for hierarchy in _hierarchies()]
        _remove_leftovers()
        try:
            for group in self._groups:
                _make_group(group)
        except OSError:
            self._remove_groups()
            raise
        # Killed tests shut nothing down; systemd-nspawn does it on SIGTERM.
        words = ["setpriv", "--pdeathsig", "TERM"]
        words += ["unshare", "--mount", "--propagation", "private"]
        words += ["sh", "-e", "-c", _OUTSIDE, "sh"]
        words += [*map(str, self._groups), "--", f"--directory={root}", "--volatile=overlay"]
        words += [f"--machine={self._name}", "--register=no", "--keep-unit", "--private-network"]
        words += ["--quiet", "--console=pipe", "--link-journal=no", "--capability=all"]
        words += ["--kill-signal=SIGRTMIN+3"]
        words += [f"--bind-ro={outside}:{inside}" for inside, outside in read_only.items()]
        words += ["/bin/sh", "-c", _INIT]
        with self._console.open("wb") as console:
            self._nspawn = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "ROOT": str(root)},
            )
        self._leader = 0

    def wait_until_booted(self, seconds: float = 30) -> str | None:
        """None when systemd is up, else what it or systemd-nspawn had to say."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._nspawn.poll() is None:
            pid = self._nspawn.pid
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                is_systemd = children and Path(f"/proc/{children[0]}/comm").read_text().strip()
            except OSError:
                continue
            if is_systemd == "systemd":
                self._leader = int(children[0])
                state = self.run("systemctl", "is-system-running", check=False)
                if state in ("running", "degraded"):
                    return None
            time.sleep(0.1)
        return self._console.read_text(errors="replace")[-1000:] or "it says nothing"

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command inside and return what it printed, without the last line break.

        Raises AssertionError with all it printed where it fails, unless `check` is False.
        """
        done = subprocess.run(
            ["nsenter", f"--target={self._leader}", "--all", *words],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=90,
            cwd="/",
            env=_ENVIRONMENT,
        )
        assert done.returncode == 0 or not check, f"{words}: {done.returncode}\n{done.stdout}"
        return done.stdout.rstrip("\n")

    def shell(self, script: str, user: str = "root") -> str:
        """Run a script inside, as `user` with all groups of that user."""
        return self.run(
            *("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--reset-env"),
            *("sh", "-e", "-c", script),
        )

    def stop(self) -> None:
        """Shut down; kill what does not. Nothing is left behind."""
        self._nspawn.send_signal(signal.SIGTERM)
        try:
            self._nspawn.wait(20)
        except subprocess.TimeoutExpired:
            if self._leader:
                os.kill(self._leader, signal.SIGKILL)
            self._nspawn.kill()
            self._nspawn.wait()
        self._remove_groups()

    def _remove_groups(self) -> None:
        for group in self._groups:
            deadline = time.monotonic() + 5
            while group.exists() and not _remove_group(group) and time.monotonic() < deadline:
                time.sleep(0.1)


def _hierarchies() -> list[Path]:
    """The mounted control group hierarchies: one of version 2, or several of version 1."""
    if (CGROUPS / "cgroup.procs").exists():
        return [CGROUPS]
    return sorted(path for path in CGROUPS.iterdir() if not path.is_symlink() and path.is_mount())


def _make_group(group: Path) -> None:
    group.mkdir()
    # A new cpuset (version 1) is empty, and nothing may run in it.
    for file in ("cpuset.cpus", "cpuset.mems"):
        if (group / file).exists() and (group.parent / "tasks").exists():
            (group / file).write_text((group.parent / file).read_text())


def _remove_leftovers() -> None:
    """Control groups of tests that were killed; what runs in one keeps it."""
    for group in (one for hierarchy in _hierarchies() for one in hierarchy.glob(f"{_NAME}*")):
        if not Path(f"/proc/{group.name.removeprefix(_NAME)}").exists():
            _remove_group(group)


def _remove_group(top: Path) -> bool:
    try:
        for folder, _, _ in os.walk(top, topdown=False):
            os.rmdir(folder)
    except OSError:
        return False  # A process in it is still being buried.
    return True
