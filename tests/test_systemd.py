"""The service under a real systemd: installed, started, fed, reloaded, killed, stopped.

The tests are steps of one story, told in order by one container; each step needs the ones
before it.
"""

from __future__ import annotations

import json
import os
import shutil
import site
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from systemd_container import Container

import mineru_daemon
from mineru_daemon import daemon, install

ENVIRONMENT = Path("/opt/mineru-daemon")
DEPENDENCIES = Path("/opt/mineru-dependencies")
COMMAND = str(ENVIRONMENT / "bin/mineru-daemon")
HOME = Path("/var/lib/mineru/mineru")
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
SAMPLE = ENVIRONMENT / "lib" / VERSION / "site-packages/mineru_daemon/samples/order-desk.png"

TOOLS = ("systemd-nspawn", "systemctl", "nsenter", "unshare", "setpriv", "useradd")


def _why_not() -> str:
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if _visible_python() is None:
        return f"no {VERSION} outside of /root, /home and /tmp, which the service cannot see"
    return ""


def _visible_python() -> Path | None:
    """An interpreter like ours that the service's sandbox does not hide."""
    for path in (Path(sys.executable).resolve(), Path("/usr/bin") / VERSION):
        if path.exists() and not any(map(path.is_relative_to, install.HIDDEN_BY_SANDBOX)):
            return path
    return None


pytestmark = [
    pytest.mark.systemd,
    pytest.mark.skipif(bool(_why_not()), reason=_why_not()),
]


