"""mineru.service in a container with a real systemd, for the tests that tell its stories.

The package lies in an environment of its own, in one story by README's commands, in the others
as `pip install` would leave it there; `mineru-daemon install` makes the service of it.
"""

from __future__ import annotations

import json
import os
import shutil
import site
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mishaps
import pytest
from systemd_container import Container

import mineru_daemon
from mineru_daemon import install

ENVIRONMENT = Path("/opt/mineru-daemon")
DEPENDENCIES = Path("/opt/mineru-dependencies")
SOURCE = Path("/opt/mineru-source")
DOCUMENTS = Path("/opt/mineru-documents")
"""What the test put into the folder `documents`."""
COMMAND = str(ENVIRONMENT / "bin/mineru-daemon")
HOME = Path("/var/lib/mineru/mineru")
CONFIG = Path("/etc/mineru/config.toml")
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = Path("lib") / VERSION / "site-packages"
SAMPLE = ENVIRONMENT / PACKAGES / "mineru_daemon/samples/order-desk.png"

TOOLS = ("systemd-nspawn", "systemctl", "nsenter", "unshare", "setpriv", "useradd")

PATIENCE = 120
"""Seconds until a test gives up; never a measure of speed."""


def why_not() -> str:
    """What is missing for booting a systemd here, or nothing."""
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if visible_python() is None:
        return f"no {VERSION} outside of /root, /home and /tmp, which the service cannot see"
    return ""


def visible_python() -> Path | None:
    """An interpreter like ours that the service's sandbox does not hide."""
    for path in (Path(sys.executable).resolve(), Path("/usr/bin") / VERSION):
        if path.exists() and not any(map(path.is_relative_to, install.HIDDEN_BY_SANDBOX)):
            return path
    return None


needs_systemd = [
    pytest.mark.systemd,
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]


