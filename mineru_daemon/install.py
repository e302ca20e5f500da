"""Puts the systemd unit in place, with the folders and the user that it needs.

Knows where units belong, how paths are written in them, and what the service's sandbox
hides. The units themselves are files next to the package; what the daemon does once it is
started is no business of this module. First everything is planned, without touching
anything, then the plan is printed (`--dry-run`) or carried out; carrying it out a second
time changes nothing. An administrator's drop-ins are never touched.
"""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import re
import stat
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mineru_daemon.errors import ConfigError, MineruError, StorageError
from mineru_daemon.settings import FOLDER_NAMES, Settings
from mineru_daemon.storage import replace_text

UNIT = "mineru.service"
SYSTEM_USER = "mineru"
SHARE_GROUP = "mineru-share"
SYSTEM_HOME = Path("/var/lib/mineru")
PARENT = "mineru"
"""All folders lie below this one in the user's home: the sandbox mounts it as one."""
FOLDERS = {name: str(Settings.model_fields[name].default) for name in FOLDER_NAMES}
"""Setting -> default, which begins with `~/mineru/`."""
CONFIG = Path("/etc/mineru/config.toml")

MARK = "# Written by `mineru-daemon install"
"""How a file of ours begins; others are not replaced."""

HIDDEN_BY_SANDBOX = tuple(map(Path, ("/root", "/home", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108
"""What ProtectHome= and PrivateTmp= of the unit replace by empty folders."""

_COMMAND_SECONDS = 120

_SAFE_PLACE = "install it into an environment below /opt (python3 -m venv /opt/mineru-daemon)"


class InstallError(MineruError):
    """The service cannot be installed like this."""

    code = "install"
    exit_code = ConfigError.exit_code


@dataclass(frozen=True)
class Account:
    """Whom the service runs as. `uid` and `gid` are None for a user that is yet to be made."""

    name: str
    group: str
    home: Path
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True)
class File:
    """A file to be written, readable for everybody."""

    path: Path
    text: str


@dataclass(frozen=True)
class Folder:
    """A folder to be made below `base`, which must exist. One that exists stays as it is."""

    base: Path
    name: str
    owner: Account
    mode: int = 0o700


@dataclass(frozen=True)
class Command:
    """A command to be run, when `needs` exists (a sign that the manager is running)."""

    words: tuple[str, ...]
    needs: Path | None = None


Step = File | Folder | Command


@dataclass(frozen=True)
class Plan:
    """What is to be done, in this order; what stands against it; what to tell at the end."""

    steps: tuple[Step, ...]
    obstacles: tuple[str, ...]
    advice: tuple[str, ...]


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
    unit = _fill(
        _template(UNIT),
        COMMAND=quoted_command(command),
        USER=account.name.replace("%", "%%"),
        GROUP=account.group.replace("%", "%%"),
        FOLDERS=" ".join(map(quoted_path, mounts_of(folders.values()))),
    )
    steps: list[Step] = [File(Path("/etc/systemd/system") / UNIT, unit)]
    advice = []
    if (account.name, account.home) == (SYSTEM_USER, SYSTEM_HOME):
        sysusers = File(Path("/etc/sysusers.d/mineru.conf"), _template("mineru.sysusers.conf"))
        tmpfiles = File(Path("/etc/tmpfiles.d/mineru.conf"), _template("mineru.tmpfiles.conf"))
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
    try:
        chosen = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        chosen = {}  # The daemon will say what is wrong with it.
    # Where "~" leads is the service's user's to say, so the settings' own reading is no help.
    return {
        name: account.home / re.sub("^~/", "", str(chosen.get(name, default)))
        for name, default in FOLDERS.items()
    }


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
    unit = _fill(_template(f"user/{UNIT}"), COMMAND=quoted_command(command))
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


def quoted_path(path: Path) -> str:
    """`path` as an item of a list of paths in a unit (BindPaths=, RequiresMountsFor=).

    Blanks separate items, `%` begins a specifier, a colon separates source and destination.

    Raises InstallError where `path` is not text: a line break would begin a new setting.
    """
    _require_text(path)
    return '"' + re.sub(r"([\\'\":])", r"\\\1", str(path)).replace("%", "%%") + '"'


def quoted_command(path: Path) -> str:
    """`path` as the program of ExecStart=. Only its arguments would have `$` replaced.

    Raises InstallError for what systemd does not take in a program's path.
    """
    _require_text(path)
    if re.search(r"[\\'\"]", str(path)):
        raise InstallError(
            f"systemd starts no program with a quotation mark or backslash in its path ({path}); "
            f"{_SAFE_PLACE}."
        )
    return '"' + str(path).replace("%", "%%") + '"'


def _require_text(path: Path) -> None:
    if not str(path).isprintable():
        raise InstallError(
            f"The path {str(path)!r} has characters that cannot be written into a unit; rename it."
        )


def _template(name: str) -> str:
    package = Path(__file__).resolve().parent
    # Installed, the units lie inside the package; in a checkout, beside it.
    for folder in (package / "units", package.parent / "systemd"):
        try:
            return (folder / name).read_text(encoding="utf-8")
        except OSError:
            continue
    raise InstallError(f"The unit {name} is missing in {package}; install mineru-daemon again.")


def _fill(template: str, **values: str) -> str:
    """Replace each @NAME@. A name without a value is a KeyError: a fault of ours."""
    return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], template)


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
                    f"{_SAFE_PLACE} and run `mineru-daemon install` from there."
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


