"""The model folder: what lies in it, and whether it is whole.

    manifest.json           everything below, with sizes and digests; written last
    vision.onnx             the vision encoder
    prefill.onnx            the decoder for prompts
    decode.onnx             the decoder for single tokens; may be missing
    decode_fused.onnx       the same with fused attention; int4 has it
    decode_blocks.onnx      the same with other kernels; int8 has it
    vision.data, …          the weights that the graphs name
    embedding.bin           the token embedding, row after row
    config.json, tokenizer.json, preprocessor_config.json, …   as in the checkpoint

What the graphs compute is the exporter's business, running them the engine's; how a folder is
made is told in `drafts`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, get_args

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

from mineru_daemon import __version__
from mineru_daemon.errors import ModelError
from mineru_daemon.storage import digest

FORMAT: Final = "mineru-daemon/model"
VERSION: Final = 1
MANIFEST = "manifest.json"
EMBEDDING = "embedding.bin"

SIDE_FILES = ("config.json", "tokenizer.json", "preprocessor_config.json")
"""Files of the checkpoint that run time needs."""

OPTIONAL_SIDE_FILES = (
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.json",
    "chat_template.jinja",
)
"""Those that it uses where the checkpoint has them."""

REQUIRED = (EMBEDDING, *SIDE_FILES)
"""Beside the graphs."""

ITEM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
"""Of one number of the embedding, by the dtype that the manifest names."""

Progress = Callable[[int], object]
"""Is told how many bytes were done since it was last called."""

Precision = Literal["fp32", "int8", "int4", "fp16"]
Stage = Literal["vision", "prefill", "decode", "decode_fused", "decode_blocks"]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$")]
"""Of a file right in the folder: nothing in a manifest leads out of it."""
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    """Unknown keys are let pass: a later exporter may tell more without a new version."""

    model_config = ConfigDict(frozen=True)


class Source(_Part):
    """The checkpoint that was exported."""

    name: str
    revision: str | None = None
    """Commit of the hub, where it can be told."""
    weights_sha256: dict[str, Digest]
    """By the weight files' names."""


class Embedding(_Part):
    """How `embedding.bin` is to be read: raw numbers, row-major."""

    dtype: Literal["bfloat16", "float16", "float32"]
    shape: tuple[PositiveInt, PositiveInt]
    """Vocabulary, hidden size."""

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.shape[0] * self.shape[1] * ITEM_BYTES[self.dtype]


class Graphs(_Part):
    """File names. Without `decode`, the prompts' graph decodes single tokens too."""

    vision: Name
    prefill: Name
    decode: Name | None = None
    decode_fused: Name | None = None
    """The same with fused attention, faster on some CPUs; that may be `prefill`."""
    decode_blocks: Name | None = None
    """The same with other kernels; the faster of both is used."""

    @classmethod
    def within(cls, path: Path) -> Graphs:
        """The graphs that were exported to `path`. Where fused decoding has none of its own, the
        prompts' graph has its weights."""
        names = {stage: f"{stage}.onnx" for stage in get_args(Stage)}
        found = {stage: name for stage, name in names.items() if (path / name).exists()}
        return cls(**{"decode_fused": names["prefill"], **found})


class File(_Part):
    """One file of the folder."""

    bytes: NonNegativeInt
    sha256: Digest


class Manifest(_Part):
    """The content of `manifest.json`."""

    format: Literal["mineru-daemon/model"] = FORMAT
    version: Literal[1] = VERSION
    exporter: str = __version__
    """Version of mineru-daemon that made the folder."""
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    architecture: str
    precision: Precision
    source: Source
    embedding: Embedding
    graphs: Graphs
    verification: dict[str, Any] = {}
    """What the exporter measured at its end."""
    files: dict[Name, File]

    @model_validator(mode="after")
    def _check(self) -> Manifest:
        graphs = [name for _stage, name in self.graphs if name is not None]
        for name in (*graphs, *REQUIRED):
            if name not in self.files:
                raise ValueError(f"{name} is not listed")
        if self.files[EMBEDDING].bytes != self.embedding.bytes:
            raise ValueError(f"{EMBEDDING} is listed with another size than its shape has")
        return self

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(file.bytes for file in self.files.values())


