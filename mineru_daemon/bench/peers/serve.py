"""One engine in a process of its own, asked line by line. A plain script for any Python 3.11.

    PYTHON serve.py

Reads JSON objects, one a line, from standard input and answers each with one line on
standard output; what libraries print goes to standard error. It needs nothing but the
standard library: the engine is a module beside this file, imported on request, so that
each engine runs in its own virtual environment, where mineru_daemon is not installed.

The first request opens the engine, `{"engine": "llama_cpp_peer", "cpus": [0, 1],
"settings": {…}}`: the process keeps to these CPUs and the engine uses as many threads. Each further
one runs a stage, `{"stage": "prefill", "tokens": 512, "seed": 7}`: a method of the engine,
which is given a `Meter` and the request's other fields. The answer has `wall` and `cpu`
(seconds of what the meter measured), `peak_mib` (the largest resident memory while the
request was served), `resident_mib` and `anonymous_mib` after it, and what the stage says
besides; or `error`. The process ends with its input.

An engine's module has `load(settings, threads)`; the object it returns has one method for
each stage, and `facts`, a dictionary of versions.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

Moment = tuple[float, float]


class Meter:
    """Adds up wall seconds and CPU seconds of the process, of all its threads."""

    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu = 0.0
        self._began = (0.0, 0.0)

    def start(self) -> None:
        """What follows is measured."""
        self._began = self.now()

    def stop(self) -> None:
        """What follows is not measured any more."""
        self.add(self._began, self.now())

    def add(self, begin: Moment, end: Moment) -> None:
        """Measured is what lies between two moments that `now` told."""
        self.wall += end[0] - begin[0]
        self.cpu += end[1] - begin[1]

    @staticmethod
    def now() -> Moment:
        """Wall clock, and CPU clock of this process and its finished children, seconds."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = time.process_time() + children.ru_utime + children.ru_stime
        return time.perf_counter(), own


def memory(process: str = "self") -> dict[str, float]:
    """Memory of a process, MiB: resident now, at most, and what of it is no file's."""
    names = {"VmRSS:": "resident_mib", "VmHWM:": "peak_mib", "RssAnon:": "anonymous_mib"}
    found = {}
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        name, *values = line.split()
        if name in names:
            found[names[name]] = int(values[0]) / 1024
    return found


def forget_peak(process: str = "self") -> None:
    """Begin anew to look for the largest resident memory; see proc_pid_clear_refs(5)."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


def answer(request: dict[str, Any], engine: Any) -> tuple[dict[str, Any], Any]:
    """The answer to a request, and the engine that is open after it."""
    meter = Meter()
    forget_peak()
    if "engine" in request:
        os.sched_setaffinity(0, request["cpus"])
        meter.start()
        module = importlib.import_module(request["engine"])
        engine = module.load(request["settings"], len(request["cpus"]))
        meter.stop()
        said = {"facts": engine.facts}
    else:
        fields = {key: value for key, value in request.items() if key != "stage"}
        said = getattr(engine, request["stage"])(meter, **fields) or {}
    return {"wall": meter.wall, "cpu": meter.cpu, **memory(), **said}, engine


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    engine = None
    for line in requests:
        try:
            said, engine = answer(json.loads(line), engine)
        except Exception as error:
            traceback.print_exc()
            said = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(said) + "\n")
        answers.flush()


def main() -> None:
    """Keep standard output for the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, answers)
    # Threads of a library that does not end by itself are left behind.
    os._exit(0)


if __name__ == "__main__":
    main()
