"""Teaches the tiny checkpoint its pages: `cd tests && python -m tiny_mineru.train FOLDER`.

Same seed, same steps: about half an hour on two cores of 2024, with torch and transformers. The
checkpoint that lies beside it was made by several runs of these courses while their numbers were
still being changed, so that a new run gives another one, which misreads other blocks.
The targets are the true blocks of `pages`, the crops are cut by the official client's own code
from the true boxes; boxes, light, grain and scale are varied a little, and the weights are
shaken by as much as rounding to four bits would, so that what is read here is also read
after a small change of pixels or of precision.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mineru_vl_utils.mineru_client import DEFAULT_PROMPTS, MinerUClientHelper
from mineru_vl_utils.structs import ContentBlock
from PIL import Image
from tokenizers import Tokenizer
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from tiny_mineru import LAYOUT_SIZE
from tiny_mineru.folder_format import train_tokenizer, write_settings, write_weights
from tiny_mineru.pages import Block, Page, pages
from tiny_mineru.reference import load_model, load_processor

SEED = 20


@dataclass(frozen=True)
class Phase:
    """A stretch of training."""

    steps: int
    crops: int
    """Crops seen per step."""
    pages: int
    """Whole pages seen per step."""
    layout_sizes: tuple[int, ...]
    """Edge of the whole page in pixels; one is drawn per step."""
    shaking: float
    """Noise on the weights of each matrix, relative to their standard deviation."""


@dataclass(frozen=True)
class Course:
    """Phases with one rise and fall of the learning rate."""

    phases: tuple[Phase, ...]
    peak_rate: float


COURSES = (
    # A small page costs a tenth of a full one and already shows which page it is.
    Course(
        (
            Phase(steps=330, crops=8, pages=6, layout_sizes=(336,), shaking=0.0),
            Phase(steps=60, crops=8, pages=3, layout_sizes=(560,), shaking=0.03),
            Phase(steps=100, crops=8, pages=1, layout_sizes=(756, 1036, 1036), shaking=0.05),
        ),
        peak_rate=2e-3,
    ),
    Course(
        (Phase(steps=360, crops=8, pages=6, layout_sizes=(LAYOUT_SIZE,), shaking=0.01),),
        peak_rate=1.5e-3,
    ),
    # By now the pages are known, but some of their crops are still taken for others.
    Course(
        (Phase(steps=130, crops=14, pages=2, layout_sizes=(LAYOUT_SIZE,), shaking=0.01),),
        peak_rate=1e-3,
    ),
)
WARM_UP = 20

GAIN = 3.0
"""Times transformers' initial weights (0.02), which are made for models ten times as wide."""

PICTURE_STD = 0.2
"""Of an image token's numbers over the tokens of all pictures, when training begins."""

HARD_SHARE = 0.05
"""Of an answer's tokens count once more, by half: those with the largest loss. Which page it is
shows in one token of a hundred, and else would hardly be learnt."""


@dataclass(frozen=True)
class Example:
    """A picture, the question and what is to be written."""

    image: Image.Image
    prompt: str
    answer: str


def all_texts() -> list[str]:
    """Every question and every answer: what the tokenizer learns its merges from."""
    texts = ["system\nYou are a helpful assistant.", "user\n", "assistant\n"]
    texts += sorted({prompt for prompt in DEFAULT_PROMPTS.values() if prompt})
    for page in pages():
        texts.append(page.layout)
        texts += [answer for block in page.blocks if (answer := block_answer(block))]
    return texts


def block_answer(block: Block) -> str | None:
    """What the model writes for a block's crop, image analysis included."""
    return block.answer or (block.analysis.answer if block.analysis else None)


def official_helper(layout_size: int = LAYOUT_SIZE) -> Any:
    """The client's code that prepares pictures, with its default settings."""
    return MinerUClientHelper(
        backend="transformers",
        prompts=DEFAULT_PROMPTS,
        sampling_params={},
        layout_image_size=(layout_size, layout_size),
        min_image_edge=28,
        max_image_edge_ratio=50,
        simple_post_process=False,
        handle_equation_block=True,
        abandon_list=False,
        abandon_paratext=False,
        image_analysis=True,
        debug=False,
    )


def layout_example(page: Page, size: int = LAYOUT_SIZE) -> Example:
    """The whole page and its blocks."""
    image = official_helper(size).prepare_for_layout(page.image)
    return Example(image, DEFAULT_PROMPTS["[layout]"], page.layout)


