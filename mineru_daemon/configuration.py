"""Where settings come from: TOML file < environment `MINERU_*` < command line.

Finds the file, merges the three, remembers where each value came from, says in one sentence
what is wrong, and prints settings as TOML. What can be set is `settings`' business.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from mineru_daemon.errors import ConfigError
from mineru_daemon.settings import ENV_PREFIX, Settings, reloadable

ENV_CONFIG = "MINERU_CONFIG"

FOREIGN_ENV = frozenset(
    {
        "MINERU_API_MAX_CONCURRENT_REQUESTS",
        "MINERU_DEVICE_MODE",
        "MINERU_FORMULA_CH_SUPPORT",
        "MINERU_FORMULA_ENABLE",
        "MINERU_HYBRID_BATCH_RATIO",
        "MINERU_HYBRID_FORCE_PIPELINE_ENABLE",
        "MINERU_MODEL_SOURCE",
        "MINERU_PDF_RENDER_THREADS",
        "MINERU_PDF_RENDER_TIMEOUT",
        "MINERU_TABLE_ENABLE",
        "MINERU_TABLE_MERGE_ENABLE",
        "MINERU_TOOLS_CONFIG_JSON",
        "MINERU_VIRTUAL_VRAM_SIZE",
        "MINERU_VL_API_KEY",
        "MINERU_VL_DEBUG_ENABLE",
        "MINERU_VL_MODEL_NAME",
        "MINERU_VL_SERVER",
    }
)
"""Variables of MinerU itself (its documentation, "Environment variables"): a user may
have both programs, so these are passed over rather than taken for misspelt settings."""


@dataclass(frozen=True)
class Loaded:
    """Settings, and where each came from: a file's path, a variable, an option, `default`."""

    settings: Settings
    origins: dict[str, str]


def config_path(explicit: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The TOML file to read, or None. A file that was named must exist.

    Raises ConfigError when it does not, or when a disk does not tell whether one is there.
    """
    named = explicit or (Path(environ[ENV_CONFIG]) if environ.get(ENV_CONFIG) else None)
    if named is not None:
        if not _is_file(named):
            raise ConfigError(f"The configuration file {named} does not exist; check its path.")
        return named
    candidates = [Path("/etc/mineru/config.toml")]
    with contextlib.suppress(RuntimeError):  # a user without a home has no file in it
        home = Path(environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
        candidates.insert(0, home / "mineru" / "config.toml")
    return next((path for path in candidates if _is_file(path)), None)


def _is_file(path: Path) -> bool:
    """Whether a file lies there. What cannot be looked at is not passed over: settings would
    be missing without a word."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(path, error) from error


def load(
    overrides: Mapping[str, Any] | None = None,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Merge file, environment and command line (`overrides`), and check the whole.

    Raises ConfigError with one sentence (one line) for each thing that is wrong.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    problems: list[str] = []
    path = config_path(config, environ)
    layers: list[tuple[Mapping[str, Any], Any]] = []
    if path is not None:
        layers.append((_read_toml(path), lambda _key: str(path)))
    layers.append((_read_environment(environ, problems), _variable))
    layers.append((overrides or {}, _option))
    for layer, origin in layers:
        for key, value in layer.items():
            if key not in Settings.model_fields:
                problems.append(_unknown(key, origin(key), Settings.model_fields))
                continue
            values[key] = value
            origins[key] = origin(key)
    settings = None
    try:
        settings = Settings(**values)
    except ValidationError as error:
        problems += [_sentence(detail, origins) for detail in error.errors()]
    if problems or settings is None:
        raise ConfigError("\n".join(problems))
    return Loaded(settings, origins)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return dict(TomlConfigSettingsSource(Settings, path)())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The configuration file {path} is not valid TOML: {error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The configuration file {path} is not UTF-8; save it so.") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"The configuration file {path} cannot be read: {error.strerror}; see to the rights to it "
        "and to the folders above it, or name another one with --config."
    )


def _read_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    source = EnvSettingsSource(Settings)
    source.env_vars = {key.lower(): value for key, value in environ.items()}
    known = {_variable(key): key for key in Settings.model_fields}
    for name in environ:
        upper = name.upper()
        if (
            upper.startswith(ENV_PREFIX)
            and upper not in known
            and upper not in FOREIGN_ENV
            and upper != ENV_CONFIG
        ):
            problems.append(_unknown(upper, "the environment", known))
    return dict(source())


def _variable(key: str) -> str:
    return ENV_PREFIX + key.upper()


def _option(key: str) -> str:
    return "--" + key.replace("_", "-")


def _unknown(key: str, where: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    advice = f"did you mean {near[0]}?" if near else "see `mineru-daemon config --example`."
    return f"There is no setting {key} ({where}); {advice}"


def _sentence(detail: Any, origins: Mapping[str, str]) -> str:
    """One line for one finding of pydantic."""
    message = str(detail["msg"]).removeprefix("Value error, ")
    if not detail["loc"]:
        return f"{message}."
    key = str(detail["loc"][0])
    value = json.dumps(detail["input"], default=str, ensure_ascii=False)
    return f"The setting {key} = {value} ({origins[key]}) is not usable: {message}."


def merge_reloadable(running: Settings, fresh: Settings) -> tuple[Settings, list[str], list[str]]:
    """`running` with the reloadable values of `fresh`.

    Returns the merged settings, the names that were taken over, and the names that
    differ but need a restart.
    """
    changed = [
        name for name in Settings.model_fields if getattr(running, name) != getattr(fresh, name)
    ]
    taken = [name for name in changed if name in reloadable()]
    merged = running.model_copy(update={name: getattr(fresh, name) for name in taken})
    return merged, taken, [name for name in changed if name not in taken]


def toml_value(value: Any) -> str:
    """`value` as TOML. TOML's strings, numbers, booleans and flat lists are JSON's."""
    return json.dumps(value, default=str, ensure_ascii=False)


def example_toml() -> str:
    """The text of config.example.toml: every setting, commented out, with its default."""
    lines = [
        "# Settings of mineru-daemon with their defaults. Copy this file to",
        "# ~/.config/mineru/config.toml or /etc/mineru/config.toml and uncomment what you change.",
        "# The environment (MINERU_INBOX, MINERU_QUEUE_DEPTH, …) and the command line (--inbox,",
        "# --queue-depth, …) come before the file. [reload] marks what `systemctl reload mineru`",
        "# takes over; everything else needs a restart.",
    ]
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        unit = f" Unit: {extra['unit']}." if extra["unit"] else ""
        mark = " [reload]" if extra["reload"] else ""
        lines += ["", f"# {field.description}{unit}{mark}"]
        lines.append(f"# {name} = {toml_value(field.default)}")
    return "\n".join(lines) + "\n"
