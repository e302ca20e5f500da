"""The units' text: templates beside the package, and how paths are written in them."""

from __future__ import annotations

import re
from pathlib import Path

from mineru_daemon.errors import InstallError

SAFE_PLACE = "install it into an environment below /opt (python3 -m venv /opt/mineru-daemon)"


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
            f"{SAFE_PLACE}."
        )
    return '"' + str(path).replace("%", "%%") + '"'


def _require_text(path: Path) -> None:
    if not str(path).isprintable():
        raise InstallError(
            f"The path {str(path)!r} has characters that cannot be written into a unit; rename it."
        )


def template(name: str) -> str:
    """The text of a unit or of its companions. Raises InstallError if it is missing."""
    package = Path(__file__).resolve().parent
    # Installed, the units lie inside the package; in a checkout, beside it.
    for folder in (package / "units", package.parent / "systemd"):
        try:
            return (folder / name).read_text(encoding="utf-8")
        except OSError:
            continue
    raise InstallError(f"The unit {name} is missing in {package}; install mineru-daemon again.")


def fill(template: str, **values: str) -> str:
    """Replace each @NAME@. A name without a value is a KeyError: a fault of ours."""
    return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], template)
