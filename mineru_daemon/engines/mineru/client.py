"""The model as a client of `mineru-vl-utils`, and MinerU's own client around it.

The official package brings prompts, sampling parameters, parsing and post-processing; what
it calls is a `VlmClient`, and that is what the model becomes here.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import structlog
from loguru import logger
from mineru_vl_utils import MinerUClient
from mineru_vl_utils.vlm_client import (
    SamplingParams,
    ScoredOutput,
    UnsupportedError,
    VlmClient,
    compute_confidence_metrics,
)
from PIL import Image

from mineru_daemon.engines.base import Progress
from mineru_daemon.engines.mineru import confidence
from mineru_daemon.engines.mineru.generate import Finish, Generation, Prompt
from mineru_daemon.engines.mineru.image import Float, Grid
from mineru_daemon.engines.mineru.loading import SYSTEM_PROMPT, Model
from mineru_daemon.engines.mineru.prompt import chat
from mineru_daemon.engines.mineru.sampling import Sampling
from mineru_daemon.engines.timing import Timings

LOGGED_CHARACTERS = 300
"""Of a warning of the official package, which may quote a whole page."""


@dataclass(frozen=True)
class Task:
    """What is asked of the model about one image, or without an image."""

    image: Image.Image | None
    text: str
    params: SamplingParams | None = None
    size: tuple[int, int] | None = None
    """Width and height at which the image is to be read; None: its own."""


@dataclass(frozen=True)
class Answer:
    """What the model said."""

    text: str
    finish: Finish
    tokens: list[int]
    logprobs: list[float]
    """Of each token, where asked for."""

    @property
    def score(self) -> float | None:
        """Geometric mean of the tokens' probabilities, where known."""
        return confidence.score(self.logprobs)


class OnnxVlmClient(VlmClient):  # type: ignore[misc]
    """Answers the official package's questions with a model on ONNX Runtime.

    Greedy. Threads that ask at the same time are answered one after the other; the
    asynchronous calls run in a thread of their own.
    """

    def __init__(
        self,
        model: Model,
        *,
        system_prompt: str = SYSTEM_PROMPT,
        sampling_params: SamplingParams | None = None,
        penalties: bool = True,
    ) -> None:
        """With `penalties` off, presence and frequency penalty are passed over, as they are
        by the official client on transformers; every other backend of it applies them."""
        super().__init__(
            system_prompt=system_prompt,
            sampling_params=sampling_params,
            allow_truncated_content=True,
        )
        self._model = model
        self._penalties = penalties
        self._busy = threading.Lock()

    def answer(
        self,
        tasks: Sequence[Task],
        progress: Progress = lambda _stage: None,
        timings: Timings | None = None,
        *,
        scored: bool = False,
    ) -> list[Answer]:
        """Answers to all tasks, in their order; `progress` and `timings` as in `Generator`."""
        timings = defaultdict(float) if timings is None else timings
        prompts = [self._prompt(task) for task in tasks]
        with self._busy:
            made = self._model.generator.generate(prompts, progress, timings, logprobs=scored)
        return [self._answer(one) for one in made]

    def _answer(self, made: Generation) -> Answer:
        text = self._model.tokenizer.decode(made.tokens)
        return Answer(text, made.finish, made.tokens, made.logprobs)

    def _prompt(self, task: Task) -> Prompt:
        text = chat(self.system_prompt, task.text or self.prompt, image=bool(task.image))
        sampling = self._sampling(self.build_sampling_params(task.params))
        if task.image is None:
            return Prompt(self._model.tokenizer.encode(text), None, sampling)
        image, size, processor = task.image, task.size, self._model.processor

        def patches() -> tuple[Float, Grid]:
            return processor(image, size)

        count = processor.tokens(*(size or image.size))
        return Prompt(self._model.tokenizer.encode(text, count), patches, sampling)

    def _sampling(self, params: SamplingParams) -> Sampling:
        if (params.temperature or 0) > 0 and (params.top_k or 1) > 1:
            raise UnsupportedError(
                "This engine chooses the most likely token; set temperature to 0 or top_k to 1."
            )
        return Sampling(
            no_repeat_ngram_size=params.no_repeat_ngram_size or 0,
            repetition_penalty=params.repetition_penalty or 1.0,
            presence_penalty=(params.presence_penalty or 0.0) * self._penalties,
            frequency_penalty=(params.frequency_penalty or 0.0) * self._penalties,
            max_new_tokens=params.max_new_tokens,
        )

    # --- what the official package calls -------------------------------------

    def predict(
        self,
        image: Any,
        prompt: str = "",
        sampling_params: SamplingParams | None = None,
        priority: int | None = None,
    ) -> str:
        """The answer about one image."""
        return self.batch_predict([image], [prompt], [sampling_params], priority)[0]

    def batch_predict(
        self,
        images: Sequence[Any],
        prompts: Sequence[str] | str = "",
        sampling_params: Sequence[SamplingParams | None] | SamplingParams | None = None,
        priority: Sequence[int | None] | int | None = None,
    ) -> list[str]:
        """Answers about many images, in their order."""
        del priority
        return [one.text for one in self.answer(_tasks(images, prompts, sampling_params))]

    def predict_scored(
        self,
        image: Any,
        prompt: str = "",
        sampling_params: SamplingParams | None = None,
        priority: int | None = None,
    ) -> ScoredOutput:
        """The answer about one image, and how sure the model is of it."""
        return self.batch_predict_scored([image], [prompt], [sampling_params], priority)[0]

    def batch_predict_scored(
        self,
        images: Sequence[Any],
        prompts: Sequence[str] | str = "",
        sampling_params: Sequence[SamplingParams | None] | SamplingParams | None = None,
        priority: Sequence[int | None] | int | None = None,
    ) -> list[ScoredOutput]:
        """Answers about many images, and how sure the model is of each."""
        del priority
        answers = self.answer(_tasks(images, prompts, sampling_params), scored=True)
        return [
            ScoredOutput(
                one.text, one.tokens, one.logprobs, *compute_confidence_metrics(one.logprobs)
            )
            for one in answers
        ]

    async def aio_predict(self, *arguments: Any, **named: Any) -> str:
        """`predict` in another thread."""
        return await asyncio.to_thread(self.predict, *arguments, **named)

    async def aio_batch_predict(self, *arguments: Any, **named: Any) -> list[str]:
        """`batch_predict` in another thread; one batch, whatever `semaphore` allows."""
        return await asyncio.to_thread(self.batch_predict, *arguments, **_plain(named))

    async def aio_predict_scored(self, *arguments: Any, **named: Any) -> ScoredOutput:
        """`predict_scored` in another thread."""
        return await asyncio.to_thread(self.predict_scored, *arguments, **named)

    async def aio_batch_predict_scored(self, *arguments: Any, **named: Any) -> list[ScoredOutput]:
        """`batch_predict_scored` in another thread."""
        return await asyncio.to_thread(self.batch_predict_scored, *arguments, **_plain(named))