def crop_examples(page: Page, dice: np.random.Generator | None = None) -> list[Example]:
    """The crops that the client asks about; with dice, boxes are moved by a few thousandths."""
    blocks = []
    for block in page.blocks:
        box = np.array(block.box)
        if dice is not None:
            box = np.clip(box + dice.integers(-3, 4, 4), 0, 1000)
        blocks.append(ContentBlock(block.type, [int(v) / 1000 for v in box], block.angle))
    helper = official_helper()
    images, prompts, _, indices = helper.prepare_for_extract(page.image, blocks)
    answers = [block_answer(page.blocks[index]) for index in indices]
    return [
        Example(image, prompt, answer)
        for image, prompt, answer in zip(images, prompts, answers, strict=True)
        if answer is not None
    ]


def varied(example: Example, dice: np.random.Generator, rescale: bool) -> Example:
    """The same picture in another light, with grain, and in another size."""
    image = example.image
    if rescale and dice.random() < 0.5:
        factor = dice.uniform(0.75, 1.25)
        size = (math.ceil(image.width * factor), math.ceil(image.height * factor))
        image = official_helper().resize_by_need(image.resize(size, Image.Resampling.BICUBIC))
    pixels = np.asarray(image, np.float32)
    contrast, light = dice.uniform(0.9, 1.1), dice.uniform(-12, 12)
    grain = dice.standard_normal(pixels.shape, np.float32) * dice.uniform(0, 4)
    pixels = np.clip((pixels - 128) * contrast + 128 + light + grain, 0, 255)
    return Example(Image.fromarray(pixels.astype(np.uint8)), example.prompt, example.answer)


def encode(examples: list[Example], model: Any, processor: Any) -> dict[str, torch.Tensor]:
    """A batch for the model: all examples in one row, each with positions from 0.

    Positions that begin anew keep the examples apart; only the answers count for the loss.
    """
    tokenizer = processor.tokenizer
    parts: list[dict[str, torch.Tensor]] = []
    for example in examples:
        messages = [
            {"role": "system", "content": "You are a helpful assistant."},
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": example.prompt}],
            },
        ]
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        asked = processor(text=[text], images=[example.image], return_tensors="pt")
        answer = tokenizer([example.answer + "<|im_end|>"], return_tensors="pt")["input_ids"]
        ids = torch.cat([asked["input_ids"], answer], 1)
        kinds = (ids == processor.image_token_id).int()
        grid = asked["image_grid_thw"]
        picture_positions, _ = model.model.get_rope_index(ids, kinds, grid)
        plain_positions = torch.arange(ids.shape[1])[None, None]
        parts.append(
            {
                "input_ids": ids,
                "mm_token_type_ids": kinds,
                "position_ids": torch.cat([plain_positions, picture_positions]),
                "pixel_values": asked["pixel_values"],
                "image_grid_thw": grid,
                "labels": torch.cat([torch.full_like(asked["input_ids"], -100), answer], 1),
            }
        )
    along = {"pixel_values": 0, "image_grid_thw": 0}
    return {
        name: torch.cat([part[name] for part in parts], along.get(name, -1)) for name in parts[0]
    }


def answer_logits(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [tokens, vocabulary] in front of each token of the answers, and these tokens."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    targets = batch["labels"][:, 1:]
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    wanted = targets >= 0
    return logits[wanted], targets[wanted]


@contextmanager
def shaken(model: torch.nn.Module, amount: float) -> Iterator[None]:
    """Inside, every matrix carries noise; outside it is what it was."""
    kept = []
    for parameter in model.parameters():
        if amount and parameter.ndim > 1:
            kept.append((parameter, parameter.detach().clone()))
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter) * parameter.std() * amount)
    yield
    with torch.no_grad():
        for parameter, value in kept:
            parameter.copy_(value)


def centre_pictures(model: Any, processor: Any) -> None:
    """Take out what all image tokens have in common, most of it white paper.

    Beside it the differences are a fifth, and the decoder takes long to see them.
    """
    shown = [one for page in pages() for one in (layout_example(page, 336), *crop_examples(page))]
    batch = encode(shown, model, processor)
    with torch.no_grad():
        found = model.model.visual(batch["pixel_values"], grid_thw=batch["image_grid_thw"])
        tokens = found.pooler_output
        last = model.model.visual.merger.mlp[2]
        last.bias -= tokens.mean(0)
        for parameter in (last.weight, last.bias):
            parameter.mul_(PICTURE_STD / tokens.std(0).mean())


