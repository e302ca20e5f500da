"""Interim entry point until `mineru-daemon model export` stands."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mineru_daemon.engines.mineru.architecture import Architecture
from mineru_daemon.engines.mineru.export import layers, models
from mineru_daemon.engines.mineru.export.graph import Graph


def main() -> None:
    """CHECKPOINT OUT."""
    checkpoint, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    data = np.memmap(checkpoint / "model.safetensors", np.uint8, "r")
    (size,) = struct.unpack("<Q", data[:8].tobytes())
    header = json.loads(data[8 : 8 + size].tobytes())

    def raw(name: str) -> Any:
        entry = header[name]
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        kind = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}[entry["dtype"]]
        return data[begin:end].view(kind).reshape(entry["shape"])

    def source(name: str) -> Any:
        array = raw(name)
        if array.dtype == np.uint16:
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(np.float32)

    architecture = Architecture.read(checkpoint / "config.json")
    with Graph(out / "vision.onnx") as graph:
        blocks = (layers.vision_layer(source, n) for n in range(architecture.vision.depth))
        models.write_vision(graph, source, blocks, architecture.vision, models.exact)
    with Graph(out / "prefill.onnx") as graph:
        decoder = (layers.decoder_layer(source, n) for n in range(architecture.text.layers))
        text = architecture.text
        models.write_decoder(graph, source, decoder, text, models.exact, models.exact)
    embedding = raw("model.embed_tokens.weight")
    embedding.tofile(out / "embedding.bin")
    dtype = {"uint16": "bfloat16"}.get(embedding.dtype.name, embedding.dtype.name)
    for path in checkpoint.iterdir():
        if path.suffix in (".json", ".jinja") and "safetensors" not in path.name:
            shutil.copy(path, out)
    manifest = {
        "format": "mineru-daemon/model",
        "version": 1,
        "precision": "fp32",
        "architecture": "Qwen2VLForConditionalGeneration",
        "embedding": {"dtype": dtype, "shape": list(embedding.shape)},
        "graphs": {"vision": "vision.onnx", "prefill": "prefill.onnx"},
    }
    (out / "manifest.json").write_text(json.dumps(manifest))


main()
