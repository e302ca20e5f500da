"""The daemon with ONNX Runtime as it comes: what `bench service` compares the daemon with.

    python -m mineru_daemon.bench.untuned run …

As `mineru-daemon`, but each session has the pools that ONNX Runtime would give it: a thread for
each core of the machine, which spin while they wait, also after a run. Affinity and quota are
not looked at. Everything else, models and memory included, is as it is for users.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def untune() -> None:
    """Let ONNX Runtime's sessions of this process, made from now on, keep its own defaults."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    class Options(onnxruntime.SessionOptions):  # type: ignore[misc]
        """Options that take no number of threads, and nothing about spinning."""

        intra_op_num_threads = property(lambda _: 0, lambda _, __: None)
        inter_op_num_threads = property(lambda _: 0, lambda _, __: None)

        def add_session_config_entry(self, key: str, value: str) -> Any:
            """All but those about spinning."""
            return None if "spin" in key else super().add_session_config_entry(key, value)

    onnxruntime.SessionOptions = Options


def main() -> int:
    """`mineru-daemon` without its tuning."""
    untune()
    from mineru_daemon.cli import main as daemon

    return daemon(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
