"""The model answers the official package, which takes it for one of its own clients."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import structlog
from mineru_vl_utils.vlm_client import SamplingParams, UnsupportedError
from PIL import Image
from tiny_mineru.pages import pages

from mineru_daemon import cpu
from mineru_daemon.engines.mineru import client as module
from mineru_daemon.engines.mineru import loading
from mineru_daemon.engines.mineru.client import OnnxVlmClient, Task, mineru_client
from mineru_daemon.engines.mineru.folder import ModelFolder
from mineru_daemon.engines.mineru.loading import Model

FEW = SamplingParams(max_new_tokens=12)
TEXT = "\nText Recognition:"


@pytest.fixture(scope="module")
def model(mineru_folder: ModelFolder) -> Iterator[Model]:
    loaded = loading.load(mineru_folder, cpu.plan_threads(1), max_tokens=200)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def client(model: Model) -> OnnxVlmClient:
    return OnnxVlmClient(model)


@pytest.fixture(scope="module")
def crops() -> list[Image.Image]:
    image = pages()[0].image
    return [image.crop((20, 20, 150 + 40 * n, 80)) for n in range(3)]


def test_one_and_many_are_asked_alike(client: OnnxVlmClient, crops: list[Image.Image]) -> None:
    many = client.batch_predict(crops, TEXT, FEW)
    assert many == [client.predict(crop, TEXT, FEW) for crop in crops]
    assert many == client.batch_predict(crops, [TEXT] * 3, [FEW] * 3, [None] * 3)
    assert client.batch_predict([], []) == []


def test_an_image_may_be_a_file_in_memory_and_may_be_missing(
    client: OnnxVlmClient, crops: list[Image.Image]
) -> None:
    stream = BytesIO()
    crops[0].save(stream, "PNG")
    assert client.predict(stream.getvalue(), TEXT, FEW) == client.predict(crops[0], TEXT, FEW)
    assert isinstance(client.predict(None, "Hello", FEW), str)
    with pytest.raises(UnsupportedError, match=r"PIL\.Image"):
        client.predict("http://localhost/page.png", TEXT, FEW)


def test_answers_come_with_their_probabilities(
    client: OnnxVlmClient, crops: list[Image.Image]
) -> None:
    plain = client.batch_predict(crops, TEXT, FEW)
    scored = client.batch_predict_scored(crops, TEXT, FEW)
    assert [one.text for one in scored] == plain
    for one in scored:
        assert len(one.logprobs) == len(one.token_ids)
        assert one.min_logprob == min(one.logprobs)
        assert one.perplexity >= 1


def test_asynchronous_calls_answer_the_same(
    client: OnnxVlmClient, crops: list[Image.Image]
) -> None:
    async def ask() -> tuple[Any, ...]:
        return (
            await client.aio_predict(crops[0], TEXT, FEW),
            await client.aio_batch_predict(
                crops, TEXT, FEW, semaphore=asyncio.Semaphore(1), use_tqdm=True, tqdm_desc="x"
            ),
            await client.aio_predict_scored(crops[0], TEXT, FEW),
            await client.aio_batch_predict_scored(crops, TEXT, FEW),
        )

    one, many, scored, all_scored = asyncio.run(ask())
    assert many == client.batch_predict(crops, TEXT, FEW)
    assert one == scored.text == many[0]
    assert [answer.text for answer in all_scored] == many


def test_questions_asked_at_the_same_time_are_answered_one_after_the_other(
    client: OnnxVlmClient, crops: list[Image.Image]
) -> None:
    async def ask() -> list[str]:
        return await asyncio.gather(*(client.aio_predict(crop, TEXT, FEW) for crop in crops))

    assert asyncio.run(ask()) == client.batch_predict(crops, TEXT, FEW)


def test_what_is_not_greedy_is_refused(client: OnnxVlmClient, crops: list[Image.Image]) -> None:
    with pytest.raises(UnsupportedError, match="chooses the most likely token"):
        client.predict(crops[0], TEXT, SamplingParams(temperature=0.7, top_k=20))


def test_penalties_are_those_that_are_asked_for_or_none(
    model: Model, crops: list[Image.Image]
) -> None:
    strong = SamplingParams(max_new_tokens=30, presence_penalty=1e6)
    (with_them,) = OnnxVlmClient(model).answer([Task(crops[0], TEXT, strong)])
    (without,) = OnnxVlmClient(model, penalties=False).answer([Task(crops[0], TEXT, strong)])
    (plain,) = OnnxVlmClient(model).answer(
        [Task(crops[0], TEXT, SamplingParams(max_new_tokens=30))]
    )
    assert len(set(with_them.tokens)) == len(with_them.tokens)
    assert without == plain


def test_the_official_client_reads_a_page_with_it(client: OnnxVlmClient) -> None:
    mineru = mineru_client(client, layout_image_size=(448, 448))
    blocks = mineru.two_step_extract(pages()[0].image)
    assert isinstance(blocks, list)
    assert mineru.batching_mode == "stepping"
    assert isinstance(mineru.content_extract(pages()[0].image), str)


def test_warnings_of_the_official_package_are_events(
    client: OnnxVlmClient, capfd: pytest.CaptureFixture[str]
) -> None:
    module._route_log.cache_clear()
    mineru = mineru_client(client)
    with structlog.testing.capture_logs() as events:
        assert mineru.helper.parse_layout_output("nonsense " * 100) == []
    (event,) = events
    assert (event["event"], event["log_level"]) == ("library", "warning")
    assert event["logger"] == "mineru_vl_utils.mineru_client"
    assert "does not match expected format" in event["message"]
    assert len(event["message"]) <= module.LOGGED_CHARACTERS
    assert capfd.readouterr().err == ""


PROBE = """
import json, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event.startswith("socket.") else None)
from pathlib import Path
from PIL import Image
from mineru_daemon import cpu
from mineru_daemon.engines.mineru.engine import MinerUEngine
engine = MinerUEngine(cpu.plan_threads(1), Path(sys.argv[1]), block_tokens=5)
engine.warm_up()
engine._mineru.two_step_extract(Image.new("RGB", (200, 100), "white"))
heavy = [name for name in ("torch", "transformers", "tensorflow", "jax") if name in sys.modules]
print(json.dumps({"opened": opened, "heavy": heavy}))
"""


def test_no_socket_is_opened_and_no_framework_loaded(mineru_folder: ModelFolder) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(mineru_folder.path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said == {"opened": [], "heavy": []}
