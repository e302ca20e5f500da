"""Puts the systemd unit in place, with the folders and the user that it needs.

Knows where units belong and what the service's sandbox hides: it plans. The units' text
is `unit_text`'s, writing and running `install_steps`'s; what the daemon does once it is
started is no business of either. An administrator's drop-ins are never touched.
"""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import re
import stat
import sys
import sysconfig
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mineru_daemon.errors import InstallError
from mineru_daemon.install_steps import (
    Account,
    Command,
    File,
    Folder,
    Plan,
    Step,
    carry_out,
    describe,
)
from mineru_daemon.settings import FOLDER_NAMES, Settings
from mineru_daemon.unit_text import SAFE_PLACE, fill, quoted_command, quoted_path, template

UNIT = "mineru.service"
SYSTEM_USER = "mineru"
SHARE_GROUP = "mineru-share"
SYSTEM_HOME = Path("/var/lib/mineru")
PARENT = "mineru"
"""All folders lie below this one in the user's home: the sandbox mounts it as one."""
FOLDERS = {name: str(Settings.model_fields[name].default) for name in FOLDER_NAMES}
"""Setting -> default, which begins with `~/mineru/`."""
MODEL = str(Settings.model_fields["model"].default)
"""The same of the model folder, which the service only reads."""
CONFIG = Path("/etc/mineru/config.toml")