def build_environment(folder: Path) -> None:
    """What `pip install` into a virtual environment at ENVIRONMENT would leave there.

    The dependencies stay where the tests have them, and are mounted at DEPENDENCIES. Beside
    the package lies what `mishaps` tells.
    """
    python = visible_python()
    assert python is not None
    packages = folder / PACKAGES
    source = Path(mineru_daemon.__file__).parent
    shutil.copytree(
        source, packages / "mineru_daemon", ignore=shutil.ignore_patterns("__pycache__")
    )
    if not (source / "units").exists():
        shutil.copytree(source.parent / "systemd", packages / "mineru_daemon/units")
    (packages / "dependencies.pth").write_text(f"{DEPENDENCIES}\n")
    shutil.copy(mishaps.__file__, packages)
    (packages / "mishaps.pth").write_text("import mishaps\n")
    (folder / "pyvenv.cfg").write_text(f"home = {python.parent}\n")
    script = folder / "bin/mineru-daemon"
    script.parent.mkdir()
    (script.parent / "python3").symlink_to(python)
    script.write_text(
        f"#!{ENVIRONMENT}/bin/python3\n"
        "import sys\nfrom mineru_daemon.cli import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    open_to_all(folder)


def open_to_all(folder: Path) -> None:
    """Let every user read what is in `folder`."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | stat.S_IROTH | (path.is_dir() and stat.S_IXOTH))


class Service:
    """mineru.service in its container."""

    def __init__(self, container: Container, documents: Path) -> None:
        self.container = container
        self.run = container.run
        self.shell = container.shell
        self.documents = documents
        """What is put here lies at DOCUMENTS inside."""
        self._since: tuple[str, ...] = ()

    # --- settings ------------------------------------------------------------

    def configure(self, text: str) -> None:
        """Write the configuration file."""
        self.shell(f"mkdir -p {CONFIG.parent}; printf '%s\\n' '{text}' >{CONFIG}")

    def drop_in(self, *settings: str) -> None:
        """Change the unit as `systemctl edit` does; without settings it is as it was shipped."""
        folder = Path("/etc/systemd/system/mineru.service.d")
        lines = " ".join(f"'{line}'" for line in ("[Service]", *settings))
        self.shell(f"mkdir -p {folder}; printf '%s\\n' {lines} >{folder}/test.conf")
        self.run("systemctl", "daemon-reload")

    def set_property(self, setting: str) -> None:
        """Change a running unit."""
        self.run("systemctl", "set-property", "--runtime", "mineru", setting)

    # --- life ----------------------------------------------------------------

    def systemctl(self, verb: str) -> None:
        """Start, stop or restart, and wait until it is done."""
        self.run("systemctl", verb, "mineru")

    def state(self, name: str) -> str:
        """A property of the unit."""
        return self.run("systemctl", "show", "mineru", f"--property={name}", "--value")

    @property
    def pid(self) -> str:
        """Of the daemon."""
        return self.state("MainPID")

    def cpu_group(self) -> str:
        """The folder of the control group that bounds the daemon's CPU time."""
        lines = self.run("cat", f"/proc/{self.pid}/cgroup").splitlines()
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if "cpu" in controllers.split(","):
                return f"/sys/fs/cgroup/{controllers}{path}"
        return "/sys/fs/cgroup" + lines[-1].removeprefix("0::")

    def quota(self) -> float:
        """Cores that the kernel grants the daemon."""
        group = self.cpu_group()
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if "/cpu" in group else ("cpu.max",)
        quota, period = self.run("cat", *(f"{group}/{file}" for file in files)).split()
        return int(quota) / int(period)

    def fresh(self, *settings: str, config: str = "") -> None:
        """Start it with a drop-in of `settings` and a configuration, and nothing left behind.

        `journal` begins anew, and so does the count of restarts.
        """
        self.run("systemctl", "stop", "mineru", check=False)
        self.run("systemctl", "reset-failed", "mineru", check=False)
        self.run("rm", "-rf", "/run/systemd/system.control/mineru.service.d")
        self.drop_in(*settings)
        self.configure(config)
        folders = ("inbox", "outbox", "done", "failed", ".spool", "mishaps")
        self.shell("rm -rf " + " ".join(f"{HOME}/{name}/*" for name in folders))
        last = self.run("journalctl", "--lines=1", "--show-cursor").splitlines()[-1]
        self._since = ("--after-cursor=" + last.removeprefix("-- cursor: "),)
        self.systemctl("start")

    def status(self) -> dict[str, Any]:
        """What `mineru-daemon status --json` says."""
        state: dict[str, Any] = json.loads(
            self.run(COMMAND, "status", "--json", f"--spool={HOME}/.spool", check=False)
        )
        return state

    # --- documents -----------------------------------------------------------

    def deliver(self, source: Path, name: str | None = None) -> None:
        """Put a file into the inbox."""
        self.shell(f"umask 022; cp '{source}' '{HOME}/inbox/{name or source.name}'")

    def result(self, name: str, folder: str = "outbox") -> dict[str, Any]:
        """The result document of a file, as soon as it is there."""
        path = HOME / folder / f"{name}.json"
        self.wait_for(path)
        document: dict[str, Any] = json.loads(self.run("cat", str(path)))
        return document

    def mishap(self, *names: str) -> None:
        """Let these happen, one at each of the next pages that are read."""
        self.shell(f"install -d -o mineru {mishaps.FOLDER}")
        for number, name in enumerate(names):
            self.shell(f"touch {mishaps.FOLDER}/{name}.{number}")

    # --- waiting, reading the journal ----------------------------------------

    def wait_for(self, path: Path, seconds: int = PATIENCE) -> None:
        """Wait until something is there."""
        self.until(lambda: self.run("find", str(path), check=False) == str(path), seconds)

    def until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Wait until `condition` holds, and return what it gave."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, f"after {seconds} s, the log ends:\n{self.log()}"
            time.sleep(0.1)
        return value

    def log(self) -> str:
        """The end of the service's journal."""
        return self.run("journalctl", "--unit=mineru", "--output=cat", "--lines=40")

    def journal(self, *options: str) -> list[dict[str, Any]]:
        """The entries of the journal that the daemon wrote, with all their fields."""
        self.run("journalctl", "--sync")
        words = ("journalctl", "--unit=mineru", "--output=json", "--all", *self._since, *options)
        lines = self.run(*words).splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if entry.get("_TRANSPORT") == "stdout"]

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the daemon logged as events of this name."""
        found = [json.loads(entry["MESSAGE"]) for entry in self.journal()]
        return [event for event in found if event["event"] == name]


def build_by_pip(container: Container) -> str:
    """README's way inside the container, but with the dependencies of the tests; what pip said.

    Pip itself, and what it builds with, are among these.
    """
    python = ENVIRONMENT / "bin/python3"
    container.run(str(visible_python()), "-m", "venv", "--without-pip", str(ENVIRONMENT))
    container.shell(f"echo {DEPENDENCIES} >{ENVIRONMENT / PACKAGES}/dependencies.pth")
    pip = (str(python), "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation")
    return container.run(
        *pip, "--disable-pip-version-check", "--root-user-action=ignore", str(SOURCE)
    )


@contextmanager
def service(
    folder: Path, read_only: dict[Path, Path] | None = None, *, installed: bool = True
) -> Iterator[Service]:
    """Boot a container with the service. Skips where none can be booted.

    `read_only` maps more paths inside to folders outside. `folder` is scratch space. If not
    `installed`, there is the source alone, for `build_by_pip`.
    """
    documents = folder / "documents"
    documents.mkdir()
    documents.chmod(0o755)
    binds = {DEPENDENCIES: Path(site.getsitepackages()[0]), DOCUMENTS: documents}
    if installed:
        binds[ENVIRONMENT] = folder / "environment"
        binds[ENVIRONMENT].mkdir()
        build_environment(binds[ENVIRONMENT])
    else:
        binds[SOURCE] = Path(mineru_daemon.__file__).parents[1]
    binds |= read_only or {}
    mounts = Path("/proc/self/mountinfo").read_text()
    try:
        container = Container(folder, binds)
    except OSError as error:
        pytest.skip(f"no control groups can be made here: {error}")
    try:
        if trouble := container.wait_until_booted():
            pytest.skip(f"no systemd can be booted in a container here: {trouble}")
        if installed:
            container.run(COMMAND, "install")
        yield Service(container, documents)
    finally:
        container.stop()
        shutil.rmtree(folder / "environment", ignore_errors=True)
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert not list(Path("/sys/fs/cgroup").glob(f"**/mineru-test-{os.getpid()}"))
