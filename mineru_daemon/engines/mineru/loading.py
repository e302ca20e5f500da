"""A model folder -> everything that answers prompts, within the thread plan."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mineru_daemon import cpu
from mineru_daemon.engines.mineru import generate, kernels, prompt
from mineru_daemon.engines.mineru.architecture import Architecture
from mineru_daemon.engines.mineru.decoder import Decoder, Embedding
from mineru_daemon.engines.mineru.folder import ModelFolder
from mineru_daemon.engines.mineru.generate import Generator
from mineru_daemon.engines.mineru.image import ImageProcessor
from mineru_daemon.engines.mineru.prompt import Tokenizer
from mineru_daemon.engines.mineru.vision import VisionEncoder
from mineru_daemon.engines.onnx import Session

SYSTEM_PROMPT = "You are a helpful assistant."
"""Of the official client; the model was trained with it."""


@dataclass(frozen=True)
class Model:
    """A loaded model. Serves one thread."""

    architecture: Architecture
    tokenizer: Tokenizer
    processor: ImageProcessor
    vision: VisionEncoder
    decoder: Decoder
    generator: Generator

    def close(self) -> None:
        """Give sessions and memory back."""
        self.vision.close()
        self.decoder.close()


def load(
    folder: ModelFolder,
    plan: cpu.ThreadPlan,
    *,
    batch: int = generate.BATCH,
    max_tokens: int | None = None,
    max_seconds: float | None = None,
) -> Model:
    """Load the graphs of a folder; bounds as for `Generator`.

    Raises ModelError for a folder that cannot be used, EngineError where a package is missing.
    """
    architecture = Architecture.read(folder.file("config.json"))
    processor = ImageProcessor.read(folder.file("preprocessor_config.json"))
    graphs = folder.manifest.graphs
    ways = kernels.candidates(graphs)
    # int4 is chosen for its memory: to bring weights into the kernels' order anew for each prompt
    # saves 0.5 GB and takes 7 to 11 % more of it (512 and 90 tokens, two threads of Zen 3).
    saving = folder.manifest.precision == "int4"

    def session(graph: str) -> Session:
        # Images and prompts differ in size; steps of decoding are many and alike.
        return Session(
            folder.path / graph,
            plan,
            own_arena=True,
            shrinking=graph in (graphs.vision, graphs.prefill),
            packing=graph != graphs.prefill or not saving,
            as_written=True,
            constants=kernels.constants(),
        )

    # Each of these is the work of one thread: weights are read and packed for the CPU.
    with ThreadPoolExecutor(plan.intra) as threads:
        reading = threads.submit(Tokenizer, folder.path, architecture)
        names = list(dict.fromkeys([graphs.vision, graphs.prefill, *ways]))
        sessions = dict(zip(names, threads.map(session, names), strict=True))
        tokenizer = reading.result()
    vision = VisionEncoder(sessions[graphs.vision], architecture.vision)
    embedding, text = Embedding(folder), architecture.text
    prefill = sessions[graphs.prefill]
    decode = kernels.fastest([sessions[way] for way in ways], prefill, embedding, text, batch)
    decoder = Decoder(prefill, decode, embedding, text)
    beginning = tokenizer.encode(prompt.chat(SYSTEM_PROMPT, "", image=True))
    generator = Generator(
        architecture,
        vision,
        decoder,
        tokenizer.stops,
        prefix=beginning[: beginning.index(architecture.image_token_id)],
        batch=batch,
        max_tokens=max_tokens,
        max_seconds=max_seconds,
    )
    return Model(architecture, tokenizer, processor, vision, decoder, generator)
