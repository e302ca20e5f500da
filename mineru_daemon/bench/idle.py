"""What a daemon costs whose inbox is empty: processor time, and memory."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from mineru_daemon.bench import machine
from mineru_daemon.bench.process import Served

CALM_SECONDS = 6.0
"""After the start the first looks are still made, and the first status is written."""

ALLOWED = 0.002
"""Of one core."""


@dataclass(frozen=True)
class Idle:
    """What was taken by doing nothing."""

    seconds: float
    cpu_seconds: float
    resident_mib: float
    """At the end."""

    @property
    def share(self) -> float:
        """Of one core."""
        return self.cpu_seconds / self.seconds


def run(seconds: float, out: Path | None = None) -> int:
    """Measure and print; 0 when it is below what is allowed."""
    found = machine.told()
    base = Path(tempfile.mkdtemp(prefix="mineru-idle-"))
    idle = measure(base, seconds)
    shutil.rmtree(base)
    print(
        f"{idle.cpu_seconds:.4f} s of CPU in {seconds:.0f} s with an empty inbox: "
        f"{idle.share:.3%} of one core (allowed {ALLOWED:.1%}); "
        f"{idle.resident_mib:.0f} MiB resident"
    )
    if out:
        out.write_text(json.dumps({"machine": found, **asdict(idle)}, indent=1) + "\n")
    return 0 if idle.share < ALLOWED else 1


def measure(base: Path, seconds: float) -> Idle:
    """What the daemon took in so many idle seconds, with default settings."""
    served = Served(base)
    served.start()
    served.wait_until_ready()
    time.sleep(CALM_SECONDS)
    before = served.cpu_seconds()
    time.sleep(seconds)
    idle = Idle(seconds, served.cpu_seconds() - before, served.resident_mib())
    served.stop()
    return idle
