"""A checkpoint: a Hugging Face folder, checked before anything is made of it.

Knows which files and tensors a Qwen2-VL checkpoint must have and by which names they go;
everything that is wrong is one sentence that names the file. How a weight file is laid
out is `weight_file`'s business, what becomes of the tensors the exporter's.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mineru_daemon.engines.mineru import folder
from mineru_daemon.engines.mineru.architecture import Architecture
from mineru_daemon.engines.mineru.export.weight_file import (
    LFS_POINTER,
    Array,
    Dtype,
    Float,
    WeightFile,
    lfs_pointer,
)
from mineru_daemon.errors import EngineError, ModelError
from mineru_daemon.storage import digest

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_RENAMED = (("model.language_model.", "model."), ("model.visual.", "visual."))
"""Names of transformers 5 -> names of the published checkpoints."""

_BUFFERS = ("rotary_emb.inv_freq", "rotary_pos_emb.inv_freq")
"""Computed, not learnt; old versions of transformers wrote them all the same."""

_SHARD = re.compile(r"[\w-][\w.-]*\.safetensors")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint: complete, with every tensor in its shape."""

    path: Path
    architecture: Architecture
    side_files: tuple[Path, ...]
    """To be copied into the model folder as they are."""
    weight_files: tuple[WeightFile, ...]
    _places: Mapping[str, tuple[WeightFile, str]] = field(repr=False)
    """Canonical name -> file, and the name in it."""

    def tensor(self, name: str) -> Float:
        """A float32 copy of a tensor, by its canonical name: `visual.*`, `model.layers.*`,
        `model.embed_tokens.weight`, `model.norm.weight`, and `lm_head.weight` if untied."""
        file, stored = self._places[name]
        return file.tensor(stored)

    def raw(self, name: str) -> tuple[Array, Dtype]:
        """A memory-mapped view of a tensor, and its dtype: bfloat16 (as uint16), float16 or
        float32. Valid while the checkpoint is open."""
        file, stored = self._places[name]
        return file.raw(stored)

    @property
    def weights_bytes(self) -> int:
        """Size of all weight files."""
        return sum(file.bytes for file in self.weight_files)

    @property
    def name(self) -> str:
        """How the checkpoint is called: on the hub if it lies in the hub's cache, else here."""
        owner, _, name = (
            self.path.resolve().parent.parent.name.removeprefix("models--").partition("--")
        )
        if self.path.resolve().parent.name == "snapshots" and name:
            return f"{owner}/{name}"
        return self.path.resolve().name

    @property
    def revision(self) -> str | None:
        """The commit on the hub, if it can be told from what the download left."""
        resolved = self.path.resolve()
        if resolved.parent.name == "snapshots" and _COMMIT.fullmatch(resolved.name):
            return resolved.name
        paths = [self.path / CONFIG, *(file.path for file in self.weight_files)]
        commits = {(_downloaded(path) or (None, None))[0] for path in paths}
        return commits.pop() if len(commits) == 1 else None

    def weights_sha256(self, progress: folder.Progress | None = None) -> dict[str, str]:
        """SHA-256 of each weight file, in hex; the bytes told add up to `weights_bytes`.

        Raises ModelError where a file differs from what the hub said it sent.
        """
        found = {}
        for file in self.weight_files:
            path = file.path
            found[path.name] = digest(path, progress)
            expected = (_downloaded(path) or (None, None))[1]
            if expected is not None and found[path.name] != expected:
                raise ModelError(
                    f"The content of {path} is not what the hub sent (its SHA-256 differs); "
                    "delete it and download it again."
                )
        return found