HIDDEN_BY_SANDBOX = tuple(map(Path, ("/root", "/home", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108
"""What ProtectHome= and PrivateTmp= of the unit replace by empty folders."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `mineru-daemon install`."""
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument(
        "--user",
        action="store_true",
        help="a service of your own, without root: systemctl --user start mineru",
    )
    whose.add_argument(
        "--service-user",
        metavar="NAME",
        help="run the system service as this existing user, with the folders in ~NAME/mineru "
        f"(default: the user {SYSTEM_USER}, which is made)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print every file and command; touch nothing"
    )
    # For images and packages, and for tests: files below another root, no commands.
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Install as `options` say; 0 when done.

    Raises InstallError, or StorageError where a file or folder cannot be written.
    """
    command = console_script()
    if options.user:
        plan = user_plan(own_account(), command)
    else:
        plan = system_plan(service_account(options.service_user), command)
    if options.dry_run:
        print(describe(plan), end="")
        for obstacle in plan.obstacles:
            print(obstacle, file=sys.stderr)
        return 0
    if not options.user and options.root == Path("/") and os.geteuid() != 0:
        raise InstallError(
            "The system service can only be installed by root: use sudo, or --user for a "
            "service of your own."
        )
    if plan.obstacles:
        raise InstallError("\n".join(plan.obstacles))
    for line in carry_out(plan, options.root):
        print(line)
    for line in plan.advice:
        print(line)
    return 0


def console_script() -> Path:
    """The absolute path of `mineru-daemon` in the environment of this interpreter."""
    return Path(sysconfig.get_path("scripts")).absolute() / "mineru-daemon"


def own_account() -> Account:
    """The user who runs this.

    Raises InstallError under sudo, whose home and systemd would be root's.
    """
    if os.geteuid() == 0 and os.environ.get("SUDO_USER"):
        raise InstallError("A service of your own is installed by yourself: run this without sudo.")
    return _account(pwd.getpwuid(os.geteuid()))


def service_account(name: str | None) -> Account:
    """The user `name`, or the user `mineru` even where it does not exist yet.

    Raises InstallError for a user that does not exist or that must not be used.
    """
    try:
        entry = pwd.getpwnam(name or SYSTEM_USER)
    except KeyError:
        if name in (None, SYSTEM_USER):
            return Account(SYSTEM_USER, SYSTEM_USER, SYSTEM_HOME)
        raise InstallError(
            f"There is no user {name}; make it first, or leave --service-user out."
        ) from None
    if entry.pw_uid == 0:
        raise InstallError(
            "The service opens files from outside and does not run as root; choose another user."
        )
    account = _account(entry)
    if name is None and account.home != SYSTEM_HOME:
        raise InstallError(
            f"The user {SYSTEM_USER} exists already, with the home {account.home}: say "
            f"--service-user {SYSTEM_USER} to have the folders there."
        )
    return account


def _account(entry: pwd.struct_passwd) -> Account:
    try:
        group = grp.getgrgid(entry.pw_gid).gr_name
    except KeyError:
        group = str(entry.pw_gid)
    return Account(entry.pw_name, group, Path(entry.pw_dir), entry.pw_uid, entry.pw_gid)


def system_plan(account: Account, command: Path, config: Path | None = None) -> Plan:
    """The system service: below /etc, with the user `mineru` made where no other is chosen.

    The folders that `config` (by default /etc/mineru/config.toml) names are opened to the
    service too.
    """
    config = config or CONFIG
    folders = folders_of(account, config)
    mounts = mounts_of(folders.values())
    models = read_only_of(models_of(account, config), mounts)
    unit = fill(
        template(UNIT),
        COMMAND=quoted_command(command),
        USER=account.name.replace("%", "%%"),
        GROUP=account.group.replace("%", "%%"),
        FOLDERS=" ".join(map(quoted_path, mounts)),
        DISKS=" ".join(map(quoted_path, [*mounts, *models])),
        # It may be fetched later: "-" lets the service start without it.
        MODEL=" ".join(f"-{quoted_path(model)}" for model in models),
    )
    steps: list[Step] = [File(Path("/etc/systemd/system") / UNIT, unit)]
    advice = []
    if (account.name, account.home) == (SYSTEM_USER, SYSTEM_HOME):
        sysusers = File(Path("/etc/sysusers.d/mineru.conf"), template("mineru.sysusers.conf"))
        tmpfiles = File(Path("/etc/tmpfiles.d/mineru.conf"), template("mineru.tmpfiles.conf"))
        steps += [
            sysusers,
            tmpfiles,
            Command(("systemd-sysusers", str(sysusers.path))),
            Command(("systemd-tmpfiles", "--create", str(tmpfiles.path))),
        ]
        advice.append(
            "Whoever is to deliver documents and fetch results: "
            f"usermod --append --groups {SHARE_GROUP} NAME"
        )
    else:
        steps += _folders(account)
    steps.append(Command(("systemctl", "daemon-reload"), needs=Path("/run/systemd/system")))
    advice += [
        f"Documents go into {folders['inbox']}, results come to {folders['outbox']}.",
        "The model MinerU2.5, for better results at more CPU, is fetched by: "
        f"sudo -Hu {account.name} {command} model pull",
        "Start it: systemctl start mineru (at every boot: systemctl enable mineru; after an "
        "upgrade: systemctl restart mineru)",
    ]
    obstacles = _interpreter_obstacles(command, account)
    obstacles += [
        f"The {name} folder {folder} ({config}) does not exist; make it and give it to "
        f"{account.name}."
        for name, folder in folders.items()
        if not folder.is_relative_to(account.home / PARENT) and not folder.is_dir()
    ]
    return Plan(tuple(steps), tuple(obstacles), tuple(advice))


def folders_of(account: Account, config: Path) -> dict[str, Path]:
    """The folders that the daemon will use, by the names of their settings."""
    chosen = _chosen(config)
    return {
        name: _at_home(account, str(chosen.get(name, default))) for name, default in FOLDERS.items()
    }


def models_of(account: Account, config: Path) -> list[Path]:
    """The folders of models that the daemon will use; they need not be there."""
    chosen = _chosen(config)
    models = (chosen.get("model", MODEL), chosen.get("recognition_model"))
    return [_at_home(account, str(model)) for model in models if model]


def _chosen(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # The daemon will say what is wrong with it.


def _at_home(account: Account, path: str) -> Path:
    """Where "~" leads is the service's user's to say, so the settings' own reading is no help."""
    return account.home / re.sub("^~/", "", path)


def read_only_of(models: Iterable[Path], mounts: Iterable[Path]) -> list[Path]:
    """What is opened for reading besides `mounts` so that `models` are there.

    Nothing for one that lies below one of them, as the model does by default, unless it is a
    symbolic link that leads elsewhere.
    """
    mounts = list(mounts)
    opened = [*mounts, *map(Path, map(os.path.realpath, mounts))]
    places = dict.fromkeys(
        place for model in models for place in (model, Path(os.path.realpath(model)))
    )
    return [place for place in places if not any(map(place.is_relative_to, opened))]


def mounts_of(folders: Iterable[Path]) -> list[Path]:
    """What is mounted into the sandbox so that `folders` are there, as few as possible.

    Folders side by side are opened by the one that holds them, because rename does not
    cross mounts; a folder on its own is opened alone, and nothing right below the root.
    """
    folders = list(folders)
    parents = [folder.parent for folder in folders]
    found = {
        parent if parents.count(parent) > 1 and len(parent.parts) > 2 else folder
        for folder, parent in zip(folders, parents, strict=True)
    }
    return sorted(one for one in found if not any(outer in found for outer in one.parents))


def user_plan(account: Account, command: Path) -> Plan:
    """A service of one's own: below ~/.config, run by one's own systemd."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or account.home / ".config")
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{account.uid}")
    unit = fill(template(f"user/{UNIT}"), COMMAND=quoted_command(command))
    steps: list[Step] = [
        File(config / "systemd/user" / UNIT, unit),
        *_folders(account),
        Command(("systemctl", "--user", "daemon-reload"), needs=runtime / "systemd"),
    ]
    folders = account.home / PARENT
    advice = (
        f"Documents go into {folders / 'inbox'}, results come to {folders / 'outbox'}.",
        "Start it: systemctl --user start mineru (at every login: systemctl --user enable mineru; "
        "without a login: loginctl enable-linger)",
    )
    return Plan(tuple(steps), tuple(_missing(command)), advice)


def _folders(account: Account) -> list[Folder]:
    names = (PARENT, *(default.removeprefix("~/") for default in FOLDERS.values()))
    return [Folder(account.home, name, account) for name in names]


def _missing(command: Path) -> list[str]:
    if os.access(command, os.X_OK):
        return []
    return [
        f"The command {command} does not exist; install mineru-daemon into this environment "
        f"({sys.prefix}) first."
    ]


def _interpreter_obstacles(command: Path, account: Account) -> list[str]:
    """Why the service could not run this interpreter, at most one sentence."""
    package = Path(__file__).parent
    places = [command, Path(sys.executable), Path(sys.prefix), Path(sys.base_prefix), package]
    for place in [*places, *(place.resolve() for place in places)]:
        for hidden in HIDDEN_BY_SANDBOX:
            if place.is_relative_to(hidden):
                return [
                    f"The service cannot see {place}, because its sandbox hides {hidden}; "
                    f"{SAFE_PLACE} and run `mineru-daemon install` from there."
                ]
    if missing := _missing(command):
        return missing
    for place in (command, Path(sys.executable).resolve(), package):
        for part in (place, *place.parents):
            if not _may_enter(part, account):
                return [
                    f"The user {account.name} may not enter or run {part}; "
                    f"allow it: chmod a+rX '{part}'"
                ]
    return []


def _may_enter(path: Path, account: Account) -> bool:
    """By the permission bits. Access lists and other groups of the user are not looked at."""
    entry = path.stat()
    if path.is_file() and not entry.st_mode & 0o111:
        return True  # __init__.py and the like
    if entry.st_uid == account.uid:
        return bool(entry.st_mode & stat.S_IXUSR)
    if entry.st_gid == account.gid:
        return bool(entry.st_mode & stat.S_IXGRP)
    return bool(entry.st_mode & stat.S_IXOTH)
