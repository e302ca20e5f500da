"""What a small screenshot costs besides the engine, from its claim to its visible JSON.

Counted is the time from the claim (the first moment after settling: the job's name tells
it) to the moment its JSON was renamed into the outbox (the folder entry's change time),
less the engine's own stages from the result's timings: detection, recognition, the
preparing of their input, the making of blocks. So what is counted is: the claim on disk,
the hand-over to the worker, hashing, opening and decoding the file, checkpointing the
page, writing, flushing and publishing the result. Not counted is waiting for others: the
next file is delivered only when the one before is done.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from mineru_daemon.bench import cases, machine
from mineru_daemon.bench.process import Served
from mineru_daemon.errors import MineruError

OPTIONS = ("--settle-seconds=0.1", "--rescan-seconds=60")

ALLOWED_SECONDS = 0.050
WAIT_SECONDS = 60.0

ENGINE_STAGES = ("inference", "preprocess", "postprocess")
"""How the names of the engine's own stages begin. Decoding (`render`) is not one."""


def run(files: int, out: Path | None = None) -> int:
    """Measure and print; 0 when the median is below what is allowed."""
    found = machine.told()
    base = Path(tempfile.mkdtemp(prefix="mineru-overhead-"))
    overheads = measure(base, files)
    shutil.rmtree(base)
    print(
        f"around the engine, median of {files} small screenshots: "
        f"{statistics.median(overheads) * 1000:.1f} ms "
        f"(fastest {min(overheads) * 1000:.1f}, slowest {max(overheads) * 1000:.1f}; "
        f"allowed {ALLOWED_SECONDS * 1000:.0f})"
    )
    if out:
        out.write_text(json.dumps({"machine": found, "seconds": overheads}, indent=1) + "\n")
    return 0 if statistics.median(overheads) < ALLOWED_SECONDS else 1


def measure(base: Path, files: int) -> list[float]:
    """Seconds of overhead of each file."""
    served = Served(base, *OPTIONS)
    served.start()
    served.wait_until_ready()
    overheads = []
    # The first is not counted: it finds everything cold.
    for number in range(files + 1):
        name = f"{number:04d}.png"
        outside = base / name
        outside.write_bytes(cases.png(f"File {number}"))
        outside.rename(served.inbox / name)
        overheads.append(_overhead(served, served.outbox / f"{name}.json"))
    served.stop()
    return overheads[1:]


def _overhead(served: Served, path: Path) -> float:
    deadline = time.monotonic() + WAIT_SECONDS
    while not path.exists():
        if not served.alive() or time.monotonic() > deadline:
            raise MineruError(f"{path.name} did not come; see {served.journal}.")
        time.sleep(0.01)
    visible = path.stat().st_ctime_ns
    result = json.loads(path.read_bytes())
    claimed = int(result["job"].partition("-")[0])
    timings = result["timings"]
    engine = sum(spent for stage, spent in timings.items() if stage.startswith(ENGINE_STAGES))
    return float((visible - claimed) / 1e9 - engine)
