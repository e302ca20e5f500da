"""From a checkpoint to the graphs of a model folder, without torch.

The layers are read from the checkpoint one at a time, run once in full precision on a page of
the package (`calibrate`), evened out (`smoothing`), and written as ONNX (`models`, `graph`) in
the precision that was asked for (`precision`, `linear`, `rounding`). At the end the finished
graphs are run on the same page and compared (`compare`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mineru_daemon import cpu
from mineru_daemon.engines.mineru import folder as model_folder
from mineru_daemon.engines.mineru.export import compare, models, rounding, smoothing
from mineru_daemon.engines.mineru.export.calibrate import Calibration
from mineru_daemon.engines.mineru.export.checkpoint import Checkpoint
from mineru_daemon.engines.mineru.export.graph import Graph, WeightFile
from mineru_daemon.engines.mineru.export.layers import Layer
from mineru_daemon.engines.mineru.export.precision import PLANS, Plan
from mineru_daemon.engines.mineru.folder import Precision

Progress = Callable[[int], object]
"""Is told how many layers were done since it was last called."""


def steps(checkpoint: Checkpoint) -> int:
    """How many layers `export` will tell its progress of."""
    architecture = checkpoint.architecture
    return architecture.vision.depth + 1 + architecture.text.layers + 1


def export(
    checkpoint: Checkpoint, folder: Path, precision: Precision, progress: Progress
) -> dict[str, Any]:
    """Write graphs, embedding and side files into `folder`; what the comparison found.

    Needs the memory of the largest weight in float32 a few times over (the token embedding,
    0.5 GB), and at its end that of the finished graphs. Raises EngineError or ModelError.
    """
    plan = PLANS[precision]
    calibration = Calibration(checkpoint, cpu.granted_threads())
    _write_vision(checkpoint, folder, plan, calibration, progress)
    _write_decoder(checkpoint, folder, plan, calibration, progress)
    array, _ = checkpoint.raw("model.embed_tokens.weight")
    with (folder / model_folder.EMBEDDING).open("wb") as stream:
        array.tofile(stream)
    for path in checkpoint.side_files:
        shutil.copyfile(path, folder / path.name)
    found = compare.compare(folder, checkpoint.architecture, calibration)
    progress(1)
    return found


def _write_vision(
    checkpoint: Checkpoint, folder: Path, plan: Plan, calibration: Calibration, progress: Progress
) -> None:
    architecture = checkpoint.architecture.vision

    def smoothed() -> Iterator[Layer]:
        for number, (layer, inputs) in enumerate(calibration.vision_layers()):
            peaks = smoothing.peaks_of(inputs)
            if plan.smooth and number < architecture.depth:
                smoothing.smooth_vision(layer, peaks, architecture)
            elif plan.smooth:
                smoothing.smooth_merger(layer, peaks)
            yield layer
            progress(1)

    with WeightFile(folder / "vision.data") as weights:
        graph = Graph(weights)
        models.write_vision(graph, checkpoint.tensor, smoothed(), architecture, plan.vision)
    graph.save(folder / "vision.onnx")


def _write_decoder(
    checkpoint: Checkpoint, folder: Path, plan: Plan, calibration: Calibration, progress: Progress
) -> None:
    """All graphs of the decoder at once: each layer is calibrated, and weights that graphs
    have in common are written, only once."""
    text = checkpoint.architecture.text
    graphs = {
        "prefill": (models.attend_prompt, plan.prefill),
        "decode": (models.attend_step, plan.decode),
    }
    if plan.decode is not plan.prefill:
        graphs["decode_fused"] = (models.attend_prompt, plan.decode)
    if plan.decode_blocks is not None:
        graphs["decode_blocks"] = (models.attend_step, plan.decode_blocks)
    with WeightFile(folder / "decoder.data") as weights:
        writers = {
            name: models.DecoderWriter(Graph(weights), text, attend)
            for name, (attend, _) in graphs.items()
        }
        for layer, read in calibration.decoder_layers():
            inputs: dict[str, rounding.Seen] = {}
            if plan.smooth:
                divided = smoothing.smooth_decoder(layer, smoothing.peaks_of(read), text)
                inputs = rounding.seen({part: one / divided[part] for part, one in read.items()})
            for name, (_, way) in graphs.items():
                writers[name].add(layer, way(inputs))
            progress(1)
        layer, read = calibration.head()
        if plan.smooth:
            smoothing.smooth_head(layer, smoothing.peaks_of(read))
        for name, writer in writers.items():
            writer.finish(layer, plan.head).save(folder / f"{name}.onnx")
