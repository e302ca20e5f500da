"""Installation into a made-up root: what lies there afterwards, and what is refused."""

from __future__ import annotations

import argparse
import os
import pwd
import re
import stat
from pathlib import Path

import pytest

from mineru_daemon import install
from mineru_daemon.errors import InstallError, MineruError, StorageError
from mineru_daemon.install_steps import Account, Command, File, Folder, Plan, carry_out
from mineru_daemon.unit_text import quoted_command, quoted_path

ME = pwd.getpwuid(os.geteuid())
COMMAND = Path("/opt/mineru-daemon/bin/mineru-daemon")


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    install.add_arguments(parser)
    return parser.parse_args(words)


def myself(home: str = "/home/me") -> Account:
    return Account("me", "us", Path(home), os.geteuid(), os.getegid())


def tree(root: Path) -> dict[str, tuple[int, int, str]]:
    """Everything below `root`: mode, time of change, text."""
    found = {}
    for path in sorted(root.rglob("*")):
        entry = path.lstat()
        text = path.read_text() if path.is_file() else ""
        found[str(path.relative_to(root))] = (entry.st_mode, entry.st_mtime_ns, text)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "home/me").mkdir(parents=True)
    return root


@pytest.fixture
def plan() -> Plan:
    return install.system_plan(myself(), COMMAND)


@pytest.fixture(autouse=True)
def _no_configuration_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install, "CONFIG", tmp_path / "no-config.toml")


def test_unit_and_folders_are_put_in_place(root: Path, plan: Plan) -> None:
    lines = list(carry_out(plan, root))
    unit = root / "etc/systemd/system/mineru.service"
    assert 'ExecStart="/opt/mineru-daemon/bin/mineru-daemon" run\n' in unit.read_text()
    assert "User=me\nGroup=us\n" in unit.read_text()
    assert not re.search("@[A-Z]+@", unit.read_text())
    assert stat.S_IMODE(unit.stat().st_mode) == 0o644
    for name in (".", "inbox", "outbox", "done", "failed", ".spool"):
        folder = root / "home/me/mineru" / name
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.stat().st_uid == os.geteuid()
    assert "made: /home/me/mineru/inbox" in lines


def test_a_second_run_changes_nothing(root: Path, plan: Plan) -> None:
    list(carry_out(plan, root))
    drop_in = root / "etc/systemd/system/mineru.service.d/override.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nMemoryMax=8G\n")
    (root / "home/me/mineru/inbox").chmod(0o2770)
    before = tree(root)
    lines = list(carry_out(plan, root))
    assert tree(root) == before
    assert not [line for line in lines if line.startswith(("written", "made", "run"))]


def test_an_upgrade_replaces_our_unit_and_leaves_the_drop_ins(root: Path, plan: Plan) -> None:
    list(carry_out(plan, root))
    drop_in = root / "etc/systemd/system/mineru.service.d/override.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nMemoryMax=8G\n")
    elsewhere = install.system_plan(myself(), Path("/srv/venv/bin/mineru-daemon"))
    lines = list(carry_out(elsewhere, root))
    assert "written: /etc/systemd/system/mineru.service" in lines
    assert "/srv/venv" in (root / "etc/systemd/system/mineru.service").read_text()
    assert drop_in.read_text() == "[Service]\nMemoryMax=8G\n"


def test_somebody_elses_unit_is_left_alone(root: Path, plan: Plan) -> None:
    unit = root / "etc/systemd/system/mineru.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/usr/bin/mine\n")
    with pytest.raises(InstallError, match="was not written by `mineru-daemon install`"):
        list(carry_out(plan, root))
    assert unit.read_text() == "[Service]\nExecStart=/usr/bin/mine\n"


def test_a_masked_unit_stays_masked(root: Path, plan: Plan) -> None:
    unit = root / "etc/systemd/system/mineru.service"
    unit.parent.mkdir(parents=True)
    unit.symlink_to("/dev/null")
    with pytest.raises(InstallError, match="symbolic link"):
        list(carry_out(plan, root))
    assert unit.is_symlink()


def test_a_symbolic_link_in_the_home_leads_nowhere(root: Path, plan: Plan) -> None:
    target = root / "etc/secret"
    target.mkdir(parents=True)
    (root / "home/me/mineru").symlink_to(target)
    with pytest.raises(StorageError, match="symbolic link"):
        list(carry_out(plan, root))
    assert list(target.iterdir()) == []


def test_a_folder_of_another_user_is_refused(root: Path) -> None:
    (root / "home/me/mineru").mkdir()
    stranger = Account("me", "us", Path("/home/me"), os.geteuid() + 1, os.getegid())
    with pytest.raises(InstallError, match=r"does not belong to me; .*chown me:"):
        list(carry_out(install.system_plan(stranger, COMMAND), root))


