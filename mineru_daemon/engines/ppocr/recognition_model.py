"""Which model reads lines: one of those that ship, or a folder of the user's.

A folder as PaddleOCR's models come when exported to ONNX (`paddle2onnx`): one `.onnx` file,
`inference.onnx` if there are several, and the characters that its classes stand for: in the
model's metadata (as RapidOCR's have them), in a `.txt` of one character a line, or in
`inference.yml`. Reading itself is left to `recognition`.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mineru_daemon import cpu, weights
from mineru_daemon.engines.onnx import Session
from mineru_daemon.engines.ppocr import recognition
from mineru_daemon.errors import EngineError

MODEL = "inference.onnx"
CONFIGURATION = "inference.yml"
"""PaddleOCR's names."""


Size = Literal["tiny", "small"]
SIZES: tuple[Size, ...] = ("tiny", "small")
"""Of the models that ship, the quicker one first."""


@dataclass(frozen=True)
class RecognitionModel:
    """A loaded model, and the characters of its classes."""

    session: Session
    characters: list[str]
    """By class number: 0 is CTC's blank."""
    spaces_by_ink: bool = False
    """Whether it misses spaces that the gaps in the ink can tell."""


def shipped(
    plan: cpu.ThreadPlan, size: Size = "small", *, graphs_in: Path | None = None
) -> RecognitionModel:
    """PP-OCRv6 in one of its sizes, its optimised graph kept in the folder `graphs_in`.
    Raises `EngineError`."""
    name = weights.QUICK_RECOGNITION if size == "tiny" else weights.RECOGNITION
    session = Session(weights.locate(name), plan, kept_in=graphs_in)
    if size == "tiny":
        listed = weights.locate(weights.QUICK_CHARACTERS).read_text("utf-8")
    else:
        listed = session.metadata.get("character", "")
    return RecognitionModel(session, recognition.characters(listed), spaces_by_ink=True)


def of_folder(folder: Path, plan: cpu.ThreadPlan) -> RecognitionModel:
    """The model in a folder; it is run once. Raises `EngineError`, one sentence, if it does
    not fit."""
    session = Session(_model_file(folder), plan)
    listed = _characters(folder, session.metadata)
    classes = _classes(session, folder)
    # Exported models tell a space apart or do not, as `use_space_char` was set.
    for characters in (["", *listed, " "], ["", *listed]):
        if len(characters) == classes:
            return RecognitionModel(session, characters)
    raise EngineError(
        f"The recognition model in {folder} tells {classes} classes apart, and its dictionary has "
        f"{len(listed)} characters; put the dictionary there that belongs to the model."
    )


def _model_file(folder: Path) -> Path:
    found = sorted(folder.glob("*.onnx"))
    named = [path for path in found if path.name == MODEL]
    if len(found) != 1 and not named:
        raise EngineError(
            f"The recognition model's folder {folder} has {len(found) or 'no'} .onnx files; put "
            f"the model there as {MODEL}."
        )
    return (named or found)[0]


def _classes(session: Session, folder: Path) -> int:
    line = np.full((recognition.CROP_HEIGHT, 2 * recognition.CROP_HEIGHT, 3), 255, np.uint8)
    try:
        (output,) = session.run(recognition.feeds_of(session, line, every_class=True))
    except (EngineError, ValueError) as error:
        raise EngineError(
            f"The model in {folder} does not read lines of {recognition.CROP_HEIGHT} pixels as "
            "PP-OCR's recognition models since version 3 do; take one of those."
        ) from error
    if output.ndim != 3:
        raise EngineError(f"The model in {folder} is none of PP-OCR's recognition models.")
    return int(output.shape[2])


def _characters(folder: Path, metadata: dict[str, str]) -> list[str]:
    """As they are listed, without blank and space."""
    texts = sorted(folder.glob("*.txt"))
    try:
        if len(texts) == 1:
            return _lines(texts[0].read_text("utf-8"))
        if (folder / CONFIGURATION).is_file():
            return _listed((folder / CONFIGURATION).read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise EngineError(f"The dictionary in {folder} is no text in UTF-8.") from error
    if metadata.get("character"):
        return _lines(metadata["character"])
    raise EngineError(
        f"The recognition model in {folder} has no dictionary: put its characters there as a "
        f"single .txt, one in a line, or its {CONFIGURATION}."
    )


def _lines(text: str) -> list[str]:
    return text.removeprefix("\ufeff").rstrip("\r\n").replace("\r\n", "\n").split("\n")


def _listed(text: str) -> list[str]:
    """The list `character_dict` of PaddleOCR's YAML, an entry a line; quotes as in YAML."""
    found: list[str] = []
    inside = False
    for line in text.replace("\r\n", "\n").split("\n"):
        entry = line.strip(" ")
        if inside and entry.startswith("- "):
            found.append(_unquoted(entry[2:]))
        elif entry.startswith("character_dict:"):
            inside = True
        elif inside and entry:
            break
    return found


def _unquoted(entry: str) -> str:
    if len(entry) >= 3 and entry[0] == entry[-1] == "'":
        return entry[1:-1].replace("''", "'")
    if len(entry) >= 3 and entry[0] == entry[-1] == '"':
        # Of YAML's escapes those of JSON are enough: they name quotes and characters.
        with contextlib.suppress(ValueError):
            return str(json.loads(entry))
    return entry
