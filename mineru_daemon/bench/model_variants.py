"""Who is measured: an engine with its files and interpreter.

How it is served in a process of its own is told in `peer_process`, what is asked of it in
`model_stages`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mineru_daemon.errors import ConfigError

Kind = Literal["ours", "llama.cpp", "transformers"]

MODULES: dict[Kind, str] = {
    "ours": "onnx_peer",
    "llama.cpp": "llama_cpp_peer",
    "transformers": "transformers_peer",
}

PAGE_ROWS: dict[Kind, int] = {"ours": 16, "llama.cpp": 4, "transformers": 1}
"""Crops of a page that are read together: what each engine does unless told otherwise
(`n_parallel` of mineru-llama-cpp, `batch_size` of the official client on transformers)."""


@dataclass(frozen=True)
class Variant:
    """An engine with certain files."""

    name: str
    kind: Kind
    python: str
    """The interpreter of its virtual environment."""
    settings: dict[str, str]
    """For its module's `load`: names and paths."""

    @property
    def module(self) -> str:
        """The peer's module beside `peers.serve`."""
        return MODULES[self.kind]

    @property
    def files(self) -> list[Path]:
        """What it reads when it starts."""
        paths = [Path(path) for path in self.settings.values()]
        return [
            file
            for path in paths
            for file in (sorted(path.iterdir()) if path.is_dir() else [path])
            if file.is_file()
        ]


def ours(named: Sequence[str]) -> list[Variant]:
    """Of `NAME=FOLDER` each; the names tell model folders apart."""
    variants = []
    for text in named:
        name, path = _pair(text, "--model", "NAME=FOLDER")
        _present(Path(path) / "manifest.json")
        variants.append(Variant(f"ours {name}", "ours", sys.executable, {"model": path}))
    return variants


def llama_cpp(folder: Path, pairs: Sequence[str], python: str) -> list[Variant]:
    """Of `LLM+MMPROJ` each, as `Q4_0+F16`: files of `folder` as `peers/make_gguf.py` names them."""
    variants = []
    for pair in pairs:
        llm, _, mmproj = pair.partition("+")
        files = {"llm": folder / f"llm-{llm}.gguf", "mmproj": folder / f"mmproj-{mmproj}.gguf"}
        for file in files.values():
            _present(file)
        settings = {key: str(file) for key, file in files.items()}
        variants.append(Variant(f"llama.cpp {pair}", "llama.cpp", python, settings))
    return variants


def transformers(checkpoint: Path, python: str) -> Variant:
    """In float32."""
    _present(checkpoint / "config.json")
    return Variant("transformers", "transformers", python, {"checkpoint": str(checkpoint)})


def interpreters(named: Sequence[str]) -> dict[str, str]:
    """Of `KIND=PATH` each."""
    found: dict[str, str] = {}
    for text in named:
        kind, path = _pair(text, "--peer-python", "KIND=PATH")
        if kind not in MODULES:
            raise ConfigError(f"--peer-python {text}: one of {', '.join(MODULES)} comes first.")
        _present(Path(path))
        found[kind] = path
    return found


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise ConfigError(f"{option} {text} is not of the form {form}.")
    return name, path


def _present(path: Path) -> None:
    if not path.exists():
        raise ConfigError(f"{path} does not exist; name what is to be measured, or leave it out.")


def forget_cached(files: Sequence[Path]) -> None:
    """Have the kernel drop what it keeps of these files, as far as nobody maps them."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