def test_a_home_that_does_not_exist_is_one_sentence(root: Path) -> None:
    plan = install.system_plan(myself("/home/nobody-here"), COMMAND)
    with pytest.raises(StorageError, match="/home/nobody-here/mineru cannot be made: No such"):
        list(carry_out(plan, root))


def test_a_dry_run_prints_everything_and_touches_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(root)
    assert install.run(options("--dry-run", "--root", str(root))) == 0
    assert tree(root) == before
    said = capsys.readouterr().out
    for expected in (
        "# file /etc/systemd/system/mineru.service\n",
        "\nType=notify\n",
        "# file /etc/sysusers.d/mineru.conf\n",
        "# file /etc/tmpfiles.d/mineru.conf\n",
        "# command systemd-tmpfiles --create /etc/tmpfiles.d/mineru.conf\n",
        "# command systemctl daemon-reload\n",
    ):
        assert expected in said


def test_a_dry_run_needs_neither_root_nor_a_fitting_interpreter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(install, "console_script", lambda: Path("/root/venv/bin/mineru-daemon"))
    assert install.run(options("--dry-run")) == 0
    assert "The service cannot see /root/venv" in capsys.readouterr().err


def test_the_system_unit_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InstallError, match="by root: use sudo, or --user"):
        install.run(options())


def test_a_service_of_ones_own(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(install, "own_account", myself)
    monkeypatch.setattr(install, "console_script", lambda: Path("/bin/true"))
    assert install.run(options("--user", "--root", str(root))) == 0
    unit = (root / "home/me/.config/systemd/user/mineru.service").read_text()
    assert 'ExecStart="/bin/true" run\n' in unit
    assert "User=" not in unit
    assert (root / "home/me/mineru/inbox").is_dir()
    assert "Start it: systemctl --user start mineru" in capsys.readouterr().out


def test_sudo_is_not_a_user_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "alice")
    with pytest.raises(InstallError, match="without sudo"):
        install.run(options("--user", "--dry-run"))


def test_the_system_user_is_made_only_where_no_other_is_chosen() -> None:
    system = install.system_plan(Account("mineru", "mineru", Path("/var/lib/mineru")), COMMAND)
    paths = [str(step.path) for step in system.steps if isinstance(step, File)]
    assert paths[1:] == ["/etc/sysusers.d/mineru.conf", "/etc/tmpfiles.d/mineru.conf"]
    assert not any(isinstance(step, Folder) for step in system.steps)
    commands = [step.words[0] for step in system.steps if isinstance(step, Command)]
    assert commands == ["systemd-sysusers", "systemd-tmpfiles", "systemctl"]

    chosen = install.system_plan(myself(), COMMAND)
    assert [step.path.name for step in chosen.steps if isinstance(step, File)] == [install.UNIT]
    assert [s.words for s in chosen.steps if isinstance(s, Command)] == [
        ("systemctl", "daemon-reload")
    ]


def entry(name: str, uid: int, home: str) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, 54321, "", home, "/bin/sh"))


def test_the_service_user_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwnam", lambda name: entry(name, 1000, "/srv/people/alice"))
    account = install.service_account("alice")
    assert account == Account("alice", "54321", Path("/srv/people/alice"), 1000, 54321)


@pytest.mark.parametrize(
    ("name", "entry_found", "sentence"),
    [
        ("nobody-here", None, "There is no user nobody-here"),
        ("toor", entry("toor", 0, "/root"), "does not run as root"),
        (None, entry("mineru", 1000, "/home/mineru"), "--service-user mineru"),
    ],
)
def test_a_user_that_cannot_serve_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    name: str | None,
    entry_found: pwd.struct_passwd | None,
    sentence: str,
) -> None:
    def getpwnam(asked: str) -> pwd.struct_passwd:
        if entry_found is None:
            raise KeyError(asked)
        return entry_found

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    with pytest.raises(InstallError, match=sentence):
        install.service_account(name)


@pytest.mark.parametrize("hidden", ["/root", "/home/alice", "/tmp", "/var/tmp", "/run/user/1000"])
def test_an_interpreter_that_the_sandbox_hides_is_refused(hidden: str) -> None:
    plan = install.system_plan(myself(), Path(hidden) / "venv/bin/mineru-daemon")
    (obstacle,) = plan.obstacles
    assert obstacle.startswith(f"The service cannot see {hidden}/venv/bin/mineru-daemon")
    assert "python3 -m venv /opt/mineru-daemon" in obstacle


def test_a_base_interpreter_that_the_sandbox_hides_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.executable", "/opt/venv/bin/python")
    monkeypatch.setattr("sys.prefix", "/opt/venv")
    monkeypatch.setattr("sys.base_prefix", "/home/alice/.pyenv")
    (obstacle,) = install.system_plan(myself(), Path("/opt/venv/bin/mineru-daemon")).obstacles
    assert obstacle.startswith("The service cannot see /home/alice/.pyenv")


