"""`mineru-daemon demo`: the whole way of a document on the samples in this package.

A real daemon in a process of its own, real folders; nothing is shortened.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from mineru_daemon import samples
from mineru_daemon.errors import MineruError
from mineru_daemon.settings import FOLDER_NAMES

TIMEOUT_SECONDS = 300.0
LINES_SHOWN = 12


def run(base: Path) -> int:
    """Serve the samples in folders below `base`, show what was read; 0 when all was well."""
    base = base.absolute()
    folders = {name: base / (".spool" if name == "spool" else name) for name in FOLDER_NAMES}
    options = [f"--{name}={folder}" for name, folder in folders.items()]
    base.mkdir(parents=True, exist_ok=True)
    print(f"Starting a daemon on {base} …", flush=True)
    with (base / "daemon.log").open("w") as journal:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "mineru_daemon", "run", *options],
            stderr=journal,
            start_new_session=True,
        )
    try:
        return _serve(daemon, folders, base)
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(60)
        except subprocess.TimeoutExpired:
            daemon.kill()


def _serve(daemon: subprocess.Popen[bytes], folders: dict[str, Path], base: Path) -> int:
    before = set(folders["outbox"].glob("*.json")) if folders["outbox"].exists() else set()
    folders["inbox"].mkdir(parents=True, exist_ok=True)
    delivered = samples.paths()
    for sample in delivered:
        print(f"Dropping {sample.name} into {folders['inbox']}", flush=True)
        shutil.copy(sample, folders["inbox"])
    deadline = time.monotonic() + TIMEOUT_SECONDS
    fresh: list[Path] = []
    while len(fresh) < len(delivered):
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise MineruError(
                f"The daemon did not read the samples; see {base / 'daemon.log'} for the reason."
            )
        time.sleep(0.2)
        fresh = sorted(set(folders["outbox"].glob("*.json")) - before)
    statuses = [_show(path) for path in fresh]
    print(f"\nThe originals lie in {folders['done']}, the log is {base / 'daemon.log'}.")
    return 0 if all(status == "success" for status in statuses) else 1


def _show(path: Path) -> str:
    result = json.loads(path.read_text("utf-8"))
    markdown = path.with_suffix(".md")
    blocks = sum(len(page["blocks"]) for page in result["pages"])
    print(f"\n{result['source']['name']}: {result['status']}")
    print(f"  JSON      {path}")
    print(f"  Markdown  {markdown}")
    print(
        f"  {len(result['pages'])} page(s), {blocks} blocks, engine {result['engine']['model']}, "
        f"{result['timings']['total']:.1f} s"
    )
    lines = [line for line in markdown.read_text("utf-8").splitlines() if line.strip()]
    for line in lines[:LINES_SHOWN]:
        print(f"  | {line}")
    if len(lines) > LINES_SHOWN:
        print(f"  | … {len(lines) - LINES_SHOWN} more lines")
    return str(result["status"])
