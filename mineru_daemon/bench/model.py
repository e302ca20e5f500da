"""Our engine against its peers on the same weights: `bench model`.

All engines run at the same time, each in a process of its own, and are asked in turn: in
every round each stage is put to each of them, one after the other, beginning with another
one each time. So what changes on the machine meanwhile changes all figures alike, and the
medians can be compared. Who does not compute waits without spinning.

The weights are those of `bench checkpoint`: as shapes decide what is computed, random ones
cost as much as trained ones. Texts are as long as is asked, for nothing ends them.

From nothing to figures, with torch and transformers in the environment REF, the official
mineru-llama-cpp in LLAMA, and llama.cpp's sources (for its converter) in SOURCES:

    mineru-daemon bench checkpoint random
    mineru-daemon model export random random-int8 --precision int8
    REF/bin/python mineru_daemon/bench/peers/make_gguf.py SOURCES random gguf \\
        --quantiser LLAMA/bin/python
    mineru-daemon bench model --model int8=random-int8 --checkpoint random --gguf gguf \\
        --peer-python transformers=REF/bin/python --peer-python llama.cpp=LLAMA/bin/python \\
        --export int8 --json figures.json

Seconds are of the wall; CPU seconds are those of all threads of the process, and the peak is
the largest resident memory while a stage ran, weights that are mapped from files included. Each
answer is a line on standard error at once, and who ends the command early gets its tables so far.
What mineru-llama-cpp's interface does not tell is derived as `peers.llama_cpp_peer` says.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mineru_daemon.bench import machine, model_report, model_stages, model_variants, peer_process
from mineru_daemon.bench.model_report import Sample
from mineru_daemon.bench.model_stages import Pictures, Stage
from mineru_daemon.bench.model_variants import Kind, Variant
from mineru_daemon.bench.peer_process import Peer, PeerError
from mineru_daemon.errors import ConfigError

STARTS = {
    "start-cold": "start, files not in memory: process to loaded engine",
    "start-warm": "start, files in memory: process to loaded engine",
}

LLAMA_CPP = ("Q4_0+F16", "Q4_K_M+F16", "Q8_0+Q8_0")
"""Language model and vision part: all that are asked for, each at least once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="a model folder of ours, as int8=FOLDER; may be given again",
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FOLDER", help="for transformers, and for --export"
    )
    parser.add_argument(
        "--gguf", type=Path, metavar="FOLDER", help="for llama.cpp; see bench/peers/make_gguf.py"
    )
    parser.add_argument(
        "--llama-cpp",
        action="append",
        metavar="LLM+MMPROJ",
        help=f"which of its files; may be given again; default {', '.join(LLAMA_CPP)}",
    )
    parser.add_argument(
        "--peer-python",
        action="append",
        default=[],
        metavar="KIND=PATH",
        help="interpreter that has the peer: llama.cpp=PATH or transformers=PATH",
    )
    parser.add_argument(
        "--stages", metavar="A,B", help="only these, or all whose names begin like this"
    )
    parser.add_argument("--threads", default="1,2", metavar="N,N", help="default 1,2")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument(
        "--page-rounds", type=int, default=1, metavar="N", help="of whole pages; default 1"
    )
    parser.add_argument(
        "--page-rows",
        type=int,
        metavar="N",
        help="crops that are read together; default: 8 of ours, llama.cpp 4, transformers 1",
    )
    parser.add_argument(
        "--export",
        default="",
        metavar="P,P",
        help="export the checkpoint in these precisions too, and measure that",
    )
    parser.add_argument("--small", action="store_true", help="small sizes, to see that all works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 0 when every engine answered everything."""
    variants, counts = _variants(options), _threads(options)
    base = Path(tempfile.mkdtemp(prefix="mineru-model-"))
    sizes = model_stages.SMALL if options.small else model_stages.Sizes()
    pictures = Pictures(base)
    stages = [
        stage
        for stage in model_stages.stages(sizes, pictures, options.page_rows)
        if _wanted(options, stage.name)
    ]
    found = machine.told()
    stolen, began = machine.stolen_seconds(), time.monotonic()
    measured = Measured()
    # `timeout` and `kill` end it as Ctrl-C does: what was measured until then is told.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for count in counts:
            try:
                _measure(measured, variants, stages, count, base, options)
            finally:
                measured.tell_untold(count)
    except KeyboardInterrupt:
        measured.failures.append("interrupted; what is told was measured before")
    finally:
        signal.signal(signal.SIGTERM, before)
    found["stolen_share"] = (machine.stolen_seconds() - stolen) / (
        (time.monotonic() - began) * (os.cpu_count() or 1)
    )
    print(f"of the machine's CPU time the hypervisor gave {found['stolen_share']:.1%} to others")
    for failure in measured.failures:
        print(f"failed: {failure}")
    if options.json:
        said = model_report.as_json(measured.samples, found, measured.facts, measured.failures)
        options.json.write_text(json.dumps(said, indent=1) + "\n")
    if not measured.failures:
        shutil.rmtree(base)
    return 1 if measured.failures else 0


def _measure(
    measured: Measured,
    variants: Sequence[Variant],
    stages: Sequence[Stage],
    count: int,
    base: Path,
    options: argparse.Namespace,
) -> None:
    """Everything that is wanted, with `count` threads."""
    cpus = sorted(os.sched_getaffinity(0))[:count]
    for name in filter(lambda name: _wanted(options, name), STARTS):
        measured.expect(name, STARTS[name])
        _starts(measured, variants, name, cpus, base, options.rounds)
        measured.tell_untold(count)
    for precision in filter(None, options.export.split(",")):
        measured.expect(f"export-{precision}", f"export to {precision}")
        _export(measured, options.checkpoint, precision, cpus, base)
        measured.tell_untold(count)
    for stage in stages:
        measured.expect(stage.name, stage.label, stage.rate, stage.one)
    if stages:
        _interleaved(measured, variants, stages, cpus, base, options)


class Measured:
    """All samples so far, what the engines said of themselves, and what went wrong."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.facts: dict[str, dict[str, Any]] = {}
        self.failures: list[str] = []
        self._untold: dict[str, tuple[str, bool, str | None]] = {}

    def add(
        self, stage: str, threads: int, number: int, variant: Variant, answer: dict[str, Any]
    ) -> None:
        """Keep an answer, and show it to who waits."""
        self.samples.append(Sample(stage, threads, number, variant.name, variant.kind, answer))
        line = f"{stage} {variant.name}: {answer['wall']:.2f} s, {answer['cpu']:.2f} s of CPU"
        print(line, file=sys.stderr, flush=True)

    def expect(self, stage: str, label: str, rate: bool = False, one: str | None = None) -> None:
        """Name a stage whose samples follow; `one` is that of a single sequence, if it is a
        batch."""
        self._untold[stage] = (label, rate, one)

    def tell_untold(self, threads: int) -> None:
        """Print what was measured of the stages that were not told yet."""
        for stage, (label, rate, one) in self._untold.items():
            found = model_report.figures(self.samples, stage, threads)
            if found:
                print(model_report.block(label, threads, found, stage, rate), flush=True)
            if found and one:
                single = model_report.figures(self.samples, one, threads)
                for line in model_report.batch_against_one(found, single):
                    print(line, flush=True)
        self._untold.clear()


def _variants(options: argparse.Namespace) -> list[Variant]:
    pythons = model_variants.interpreters(options.peer_python)

    def python(kind: Kind) -> str:
        return pythons.get(kind, sys.executable)

    found = model_variants.ours(options.model)
    if options.gguf:
        pairs = options.llama_cpp or LLAMA_CPP
        found += model_variants.llama_cpp(options.gguf, pairs, python("llama.cpp"))
    if options.checkpoint:
        found.append(model_variants.transformers(options.checkpoint, python("transformers")))
    if not found:
        raise ConfigError("Nothing to measure; name --model, --gguf or --checkpoint.")
    if options.export and not options.checkpoint:
        raise ConfigError("--export needs --checkpoint.")
    return found


def _wanted(options: argparse.Namespace, name: str) -> bool:
    if options.stages is None:
        return True
    return any(name == one or name.startswith(f"{one}-") for one in options.stages.split(","))


def _threads(options: argparse.Namespace) -> list[int]:
    counts = [int(one) for one in options.threads.split(",") if one.isdigit()]
    have = len(os.sched_getaffinity(0))
    if not counts or min(counts) < 1 or max(counts) > have:
        raise ConfigError(f"--threads {options.threads}: numbers from 1 to {have}, as 1,2.")
    return counts


# --- running engines ---------------------------------------------------------


def _interleaved(
    measured: Measured,
    variants: Sequence[Variant],
    stages: Sequence[Stage],
    cpus: Sequence[int],
    base: Path,
    options: argparse.Namespace,
) -> None:
    with _running(measured, variants, cpus, base) as peers:
        for number in range(max(options.rounds, options.page_rounds)):
            for stage in stages:
                if number >= (options.page_rounds if stage.page else options.rounds):
                    continue
                for peer in _turned(peers, number):
                    if peer.variant.kind in stage.kinds:
                        request = stage.request(peer.variant, number)
                        _asked(measured, peers, peer, stage.name, len(cpus), number, request)


@contextmanager
def _running(
    measured: Measured, variants: Sequence[Variant], cpus: Sequence[int], base: Path
) -> Iterator[list[Peer[Variant]]]:
    """The engines that could be started; each has answered once before it is measured."""
    peers: list[Peer[Variant]] = []
    try:
        for variant in variants:
            peer = Peer(variant, cpus, base)
            peers.append(peer)
            try:
                measured.facts[variant.name] = peer.open()["facts"]
                peer.ask(_first_question(base))
            except PeerError as error:
                measured.failures.append(str(error))
                peers.remove(peer)
                peer.close()
        yield peers
    finally:
        for peer in peers:
            peer.close()


def _asked(
    measured: Measured,
    peers: list[Peer[Variant]],
    peer: Peer[Variant],
    stage: str,
    threads: int,
    number: int,
    request: dict[str, Any],
) -> None:
    """Who fails is asked no more."""
    try:
        answer = peer.ask(request)
    except PeerError as error:
        measured.failures.append(f"{stage}: {error}")
        peers.remove(peer)
        peer.close()
        return
    measured.add(stage, threads, number, peer.variant, answer)


def _turned(peers: Sequence[Peer[Variant]], number: int) -> list[Peer[Variant]]:
    """All, beginning with another one in each round."""
    first = number % max(1, len(peers))
    return [*peers[first:], *peers[:first]]


def _first_question(base: Path) -> dict[str, Any]:
    """A small picture, and a word to be said about it."""
    pictures = Pictures(base)
    return {
        "stage": "page",
        "layout": pictures.page(112, 0),
        "crops": [pictures.page(112, 1)],
        "tokens": 2,
        "rows": 1,
    }


# --- starts and exports ------------------------------------------------------


def _starts(
    measured: Measured,
    variants: Sequence[Variant],
    stage: str,
    cpus: Sequence[int],
    base: Path,
    rounds: int,
) -> None:
    """Processes that start alone, are asked one small thing, and end.

    Beside the time until the engine is loaded, `answered` is that until the small picture
    and its two words were read, which some engines put part of their work off to.
    """
    for number in range(rounds):
        for variant in variants:
            if stage == "start-cold":
                model_variants.forget_cached(variant.files)
            peer = Peer(variant, cpus, base)
            try:
                began = time.monotonic()
                opened = peer.open()
                peer.ask(_first_question(base))
                answered = opened["started"] + time.monotonic() - began
            except PeerError as error:
                measured.failures.append(f"{stage}: {error}")
                continue
            finally:
                peer.close()
            answer = {**opened, "wall": opened["started"], "answered": answered}
            measured.add(stage, len(cpus), number, variant, answer)


def _export(
    measured: Measured, checkpoint: Path, precision: str, cpus: Sequence[int], base: Path
) -> None:
    """`mineru-daemon model export` as a process of its own."""
    out = base / f"export-{precision}"
    command = [sys.executable, "-m", "mineru_daemon", "model", "export", str(checkpoint), str(out)]
    command += ["--precision", precision]
    began = time.monotonic()
    with (base / "export.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env=peer_process.environment(len(cpus)),
            stdout=log,
            stderr=log,
            preexec_fn=_pinned(cpus),  # noqa: PLW1509 - no other thread runs here
        )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - began
    if process.returncode:
        measured.failures.append(f"export to {precision}; see {base / 'export.log'}")
        return
    shutil.rmtree(out)
    variant = Variant(f"ours {precision}", "ours", sys.executable, {})
    answer = {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
    }
    measured.add(f"export-{precision}", len(cpus), 0, variant, answer)


def _pinned(cpus: Sequence[int]) -> Callable[[], None]:
    return lambda: os.sched_setaffinity(0, cpus)
