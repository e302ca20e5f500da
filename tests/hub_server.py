"""A hub on this machine: serves a checkpoint's folder as Hugging Face and ModelScope would.

The requests that the `snapshot_download` of their clients makes, and nothing else: what a
revision is, which files it has, and each file with its headers and ranges.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

NAME = "opendatalab/MinerU2.5-2509-1.2B"
COMMIT = "5a5ff0cbd9c4b4b5a3e1a1c5d6b8c1f7e9d0a2b4"
LARGE = ".safetensors"
"""Files that are kept by Git LFS: their tag is their SHA-256."""

CHUNK = 1 << 16


@dataclass
class Hub:
    """What is served, what goes wrong, and what was asked for."""

    folder: Path
    endpoint: str = ""
    revisions: set[str] = field(default_factory=lambda: {"main", COMMIT})
    refusal: tuple[int, str] | None = None
    """Status and error code of every answer."""
    break_off_after: int | None = None
    """The first large file ends after this many bytes, once."""
    pause: float = 0.0
    """Seconds between two chunks of a large file."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path, range."""

    def names(self) -> list[str]:
        """The files that are served."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_file())

    def downloads(self, name: str) -> list[str]:
        """The ranges in which a file was asked for; "" for the whole."""
        return [
            ranges
            for method, path, ranges in self.requests
            if method == "GET" and path.endswith(f"/{name}")
        ]


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    """Serve `folder` as the model `NAME` until the block ends."""
    hub = Hub(folder)

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        hub = self.served
        path = unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path, self.headers.get("Range", "")))
        if hub.refusal is not None:
            return self._refuse(*hub.refusal)
        match path.strip("/").split("/"):
            case ["api", "models", owner, name, *rest] if f"{owner}/{name}" == NAME:
                return self._api(rest)
            case [owner, name, "resolve", revision, file] if f"{owner}/{name}" == NAME:
                if revision not in hub.revisions:
                    return self._refuse(404, "RevisionNotFound")
                if file not in hub.names():
                    return self._refuse(404, "EntryNotFound")
                return self._file(hub.folder / file, body)
            case ["api", "models", *_]:
                return self._refuse(404, "RepoNotFound")
            case ["api", "v1", "models", _, name, "repo", *rest] if NAME.endswith(f"/{name}"):
                return self._modelscope(rest, body)
        return self._refuse(404, "EntryNotFound")

    def _api(self, rest: list[str]) -> None:
        names = self.served.names()
        match rest:
            case [] | ["revision", _] if not rest or rest[1] in self.served.revisions:
                siblings = [{"rfilename": name} for name in names]
                self._json({"_id": "1", "id": NAME, "sha": COMMIT, "siblings": siblings})
            case ["tree", revision, *_] if revision in self.served.revisions:
                self._json([_tree_entry(self.served.folder / name) for name in names])
            case _:
                self._refuse(404, "RevisionNotFound")

    def _modelscope(self, rest: list[str], body: bool) -> None:
        folder = self.served.folder
        if rest == ["files"]:
            files = [_modelscope_entry(folder / name) for name in self.served.names()]
            return self._json({"Code": 200, "Success": True, "Data": {"Files": files}})
        (name,) = parse_qs(urlsplit(self.path).query)["FilePath"]
        return self._file(folder / name, body)

    def _file(self, path: Path, body: bool) -> None:
        content = path.read_bytes()
        begin = 0
        if ranges := self.headers.get("Range"):
            begin = int(ranges.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if ranges else 200)
        self.send_header("ETag", f'"{_tag(path)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - begin))
        if ranges:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if path.name.endswith(LARGE):
            self.send_header("X-Linked-ETag", f'"{_tag(path)}"')
            self.send_header("X-Linked-Size", str(len(content)))
        self.end_headers()
        if body:
            self._send(path, content[begin:])

    def _send(self, path: Path, content: bytes) -> None:
        hub = self.served
        if path.name.endswith(LARGE) and hub.break_off_after is not None:
            content, hub.break_off_after = content[: hub.break_off_after], None
            self.close_connection = True
        try:
            for start in range(0, len(content), CHUNK):
                self.wfile.write(content[start : start + CHUNK])
                if hub.pause and path.name.endswith(LARGE):
                    time.sleep(hub.pause)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _json(self, content: Any) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _tag(path: Path) -> str:
    content = path.read_bytes()
    if path.name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _tree_entry(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    entry: dict[str, Any] = {"type": "file", "path": path.name, "size": size, "oid": "0" * 40}
    if path.name.endswith(LARGE):
        entry["lfs"] = {"oid": _tag(path), "size": size, "pointerSize": 135}
    return entry


def _modelscope_entry(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = {"Name": path.name, "Path": path.name, "Type": "blob", "Revision": COMMIT}
    return entry | {"Size": path.stat().st_size, "Sha256": digest}
