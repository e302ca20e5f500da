"""What can happen to an engine in native code, on demand, in the environment of a test.

A test puts this module and a `.pth` file that imports it beside the installed package; the
package knows nothing of it. Whenever the engine `ppocr` is about to read a page, a file in
FOLDER is taken away, and what it is called happens. As many files, as many mishaps.
"""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path("/var/lib/mineru/mineru/mishaps")
"""In the one place that the service's sandbox lets it write to."""

MODULE = "mineru_daemon.engines.ppocr.engine"


def segfault() -> None:
    """The C library reads at an address where nothing is."""
    ctypes.string_at(8)


def hang() -> None:
    """Native code never returns; other threads of Python go on."""
    while True:
        ctypes.CDLL(None).pause()


def hang_all() -> None:
    """Native code never returns and holds Python's lock, so nobody else can do anything."""
    while True:
        ctypes.PyDLL(None).pause()


def devour() -> None:
    """Native code takes memory and writes to it, without end."""
    taken = []
    while True:
        # Piece by piece, as what is more than there is would be refused at once.
        taken.append(b"x" * (64 << 20))


MISHAPS: dict[str, Callable[[], None]] = {
    "segfault": segfault,
    "hang": hang,
    "hang-all": hang_all,
    "devour": devour,
}


def _before_a_page() -> None:
    for file in sorted(FOLDER.glob("*")):
        file.unlink()
        MISHAPS[file.name.partition(".")[0]]()


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the engine's module be found as always, and puts mishaps before its `read`."""

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Any:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_change(module: Any) -> None:
            execute(module)
            read = module.PPOCREngine.read

            def read_with_mishaps(*arguments: Any) -> Any:
                _before_a_page()
                return read(*arguments)

            module.PPOCREngine.read = read_with_mishaps

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Finder())
