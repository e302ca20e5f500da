"""Pictures of blocks: what stands on a page as one thing, cut out of it as a file.

Which blocks there are is told by the engines; where the files go in the end, by `commit`.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from mineru_daemon.documents import Page
from mineru_daemon.results import Block, BlockType
from mineru_daemon.storage import write_bytes_durably

FOLDER = "images"
"""Of the pictures, beside the content list, as MinerU has it."""

CUT_OUT: frozenset[BlockType] = frozenset({"image", "chart", "table", "equation"})
"""Types of blocks whose items in a content list have a picture."""

QUALITY = 90
"""Of JPEG: letters stay clean, and a page's table is some 100 kB."""

SMALLEST = 8
"""Pixels of a side below which there is nothing to see."""

MOST_ON_A_PAGE = 200
"""Pictures: bounds what a page made of specks writes."""

_TURNS = {
    90: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}
"""By degrees clockwise; Pillow counts the other way round."""


def cut_out(page: Page, rotation: int, blocks: list[Block], folder: Path) -> list[Block]:
    """The blocks, those with a picture naming its file, which then lies in `folder`/images.

    The page is drawn again at its own resolution; `rotation` is what set it upright, in degrees
    clockwise. A page without such blocks is not drawn. Raises what `Page.render` raises, and
    OSError.
    """
    wanted = [number for number, block in enumerate(blocks) if block.type in CUT_OUT]
    if not wanted:
        return blocks
    image = page.render().image
    turn = (rotation - page.rotation) % 360
    if turn:
        image = image.transpose(_TURNS[turn])
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    named = list(blocks)
    for place, number in enumerate(wanted[:MOST_ON_A_PAGE], 1):
        left, top, right, bottom = blocks[number].bbox
        box = (
            int(left * image.width),
            int(top * image.height),
            round(right * image.width),
            round(bottom * image.height),
        )
        if min(box[2] - box[0], box[3] - box[1]) < SMALLEST:
            continue
        name = f"{FOLDER}/{page.index + 1:04d}-{place:02d}.jpg"
        stream = io.BytesIO()
        image.crop(box).convert("RGB").save(stream, "JPEG", quality=QUALITY)
        # Flushed, as the page's result, which names it, is not read again.
        write_bytes_durably(folder / name, stream.getvalue())
        named[number] = blocks[number].model_copy(update={"image": name})
    return named
