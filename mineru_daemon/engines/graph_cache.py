"""Graphs as ONNX Runtime optimised them, kept on disk: loaded in a fraction of the time.

An optimised graph fits one model file, one version of ONNX Runtime and one kind of CPU. Each
entry is a folder that says for which, with the sums of its files; it is made elsewhere, renamed
into place whole and never changed. Its weights are a file of their own, which ONNX Runtime maps
into memory instead of copying it. Whatever is wrong with an entry or the folder, the caller is
told that there is none and loads the model itself. How graphs are made and loaded is left to
`onnx`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from mineru_daemon import __version__, cpu, mounts

GRAPH = "graph.onnx"
WEIGHTS = "weights.bin"
"""What ONNX Runtime writes; a graph without large weights has no second file."""

NOTE = "entry.json"
NOTE_BYTES = 65536
"""A longer note is none of ours."""

FORMAT = 1
"""Of the entries; to be raised when older ones shall not be used any more."""

ABANDONED_SECONDS = 3600.0
"""An unfinished entry of this age is what a process left that was killed."""

_OURS = re.compile(r"[\w.-]+-[0-9a-f]{12}-[0-9a-f]{12}\.graph|\.\w+\.unfinished-graph")
"""Names that are removed when they are old: entries and unfinished ones."""

_log = structlog.get_logger()


class _UnfitError(Exception):
    """Why an entry or the folder is not used, as a part of a sentence."""


def folder(setting: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where entries are kept as the setting `graph_cache` has it; None is nowhere.

    `auto` is what systemd gives (CacheDirectory= in systemd.exec(5)), or `mineru-daemon` in the
    user's cache (XDG Base Directory Specification).
    """
    if setting == "off":
        return None
    if setting != "auto":
        return Path(setting)
    if given := environ.get("CACHE_DIRECTORY"):
        return Path(given.split(":")[0])
    if (given := environ.get("XDG_CACHE_HOME", "")) and Path(given).is_absolute():
        return Path(given) / "mineru-daemon"
    with contextlib.suppress(RuntimeError):  # a user without a home
        return Path("~/.cache/mineru-daemon").expanduser()
    return None


def graph_of(
    model: Path, kept_in: Path, made_with: tuple[str, ...], optimise: Callable[[Path], object]
) -> Path | None:
    """The optimised graph of a model file; None where none can be kept.

    What is not in the folder `kept_in` is put there: `optimise` has ONNX Runtime write to the path
    that it is given, and its weights to `WEIGHTS` beside it. `made_with` tells what a graph
    depends on besides model and CPU: version and options of ONNX Runtime.
    """
    try:
        key = _key(model, made_with)
        entry = kept_in / _name(key)
        _prepare(kept_in)
        try:
            return _checked(entry, key)
        except FileNotFoundError:
            pass
        except _UnfitError as error:
            refuse(entry, str(error))
        _make(entry, key, optimise)
        _remove_old(kept_in, entry, key)
        _log.info("graph-kept", model=model.name, entry=str(entry))
        return _checked(entry, key)
    except _UnfitError as error:
        reason = str(error)
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:  # of ONNX Runtime, which meets the full disk first
        reason = str(error)
    _log.info("graph-not-kept", model=model.name, folder=str(kept_in), reason=reason)
    return None


def refuse(entry: Path, reason: str) -> None:
    """Remove an entry that cannot be used; the next one who looks for it makes it anew."""
    _log.info("graph-refused", entry=str(entry), reason=reason)
    _discard(entry)


# --- what an entry is for ----------------------------------------------------


def _key(model: Path, made_with: tuple[str, ...]) -> dict[str, Any]:
    """What must be the same for an entry to be used.

    The model is known by its state, not its content: reading it all would take longer than
    loading the graph. The time of its last change cannot be set by programs; it is the same for
    all files of a read-only image, where the version of this package tells them apart.
    """
    flags = cpu.flags()
    if not flags:
        raise _UnfitError("the kernel does not tell what this CPU can do")
    found = model.stat()
    return {
        "format": FORMAT,
        "package": __version__,
        "model": os.path.realpath(model),
        "state": [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns],
        "made_with": list(made_with),
        "cpu": _digest(platform.machine(), *sorted(flags)),
    }


def _name(key: Mapping[str, Any]) -> str:
    return f"{_stem(key)}{_digest(json.dumps(key))}.graph"


def _stem(key: Mapping[str, Any]) -> str:
    """What the names of all entries of one model file begin with."""
    model = str(key["model"])
    readable = re.sub(r"[^\w.-]", "_", Path(model).stem, flags=re.ASCII)[:100]
    return f"{readable}-{_digest(model)}-"


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:12]