def test_a_symbolic_link_does_not_hide_a_hidden_interpreter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden"
    script = hidden / "bin/mineru-daemon"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    (tmp_path / "opt").symlink_to(hidden)
    monkeypatch.setattr(install, "HIDDEN_BY_SANDBOX", (hidden,))
    (obstacle,) = install.system_plan(myself(), tmp_path / "opt/bin/mineru-daemon").obstacles
    assert obstacle.startswith(f"The service cannot see {script}")


def test_obstacles_stop_the_installation(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(install, "console_script", lambda: Path("/root/venv/bin/mineru-daemon"))
    monkeypatch.setattr(install, "service_account", lambda _: myself())
    before = tree(root)
    with pytest.raises(InstallError, match="cannot see"):
        install.run(options("--root", str(root)))
    assert tree(root) == before


def test_a_missing_command_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "HIDDEN_BY_SANDBOX", ())
    (obstacle,) = install.system_plan(myself(), Path("/opt/nowhere/mineru-daemon")).obstacles
    assert obstacle.startswith("The command /opt/nowhere/mineru-daemon does not exist")


def test_a_folder_closed_to_the_service_user_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(install, "HIDDEN_BY_SANDBOX", ())
    closed = tmp_path / "closed"
    script = closed / "bin/mineru-daemon"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    closed.chmod(0o700)
    # pytest's own folders are closed to others too.
    stranger = Account("them", "them", Path("/home/them"), os.geteuid() + 1, os.getegid() + 1)
    (obstacle,) = install.system_plan(stranger, script).obstacles
    assert obstacle.startswith(f"The user them may not enter or run {closed};")
    assert install.system_plan(myself(), script).obstacles == ()


def test_folders_that_the_configuration_names_are_opened(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    inbox, outbox = tmp_path / "scans/inbox", tmp_path / "scans/outbox"
    config.write_text(f'inbox = "{inbox}"\noutbox = "{outbox}"\ndone = "~/archive"\n')
    inbox.mkdir(parents=True)
    plan = install.system_plan(myself(), COMMAND, config)
    unit = next(step.text for step in plan.steps if isinstance(step, File))
    assert f'\nBindPaths="/home/me/archive" "/home/me/mineru" "{tmp_path}/scans"\n' in unit
    assert plan.obstacles[1:] == (
        f"The outbox folder {outbox} ({config}) does not exist; make it and give it to me.",
        f"The done folder /home/me/archive ({config}) does not exist; make it and give it to me.",
    )
    assert any(str(inbox) in line for line in plan.advice)


def unit_for(config: str, tmp_path: Path) -> str:
    (tmp_path / "config.toml").write_text(config)
    plan = install.system_plan(myself(), COMMAND, tmp_path / "config.toml")
    return next(step.text for step in plan.steps if isinstance(step, File))


def test_the_model_needs_no_opening_where_it_lies_by_default(tmp_path: Path) -> None:
    unit = unit_for("", tmp_path)
    assert '\nBindReadOnlyPaths=\nBindPaths="/home/me/mineru"\n' in unit
    assert '\nRequiresMountsFor="/home/me/mineru"\n' in unit


def test_a_model_elsewhere_is_opened_for_reading_and_may_come_later(tmp_path: Path) -> None:
    unit = unit_for('model = "~/models/mineru"\n', tmp_path)
    assert '\nBindReadOnlyPaths=-"/home/me/models/mineru"\nBindPaths="/home/me/mineru"\n' in unit
    assert '\nRequiresMountsFor="/home/me/mineru" "/home/me/models/mineru"\n' in unit


def test_a_recognition_model_is_opened_for_reading_where_the_sandbox_hides_it(
    tmp_path: Path,
) -> None:
    unit = unit_for('recognition_model = "~/cyrillic"\n', tmp_path)
    assert '\nBindReadOnlyPaths=-"/home/me/cyrillic"\nBindPaths="/home/me/mineru"\n' in unit
    assert '\nRequiresMountsFor="/home/me/mineru" "/home/me/cyrillic"\n' in unit
    unit = unit_for('recognition_model = "~/mineru/cyrillic"\n', tmp_path)
    assert "\nBindReadOnlyPaths=\n" in unit, "it lies below what is opened already"
    assert "BindReadOnlyPaths=\n" in unit_for('recognition_model = ""\n', tmp_path)


def test_the_default_model_is_opened_where_all_folders_lie_elsewhere(tmp_path: Path) -> None:
    names = ("inbox", "outbox", "done", "failed", "spool")
    unit = unit_for("".join(f'{name} = "/srv/scans/{name}"\n' for name in names), tmp_path)
    assert '\nBindReadOnlyPaths=-"/home/me/mineru/model"\nBindPaths="/srv/scans"\n' in unit


def test_a_model_that_is_a_link_is_opened_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "home" / "mineru").mkdir(parents=True)
    (tmp_path / "home" / "mineru" / "model").symlink_to(tmp_path / "disk" / "model")
    mounts = [tmp_path / "home" / "mineru"]
    model = tmp_path / "home" / "mineru" / "model"
    assert install.read_only_of([model], mounts) == [tmp_path / "disk" / "model"]


