"""Both engines read within the service's whole sandbox."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from systemd_service import (
    COMMAND,
    DOCUMENTS,
    HOME,
    SAMPLE,
    Service,
    needs_systemd,
    open_to_all,
    service,
)
from tiny_mineru import LAYOUT_SIZE
from tiny_mineru.pages import client_blocks, pages

from mineru_daemon.engines.mineru.folder import ModelFolder

pytestmark = needs_systemd

MODEL = Path("/home/models/tiny")
"""Below a folder that the sandbox hides unless it is told of it."""
CONFIG = f'model = "{MODEL}"\nsettle_seconds = 0.2\n'
TINY = f'preset = "quality"\nmax_image_size = {LAYOUT_SIZE}\nblock_tokens = 600\n'
"""The tiny model knows its pages in this size."""
PAGE = next(page for page in pages() if page.name == "article")


@pytest.fixture(scope="module")
def mineru(
    tmp_path_factory: pytest.TempPathFactory, mineru_folder: ModelFolder
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("systemd")
    model = folder / "model"
    shutil.copytree(mineru_folder.path, model)
    open_to_all(model)
    with service(folder, {MODEL: model}) as booted:
        path = booted.documents / "article.png"
        PAGE.image.save(path)
        path.chmod(0o644)
        yield booted


@pytest.mark.parametrize("engine", ["auto", "ppocr", "mineru"])
def test_documents_are_read_inside_the_sandbox(mineru: Service, engine: str) -> None:
    mineru.configure(CONFIG)
    mineru.run(COMMAND, "install")
    expected = "ppocr" if engine == "ppocr" else "mineru"
    mineru.fresh(config=f'{CONFIG}{TINY if expected == "mineru" else ""}engine = "{engine}"')
    facts = mineru.run("cat", f"/proc/{mineru.pid}/status")
    assert "\nSeccomp:\t2\n" in facts
    assert "\nCapEff:\t0000000000000000\n" in facts
    mineru.deliver(DOCUMENTS / "article.png")
    mineru.deliver(SAMPLE)
    for name in ("article.png", SAMPLE.name):
        result = mineru.result(name)
        assert result["status"] == "success"
        assert result["engine"]["name"] == expected
        mineru.wait_for(HOME / "done" / name)
    result = mineru.result("article.png" if expected == "mineru" else SAMPLE.name)
    read = [block["content"] for page in result["pages"] for block in page["blocks"]]
    if expected == "mineru":
        known = {block["content"] for block in client_blocks(PAGE)}
        # Its crops are smaller than it was taught, so not all of them.
        assert len(known.intersection(read)) > len(known) / 2
    else:
        assert any("Order desk" in text for text in read if text)
        kept = mineru.shell("stat --format='%U %a %n' /var/cache/mineru-daemon/*").splitlines()
        assert len(kept) == 6, "its networks, as ONNX Runtime optimised them"
        assert all(line.startswith("mineru 700 ") for line in kept)
    # The model was opened for reading, and nothing around it.
    inside = ("nsenter", f"--target={mineru.pid}", "--mount")
    assert mineru.run(*inside, "find", "/home", "-maxdepth", "2") == f"/home\n/home/models\n{MODEL}"
    refused = mineru.run(*inside, "touch", f"{MODEL}/x", check=False)
    assert refused.endswith("Read-only file system")