def describe(plan: Plan) -> str:
    """The plan for people: each file with its text, each folder, each command."""
    lines = []
    for step in plan.steps:
        match step:
            case File(path, text):
                lines += [f"# file {path}", *text.splitlines(), ""]
            case Folder(base, name, owner, mode):
                lines.append(f"# folder {base / name} {owner.name}:{owner.group} {mode:04o}")
            case Command(words):
                lines.append("# command " + " ".join(words))
    return "\n".join(lines) + "\n"


def carry_out(plan: Plan, root: Path = Path("/")) -> Iterable[str]:
    """Do what `plan` says, below `root`, and tell each step in a line.

    Below another root no command is run. Raises InstallError or StorageError at the first
    step that fails; the steps before it remain done, and the next run continues.
    """
    elsewhere = root != Path("/")
    for step in plan.steps:
        match step:
            case File(path, text):
                changed = _write(_below(root, path), text)
                yield f"{'written' if changed else 'unchanged'}: {path}"
            case Folder(base, name, owner, mode):
                changed = _make(_below(root, base), name, owner, mode)
                yield f"{'made' if changed else 'unchanged'}: {base / name}"
            case Command(words, needs):
                if elsewhere or (needs is not None and not needs.exists()):
                    yield "not run, because systemd is not running here: " + " ".join(words)
                else:
                    _run(words)
                    yield "run: " + " ".join(words)


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _write(path: Path, text: str) -> bool:
    """Write `path` whole or not at all; False when it has this text already."""
    try:
        if path.is_symlink():
            raise InstallError(
                f"{path} is a symbolic link to {path.readlink()} (masked?); remove it first."
            )
        try:
            present = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            present = None
        if present == text:
            return False
        if present is not None and not present.startswith(MARK):
            raise InstallError(
                f"{path} was not written by `mineru-daemon install` and is left alone; "
                "move it away first."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text, durable=True)
        path.chmod(0o644)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}; check its folder."
        ) from error
    return True


def _make(base: Path, name: str, owner: Account, mode: int) -> bool:
    """Make the folder `name` below `base`; False when it exists and belongs to `owner`.

    The folders above belong to a user while root makes this one, so no symbolic link below
    `base` is followed: it could lead anywhere.
    """
    path = base / name
    try:
        handle = os.open(base, os.O_DIRECTORY)
        made = False
        try:
            for part in Path(name).parts:
                try:
                    os.mkdir(part, 0o700, dir_fd=handle)
                    made = True
                except FileExistsError:
                    made = False
                inner = os.open(part, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
                os.close(handle)
                handle = inner
            if made:
                # Only root can, and needs to, give it to somebody else.
                if os.geteuid() == 0 and owner.uid is not None and owner.gid is not None:
                    os.fchown(handle, owner.uid, owner.gid)
                os.fchmod(handle, mode)
            found = os.fstat(handle).st_uid
        finally:
            os.close(handle)
    except OSError as error:
        raise StorageError(
            f"The folder {path} cannot be made: {error.strerror}; it and the folders above it "
            "must be folders, not files or symbolic links."
        ) from error
    if not made and owner.uid is not None and found != owner.uid:
        raise InstallError(
            f"The folder {path} does not belong to {owner.name}; give it to that user: "
            f"chown {owner.name}: '{path}'"
        )
    return made


def _run(words: tuple[str, ...]) -> None:
    shown = " ".join(words)
    try:
        done = subprocess.run(
            words, check=False, capture_output=True, text=True, timeout=_COMMAND_SECONDS
        )
    except FileNotFoundError as error:
        raise InstallError(
            f"The command {words[0]} does not exist here; the service needs systemd."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise InstallError(
            f"`{shown}` did not end within {_COMMAND_SECONDS} s; try it yourself."
        ) from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise InstallError(f"`{shown}` failed ({said}); correct that and install again.")