def test_the_way_to_the_model_is_told(plan: Plan) -> None:
    assert any("sudo -Hu me /opt/mineru-daemon/bin/mineru-daemon model pull" in line
               for line in plan.advice)  # fmt: skip


@pytest.mark.parametrize("text", ["inbox = ", "\xff", "colour = 3"])
def test_a_configuration_that_cannot_be_read_is_the_daemons_business(
    tmp_path: Path, text: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text, encoding="latin-1")
    plan = install.system_plan(myself(), COMMAND, config)
    assert plan.steps == install.system_plan(myself(), COMMAND, tmp_path / "none").steps


@pytest.mark.parametrize(
    ("folders", "mounts"),
    [
        (["/a/b/in", "/a/b/out"], ["/a/b"]),
        (["/a/b/in", "/a/c/out"], ["/a/b/in", "/a/c/out"]),
        # Nobody means all of /srv when naming two folders in it.
        (["/srv/in", "/srv/out"], ["/srv/in", "/srv/out"]),
        (["/a/b/in", "/a/b/out", "/a/b/old/done"], ["/a/b"]),
    ],
)
def test_folders_side_by_side_are_one_mount(folders: list[str], mounts: list[str]) -> None:
    assert install.mounts_of(map(Path, folders)) == list(map(Path, mounts))


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/home/al ice/mineru", '"/home/al ice/mineru"'),
        ("/home/100%/mineru", '"/home/100%%/mineru"'),
        ("/home/o'brien/mineru", '"/home/o\\\'brien/mineru"'),
        ('/home/a"b/mineru', '"/home/a\\"b/mineru"'),
        ("/home/a\\b/mineru", '"/home/a\\\\b/mineru"'),
        ("/home/a:b/mineru", '"/home/a\\:b/mineru"'),
        ("/home/$HOME/ü", '"/home/$HOME/ü"'),
    ],
)
def test_paths_are_quoted_for_lists_of_paths(path: str, written: str) -> None:
    assert quoted_path(Path(path)) == written


def test_programs_are_quoted_for_exec_start() -> None:
    assert quoted_command(Path("/opt/a b/100%/$x")) == '"/opt/a b/100%%/$x"'
    for path in ("/opt/o'brien", '/opt/a"b', "/opt/a\\b"):
        with pytest.raises(InstallError, match="quotation mark or backslash"):
            quoted_command(Path(path))


@pytest.mark.parametrize("quoted", [quoted_path, quoted_command])
def test_a_line_break_in_a_path_cannot_add_a_setting(quoted: object) -> None:
    assert callable(quoted)
    with pytest.raises(InstallError, match="cannot be written into a unit"):
        quoted(Path("/home/a\nUser=root"))


def test_a_user_name_with_a_percent_sign_is_no_specifier() -> None:
    account = Account("50%u", "50%u", Path("/home/me"), 1000, 1000)
    plan = install.system_plan(account, COMMAND)
    unit = next(step.text for step in plan.steps if isinstance(step, File))
    assert "User=50%%u\nGroup=50%%u\n" in unit


def test_a_command_that_fails_is_one_sentence() -> None:
    failing = Command(("sh", "-c", "echo no; echo such >&2; echo luck >&2; exit 3"))
    with pytest.raises(InstallError, match=r"failed \(such luck\); correct that"):
        list(carry_out(Plan((failing,), (), ())))
    with pytest.raises(InstallError, match="does not exist here; the service needs systemd"):
        list(carry_out(Plan((Command(("systemctl-is-not-here",)),), (), ())))


def test_without_a_running_systemd_the_reload_is_left_out(tmp_path: Path) -> None:
    step = Command(("systemctl-is-not-here",), needs=tmp_path / "missing")
    (line,) = carry_out(Plan((step,), (), ()))
    assert line.startswith("not run, because systemd is not running here")


def test_below_another_root_no_command_is_run(tmp_path: Path) -> None:
    step = Command(("touch", str(tmp_path / "ran")))
    list(carry_out(Plan((step,), (), ()), tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_file_that_cannot_be_written_is_one_sentence(root: Path, plan: Plan) -> None:
    (root / "etc").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"mineru\.service cannot be written: "):
        list(carry_out(plan, root))


def test_errors_end_the_command_with_a_code() -> None:
    assert issubclass(InstallError, MineruError)
    assert InstallError.exit_code == 78
