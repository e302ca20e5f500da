"""`mineru-daemon model …`: a checkpoint is fetched and exported, a model folder looked at.

Wires `download`, the exporter and `folder` together, shows progress on a terminal, and
sees to it that a command that is stopped leaves nothing half-made.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, get_args

from mineru_daemon import configuration, cpu, download
from mineru_daemon.engines.mineru import drafts, folder
from mineru_daemon.errors import ModelError

PRECISIONS = get_args(folder.Precision)
DEFAULT_PRECISION = "int8"
HUBS = get_args(download.Hub)

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stopped(BaseException):
    """A signal asked to stop. No Exception, so that nobody takes it for a failure."""

    def __init__(self, number: int) -> None:
        self.number = number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands of `mineru-daemon model`."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        one.set_defaults(command=run, refuse=one.error)
        one.add_argument(
            "--config", type=Path, metavar="FILE", help="TOML file with settings", dest="config"
        )
        return one

    def making(one: argparse.ArgumentParser) -> None:
        one.add_argument("out", nargs="?", type=Path, metavar="OUT", help=_DEFAULT_FOLDER)
        one.add_argument("--output-dir", type=Path, metavar="DIR", help="the same as OUT")
        one.add_argument(
            "--precision",
            choices=PRECISIONS,
            default=DEFAULT_PRECISION,
            help=f"of the weights; default {DEFAULT_PRECISION}",
        )
        one.add_argument("--force", action="store_true", help="replace the model that lies at OUT")
        group = one.add_argument_group("download")
        group.add_argument("--source", choices=HUBS, default=HUBS[0], help=f"default {HUBS[0]}")
        group.add_argument("--revision", metavar="R", help="branch, tag or commit on the hub")
        group.add_argument(
            "--keep-checkpoint",
            action="store_true",
            help="keep what was downloaded, in the folder checkpoints beside OUT",
        )

    export = command("export", _export, "Make a model folder of a checkpoint.")
    export.add_argument(
        "checkpoint",
        nargs="?",
        metavar="CHECKPOINT",
        help="folder of a Hugging Face checkpoint, or its name on the hub: it is downloaded then",
    )
    making(export)
    export.add_argument("--model-name", metavar="CHECKPOINT", help="the same as CHECKPOINT")

    pull = command("pull", _pull, "Download a checkpoint and make a model folder of it.")
    pull.add_argument(
        "name", nargs="?", metavar="NAME", help="on the hub; default MinerU2.5-2509-1.2B"
    )
    making(pull)

    verify = command("verify", _verify, "Compare every file with what was exported.")
    verify.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help=_DEFAULT_FOLDER)

    info = command("info", _info, "Tell what a model folder holds.")
    info.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help=_DEFAULT_FOLDER)
    info.add_argument("--json", action="store_true", help="the manifest, for programs")


_DEFAULT_FOLDER = "default: the setting `model`"


def _folder(options: argparse.Namespace, chosen: Path | None) -> Path:
    """The folder that was named, or the setting's."""
    if chosen is not None:
        return chosen.expanduser()
    return configuration.load({}, options.config).settings.model


def _export(options: argparse.Namespace) -> int:
    _need_exporter()
    # After --model-name, the first word is the place.
    words = [options.model_name, options.checkpoint, options.out, options.output_dir]
    given = [one for one in words if one is not None]
    if not 1 <= len(given) <= 2 or given == [options.output_dir]:
        options.refuse("name one checkpoint (a folder, or a name on the hub) and one place")
    text, out = str(given[0]), _place(options, Path(given[1]) if len(given) > 1 else None)
    path = Path(text).expanduser()
    if path.exists() or not download.is_name(text):
        return _make(options, path, None, out)
    return _fetch_and_make(options, text, out)


def _pull(options: argparse.Namespace) -> int:
    _need_exporter()
    name = options.name or download.DEFAULT_NAMES[options.source]
    if not download.is_name(name):
        options.refuse(f"{name} is no name on a hub, which is OWNER/NAME")
    if options.out is not None and options.output_dir is not None:
        options.refuse("name the place of the model once")
    return _fetch_and_make(options, name, _place(options, options.out or options.output_dir))


def _place(options: argparse.Namespace, chosen: Path | None) -> Path:
    """Where the model is to lie; refused before anything is fetched or computed for it."""
    out = Path(os.path.realpath(_folder(options, chosen)))
    drafts.occupied(out, options.force)
    return out


def _need_exporter() -> None:
    """The packages that it is made of are extra, so that the service does without."""
    for package in ("onnx", "tokenizers"):
        if importlib.util.find_spec(package) is None:
            raise ModelError(
                f"Exporting needs the package {package}; install it with pip install "
                "'mineru-daemon[export]'."
            )


