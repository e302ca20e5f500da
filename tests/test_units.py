"""The unit files: systemd's own tools find nothing to say about what is generated."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mineru_daemon import daemon, errors, install
from mineru_daemon.install_steps import Account, File, Folder, Plan
from mineru_daemon.settings import FOLDER_NAMES, Settings

UNITS = Path(install.__file__).parents[1] / "systemd"

ACCOUNTS = {
    "the system user": Account("mineru", "mineru", Path("/var/lib/mineru")),
    "a person": Account("alice", "alice", Path("/home/alice"), 1000, 1000),
    "a home with odd characters": Account(
        "obrien", "users", Path("""/home/100 % o'brien "x" a:b \\n"""), 1000, 1000
    ),
}


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def ask(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=False, capture_output=True, text=True)


def unit_of(plan: Plan) -> str:
    return next(s.text for s in plan.steps if isinstance(s, File) and s.path.name == install.UNIT)


def generated(account: Account, user: bool = False) -> str:
    # A program that exists wherever the tests run; the tools look for it.
    command = Path("/bin/true")
    return unit_of((install.user_plan if user else install.system_plan)(account, command))


def settings_of(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


@needs("systemd-analyze")
@pytest.mark.parametrize("account", ACCOUNTS.values(), ids=ACCOUNTS)
def test_systemd_has_nothing_to_say_about_the_system_unit(account: Account, tmp_path: Path) -> None:
    file = tmp_path / install.UNIT
    file.write_text(generated(account))
    done = ask("systemd-analyze", "verify", file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs("systemd-analyze")
@pytest.mark.parametrize("place", ["/srv/models/mineru", "/home/100 % o'brien/a:b"])
def test_systemd_has_nothing_to_say_about_a_model_elsewhere(place: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'model = "{place}"\n')
    file = tmp_path / install.UNIT
    plan = install.system_plan(ACCOUNTS["a person"], Path("/bin/true"), config)
    file.write_text(unit_of(plan))
    assert settings_of(unit_of(plan))["BindReadOnlyPaths"][0].startswith(f'-"{place[:5]}')
    done = ask("systemd-analyze", "verify", file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs("systemd-analyze")
def test_systemd_has_nothing_to_say_about_the_user_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / install.UNIT
    file.write_text(generated(ACCOUNTS["a person"], user=True))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    done = ask("systemd-analyze", "--user", "verify", file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs("systemd-analyze")
@pytest.mark.parametrize("account", ACCOUNTS.values(), ids=ACCOUNTS)
def test_the_exposure_is_half_a_point_at_most(account: Account, tmp_path: Path) -> None:
    file = tmp_path / install.UNIT
    file.write_text(generated(account))
    # The threshold counts tenths.
    done = ask("systemd-analyze", "security", "--offline=yes", "--threshold=5", "--no-pager", file)
    assert done.returncode == 0, done.stdout[-500:]


def test_exit_codes_that_a_restart_cannot_cure_do_not_restart() -> None:
    for user in (False, True):
        unit = settings_of(generated(ACCOUNTS["a person"], user))
        final = set(map(int, unit["RestartPreventExitStatus"][0].split()))
        model = errors.ModelError.exit_code
        assert {errors.EX_USAGE, errors.EX_CONFIG, errors.EX_TEMPFAIL, model} <= final
        assert errors.EX_SOFTWARE not in final
        assert unit["Restart"] == ["on-failure"]
        assert int(unit["RestartSec"][0]) < 5


def test_systemd_waits_longer_than_the_daemon_does() -> None:
    settings = Settings()
    for user in (False, True):
        unit = settings_of(generated(ACCOUNTS["a person"], user))
        assert int(unit["TimeoutStopSec"][0]) >= settings.stop_seconds + daemon.JOIN_SECONDS + 5
        assert int(unit["WatchdogSec"][0]) >= 6 * daemon.IDLE_TICK_SECONDS


def test_both_units_grant_the_same_share_of_the_machine() -> None:
    system, own = (settings_of(generated(ACCOUNTS["a person"], user)) for user in (False, True))
    for key in ("CPUAffinity", "CPUQuota", "Nice", "IOSchedulingClass", "MemoryMax", "Environment"):
        assert system[key] == own[key]
    assert system["CPUAffinity"] == ["0-3"]
    # As much time as cores: less would stop threads that others wait for.
    assert system["CPUQuota"] == ["400%"]
    assert set(system["Environment"]) == {"OMP_NUM_THREADS=4", "ORT_DISABLE_TELEMETRY=1"}


def test_all_default_folders_lie_below_the_one_that_is_mounted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    unit = settings_of(generated(ACCOUNTS["a person"]))
    assert unit["BindPaths"] == ['"/home/alice/mineru"']
    # A second path would be a second mount, which rename does not cross.
    assert not {"ReadWritePaths", "StateDirectory"} & set(unit)
    settings = Settings()
    assert settings.model.parent == Path("/home/alice/mineru")
    for name in FOLDER_NAMES:
        assert getattr(settings, name).parent == Path("/home/alice/mineru")


def test_the_installed_folders_are_the_daemons_default_folders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    plan = install.system_plan(ACCOUNTS["a person"], Path("/bin/true"))
    made = {step.base / step.name for step in plan.steps if isinstance(step, Folder)}
    settings = Settings()
    assert made == {Path("/home/alice/mineru")} | {getattr(settings, n) for n in FOLDER_NAMES}

    monkeypatch.setenv("HOME", "/var/lib/mineru")
    text = (UNITS / "mineru.tmpfiles.conf").read_text()
    listed = {Path(path) for path in re.findall(r"^d (\S+)", text, re.MULTILINE)}
    settings = Settings()
    home = install.SYSTEM_HOME
    assert listed == {home, home / "mineru"} | {getattr(settings, n) for n in FOLDER_NAMES}


def test_the_share_group_may_deliver_and_fetch_and_nothing_else() -> None:
    text = (UNITS / "mineru.tmpfiles.conf").read_text()
    modes = {
        Path(path).name: (int(mode, 8), owner, group)
        for path, mode, owner, group in re.findall(
            r"^d (\S+)\s+(\d+) (\S+) (\S+)$", text, re.MULTILINE
        )
    }
    assert all(entry[1:] == ("mineru", "mineru-share") for entry in modes.values())
    assert not any(mode & 0o007 for mode, _, _ in modes.values())
    assert modes["inbox"][0] & 0o070 == 0o070
    assert modes["outbox"][0] & 0o070 == 0o050
    for name in ("done", "failed", ".spool"):
        assert modes[name][0] & 0o070 == 0
    # Results that are renamed from the spool into the outbox keep the spool's group.
    for name in ("inbox", "outbox", ".spool"):
        assert modes[name][0] & 0o2000


@needs("systemd-sysusers")
def test_systemd_makes_the_user_and_the_group(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    file = UNITS / "mineru.sysusers.conf"
    done = ask("systemd-sysusers", f"--root={tmp_path}", "--dry-run", file)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "Creating group 'mineru-share'" in said
    assert "Creating user 'mineru' (Document reader)" in said
