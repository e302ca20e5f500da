"""Who is measured: an engine with its files and interpreter, each in a process of its own.

What is asked of them is told in `model_stages`; how a process answers, in `peers.serve`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from mineru_daemon import cpu
from mineru_daemon.bench import peers
from mineru_daemon.errors import ConfigError, MineruError

Kind = Literal["ours", "llama.cpp", "transformers"]

SERVE = Path(peers.__file__).with_name("serve.py")

MODULES: dict[Kind, str] = {
    "ours": "onnx_peer",
    "llama.cpp": "llama_cpp_peer",
    "transformers": "transformers_peer",
}

PAGE_ROWS: dict[Kind, int] = {"ours": 8, "llama.cpp": 4, "transformers": 1}
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


# --- processes ---------------------------------------------------------------


class PeerError(MineruError):
    """A variant cannot be measured."""


class Peer:
    """A process that serves one variant on certain CPUs."""

    def __init__(self, variant: Variant, cpus: Sequence[int], folder: Path) -> None:
        """Start the process; its log is kept in `folder`."""
        self.variant = variant
        self._cpus = list(cpus)
        self._log = folder / f"{variant.name.replace(' ', '-')}.log"
        self._began = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [variant.python, str(SERVE)],
                env=environment(len(cpus)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def open(self) -> dict[str, Any]:
        """Have the engine loaded; `started` is the time from the process's start until then."""
        answer = self.ask(
            {
                "engine": MODULES[self.variant.kind],
                "cpus": self._cpus,
                "settings": self.variant.settings,
            }
        )
        return {**answer, "started": time.monotonic() - self._began}

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Raises PeerError with what the variant says about its failure."""
        try:
            return exchange(self._process.stdin, self._process.stdout, request)
        except PeerError as error:
            raise PeerError(f"{self.variant.name}: {error}; see {self._log}.") from error

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def exchange(
    requests: IO[str] | None, answers: IO[str] | None, request: dict[str, Any]
) -> dict[str, Any]:
    """One line out, one line in."""
    assert requests
    assert answers
    try:
        requests.write(json.dumps(request) + "\n")
        requests.flush()
        line = answers.readline()
        answer = json.loads(line) if line else {"error": "the process has ended"}
    except OSError as error:
        raise PeerError(f"the process has ended ({error.strerror})") from error
    except ValueError as error:
        raise PeerError(f"its answer is not JSON ({error})") from error
    if not isinstance(answer, dict):
        raise PeerError("its answer is no object")
    if "error" in answer:
        raise PeerError(str(answer["error"]))
    return answer


def environment(threads: int) -> dict[str, str]:
    """For a process of so many threads that asks nobody on the network."""
    own = dict(os.environ)
    for name in cpu.LIBRARY_VARIABLES:
        own[name] = str(threads)
    own |= {
        "HF_HUB_OFFLINE": "1",
        "MINERU_LLAMA_CPP_BACKEND": "cpu",
        "TOKENIZERS_PARALLELISM": "false",
        # Compiled modules of the peers' scripts would lie among the package's files.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return own


def forget_cached(files: Sequence[Path]) -> None:
    """Have the kernel drop what it keeps of these files, as far as nobody maps them."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