# --- what may be loaded ------------------------------------------------------


def _prepare(kept_in: Path) -> None:
    """Make the folder, or see that it is only ours: a graph is nearly a program."""
    if not kept_in.is_dir():
        kept_in.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            kept_in.mkdir(0o700)
    if not _ours(kept_in.stat()):
        raise _UnfitError(
            "the folder belongs to another user or can be written by others; take the right "
            "from them (chmod go-w) or set graph_cache"
        )
    if mounts.is_network(kind := mounts.file_system_type(kept_in)):
        # Another machine may remove the file that is mapped here, which ends the process.
        raise _UnfitError(f"the folder lies on a network file system ({kind})")


def _ours(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _checked(entry: Path, key: Mapping[str, Any]) -> Path:
    """The graph of an entry that is whole, ours and for this key.

    Raises FileNotFoundError where there is no entry, `_UnfitError` for one not to be used.
    """
    found = entry.lstat()
    if not stat.S_ISDIR(found.st_mode) or not _ours(found):
        raise _UnfitError("it is no folder of this user alone")
    try:
        note = json.loads(_content(entry / NOTE, NOTE_BYTES))
        if not isinstance(note, dict) or note.get("key") != key:
            raise _UnfitError("it was made for something else")
        sums = note["files"]
        if {NOTE, *sums} != {path.name for path in entry.iterdir()} or GRAPH not in sums:
            raise _UnfitError("it has not the files that it tells")
        for name, told in sums.items():
            if _sum(entry / name) != told:
                raise _UnfitError(f"its {name} is damaged")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _UnfitError(f"it cannot be read: {error}") from error
    return entry / GRAPH


def _content(path: Path, most: int) -> bytes:
    with _opened(path) as stream:
        return bytes(stream.read(most))


def _sum(path: Path) -> list[int]:
    """Size and CRC-32 of a file: for accidents, as nobody else may write here."""
    size = crc = 0
    buffer = memoryview(bytearray(1 << 18))
    with _opened(path) as stream:
        while got := stream.readinto(buffer):
            size, crc = size + got, zlib.crc32(buffer[:got], crc)
    return [size, crc]


def _opened(path: Path) -> Any:
    """A regular file that is only ours, for reading."""
    stream = open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0)  # noqa: PTH123, SIM115
    found = os.fstat(stream.fileno())
    if stat.S_ISREG(found.st_mode) and _ours(found):
        return stream
    stream.close()
    raise _UnfitError(f"its {path.name} is no file of this user alone")


# --- making and removing -----------------------------------------------------


def _make(entry: Path, key: Mapping[str, Any], optimise: Callable[[Path], object]) -> None:
    """Put an entry into its place, unless another process was first."""
    unfinished = Path(tempfile.mkdtemp(prefix=".", suffix=".unfinished-graph", dir=entry.parent))
    try:
        optimise(unfinished / GRAPH)
        sums = {}
        for path in unfinished.iterdir():
            path.chmod(0o600)  # whatever the umask
            sums[path.name] = _sum(path)
        note = unfinished / NOTE
        note.write_text(json.dumps({"key": key, "files": sums}), "utf-8")
        note.chmod(0o600)
        # Not flushed to the disk: what a power cut spoils does not have its sum any more.
        with contextlib.suppress(FileExistsError):
            unfinished.rename(entry)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _remove_old(kept_in: Path, fresh: Path, key: Mapping[str, Any]) -> None:
    """Remove what is not used any more: entries of this model in another state or for another
    version or CPU, entries of models that are gone, and what killed processes left."""
    for one in kept_in.iterdir():
        if one == fresh or not _OURS.fullmatch(one.name):
            continue
        with contextlib.suppress(OSError):
            if one.name.startswith("."):
                old = time.time() - one.lstat().st_mtime > ABANDONED_SECONDS
            else:
                old = one.name.startswith(_stem(key)) or not _is_of_use(one)
            if old:
                _discard(one)


def _discard(entry: Path) -> None:
    """Remove an entry, in one step for those who look for it."""
    aside = entry.with_name(f".{os.urandom(8).hex()}.unfinished-graph")
    with contextlib.suppress(OSError):
        entry.rename(aside)
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        else:
            aside.unlink()


def _is_of_use(entry: Path) -> bool:
    """Whether an entry tells its model, and that is there."""
    try:
        return os.path.exists(json.loads(_content(entry / NOTE, NOTE_BYTES))["key"]["model"])  # noqa: PTH110 - False where it may not be looked at
    except (OSError, ValueError, KeyError, TypeError, _UnfitError):
        return False
