"""The engine computes what transformers computes: pixels, positions, features, logits, tokens.

The reference needs torch and transformers, which the engine does not; both run in float32.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_mineru import LAYOUT_SIZE
from tiny_mineru.pages import Page, pages

from mineru_daemon import cpu
from mineru_daemon.engines.mineru import loading, rope
from mineru_daemon.engines.mineru.client import OnnxVlmClient, mineru_client
from mineru_daemon.engines.mineru.folder import ModelFolder
from mineru_daemon.engines.mineru.generate import Prompt
from mineru_daemon.engines.mineru.image import Float
from mineru_daemon.engines.mineru.loading import SYSTEM_PROMPT, Model
from mineru_daemon.engines.mineru.prompt import chat
from mineru_daemon.engines.mineru.sampling import Sampler, Sampling

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

TOLERANCE = 1e-4
"""Of features and logits, absolute; both are of the order of 1 to 30."""

SIZES = [(448, 448), (300, 60), (61, 333), (801, 57), (28, 28), (57, 56), (1036, 500), (700, 90)]
"""Of crops, width and height: odd ones, and ones that are made larger or smaller."""

QUESTIONS = ["\nLayout Detection:", "\nText Recognition:", "\nTable Recognition:"]


@pytest.fixture(scope="module")
def model(mineru_folder: ModelFolder) -> Iterator[Model]:
    loaded = loading.load(mineru_folder, cpu.plan_threads(1))
    yield loaded
    loaded.close()


@pytest.fixture(scope="module", params=[set(), {"avx512f"}], ids=["products", "fused"])
def decoding(request: pytest.FixtureRequest, mineru_folder: ModelFolder) -> Iterator[Model]:
    """The model with each way of attention in decoding, which the CPU chooses elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "flags", lambda: frozenset(request.param))
        loaded = loading.load(mineru_folder, cpu.plan_threads(1))
    yield loaded
    loaded.close()


def _crop(size: tuple[int, int]) -> Image.Image:
    """A piece of a page, or a whole one squeezed, of this size."""
    image = pages()[SIZES.index(size) % len(pages())].image
    return (
        image.resize(size)
        if SIZES.index(size) % 2
        else image.crop((20, 30, 20 + size[0], 30 + size[1]))
    )


def _given(reference: Any, image: Image.Image, question: str) -> Any:
    """What the reference's processor makes of an image and a question."""
    processor = reference.client.processor
    text = processor.apply_chat_template(
        reference.client.build_messages(question), tokenize=False, add_generation_prompt=True
    )
    return processor(text=[text], images=[image], return_tensors="pt")


def _ids(model: Model, image: Image.Image, question: str) -> list[int]:
    text = chat(SYSTEM_PROMPT, question, image=True)
    return model.tokenizer.encode(text, model.processor.tokens(*image.size))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_patches_are_equal_to_the_last_bit(
    reference: Any, model: Model, size: tuple[int, int]
) -> None:
    image = _crop(size)
    given = _given(reference, image, QUESTIONS[0])
    patches, grid = model.processor(image)
    assert np.array_equal(patches, given.pixel_values.numpy())
    assert given.image_grid_thw.tolist() == [[1, grid.height, grid.width]]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("question", QUESTIONS)
def test_tokens_and_positions_of_a_prompt_are_equal(
    reference: Any, model: Model, size: tuple[int, int], question: str
) -> None:
    image = _crop(size)
    given = _given(reference, image, question)
    ids = _ids(model, image, question)
    assert ids == given.input_ids[0].tolist()
    expected, delta = reference.client.model.model.get_rope_index(
        given.input_ids,
        mm_token_type_ids=given.mm_token_type_ids,
        image_grid_thw=given.image_grid_thw,
    )
    _, grid = model.processor(image)
    places, following = rope.positions(ids, model.architecture.image_token_id, grid)
    assert np.array_equal(places, expected[:, 0].numpy())
    assert following == len(ids) + int(delta)


def test_angles_of_tokens_are_those_of_the_reference(reference: Any, model: Model) -> None:
    text = model.architecture.text
    places = np.random.default_rng(0).integers(0, text.max_positions, (3, 200))
    rotary = reference.client.model.model.language_model.rotary_emb
    # The last bits are those of the CPU: torch computes powers otherwise with AVX-512.
    np.testing.assert_array_max_ulp(
        rope.frequencies(text.head_dim, text.rope_theta), rotary.inv_freq.numpy(), maxulp=2
    )
    cos, sin = rotary(torch.zeros(1), torch.tensor(places)[:, None])
    mine = rope.text_angles(places, text)
    half = text.head_dim // 2
    for one, other in zip(mine, (cos, sin), strict=True):
        np.testing.assert_allclose(one, other[0, :, :half].numpy(), atol=1e-6)


