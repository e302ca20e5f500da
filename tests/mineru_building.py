"""Model folders made of a checkpoint, for the tests that run them."""

from __future__ import annotations

from pathlib import Path

from mineru_daemon.engines.mineru import drafts, folder
from mineru_daemon.engines.mineru.architecture import NAME
from mineru_daemon.engines.mineru.export import checkpoint, export
from mineru_daemon.engines.mineru.folder import ModelFolder, Precision


def build_folder(source: Path, out: Path, precision: Precision = "fp32") -> ModelFolder:
    """Export the checkpoint `source` to `out`."""
    with checkpoint.opened(source) as opened, drafts.begun(out) as draft:
        verification = export(opened, draft.path, precision, lambda _count: None)
        embedding, dtype = opened.raw("model.embed_tokens.weight")
        return draft.publish(
            architecture=NAME,
            precision=precision,
            source=folder.Source(name=opened.name, weights_sha256={}),
            embedding=folder.Embedding(dtype=dtype, shape=embedding.shape),
            graphs=folder.Graphs.within(draft.path),
            verification=verification,
        )
