"""Reads a set of documents with our engine and its peers: `bench accuracy`.

All readers run at the same time, each in a process of its own, and are given each file in turn,
beginning with another one each time; so what changes on the machine meanwhile changes all
figures alike. Each has read a small picture before it is measured. Texts and costs come from
the same reading. From nothing to figures:

    pip install 'mineru-daemon[bench]'
    mineru-daemon bench accuracy SET --bench-only --peers-in PEERS --install \\
        --peer rapidocr --peer rapidocr-tuned --peer tesseract-psm1 --peer ocrmypdf

Costs of a file include drawing its pages, as that is what a user pays. CPU seconds are those of
all threads of the process, and of the programs it started. RapidOCR out of the box uses as many
threads as it likes; all others are given `--threads`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mineru_daemon.bench import machine
from mineru_daemon.bench.accuracy import readers
from mineru_daemon.bench.accuracy.readers import Reader
from mineru_daemon.bench.peer_process import Peer, PeerError
from mineru_daemon.errors import ConfigError

NEEDED = ("apted", "rapidfuzz", "fuzzysearch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("set", type=Path, metavar="SET", help="a folder with manifest.json")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME[=PYTHON]",
        help=f"who reads too; may be given again: {', '.join(readers.PEERS)}",
    )
    parser.add_argument(
        "--peers-in", type=Path, metavar="FOLDER", help="where their environments are"
    )
    parser.add_argument(
        "--install", action="store_true", help="install by pip those that are not there yet"
    )
    parser.add_argument(
        "--without-ours", action="append", default=[], metavar="NAME",
        choices=[one.name for one in readers.OURS],
        help="leave out ours (pages drawn and recognised) or ours-text (text layers of PDFs)",
    )  # fmt: skip
    parser.add_argument("--kinds", default="", metavar="A,B", help="only these kinds of documents")
    parser.add_argument("--bench-only", action="store_true", help="only the set's small subset")
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="[KIND=]N",
        help="files of this kind, or of each kind, at most",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument("--each", action="store_true", help="a line for each file and reader")
    parser.add_argument(
        "--texts", type=Path, metavar="FOLDER", help="keep what was read: FOLDER/READER/ID.md"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def run(options: argparse.Namespace) -> int:
    """Read, score and print; 0 when every file was answered by every reader."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"The metrics need {', '.join(missing)}: pip install 'mineru-daemon[bench]'."
        )
    # Modules that import what may be missing.
    from mineru_daemon.bench.accuracy import dataset, report

    folder = options.set.absolute()
    kinds = [kind for kind in options.kinds.split(",") if kind]
    entries = dataset.chosen(folder, kinds, options.bench_only, _limits(options.limit))
    chosen = _readers(options)
    found = machine.told()
    print(f"{len(entries)} files of {folder.name}, {options.threads} threads", flush=True)
    rows: list[report.Row] = []
    stolen, began = machine.stolen_seconds(), time.monotonic()
    with Processes(chosen, options.threads) as processes:
        for number, entry in enumerate(entries):
            for peer in processes.turned(number):
                reader = peer.variant
                if reader.layers_only and entry.file.suffix.lower() != ".pdf":
                    continue
                answer = processes.ask(peer, entry.file, entry.lang)
                row = report.Row.of(entry, reader.name, answer)
                rows.append(row)
                if options.texts:
                    _keep(options.texts / reader.name / f"{entry.id}.md", answer.get("text", ""))
                if options.each:
                    print(row.line(), flush=True)
                elif sys.stderr.isatty():
                    print(row.line(), file=sys.stderr, flush=True)
    found["stolen_share"] = (machine.stolen_seconds() - stolen) / (
        (time.monotonic() - began) * (os.cpu_count() or 1)
    )
    print(report.accuracy(rows))
    print(report.costs(rows, processes.facts))
    print(f"of the machine's CPU time the hypervisor gave {found['stolen_share']:.1%} to others")
    for failure in processes.failures:
        print(f"failed: {failure}")
    if options.json:
        said = report.as_json(rows, found, processes.facts, processes.failures)
        options.json.write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 1 if processes.failures else 0


def _readers(options: argparse.Namespace) -> list[Reader]:
    have = len(os.sched_getaffinity(0))
    if not 1 <= options.threads <= have:
        raise ConfigError(f"--threads {options.threads}: a number from 1 to {have}.")
    if options.install:
        if not options.peers_in:
            raise ConfigError("--install needs --peers-in FOLDER.")
        readers.install(options.peer, options.peers_in.absolute())
    ours = [one for one in readers.OURS if one.name not in options.without_ours]
    return [*ours, *readers.named(options.peer, options.peers_in)]


def _limits(words: Sequence[str]) -> dict[str, int]:
    limits = {}
    for word in words:
        kind, _, number = word.rpartition("=")
        if not number.isdecimal():
            raise ConfigError(f"--limit {word} is not of the form KIND=N or N.")
        limits[kind] = int(number)
    return limits


def _keep(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8")


class Processes:
    """The readers; who could not be started, or ended, reads nothing and scores nothing."""

    def __init__(self, chosen: Sequence[Reader], threads: int) -> None:
        self._chosen = chosen
        self.facts: dict[str, dict[str, Any]] = {}
        self.failures: list[str] = []
        self._threads = threads
        self._peers: list[Peer[Reader]] = []
        self._ended: dict[str, str] = {}

    def __enter__(self) -> Processes:
        from mineru_daemon.bench import cases

        self._folder = Path(tempfile.mkdtemp(prefix="mineru-accuracy-"))
        picture = self._folder / "first.png"
        picture.write_bytes(cases.png("The first picture is not measured"))
        cpus = sorted(os.sched_getaffinity(0))
        for reader in self._chosen:
            settings = reader.settings | {"threads": str(self._threads)}
            peer = Peer(replace(reader, settings=settings), cpus, self._folder)
            try:
                opened = peer.open()
                self.facts[reader.name] = opened["facts"] | {"load_wall": opened["started"]}
                peer.ask({"stage": "read", "file": str(picture), "lang": "en"})
            except PeerError as error:
                self._end(peer, str(error))
            self._peers.append(peer)
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self._peers:
            if peer.variant.name not in self._ended:
                peer.close()

    def turned(self, number: int) -> list[Peer[Reader]]:
        """All, beginning with another one for each file."""
        first = number % max(1, len(self._peers))
        return [*self._peers[first:], *self._peers[:first]]

    def ask(self, peer: Peer[Reader], file: Path, lang: str | None) -> dict[str, Any]:
        """What a reader answers; with `error`, and no text, where it fails."""
        name = peer.variant.name
        if name in self._ended:
            return {"error": self._ended[name]}
        try:
            return peer.ask({"stage": "read", "file": str(file), "lang": lang})
        except PeerError as error:
            if peer.ended:
                self._end(peer, f"{file.name}: {error}")
            else:
                self.failures.append(f"{file.name}: {error}")
            return {"error": str(error)}

    def _end(self, peer: Peer[Reader], why: str) -> None:
        self.failures.append(why)
        self._ended[peer.variant.name] = why
        peer.close()
