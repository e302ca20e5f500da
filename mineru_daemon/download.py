"""Checkpoints from a hub: Hugging Face, or ModelScope for users in China.

Fetches the files that an export reads and no others, and goes on where an earlier
download ended. Whether the files are a usable checkpoint is told by the exporter.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from mineru_daemon.engines.mineru.folder import OPTIONAL_SIDE_FILES, SIDE_FILES
from mineru_daemon.errors import DownloadError, StorageError

Hub = Literal["huggingface", "modelscope"]

DEFAULT_NAMES: dict[Hub, str] = {
    "huggingface": "opendatalab/MinerU2.5-2509-1.2B",
    "modelscope": "OpenDataLab/MinerU2.5-2509-1.2B",
}
"""The published checkpoint, as each hub writes its owner."""

PATTERNS = [
    *SIDE_FILES,
    *OPTIONAL_SIDE_FILES,
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
]

_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

_QUIET = {
    # Nobody is told what is downloaded here but the hub itself.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_VERBOSITY": "error",
    "MODELSCOPE_LOG_LEVEL": "40",
}
"""Read by the hubs' clients while they are imported."""


def is_name(text: str) -> bool:
    """Whether `text` could be the name of a model on a hub: OWNER/NAME."""
    return _NAME.fullmatch(text) is not None


def folder_for(name: str, revision: str | None, beside: Path) -> Path:
    """Where a checkpoint is downloaded to, beside the model that is made of it.

    Always the same, so that a second attempt goes on, and another for every revision, so
    that files of two are never mixed.
    """
    parts = [*name.split("/"), *([revision] if revision else [])]
    slug = "--".join(re.sub(r"[^\w.-]", "-", part) for part in parts)
    return beside.parent / "checkpoints" / slug


def fetch(name: str, folder: Path, hub: Hub, revision: str | None = None) -> None:
    """Download the checkpoint `name` into `folder`, which is made.

    Raises DownloadError in one sentence, StorageError where `folder` cannot be written.
    """
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")
    get: Callable[[str, Path, str | None], None]
    get = _from_modelscope if hub == "modelscope" else _from_hugging_face
    try:
        folder.mkdir(parents=True, exist_ok=True)
        get(name, folder, revision)
    except OSError as error:
        # Network errors of some clients are OSErrors, too.
        if not error.filename and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise _failed(name, hub, error) from error
        raise StorageError(
            f"{error.filename or folder} cannot be written: {error.strerror}; make room or check "
            "the folder's mode, and run this again."
        ) from error


def _from_hugging_face(name: str, folder: Path, revision: str | None) -> None:
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise DownloadError(
            "Downloading from Hugging Face needs the package huggingface_hub; install it with "
            "pip install 'mineru-daemon[export]'."
        ) from error
    if not sys.stderr.isatty():
        # The variable that `fetch` sets is read only once, and others may import this first.
        disable_progress_bars()
    where = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    try:
        commit = _weights_from_hugging_face(name, folder, revision, where)
        # Compares the weights with their digest, and fetches all that is missing.
        huggingface_hub.snapshot_download(
            name, revision=commit, local_dir=folder, allow_patterns=PATTERNS, endpoint=where
        )
    except errors.GatedRepoError as error:
        raise DownloadError(
            f"{where} gives {name} only to those who accepted its terms; accept "
            "them on its page and set HF_TOKEN."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DownloadError(
            f"{where} knows no public model {name}; check the name, or give the "
            "folder of a checkpoint."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise DownloadError(
            f"{name} has no revision {revision} on {where}; leave --revision out for the newest."
        ) from error
    except errors.LocalEntryNotFoundError as error:
        status = getattr(getattr(error.__cause__, "response", None), "status_code", None)
        fault = "cannot be reached" if status is None else f"fails with status {status}"
        raise DownloadError(
            f"{name} cannot be downloaded: {where} {fault}; check the network, set "
            "HF_ENDPOINT to a mirror or choose --source modelscope, and run this again."
        ) from error
    except OSError:
        raise
    except Exception as error:
        raise _failed(name, "huggingface", error) from error


def _weights_from_hugging_face(
    name: str, folder: Path, revision: str | None, where: str
) -> str | None:
    """Fetch the weight files, going on behind what is there; returns the commit.

    The hub's client begins a file anew whenever its process was ended (seen with version
    2.4): hours, on a slow line. So the large files are fetched here, by its own function
    for one file; they are put into their place whole, where it takes them over.
    """
    from huggingface_hub import HfApi, get_hf_file_metadata, get_token, hf_hub_url
    from huggingface_hub.file_download import http_get

    try:
        info = HfApi(endpoint=where).model_info(name, revision=revision)
    except Exception:
        # The client will meet the same, unless what is in the folder does without the hub.
        return revision
    token = get_token()
    for file in info.siblings or []:
        path = folder / file.rfilename
        if not _WEIGHTS.fullmatch(file.rfilename) or path.exists():
            continue
        url = hf_hub_url(name, file.rfilename, revision=info.sha, endpoint=where)
        metadata = get_hf_file_metadata(url, token=token)
        if not metadata.etag or metadata.size is None:
            continue
        part = folder / f"{file.rfilename}.{metadata.etag[:16]}.part"
        with part.open("ab") as stream:
            if stream.tell() > metadata.size:
                stream.truncate(0)
            http_get(
                url,
                stream,
                resume_size=stream.tell(),
                headers={"authorization": f"Bearer {token}"} if token else {},
                expected_size=metadata.size,
                displayed_filename=file.rfilename,
            )
        part.rename(path)
    return info.sha


def _from_modelscope(name: str, folder: Path, revision: str | None) -> None:
    try:
        from modelscope import snapshot_download
    except ImportError as error:
        raise DownloadError(
            "Downloading from ModelScope needs the package modelscope; install it with pip "
            "install modelscope."
        ) from error
    logging.getLogger("modelscope_hub").setLevel(logging.ERROR)
    try:
        snapshot_download(name, revision=revision, local_dir=str(folder), allow_patterns=PATTERNS)
    except OSError:
        raise
    except Exception as error:
        raise _failed(name, "modelscope", error) from error


def _failed(name: str, hub: Hub, error: Exception) -> DownloadError:
    where = {"huggingface": "Hugging Face", "modelscope": "ModelScope"}[hub]
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return DownloadError(
        f"{name} cannot be downloaded from {where} ({said[:300].rstrip('.')}); check name and "
        "network and run this again, it goes on where it ended."
    )
