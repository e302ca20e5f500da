"""Neither engine, nor anything around it, opens a socket; only systemd's is spoken to."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import without_sockets
from daemon_process import Running

from mineru_daemon.engines.mineru.folder import ModelFolder
from mineru_daemon.samples import paths

PDF, PNG = paths()

WITHOUT_SOCKETS = (sys.executable, without_sockets.__file__)

AUDIT = """
import os, sys
log = os.open(os.environ["SOCKET_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(event, arguments):
    if event.startswith("socket."):
        os.write(log, f"{event} {arguments[1:]}\\n".encode())
sys.addaudithook(note)
"""
"""Python's own account of sockets, begun before anything else is imported."""


def options_of(engine: str, model: Path) -> tuple[str, ...]:
    return (f"--engine={engine}", f"--model={model}", "--block-tokens=200", "--pdf-mode=ocr")


def serve_documents(daemon: Running) -> None:
    """A PDF, a picture, a file that is neither, and all that follows on them."""
    daemon.drop(PDF)
    daemon.drop(PNG)
    (daemon.folders["inbox"] / "bad.png").write_text("this is no picture")
    assert daemon.result(PDF.name)["status"] == "success"
    assert daemon.result(PNG.name)["status"] == "success"
    assert daemon.result("bad.png", "failed")["status"] == "failed"


@pytest.mark.skipif(
    platform.machine() not in without_sockets.SOCKET_CALLS, reason="numbers of calls not known"
)
@pytest.mark.parametrize("engine", ["ppocr", "mineru"])
def test_the_kernel_would_end_a_daemon_that_opens_a_socket_and_does_not(
    start: Callable[..., Running], mineru_folder: ModelFolder, engine: str
) -> None:
    program = "import socket; print('before', flush=True); socket.socket(); print('after')"
    probe = subprocess.run(
        [*WITHOUT_SOCKETS, sys.executable, "-c", program], capture_output=True, text=True
    )
    assert (probe.returncode, probe.stdout) == (-signal.SIGSYS, "before\n")

    daemon = start(
        *options_of(engine, mineru_folder.path), prefix=WITHOUT_SOCKETS, NOTIFY_SOCKET=""
    )
    daemon.until(lambda: daemon.events("ready"))
    assert daemon.events("engine-ready")[0]["engine"] == engine
    serve_documents(daemon)
    assert daemon.stop() == 0


@pytest.mark.parametrize("engine", ["ppocr", "mineru"])
def test_only_the_notify_socket_is_spoken_to(
    start: Callable[..., Running], mineru_folder: ModelFolder, tmp_path: Path, engine: str
) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(AUDIT)
    path = os.pathsep.join(filter(None, [str(hooks), os.environ.get("PYTHONPATH")]))
    log = tmp_path / "sockets"
    daemon = start(
        *options_of(engine, mineru_folder.path), PYTHONPATH=path, SOCKET_LOG=str(log)
    ).ready()
    serve_documents(daemon)
    assert daemon.stop() == 0
    heard = set(log.read_text().splitlines())
    notify = str(tmp_path / "notify").encode()
    assert heard == {
        f"socket.__new__ ({int(socket.AF_UNIX)}, {int(socket.SOCK_DGRAM)}, 0)",
        f"socket.sendto ({notify!r},)",
    }