def _features(reference: Any, given: Any) -> Float:
    with torch.no_grad():
        made = reference.client.model.model.get_image_features(
            given.pixel_values, given.image_grid_thw
        )
    made = getattr(made, "pooler_output", made)
    found: Float = (made[0] if isinstance(made, list | tuple) else made).numpy()
    return found


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_features_of_an_image_agree(reference: Any, model: Model, size: tuple[int, int]) -> None:
    image = _crop(size)
    expected = _features(reference, _given(reference, image, QUESTIONS[0]))
    patches, grid = model.processor(image)
    found = model.vision(patches, grid, lambda: None)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_logits_of_prompt_and_text_agree(
    reference: Any, decoding: Model, size: tuple[int, int]
) -> None:
    """Read as a prompt, and then token by token."""
    image, text = _crop(size), [5, 17, 300, 42, 42, 8]
    given = _given(reference, image, QUESTIONS[1])
    ids = given.input_ids[0].tolist()
    more = torch.tensor([text])
    with torch.no_grad():
        expected = reference.client.model(
            input_ids=torch.cat([given.input_ids, more], 1),
            attention_mask=torch.ones(1, len(ids) + len(text), dtype=torch.long),
            mm_token_type_ids=torch.cat([given.mm_token_type_ids, torch.zeros_like(more)], 1),
            pixel_values=given.pixel_values,
            image_grid_thw=given.image_grid_thw,
        ).logits[0, len(ids) - 1 :]
    patches, grid = decoding.processor(image)
    image_token = decoding.architecture.image_token_id
    places, following = rope.positions(ids, image_token, grid)
    embeds = decoding.decoder.embedding(ids)
    start = ids.index(image_token)
    embeds[start : start + grid.tokens] = decoding.vision(patches, grid, lambda: None)
    decoder = decoding.decoder
    decoder.reserve(1, len(ids) + len(text), 0)
    angles = rope.text_angles(places, decoding.architecture.text)
    found = [decoder.prefill(0, 0, embeds, angles)]
    for number, token in enumerate(text):
        found.append(decoder.decode([token], [len(ids) + number], [following + number])[0].copy())
    decoder.release()
    np.testing.assert_allclose(found, expected.numpy(), atol=TOLERANCE)


def test_a_choice_is_that_of_the_reference() -> None:
    """Repeated n-grams and repetition penalty, as transformers applies them."""
    from transformers.generation.logits_process import (
        NoRepeatNGramLogitsProcessor,
        RepetitionPenaltyLogitsProcessor,
    )

    rng = np.random.default_rng(3)
    for size, penalty in ((3, 1.0), (5, 1.2), (2, 0.9)):
        ids = rng.integers(0, 4, 20).tolist()
        sampler = Sampler(Sampling(size, penalty), ids)
        rules = [RepetitionPenaltyLogitsProcessor(penalty), NoRepeatNGramLogitsProcessor(size)]
        for _ in range(60):
            logits = rng.standard_normal(30, np.float32)
            logits[:4] += 2
            scores = torch.tensor(logits)[None]
            for rule in rules:
                scores = rule(torch.tensor([ids]), scores)
            expected = int(scores.argmax())
            assert sampler.choose(logits) == expected
            sampler.append(expected)
            ids.append(expected)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_all_tokens_of_a_page_are_those_of_the_reference(
    reference: Any, decoding: Model, page: Page
) -> None:
    """Layout and every block, all blocks in one batch."""
    mineru = reference
    blocks = [
        {"type": block.type, "bbox": [v / 1000 for v in block.box], "angle": block.angle}
        for block in page.blocks
    ]
    crops, questions, params, _ = mineru.helper.prepare_for_extract(
        page.image, mineru._coerce_external_layout_blocks(blocks)
    )
    images = [mineru.helper.prepare_for_layout(page.image), *crops]
    questions = [mineru.prompts["[layout]"], *questions]
    size = params[0].no_repeat_ngram_size
    bound = 200
    expected = []
    for image, question in zip(images, questions, strict=True):
        given = _given(reference, image, question)
        made = reference.client.model.generate(
            **given, do_sample=False, max_new_tokens=bound, no_repeat_ngram_size=size
        )
        tokens = made[0, given.input_ids.shape[1] :].tolist()
        expected.append([one for one in tokens if one not in decoding.tokenizer.stops])
    prompts = [
        Prompt(
            _ids(decoding, image, question),
            partial(decoding.processor, image),
            Sampling(no_repeat_ngram_size=size, max_new_tokens=bound),
        )
        for image, question in zip(images, questions, strict=True)
    ]
    found = decoding.generator.generate(prompts, lambda _stage: None, defaultdict(float))
    assert [made.tokens for made in found] == expected


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_all_blocks_of_a_page_are_those_of_the_reference(
    reference: Any, model: Model, page: Page
) -> None:
    mine = mineru_client(
        OnnxVlmClient(model, penalties=False), layout_image_size=(LAYOUT_SIZE, LAYOUT_SIZE)
    )
    assert mine.two_step_extract(page.image) == reference.two_step_extract(page.image)
