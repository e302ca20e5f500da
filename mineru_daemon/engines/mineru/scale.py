"""At which size the page and its blocks are shown to the vision encoder.

Pure functions. What an image costs grows with its area and faster; what reading needs is
letters of some height. A block's letters are measured here, and it is shown no larger than
they need. Nothing is ever enlarged.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Preset = Literal["quality", "balanced", "economy"]
Size = tuple[int, int]
"""Width and height in pixels."""

LAYOUT_SIDES: dict[Preset, int] = {"quality": 1036, "balanced": 672, "economy": 672}
"""Pixels of the square that the page is squeezed into for its layout. 1036 is the official
client's. Print of 10 points in lines of 12 is then as high as 8 pixels on A4, lines are 10 apart:
enough to see blocks, not to read them."""

LONGEST_SIDES: dict[Preset, int] = {"quality": 0, "balanced": 0, "economy": 768}
"""Of a block, in pixels; 0 is no bound."""

LETTERS: dict[Preset, dict[str, float]] = {
    "quality": {},
    "balanced": {"text": 12.0, "table": 14.0, "equation": 16.0},
    "economy": {"text": 10.0, "table": 12.0, "equation": 14.0},
}
"""Height of capitals in pixels that reading needs, at least: sides are rounded up to whole image
tokens. At the official client's 200 dpi, 12 are those of print of 6 points, the size of the
smallest notes, which the model has to read as they are. Tables are read with their rules, and
formulas with letters above and below the line that are smaller than those that are counted."""

TEXT = frozenset(
    {"text", "title", "doc_title", "paragraph_title", "list_item", "aside_text", "ref_text"}
    | {"index", "phonetic", "code", "algorithm", "header", "footer", "page_number"}
    | {"page_footnote", "caption", "table_caption", "image_caption", "code_caption"}
    | {"footnote", "table_footnote", "image_footnote"}
)
"""Types of blocks that hold nothing but lines of text."""

TOKEN_SIDE = 28
"""Pixels of an image token; sides are multiples of it."""

SLACK = 0.05
"""Of a token's side that may be wanting, rather than to add a whole token."""

LEAST_CONTRAST = 40
"""Difference to the ground, of 255, below which there is no text to be measured."""

LEAST_LETTER = 6
"""Pixels. What is lower are dots, dust and the grain of a scan."""

FEWEST_LETTERS = 3

FLATTEST = 12
"""Times as wide as high is a row of joined letters at most; what is flatter is a rule."""

TALLEST = 3
"""Times the usual height is a letter at most; what is taller are brackets and frames."""

CAPITALS = 75
"""Percentile of the heights: of letters in print more than half are without ascenders, more
than a quarter as high as capitals."""


def layout_side(preset: Preset, max_image_size: int) -> int:
    """Side of the square in pixels; `max_image_size` 0 is no bound."""
    side = LAYOUT_SIDES[preset]
    return min(side, max_image_size) if max_image_size else side


def crop_size(image: Image.Image, kind: str, preset: Preset, max_image_size: int) -> Size:
    """The size at which a block of type `kind` is shown; `max_image_size` 0 is no bound."""
    factor = 1.0
    for longest in (LONGEST_SIDES[preset], max_image_size):
        if longest:
            factor = min(factor, longest / max(image.size))
    needed = LETTERS[preset].get("text" if kind in TEXT else kind)
    if needed is not None and (found := letter_height(image)) is not None:
        enough = needed / found
        if enough < factor:
            # What is rounded to the nearest token may lose a third of a line's height.
            width, height = (_tokens(side * enough, side * factor) for side in image.size)
            return width * TOKEN_SIDE, height * TOKEN_SIDE
    width, height = (max(1, round(side * factor)) for side in image.size)
    return width, height


def _tokens(least: float, most: float) -> int:
    """Tokens of a side of `least` pixels, rounded up, but no more than one of `most` is given."""
    wanted = math.ceil(least / TOKEN_SIDE - SLACK)
    return max(1, min(wanted, round(most / TOKEN_SIDE)))


def letter_height(image: Image.Image) -> float | None:
    """Height of capitals in pixels of an image of upright text; None where none is found.

    Dark text on a light ground or the other way round. What it takes for letters are spots
    of ink; letters that touch each other in a line do not change their height.
    """
    gray: npt.NDArray[np.uint8] = np.asarray(image.convert("L"))
    ground = np.bincount(gray.reshape(-1), minlength=256).argmax()
    ink = cv2.absdiff(gray, np.full_like(gray, ground))
    contrast = int(ink.max())
    if contrast < LEAST_CONTRAST:
        return None
    _, _, spots, _ = cv2.connectedComponentsWithStats((ink > contrast // 2).astype(np.uint8))
    widths, heights = spots[1:, cv2.CC_STAT_WIDTH], spots[1:, cv2.CC_STAT_HEIGHT]
    heights = heights[(heights >= LEAST_LETTER) & (widths <= FLATTEST * heights)]
    if len(heights) < FEWEST_LETTERS:
        return None
    return float(np.percentile(heights[heights <= TALLEST * np.median(heights)], CAPITALS))
