"""What a daemon costs whose inbox is empty: processor time, nothing else."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from mineru_daemon.bench.process import Served

CALM_SECONDS = 6.0
"""After the start the first looks are still made, and the first status is written."""

ALLOWED = 0.002
"""Of one core."""


def run(seconds: float) -> int:
    """Measure and print; 0 when it is below what is allowed."""
    base = Path(tempfile.mkdtemp(prefix="mineru-idle-"))
    used = measure(base, seconds)
    shutil.rmtree(base)
    print(
        f"{used:.4f} s of CPU in {seconds:.0f} s with an empty inbox: "
        f"{used / seconds:.3%} of one core (allowed {ALLOWED:.1%})"
    )
    return 0 if used / seconds < ALLOWED else 1


def measure(base: Path, seconds: float) -> float:
    """Seconds of CPU that the daemon took in so many idle ones, with default settings."""
    served = Served(base)
    served.start()
    served.wait_until_ready()
    time.sleep(CALM_SECONDS)
    before = served.cpu_seconds()
    time.sleep(seconds)
    used = served.cpu_seconds() - before
    served.stop()
    return used