@contextmanager
def opened(path: Path) -> Iterator[Checkpoint]:
    """Open and check the checkpoint in the folder `path`.

    Raises ModelError with one sentence that names the file at fault.
    """
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise ModelError(f"The checkpoint {path} {what}; name the folder that config.json is in.")
    config = path / CONFIG
    if (path / folder.MANIFEST).exists() and not _weight_paths_present(path):
        raise ModelError(
            f"{path} is a model folder that was exported already; use it as it is, or name the "
            "checkpoint that it was made from."
        )
    if not config.exists():
        raise ModelError(
            f"{path} is no Hugging Face checkpoint, it has no {CONFIG}; name the folder that "
            "was downloaded."
        )
    content = _json(config)
    try:
        architecture = Architecture.read(config)
    except EngineError as error:
        raise ModelError(str(error)) from error
    if "quantization_config" in content:
        raise ModelError(
            f"{config} tells of quantised weights; take the checkpoint as published, it is "
            "quantised here."
        )
    with ExitStack() as stack:
        files = tuple(stack.enter_context(WeightFile(one)) for one in _weight_paths(path))
        places = {canonical(name): (file, name) for file in files for name in file.entries}
        _check_tensors(path, architecture, places)
        side_files = _side_files(path)
        _check_tokens(path, architecture)
        yield Checkpoint(path, architecture, side_files, files, places)


def canonical(name: str) -> str:
    """A tensor's name in the published checkpoints, whatever wrote the file."""
    for long, short in _RENAMED:
        if name.startswith(long):
            return short + name.removeprefix(long)
    return name


def shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Every tensor that a checkpoint must have, by its canonical name."""
    vision, text = architecture.vision, architecture.text
    width, merged = vision.embed_dim, vision.embed_dim * vision.spatial_merge_size**2
    patch = (vision.temporal_patch_size, vision.patch_size, vision.patch_size)
    found: dict[str, tuple[int, ...]] = {
        "visual.patch_embed.proj.weight": (width, vision.channels, *patch)
    }

    def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> None:
        found[f"{name}.weight"] = (outputs, inputs)
        if bias:
            found[f"{name}.bias"] = (outputs,)

    def layer_norm(name: str) -> None:
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)

    for number in range(vision.depth):
        block = f"visual.blocks.{number}"
        layer_norm(f"{block}.norm1")
        linear(f"{block}.attn.qkv", 3 * width, width)
        linear(f"{block}.attn.proj", width, width)
        layer_norm(f"{block}.norm2")
        linear(f"{block}.mlp.fc1", vision.mlp_dim, width)
        linear(f"{block}.mlp.fc2", width, vision.mlp_dim)
    layer_norm("visual.merger.ln_q")
    linear("visual.merger.mlp.0", merged, merged)
    linear("visual.merger.mlp.2", text.hidden_size, merged)

    hidden, queries = text.hidden_size, text.heads * text.head_dim
    keys = text.kv_heads * text.head_dim
    found["model.embed_tokens.weight"] = (text.vocabulary, hidden)
    for number in range(text.layers):
        layer = f"model.layers.{number}"
        found[f"{layer}.input_layernorm.weight"] = (hidden,)
        linear(f"{layer}.self_attn.q_proj", queries, hidden)
        linear(f"{layer}.self_attn.k_proj", keys, hidden)
        linear(f"{layer}.self_attn.v_proj", keys, hidden)
        linear(f"{layer}.self_attn.o_proj", hidden, queries, bias=False)
        found[f"{layer}.post_attention_layernorm.weight"] = (hidden,)
        linear(f"{layer}.mlp.gate_proj", text.intermediate_size, hidden, bias=False)
        linear(f"{layer}.mlp.up_proj", text.intermediate_size, hidden, bias=False)
        linear(f"{layer}.mlp.down_proj", hidden, text.intermediate_size, bias=False)
    found["model.norm.weight"] = (hidden,)
    if not text.tied:
        found["lm_head.weight"] = (text.vocabulary, hidden)
    return found


def _check_tensors(
    path: Path, architecture: Architecture, places: Mapping[str, tuple[WeightFile, str]]
) -> None:
    wanted = shapes(architecture)
    if missing := [name for name in wanted if name not in places]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        where = path / (SINGLE if (path / SINGLE).exists() else INDEX)
        raise ModelError(
            f"{where} has no tensor {missing[0]}{more}, which {CONFIG} asks for; download the "
            "checkpoint again."
        )
    for name, (file, stored) in places.items():
        if name in wanted and file.entries[stored].shape != wanted[name]:
            raise ModelError(
                f"The tensor {stored} in {file.path} has the shape "
                f"{list(file.entries[stored].shape)}, {CONFIG} asks for {list(wanted[name])}; "
                "the two do not belong together."
            )
        # A head that is stored although it is tied is the embedding once more.
        if name not in wanted and name != "lm_head.weight" and not name.endswith(_BUFFERS):
            raise ModelError(
                f"{file.path} has the tensor {stored}, which {CONFIG} knows nothing of; the two "
                "do not belong together."
            )


def _check_tokens(path: Path, architecture: Architecture) -> None:
    """The tokens that tokenizer and settings speak of are in the vocabulary."""
    tokenizer = path / "tokenizer.json"
    named = [
        (path / CONFIG, name, getattr(architecture, name))
        for name in ("image_token_id", "vision_start_token_id", "vision_end_token_id")
    ]
    added = _json(tokenizer).get("added_tokens")
    for token in added if isinstance(added, list) else []:
        if not isinstance(token, dict) or not isinstance(token.get("id"), int):
            raise ModelError(f"{tokenizer} is damaged (added_tokens); download it again.")
        named.append((tokenizer, str(token.get("content")), token["id"]))
    for place, name, number in named:
        if not 0 <= number < architecture.text.vocabulary:
            raise ModelError(
                f"{place} gives {name} the number {number}, but there are "
                f"{architecture.text.vocabulary} tokens; it belongs to another checkpoint."
            )


def _weight_paths_present(path: Path) -> bool:
    return (path / SINGLE).exists() or (path / INDEX).exists()


def _weight_paths(path: Path) -> list[Path]:
    if (path / SINGLE).exists():
        return [path / SINGLE]
    if (path / INDEX).exists():
        return _shards(path / INDEX)
    names = sorted(one.name for one in path.iterdir())
    # Of `model pull`, and of the hub's own client.
    unfinished = [*path.glob("*.part"), *path.glob(".cache/huggingface/download/*.incomplete")]
    if unfinished:
        raise ModelError(
            f"The download of {path} was not finished, {SINGLE} is missing; run it again."
        )
    if shards := [name for name in names if name.endswith(".safetensors")]:
        raise ModelError(
            f"{path} has {shards[0]}, but neither {SINGLE} nor {INDEX}; download the whole "
            "checkpoint."
        )
    if others := [name for name in names if name.endswith((".bin", ".pt", ".pth", ".gguf"))]:
        raise ModelError(
            f"{path} has its weights in {others[0]} only; {SINGLE} is needed: download the "
            "checkpoint as published."
        )
    raise ModelError(f"{path} has no {SINGLE}; download the checkpoint again.")


def _shards(index: Path) -> list[Path]:
    content = _json(index)
    names = content.get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ModelError(f"{index} is damaged (no weight_map); download it again.")
    paths = []
    for name in sorted({str(one) for one in names.values()}):
        if not _SHARD.fullmatch(name):
            raise ModelError(f"{index} is damaged (it names {name!r}); download it again.")
        if not (index.parent / name).exists():
            raise ModelError(
                f"{index.parent / name} is missing, which {INDEX} names; download the whole "
                "checkpoint."
            )
        paths.append(index.parent / name)
    return paths


def _side_files(path: Path) -> tuple[Path, ...]:
    found = []
    for name in folder.SIDE_FILES:
        if not (path / name).exists():
            raise ModelError(f"{path / name} is missing; download the whole checkpoint.")
        found.append(path / name)
    found += [path / name for name in folder.OPTIONAL_SIDE_FILES if (path / name).exists()]
    for one in found:
        if one.suffix == ".json":
            _json(one)
    return tuple(found)


def _json(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}; check the disk and the file's mode."
        ) from error
    if text.startswith(LFS_POINTER):
        raise lfs_pointer(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({error}); download it again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is damaged (no JSON object); download it again.")
    return content


def _downloaded(path: Path) -> tuple[str | None, str | None] | None:
    """Commit and SHA-256 that `huggingface_hub` noted when it put the file here.

    None where it did not, or where the file was changed since.
    """
    note = path.parent / ".cache/huggingface/download" / f"{path.name}.metadata"
    with contextlib.suppress(OSError, ValueError):
        commit, etag, time = note.read_text("utf-8").split("\n")[:3]
        # The hub's client allows the same second for the resolution of file times.
        if path.stat().st_mtime - 1 <= float(time):
            return (
                commit if _COMMIT.fullmatch(commit) else None,
                etag if _SHA256.fullmatch(etag) else None,
            )
    return None
