"""Model folders made of a checkpoint, for the tests that run them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from mineru_daemon.engines.mineru import folder
from mineru_daemon.engines.mineru.architecture import NAME
from mineru_daemon.engines.mineru.export import checkpoint, export
from mineru_daemon.engines.mineru.folder import ModelFolder, Precision, Stage


def build_folder(source: Path, out: Path, precision: Precision = "fp32") -> ModelFolder:
    """Export the checkpoint `source` to `out`."""
    stages: tuple[Stage, ...] = get_args(Stage)
    with checkpoint.opened(source) as opened, folder.publishing(out) as draft:
        verification = export(opened, draft.path, precision, lambda _count: None)
        embedding, dtype = opened.raw("model.embed_tokens.weight")
        present = [stage for stage in stages if (draft.path / f"{stage}.onnx").exists()]
        return draft.publish(
            architecture=NAME,
            precision=precision,
            source=folder.Source(name=opened.name, weights_sha256={}),
            embedding=folder.Embedding(dtype=dtype, shape=embedding.shape),
            graphs=folder.Graphs(**{stage: f"{stage}.onnx" for stage in present}),
            verification=verification,
        )
