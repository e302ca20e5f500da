"""Making a model folder: beside its place first, and put there by one rename.

Whoever is killed while making one leaves nothing that loads. What lies in such a folder is told
by `folder`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mineru_daemon.engines.mineru.folder import (
    FORMAT,
    MANIFEST,
    File,
    Manifest,
    ModelFolder,
    Progress,
    load,
)
from mineru_daemon.errors import ModelError, StorageError
from mineru_daemon.storage import digest, exchange, fsync_folder, locked, write_durably

_WORKPLACE = ".mineru-export-"
"""How the folders begin in which models are made, beside the place they are for."""


@dataclass(frozen=True)
class Draft:
    """A model folder in the making. What lies in `path` at `publish` becomes the model."""

    path: Path
    """A fresh, empty folder on the file system of the place that the model is for."""
    place: Path
    """Where the model is to lie."""
    replace: bool

    def publish(self, progress: Progress | None = None, **head: Any) -> ModelFolder:
        """Write the manifest, make everything durable, and put the folder in its place.

        `head` are the fields of `Manifest` but for `files`. Raises ModelError when the
        place was taken meanwhile, StorageError when it cannot be written.
        """
        files = {}
        for path in sorted(self.path.iterdir()):
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
            files[path.name] = File(bytes=path.stat().st_size, sha256=digest(path, progress))
        manifest = Manifest(files=files, **head)
        text = manifest.model_dump_json(indent=2) + "\n"
        write_durably(self.path / MANIFEST, lambda stream: stream.write(text))
        fsync_folder(self.path)
        if occupied(self.place, self.replace):
            exchange(self.path, self.place)
        else:
            # Only an empty folder would be replaced.
            self.path.rename(self.place)
        fsync_folder(self.place.parent)
        return load(self.place)


@contextmanager
def begun(out: Path, *, replace: bool = False) -> Iterator[Draft]:
    """Make a model folder for `out`: fill `Draft.path`, then call `Draft.publish`.

    A model folder that lies there already is replaced if `replace` says so. A block that
    is left without publication leaves nothing behind; after a kill, the next publication
    beside it clears what was left. Raises ModelError when `out` holds something else,
    StorageError when it cannot be written.
    """
    place = Path(os.path.realpath(out))
    occupied(place, replace)
    with _writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(place.parent)
        with _workplace(place.parent) as path:
            yield Draft(path, place, replace)


def occupied(place: Path, replace: bool) -> bool:
    """Whether a model lies at `place` that may be replaced; False for an empty place.

    Raises ModelError where something else lies there, or a model and `replace` is False.
    """
    if not os.path.lexists(place):
        return False
    if not place.is_dir():
        raise ModelError(f"{place} is a file; choose another folder for the model.")
    present = sorted(path.name for path in place.iterdir())
    if not present:
        return False
    listed = _files_of_ours(place)
    if listed is None:
        raise ModelError(
            f"{place} holds other files ({present[0]}, …) and is not replaced; choose another "
            "folder for the model."
        )
    if not replace:
        raise ModelError(
            f"{place} holds a model already; give --force to replace it, or choose another folder."
        )
    if strange := [name for name in present if name not in listed]:
        raise ModelError(
            f"{place} holds something beside its model ({strange[0]}) and is not replaced; move "
            "that away, or choose another folder."
        )
    return True


def _files_of_ours(place: Path) -> set[str] | None:
    """Names in a model folder of whatever version, whole or not; None for other folders."""
    try:
        content = json.loads((place / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return None
    files = content.get("files")
    return {MANIFEST, *(files if isinstance(files, Mapping) else ())}


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        at = f" ({error.filename})" if error.filename else ""
        raise StorageError(
            f"The model folder {place} cannot be made: {error.strerror or error}{at}; check its "
            "disk and the modes of its folders."
        ) from error


@contextmanager
def _workplace(parent: Path) -> Iterator[Path]:
    """A folder that is locked by this process as long as it lives, and then removed."""
    path = None
    # All of it, as a signal that ends the export may come between any two steps.
    try:
        with ExitStack() as stack:
            while True:
                path = parent / f"{_WORKPLACE}{secrets.token_hex(8)}"
                # Not mkdtemp: a service that runs as somebody else is to read what is made here.
                path.mkdir()
                try:
                    held = stack.enter_context(locked(path))
                except FileNotFoundError:
                    continue  # Another export cleared it before it was locked.
                if held and path.exists():
                    break
            yield path
    finally:
        if path is not None:
            # Renamed by now, or what the published folder took the place of.
            shutil.rmtree(path, ignore_errors=True)


def _clear_leftovers(parent: Path) -> None:
    """Remove what killed exports left in `parent`; those that are at work hold a lock."""
    for path in parent.glob(f"{_WORKPLACE}*"):
        try:
            with locked(path) as abandoned:
                if abandoned:
                    shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue  # Gone meanwhile, or somebody else's.