def _plain(named: dict[str, Any]) -> dict[str, Any]:
    """Without what only schedules requests or draws a progress bar."""
    bar = ("semaphore", "use_tqdm", "tqdm_desc")
    return {key: value for key, value in named.items() if key not in bar}


def _tasks(
    images: Sequence[Any],
    texts: Sequence[str] | str,
    params: Sequence[SamplingParams | None] | SamplingParams | None,
) -> list[Task]:
    texts = [texts] * len(images) if isinstance(texts, str) else texts
    each = params if isinstance(params, Sequence) else [params] * len(images)
    return [
        Task(_image(image), text, one) for image, text, one in zip(images, texts, each, strict=True)
    ]


def _image(image: Any) -> Image.Image | None:
    """One image in the forms that the official package allows, but for addresses and paths."""
    if isinstance(image, bytes):
        image = Image.open(BytesIO(image))
    if image is not None and not isinstance(image, Image.Image):
        raise UnsupportedError("An image is given as PIL.Image or as the bytes of its file.")
    return image


def mineru_client(client: VlmClient, **options: Any) -> MinerUClient:
    """MinerU's client, which asks `client`; `options` are those of its constructor.

    The constructor makes the inner client itself, from a closed list of backends. So it is
    given a model of transformers that can do nothing, which is the backend with the least
    needs (none of torch), and then the client that it made is exchanged. All else of
    `MinerUClient` is as its constructor left it.
    """
    _route_log()
    nothing: Any = _NoModel()
    made = MinerUClient(
        backend="transformers", model=nothing, processor=nothing, use_tqdm=False, **options
    )
    made.client = client
    return made


class _NoModel:
    """What `TransformersVlmClient` looks at in a model and in a processor."""

    max_position_embeddings = 0
    tokenizer = None
    generate = apply_chat_template = None

    @property
    def config(self) -> _NoModel:
        return self

    def get_text_config(self, decoder: bool) -> _NoModel:
        del decoder
        return self


@functools.cache
def _route_log() -> None:
    """Let warnings of the official package become events; its own go to stderr as they are."""

    def event(message: Any) -> None:
        record = message.record
        structlog.get_logger().warning(
            "library",
            logger=record["name"],
            message=record["message"][:LOGGED_CHARACTERS],
        )

    logger.remove()
    logger.add(event, level="WARNING", filter="mineru_vl_utils", catch=True)
