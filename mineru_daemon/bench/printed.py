"""Pages for measuring whose text is known, because it was printed here and now.

Screenshots, scanned pages and digital PDFs of made-up sentences, no two alike. How well a page
was read is told by `word_f1`.
"""

from __future__ import annotations

import io
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

SYLLABLES = (
    "ar", "be", "con", "da", "el", "fin", "gra", "hol", "in", "jus", "kel", "lo", "mar", "nov",
    "or", "pen", "qua", "ri", "sol", "ter", "und", "vel", "win", "yor", "zu",
)  # fmt: skip

SCREEN = (1366, 768)
"""A laptop's, in pixels."""

SCREEN_4K = (3840, 2160)
A4_200_DPI = (1654, 2339)


@dataclass(frozen=True)
class Printed:
    """An image and what stands on it."""

    image: Image.Image
    text: str


def words(chosen: random.Random, count: int) -> list[str]:
    """Made-up words and numbers: a recogniser cannot know them."""
    return [
        str(chosen.randrange(10, 99999))
        if chosen.random() < 0.1
        else "".join(chosen.choices(SYLLABLES, k=chosen.choice((1, 2, 2, 3))))
        for _ in range(count)
    ]


def page(
    size: tuple[int, int],
    letters: int,
    seed: int,
    *,
    lines: int | None = None,
    paper: str = "white",
) -> Printed:
    """Lines of type of `letters` pixels on an RGB image of `size` pixels; all of it, or `lines`."""
    # Only now: options of commands are told without Pillow.
    from PIL import Image, ImageDraw, ImageFont

    chosen = random.Random(seed)  # noqa: S311 - has to be repeatable, not secret
    image = Image.new("RGB", size, paper)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(letters)
    margin = max(8, size[0] // 16)
    text: list[str] = []
    top = margin
    while top + letters * 1.5 < size[1] - margin and (lines is None or len(text) < lines):
        line: list[str] = []
        while True:
            longer = [*line, *words(chosen, 1)]
            if draw.textlength(" ".join(longer), font) > size[0] - 2 * margin:
                break
            line = longer
        draw.text((margin, top), " ".join(line), "black", font)
        text.append(" ".join(line))
        # Paragraphs of six lines, as pages have them.
        top += round(letters * (1.5 if len(text) % 6 else 2.5))
    return Printed(image, "\n".join(text))


def scan(seed: int, letters: int = 30, lines: int | None = None) -> Printed:
    """An A4 page at 200 dpi as a scanner gives it: grey paper, noise, a little blur."""
    import numpy as np
    from PIL import Image, ImageChops, ImageFilter

    clean = page(A4_200_DPI, letters, seed, lines=lines, paper="#f4f2ee")
    blurred = clean.image.filter(ImageFilter.GaussianBlur(0.6))
    grain = np.random.default_rng(seed).normal(128, 14, (blurred.height, blurred.width))
    noise = Image.fromarray(grain.clip(0, 255).astype(np.uint8)).convert("RGB")
    return Printed(ImageChops.overlay(blurred, noise), clean.text)


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The bytes of its file."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def pdf(seed: int, pages: int) -> bytes:
    """A digital PDF with a line of text on each page."""
    chosen = random.Random(seed)  # noqa: S311
    # Only now, as Pillow above: options of commands are told without it.
    from mineru_daemon.bench import cases

    return cases.pdf([" ".join(words(chosen, 5)) for _ in range(pages)])


def word_f1(truth: str, read: str) -> float:
    """F1 of the bags of words, 0..1; case, order and punctuation at the ends do not count."""
    one, other = Counter(_words(truth)), Counter(_words(read))
    common = (one & other).total()
    return 2 * common / (one.total() + other.total()) if common else 0.0


def _words(text: str) -> Iterable[str]:
    return re.findall(r"\w+", text.casefold())
