"""What is asked of every engine: stages of reading a page, and whole pages.

Responsible for sizes, prompts and pictures, so that all are asked the same. Every round has
pictures and prompts of its own, as engines keep what they have read.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mineru_daemon.bench.model_variants import PAGE_ROWS, Kind, Variant

if TYPE_CHECKING:
    from PIL import Image

LAYOUT_SIDE = 1036
"""Of the square in which the official client shows a page."""

CROP = (896, 140)
"""Four lines of a column at 200 dpi: 64 x 10 = 640 patches, 160 image tokens."""

LINES = 4
LETTERS = 29
"""Pixels of the type's size: 10.5 points at 200 dpi."""

WORDS = "the of and to in is that for it as was with be by on not he his but at are this have"


@dataclass(frozen=True)
class Sizes:
    """How much is asked."""

    vision: tuple[int, ...] = (448, 756, LAYOUT_SIDE)
    """Sides of squares in pixels."""
    prefill: tuple[int, ...] = (512, 1400)
    """Tokens of a prompt."""
    context: int = 1500
    """Tokens before those that one sequence is continued by."""
    decoded: int = 33
    """Tokens that are written: the first comes of the prompt, the others are decoded."""
    batch: int = 8
    """Sequences that are decoded together."""
    batch_context: int = 200
    """Of each: a crop of 160 image tokens and its question."""
    layout: int = LAYOUT_SIDE
    crops: int = 15
    crop_tokens: int = 60
    """That are written to the layout and to each crop."""


SMALL = Sizes((112,), (32,), 48, 5, 3, 24, 112, 2, 3)
"""To see that all works; no figures."""


class Pictures:
    """PNG files of pages and crops, made on demand in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def page(self, side: int, seed: int) -> str:
        """A page full of text, squeezed into a square."""
        return self._made(f"page-{side}-{seed}", (side, side), side // 36, seed)

    def crop(self, seed: int) -> str:
        """A paragraph of `LINES` lines."""
        return self._made(f"crop-{seed}", CROP, LETTERS, seed)

    def _made(self, name: str, size: tuple[int, int], letters: int, seed: int) -> str:
        path = self._folder / f"{name}.png"
        if not path.exists():
            text(size, letters, seed).save(path)
        return str(path)


def text(size: tuple[int, int], letters: int, seed: int) -> Image.Image:
    """Lines of words in type of `letters` pixels, RGB of `size`; no two seeds are alike."""
    # Only now: options of commands are told without Pillow.
    from PIL import Image, ImageDraw, ImageFont

    chosen = random.Random(seed)  # noqa: S311
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(letters)
    pitch = max(1, size[1] // max(1, round(size[1] / (letters * 1.2))))
    for top in range(0, size[1] - letters, pitch):
        words = f"{seed} " if not top else ""
        while draw.textlength(words, font) < size[0]:
            words += chosen.choice(WORDS.split()) + " "
        draw.text((4, top + 2), words, "black", font)
    return image


@dataclass(frozen=True)
class Stage:
    """One thing that is measured."""

    name: str
    label: str
    request: Callable[[Variant, int], dict[str, Any]]
    """For a variant in a round."""
    rate: bool = False
    """Told in tokens per second rather than in seconds."""
    kinds: tuple[Kind, ...] = tuple(PAGE_ROWS)
    """Who is asked."""
    page: bool = False
    one: str | None = None
    """Of a batch: the stage in which one sequence is decoded alone."""


def stages(sizes: Sizes, pictures: Pictures, page_rows: int | None = None) -> list[Stage]:
    """All that are asked of running engines, cheap ones first."""
    found = [_prefill(tokens) for tokens in sizes.prefill]
    found.append(_decode(f"decode-{sizes.context}", 1, sizes.context, sizes.decoded))
    # One sequence where the batch is, too: what the batch brings, and against whom.
    one = _decode(f"decode-{sizes.batch_context}", 1, sizes.batch_context, sizes.decoded)
    batch = _decode(f"batch-{sizes.batch}", sizes.batch, sizes.batch_context, sizes.decoded)
    found += [one, replace(batch, one=one.name)]
    found += [_vision(side, pictures) for side in sizes.vision]
    found.append(_page("quality", sizes, pictures, page_rows))
    found += [_page(preset, sizes, pictures, page_rows) for preset in ("balanced", "economy")]
    return found


def _vision(side: int, pictures: Pictures) -> Stage:
    return Stage(
        f"vision-{side}",
        f"vision, {side} x {side} pixels",
        lambda _, number: {
            "stage": "vision",
            "image": pictures.page(side, number),
            "seed": 1_000 + number,
        },
    )


def _prefill(tokens: int) -> Stage:
    return Stage(
        f"prefill-{tokens}",
        f"prefill of {tokens} tokens",
        lambda _, number: {"stage": "prefill", "tokens": tokens, "seed": 2_000 + number},
        rate=True,
    )


def _decode(name: str, rows: int, context: int, tokens: int) -> Stage:
    what = "one sequence" if rows == 1 else f"{rows} sequences together"
    return Stage(
        name,
        f"decode of {what} at {context} tokens",
        lambda _, number: {
            "stage": "decode",
            "rows": rows,
            "context": context,
            "tokens": tokens,
            "seed": 3_000 + number,
        },
        rate=True,
    )


def _page(preset: str, sizes: Sizes, pictures: Pictures, rows: int | None) -> Stage:
    """`quality` is what the official client does; the other presets are of our engine only."""

    def request(variant: Variant, number: int) -> dict[str, Any]:
        first = 100 * number
        asked = {
            "stage": "page",
            "layout": pictures.page(sizes.layout, 4_000 + number),
            "crops": [pictures.crop(first + place) for place in range(sizes.crops)],
            "tokens": sizes.crop_tokens,
            "rows": rows or PAGE_ROWS[variant.kind],
        }
        return asked | ({"preset": preset} if variant.kind == "ours" else {})

    official = preset == "quality"
    label = f"page: layout and {sizes.crops} crops, {sizes.crop_tokens} tokens each"
    return Stage(
        "page" if official else f"page-{preset}",
        label if official else f"{label}, preset {preset}",
        request,
        kinds=tuple(PAGE_ROWS) if official else ("ours",),
        page=True,
    )