def _fetch_and_make(options: argparse.Namespace, name: str, out: Path) -> int:
    checkpoint = download.folder_for(name, options.revision, out)
    with _leaving(f"The download of {name} was stopped; run this again, it goes on."):
        download.fetch(name, checkpoint, options.source, options.revision)
    code = _make(options, checkpoint, name, out)
    if code == 0 and not options.keep_checkpoint:
        shutil.rmtree(checkpoint, ignore_errors=True)
        with contextlib.suppress(OSError):
            checkpoint.parent.rmdir()  # Unless there are others in it.
    return code


def _make(options: argparse.Namespace, path: Path, name: str | None, out: Path) -> int:
    # Products are shared among threads by rows; those of a library would wait actively meanwhile.
    cpu.limit_libraries(cpu.plan_threads(1))
    try:
        with _stoppable():
            manifest = _exported(path, name, out, options)
    except _Stopped as stopped:
        print("mineru-daemon: The export was stopped.", file=sys.stderr)
        return 128 + stopped.number
    print(_summary(out, manifest))
    for line in _lines(manifest.verification):
        print(f"  {line}")
    return 0


def _exported(
    path: Path, name: str | None, out: Path, options: argparse.Namespace
) -> folder.Manifest:
    from mineru_daemon.engines.mineru.architecture import NAME
    from mineru_daemon.engines.mineru.export import checkpoint, export, steps

    with (
        checkpoint.opened(path) as source,
        drafts.begun(out, replace=options.force) as draft,
    ):
        with _bar(source.weights_bytes, "Checking") as progress:
            digests = source.weights_sha256(progress)
        with _bar(steps(source), "Exporting", "layer") as progress:
            verification = export(source, draft.path, options.precision, progress)
        array, dtype = source.raw("model.embed_tokens.weight")
        written = sum(one.stat().st_size for one in draft.path.iterdir())
        with _bar(written, "Publishing") as progress:
            published = draft.publish(
                progress,
                architecture=NAME,
                precision=options.precision,
                source=folder.Source(
                    name=name or source.name, revision=source.revision, weights_sha256=digests
                ),
                embedding=folder.Embedding(dtype=dtype, shape=array.shape),
                graphs=folder.Graphs.within(draft.path),
                verification=verification,
            )
    return published.manifest


def _verify(options: argparse.Namespace) -> int:
    path = _folder(options, options.folder)
    manifest = folder.load(path).manifest
    with _bar(manifest.bytes, "Verifying") as progress:
        folder.verify(path, progress)
    print(f"{path}: all {len(manifest.files)} files are as they were exported.")
    return 0


def _info(options: argparse.Namespace) -> int:
    path = _folder(options, options.folder)
    manifest = folder.load(path).manifest
    if options.json:
        print(manifest.model_dump_json(indent=2))
        return 0
    source = manifest.source
    print(_summary(path, manifest))
    print(f"  architecture  {manifest.architecture}")
    print(f"  revision      {source.revision or 'not known'}")
    print(f"  exported      {manifest.created:%Y-%m-%d %H:%M} UTC, version {manifest.exporter}")
    for line in _lines(manifest.verification):
        print(f"  verification  {line}")
    for name, file in manifest.files.items():
        print(f"  {_size(file.bytes):>12}  {name}")
    return 0


def _summary(path: Path, manifest: folder.Manifest) -> str:
    return f"{path}: {manifest.source.name}, {manifest.precision}, {_size(manifest.bytes)}"


def _lines(numbers: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in numbers.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{prefix}{key}.")
        else:
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            yield f"{prefix}{key} = {shown}"


_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def _size(count: int) -> str:
    unit, name = next(one for one in _UNITS if count >= one[0] or one is _UNITS[-1])
    return f"{count / unit:.2f} {name}"


@contextmanager
def _bar(total: int, what: str, unit: str = "B") -> Iterator[Callable[[int], object]]:
    """A bar of bytes or of other things, on a terminal only."""
    from tqdm import tqdm

    with tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=unit == "B",
        leave=False,
        disable=not sys.stderr.isatty(),
    ) as bar:
        yield bar.update


@contextmanager
def _stoppable() -> Iterator[None]:
    """Signals that ask to stop end the block by `_Stopped`, so that it can clear up."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise _Stopped(number)

    with _handling(stop):
        yield


@contextmanager
def _leaving(sentence: str) -> Iterator[None]:
    """Signals that ask to stop end the process at once: there is nothing to clear up.

    The hubs' clients would go on until the file that each of their threads works on has
    come.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.stderr.write(f"\nmineru-daemon: {sentence}\n")
        sys.stderr.flush()
        os._exit(128 + number)

    with _handling(leave):
        yield


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _STOPPING}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
