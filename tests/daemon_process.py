"""The daemon as a process of its own, and systemd's end of its notify socket."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jsonschema

from mineru_daemon import results
from mineru_daemon.settings import FOLDER_NAMES

END_WITH_TESTS = ("setpriv", "--pdeathsig", "KILL")
"""Before a command: the kernel ends it when the tests are killed and cannot."""

PATIENCE = 120.0
"""Seconds until a test gives up; never a measure of speed."""


def is_gone(pid: int) -> bool:
    """Whether a process has ended; nobody may have asked for its code yet."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


class Running:
    """A daemon process on folders below `base`, with systemd's end of its notify socket."""

    def __init__(self, base: Path, *options: str, prefix: tuple[str, ...] = (), **environ: str):
        self.base = base
        self.folders = {name: base / name for name in FOLDER_NAMES}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = base / "notify"
        address.unlink(missing_ok=True)
        self.socket.bind(str(address))
        self.socket.settimeout(0.1)
        self.told: list[str] = []
        self.log = base / "log.jsonl"
        folders = [f"--{name}={folder}" for name, folder in self.folders.items()]
        command = [*END_WITH_TESTS, *prefix, sys.executable, "-m", "mineru_daemon", "run", *folders]
        with self.log.open("a") as stderr:
            self.process = subprocess.Popen(
                [*command, "--settle-seconds=0.3", "--append-seconds=0.5", *options],
                stderr=stderr,
                env=os.environ | {"NOTIFY_SOCKET": str(address)} | environ,
            )

    def hear(self) -> None:
        """Take what was said on the notify socket."""
        while True:
            try:
                self.told += self.socket.recv(65536).decode().splitlines()
            except TimeoutError:
                return

    def until(self, condition):
        deadline = time.monotonic() + PATIENCE
        while not (value := condition()):
            self.hear()
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
        return value

    def ready(self):
        self.until(lambda: "READY=1" in self.told)
        return self

    def events(self, name):
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == name]

    def drop(self, source, name=None):
        shutil.copy(source, self.folders["inbox"] / (name or source.name))

    def result(self, name, folder="outbox"):
        path = self.folders[folder] / f"{name}.json"
        self.until(path.exists)
        document = json.loads(path.read_text("utf-8"))
        jsonschema.Draft202012Validator(results.json_schema()).validate(document)
        return document

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.hear()
        return code

    def end(self) -> None:
        """Whatever the test left of it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.socket.close()
