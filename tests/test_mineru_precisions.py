"""What the tiny model reads in each precision that it can be exported in."""

from __future__ import annotations

from pathlib import Path

import pytest
from mineru_building import build_folder
from tiny_mineru import CHECKPOINT, LAYOUT_SIZE
from tiny_mineru.pages import pages

from mineru_daemon import cpu
from mineru_daemon.engines.mineru import loading
from mineru_daemon.engines.mineru.client import OnnxVlmClient, mineru_client
from mineru_daemon.engines.mineru.folder import Precision


def _texts(path: Path, precision: Precision) -> list[str]:
    """Types and contents of all blocks of all pages, one text for each page."""
    model = loading.load(build_folder(CHECKPOINT, path, precision), cpu.plan_threads(1))
    client = mineru_client(OnnxVlmClient(model), layout_image_size=(LAYOUT_SIZE, LAYOUT_SIZE))
    read = [
        "\n".join(f"{block.type}: {block.content}" for block in client.two_step_extract(page.image))
        for page in pages()
    ]
    model.close()
    return read


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return _texts(tmp_path_factory.mktemp("fp32") / "model", "fp32")


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_every_precision_reads_every_page_alike(
    exact: list[str], tmp_path: Path, precision: Precision
) -> None:
    assert _texts(tmp_path / "model", precision) == exact