def _build_environment(folder: Path) -> None:
    """What `pip install` into a virtual environment at ENVIRONMENT would leave there.

    The dependencies stay where the tests have them, and are mounted at DEPENDENCIES.
    """
    python = _visible_python()
    assert python is not None
    packages = folder / "lib" / VERSION / "site-packages"
    source = Path(mineru_daemon.__file__).parent
    shutil.copytree(
        source, packages / "mineru_daemon", ignore=shutil.ignore_patterns("__pycache__")
    )
    if not (source / "units").exists():
        shutil.copytree(source.parent / "systemd", packages / "mineru_daemon/units")
    (packages / "dependencies.pth").write_text(f"{DEPENDENCIES}\n")
    (folder / "pyvenv.cfg").write_text(f"home = {python.parent}\n")
    script = folder / "bin/mineru-daemon"
    script.parent.mkdir()
    (script.parent / "python3").symlink_to(python)
    script.write_text(
        f"#!{ENVIRONMENT}/bin/python3\n"
        "import sys\nfrom mineru_daemon.cli import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | stat.S_IROTH | (path.is_dir() and stat.S_IXOTH))


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    folder = tmp_path_factory.mktemp("systemd")
    environment = folder / "environment"
    environment.mkdir()
    _build_environment(environment)
    mounts = Path("/proc/self/mountinfo").read_text()
    binds = {ENVIRONMENT: environment, DEPENDENCIES: Path(site.getsitepackages()[0])}
    try:
        container = Container(folder, binds)
    except OSError as error:
        pytest.skip(f"no control groups can be made here: {error}")
    try:
        if trouble := container.wait_until_booted():
            pytest.skip(f"no systemd can be booted in a container here: {trouble}")
        container.run("useradd", "--create-home", "alice")
        container.run("useradd", "--create-home", "bob")
        yield container
    finally:
        container.stop()
        shutil.rmtree(environment)
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert not list(Path("/sys/fs/cgroup").glob(f"**/mineru-test-{os.getpid()}"))


def state(container: Container, name: str) -> str:
    return container.run("systemctl", "show", "mineru", f"--property={name}", "--value")


def wait_for(container: Container, path: Path, seconds: int = 40) -> None:
    try:
        container.run(
            "timeout", str(seconds), "sh", "-c", f"until [ -e '{path}' ]; do sleep .1; done"
        )
    except AssertionError:
        log = container.run("journalctl", "--unit=mineru", "--output=cat", "--lines=30")
        pytest.fail(f"{path} did not appear within {seconds} s; the log ends:\n{log}")


def test_it_is_installed_with_one_command(container: Container) -> None:
    said = container.run(COMMAND, "install")
    assert "run: systemctl daemon-reload" in said
    assert "systemctl start mineru" in said
    assert "written" not in container.run(COMMAND, "install")
    assert state(container, "LoadState") == "loaded"
    assert container.run("systemd-analyze", "verify", "mineru.service") == ""
    container.run("usermod", "--append", "--groups", install.SHARE_GROUP, "alice")


def test_it_is_ready_when_start_returns(container: Container) -> None:
    container.run("systemctl", "start", "mineru")
    assert state(container, "ActiveState") == "active"
    assert state(container, "StatusText").startswith("serving")
    assert state(container, "NRestarts") == "0"


def test_the_process_runs_in_its_sandbox_and_within_its_share(container: Container) -> None:
    pid = state(container, "MainPID")
    facts = dict(
        line.split(":\t", 1)
        for line in container.run("cat", f"/proc/{pid}/status").splitlines()
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
    assert (
        container.run(*inside, "ls", "-A", "/root", "/home", "/tmp") == "/home:\n\n/root:\n\n/tmp:"
    )
    assert container.run(*inside, "sh", "-c", "echo x >/etc/x || true").endswith(
        "Read-only file system"
    )
    assert len(container.run(*inside, "cat", "/proc/net/dev").splitlines()) == 3  # lo alone
    assert _quota(container, pid) == 4.0


def _quota(container: Container, pid: str) -> float:
    """Cores that the kernel grants the process."""
    for line in container.run("cat", f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            folder = f"/sys/fs/cgroup/{controllers}{path}"
            quota, period = container.run(
                "cat", f"{folder}/cpu.cfs_quota_us", f"{folder}/cpu.cfs_period_us"
            ).split()
            return int(quota) / int(period)
    path = container.run("cat", f"/proc/{pid}/cgroup").rpartition("::")[2]
    quota, period = container.run("cat", f"/sys/fs/cgroup{path}/cpu.max").split()
    return int(quota) / int(period)


def test_the_share_group_delivers_and_fetches(container: Container) -> None:
    container.shell(f"umask 027; cp {SAMPLE} {HOME}/inbox/first.png", user="alice")
    result = HOME / "outbox/first.png.json"
    wait_for(container, result)
    assert json.loads(container.shell(f"cat {result}", user="alice"))["status"] == "success"
    wait_for(container, HOME / "done/first.png", 5)
    assert container.run("ls", "-A", f"{HOME}/inbox") == ""
    deadline = time.monotonic() + 2 * daemon.IDLE_TICK_SECONDS
    while "1 read" not in state(container, "StatusText"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    for forbidden in (f"rm -f {result}", f"ls {HOME}/done", f"ls {HOME}/.spool"):
        with pytest.raises(AssertionError, match="denied"):
            container.shell(forbidden, user="alice")
    for forbidden in (f"cat {result}", f"cp {SAMPLE} {HOME}/inbox/bob.png"):
        with pytest.raises(AssertionError, match="denied"):
            container.shell(forbidden, user="bob")


def test_it_reloads_without_a_restart(container: Container) -> None:
    pid = state(container, "MainPID")
    container.shell("mkdir -p /etc/mineru; echo 'settle_seconds = 0.5' >/etc/mineru/config.toml")
    container.run("systemctl", "reload", "mineru")
    log = container.run("journalctl", "--unit=mineru", "--output=cat", "--lines=20")
    assert '"changed": ["settle_seconds"]' in log
    assert state(container, "MainPID") == pid
    assert state(container, "ActiveState") == "active"


def test_a_killed_daemon_is_back_and_has_lost_nothing(container: Container) -> None:
    pid = state(container, "MainPID")
    container.shell(f"cp {SAMPLE} {HOME}/inbox/second.png")
    # Claimed, but not yet read.
    container.run(
        "timeout", "20", "sh", "-c", f"while [ -e {HOME}/inbox/second.png ]; do sleep .05; done"
    )
    container.run("kill", "-KILL", pid)
    began = time.monotonic()
    while state(container, "ActiveState") != "active" or state(container, "MainPID") == pid:
        assert time.monotonic() - began < 10
        time.sleep(0.1)
    wait_for(container, HOME / "outbox/second.png.json")
    assert state(container, "NRestarts") == "1"
    assert container.shell(f"ls {HOME}/outbox").split() == [
        *("first.png.json", "first.png.md", "second.png.json", "second.png.md"),
    ]


def test_it_stops_in_peace(container: Container) -> None:
    container.run("systemctl", "stop", "mineru")
    assert state(container, "Result") == "success"
    assert state(container, "ActiveState") == "inactive"


def test_a_wrong_setting_is_not_tried_again(container: Container) -> None:
    container.shell("echo 'settle_seconds = -1' >/etc/mineru/config.toml")
    container.run("systemctl", "start", "mineru", check=False)
    assert state(container, "ExecMainStatus") == "78"
    time.sleep(1.5)
    assert state(container, "ActiveState") == "failed"
    assert "settle_seconds" in container.run("systemctl", "status", "mineru", check=False)
    container.run("rm", "/etc/mineru/config.toml")


def test_it_serves_the_folders_of_a_chosen_user(container: Container) -> None:
    """Also a drop-in is obeyed, and a folder beside the user's own is opened."""
    container.shell("install -d -o alice -g alice '/srv/scans 100%'")
    container.shell("echo 'inbox = \"/srv/scans 100%\"' >/etc/mineru/config.toml")
    drop_in = Path("/etc/systemd/system/mineru.service.d/less.conf")
    container.shell(
        f"mkdir {drop_in.parent}; printf '[Service]\\nCPUQuota=150%%\\nWatchdogSec=3\\n' >{drop_in}"
    )
    container.run(COMMAND, "install", "--service-user", "alice")
    container.run("systemctl", "start", "mineru")
    assert state(container, "User") == "alice"
    pid = state(container, "MainPID")
    assert _quota(container, pid) == 1.5
    inside = ("nsenter", f"--target={pid}", "--mount")
    assert container.run(*inside, "ls", "-A", "/home", "/home/alice") == (
        "/home:\nalice\n\n/home/alice:\nmineru"
    )
    container.shell(f"cp {SAMPLE} '/srv/scans 100%/third.png'", user="alice")
    wait_for(container, Path("/home/alice/mineru/outbox/third.png.json"))
    wait_for(container, Path("/home/alice/mineru/done/third.png"), 5)


def test_a_daemon_that_hangs_is_replaced(container: Container) -> None:
    """The drop-in of the step before left it three seconds to answer in, while it read."""
    assert state(container, "NRestarts") == "0"
    container.run("kill", "-STOP", state(container, "MainPID"))
    deadline = time.monotonic() + 20
    while (state(container, "NRestarts"), state(container, "ActiveState")) != ("1", "active"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    container.run("systemctl", "stop", "mineru")
    log = container.run("journalctl", "--unit=mineru", "--output=cat", "--lines=40")
    assert "Watchdog timeout" in log