def rate(step: int, steps: int) -> float:
    """Share of the peak rate: a short rise, then half a cosine down to a fiftieth."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    done = (step - WARM_UP) / (steps - WARM_UP)
    return 0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2


def train(model: Any, processor: Any, course: Course, seed: int) -> None:
    """Run a course; prints the loss per token now and then, and the largest of any token."""
    dice = np.random.default_rng(seed)
    torch.manual_seed(seed)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
    )
    plan = [phase for phase in course.phases for _ in range(phase.steps)]
    started = time.monotonic()
    seen: list[tuple[float, float, float, float]] = []
    for step, phase in enumerate(plan):
        crops: list[Example] = []
        order: list[Page] = []
        while len(crops) < phase.crops:
            # Two crops of a page at a time, so that a step sees several pages.
            if not order:
                order = [pages()[i] for i in dice.permutation(len(pages()))]
            offered = crop_examples(order.pop(), dice)
            chosen = dice.permutation(len(offered))[:2]
            crops += [varied(offered[i], dice, rescale=True) for i in chosen]
        size = int(dice.choice(phase.layout_sizes))
        shown = [pages()[(step * phase.pages + n) % len(pages())] for n in range(phase.pages)]
        whole = [varied(layout_example(page, size), dice, rescale=False) for page in shown]
        losses = []
        with shaken(model, phase.shaking):
            for examples in (crops, whole):
                logits, targets = answer_logits(model, encode(examples, model, processor))
                each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
                hard = each.topk(max(4, round(HARD_SHARE * len(each)))).values
                (each.mean() + hard.mean() / 2).backward()
                losses += [each.mean().item(), each.max().item()]
        seen.append((losses[0], losses[1], losses[2], losses[3]))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = course.peak_rate * rate(step, len(plan))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 20 == 0 or step + 1 == len(plan):
            crop, worst, layout, worst_layout = (
                sum(column) / len(seen) for column in zip(*seen, strict=True)
            )
            print(
                f"step {step + 1}/{len(plan)}  crops {crop:.4f} at most {worst:.2f}  "
                f"layout {layout:.4f} at most {worst_layout:.2f}  "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
            seen.clear()


def smallest_margins(model: Any, processor: Any) -> dict[str, float]:
    """Per page, by how many logits the right token leads where it leads least."""
    margins = {}
    for page in pages():
        least = math.inf
        for example in (layout_example(page), *crop_examples(page)):
            with torch.no_grad():
                logits, targets = answer_logits(model, encode([example], model, processor))
            right = logits.gather(1, targets[:, None])[:, 0]
            others = logits.scatter(1, targets[:, None], -math.inf).max(1).values
            least = min(least, (right - others).min().item())
        margins[page.name] = least
    return margins


def new_model(folder: Path, tokenizer: Tokenizer) -> tuple[Any, Any]:
    """Model with fresh weights and processor; writes the folder's settings."""
    write_settings(folder, tokenizer)
    torch.manual_seed(SEED)
    model = Qwen2VLForConditionalGeneration(Qwen2VLConfig.from_pretrained(folder)).float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(GAIN)
    return model, load_processor(folder)


def main() -> None:
    """Train and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--from", dest="start", type=Path, metavar="FOLDER", help="what earlier courses left"
    )
    parser.add_argument("--after", type=int, default=0, metavar="N", help="how many they were")
    options = parser.parse_args()
    # So many threads add in one order.
    torch.set_num_threads(2)
    model, processor = new_model(options.folder, train_tokenizer(all_texts()))
    if options.start is None:
        centre_pictures(model, processor)
    else:
        model = load_model(options.start).train()
    for number, course in enumerate(COURSES):
        if number >= options.after:
            train(model, processor, course, SEED + number)
            write_weights(options.folder, model.state_dict())
            # A course begins with what the one before it left in a file.
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.copy_(parameter.to(torch.bfloat16))
    for name, margin in smallest_margins(model, processor).items():
        print(f"{name}: smallest lead {margin:.2f}")


if __name__ == "__main__":
    main()