@dataclass(frozen=True)
class ModelFolder:
    """A folder whose files are all there, in full length. Their content is not looked at."""

    path: Path
    manifest: Manifest

    def graph(self, stage: Stage) -> Path:
        """The graph for a stage; the prompts' where there is none of its own for decoding."""
        graphs = self.manifest.graphs
        return self.path / (getattr(graphs, stage) or graphs.prefill)

    def file(self, name: str) -> Path:
        """A file by its name. Raises ModelError if the model does not have it."""
        if name not in self.manifest.files:
            raise ModelError(
                f"The model folder {self.path} has no {name}; export the model again from a "
                "complete checkpoint."
            )
        return self.path / name

    @property
    def embedding(self) -> Path:
        """The token embedding; shape and dtype are in the manifest."""
        return self.path / EMBEDDING


def load(path: Path) -> ModelFolder:
    """Look at the manifest, and at the presence and size of every file; cheap.

    Raises ModelError that names the file at fault and says what to do.
    """
    manifest = _read_manifest(path)
    for name, file in manifest.files.items():
        _check_size(path / name, file)
    return ModelFolder(path, manifest)


def verify(path: Path, progress: Progress | None = None) -> ModelFolder:
    """`load`, and compare the SHA-256 of every file. Raises ModelError.

    The bytes that are told to `progress` add up to the manifest's.
    """
    folder = load(path)
    for name, file in folder.manifest.files.items():
        try:
            found = digest(path / name, progress)
        except OSError as error:
            raise _unreadable(path / name, error) from error
        if found != file.sha256:
            raise ModelError(
                f"The content of {path / name} is not what was exported (its SHA-256 differs); "
                "export the model again."
            )
    return folder


def _read_manifest(path: Path) -> Manifest:
    place = path / MANIFEST
    try:
        text = place.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        _no_model_folder(path)
    except OSError as error:
        raise _unreadable(place, error) from error
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ModelError(f"{place} is damaged ({error}); export the model again.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(
            f"{path} is no model folder of mineru-daemon: {place} belongs to another program; "
            "name another folder."
        )
    version = content.get("version")
    if isinstance(version, int) and version > VERSION:
        raise ModelError(
            f"{place} was written by a newer mineru-daemon ({content.get('exporter')}, version "
            f"{version} of the format); upgrade this one ({__version__}), or export again."
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        reason = str(detail["msg"]).removeprefix("Value error, ")
        said = f"{where}: {reason}" if where else reason
        raise ModelError(f"{place} is damaged ({said}); export the model again.") from error


def _no_model_folder(path: Path) -> NoReturn:
    make = "`mineru-daemon model pull`, or `mineru-daemon model export CHECKPOINT OUT`"
    if not path.exists():
        raise ModelError(f"The model folder {path} does not exist; make one with {make}.")
    if not path.is_dir():
        raise ModelError(f"{path} is a file, not a model folder; make one with {make}.")
    if (path / "config.json").exists():
        raise ModelError(
            f"{path} is a Hugging Face checkpoint, not a model folder; export it first: "
            f"mineru-daemon model export '{path}' OUT"
        )
    raise ModelError(f"{path} is no model folder, it has no {MANIFEST}; make one with {make}.")


def _check_size(path: Path, file: File) -> None:
    try:
        entry = path.stat()
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; export the model again.") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if not os.access(path, os.R_OK, effective_ids=True):
        raise ModelError(
            f"{path} may not be read by user id {os.geteuid()}; allow it: "
            f"chmod -R a+rX '{path.parent}'"
        )
    if entry.st_size != file.bytes:
        how = "cut off" if entry.st_size < file.bytes else "too long"
        raise ModelError(
            f"{path} is {how}: it has {entry.st_size} bytes instead of {file.bytes}; export the "
            "model again."
        )


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(
        f"{path} cannot be read: {error.strerror}; check the disk and the modes of its folders."
    )
