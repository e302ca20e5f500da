"""The pages that the tiny checkpoint reads, drawn here, and every block that is on them.

Each page knows its blocks in reading order: what the model is to write (training targets) and
what the official client makes of it (what tests compare with). Training and reading are
elsewhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont

Angle = Literal[0, 90, 180, 270]
Box = tuple[int, int, int, int]

TURNS: dict[Angle, str] = {
    0: "<|rotate_up|>",
    90: "<|rotate_right|>",
    180: "<|rotate_down|>",
    270: "<|rotate_left|>",
}
"""Angle in degrees, counter-clockwise, by which the client turns a crop to make it upright."""

CONTINUES = "<|txt_contd_tgt|>"
"""Follows the turn of a text block that continues the text block before it."""

_INK, _SOFT, _LINE = (24, 26, 30), (92, 98, 108), (120, 126, 134)
_BAR, _ACCENT = (44, 62, 80), (31, 97, 160)
_MARGIN = 4
"""Paper around the ink of a block that belongs to its box, in pixels."""


@dataclass(frozen=True)
class Analysis:
    """What is in a picture."""

    answer: str
    """What the model writes for the crop."""
    content: str
    """What the client returns of it."""
    sub_type: str


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    type: str
    box: Box
    """Left, top, right, bottom in thousandths of the page's width and height."""
    answer: str | None
    """What the model writes for the crop; None: the client does not ask."""
    content: str | None
    """What the client returns; None: nothing."""
    angle: Angle = 0
    continues: bool = False
    """Continues the text block before it."""
    analysis: Analysis | None = None
    """Of pictures: they are read only when image analysis is asked for."""


@dataclass(frozen=True)
class Page:
    """A drawn page, RGB, and its blocks in reading order."""

    name: str
    image: Image.Image
    blocks: tuple[Block, ...]

    @property
    def layout(self) -> str:
        """What the model writes for the whole page."""
        return "\n".join(layout_line(block) for block in self.blocks)


def layout_line(block: Block) -> str:
    """The line of a layout answer that stands for this block."""
    box = " ".join(f"{value:03d}" for value in block.box)
    line = f"<|box_start|>{box}<|box_end|><|ref_start|>{block.type}<|ref_end|>{TURNS[block.angle]}"
    return line + (CONTINUES if block.continues else "")


def client_blocks(page: Page, image_analysis: bool = False) -> list[dict[str, Any]]:
    """What the official client's `two_step_extract` returns for a page that is read well."""
    found = []
    for block in page.blocks:
        told: dict[str, Any] = {
            # The client's post-processing makes texts of the entries of a list.
            "type": "text" if block.type == "list_item" else block.type,
            "bbox": [value / 1000 for value in block.box],
            "angle": block.angle,
            "content": block.content,
        }
        if told["type"] == "text":
            told["merge_prev"] = block.continues
        if image_analysis and block.analysis is not None:
            told["content"] = block.analysis.content
            told["sub_type"] = block.analysis.sub_type
        found.append(told)
    return found


@functools.cache
def pages() -> tuple[Page, ...]:
    """All pages; sizes and aspect ratios all differ. The images are shared: do not draw on them."""
    return (_article(), _table(), _formulas(), _turned(), _screen(), _receipt())


@dataclass
class _Sheet:
    """A page while it is drawn."""

    image: Image.Image
    blocks: list[Block] = field(default_factory=list)

    @property
    def draw(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)

    def thousandths(self, box: Sequence[float], margin: int = _MARGIN) -> Box:
        """A box in pixels, a little wider, as the model gives it."""
        left, top, right, bottom = box
        width, height = self.image.size
        return (
            max(0, math.floor((left - margin) * 1000 / width)),
            max(0, math.floor((top - margin) * 1000 / height)),
            min(1000, math.ceil((right + margin) * 1000 / width)),
            min(1000, math.ceil((bottom + margin) * 1000 / height)),
        )

    def write(
        self,
        kind: str,
        at: tuple[int, int],
        lines: Sequence[str],
        size: int,
        *,
        angle: Angle = 0,
        continues: bool = False,
        ink: tuple[int, int, int] = _INK,
        said: str | None = None,
        margin: int = _MARGIN,
    ) -> None:
        """Draw lines of text with their upper left corner (after turning) at a place.

        What is to be read is the lines as one, unless something else is said.
        """
        text = "\n".join(lines)
        font = ImageFont.load_default(size)
        left, top, right, bottom = self.draw.multiline_textbbox((0, 0), text, font, spacing=6)
        mask = Image.new("L", (math.ceil(right - left), math.ceil(bottom - top)))
        ImageDraw.Draw(mask).multiline_text((-left, -top), text, 255, font, spacing=6)
        mask = mask.rotate(-angle, expand=True)
        self.image.paste(ink, at, mask)
        box = (*at, at[0] + mask.width, at[1] + mask.height)
        said = said or " ".join(lines)
        place = self.thousandths(box, margin)
        self.blocks.append(Block(kind, place, said, said, angle, continues))


def _sheet(width: int, height: int, paper: tuple[int, int, int] = (255, 255, 255)) -> _Sheet:
    return _Sheet(Image.new("RGB", (width, height), paper))


def _article() -> Page:
    """Two columns of one story: the second column goes on where the first ends."""
    sheet = _sheet(719, 931)
    sheet.write("header", (56, 34), ["The Quay Observer"], 15, ink=_SOFT)
    sheet.write("title", (56, 92), ["A lantern for the north pier"], 34)
    first = [
        "The old lamp was lit with oil",
        "and seen from nine miles away.",
        "Its keeper climbed 84 steps",
        "each evening and wrote down",
        "the wind, the tide and every",
    ]
    second = [
        "ship that passed the bar.",
        "“Nobody reads them,” he said,",
        "but the books have been kept",
        "since 1871 and fill a room.",
    ]
    sheet.write("text", (56, 170), first, 20)
    sheet.write("text", (386, 170), second, 20, continues=True)
    sheet.draw.line((56, 872, 663, 872), _LINE)
    sheet.write("page_number", (348, 888), ["17"], 16)
    return Page("article", sheet.image, tuple(sheet.blocks))


def _table() -> Page:
    """A caption, a ruled table with cells merged both ways and an empty one, a footnote."""
    sheet = _sheet(901, 640)
    sheet.write("table_caption", (70, 58), ["Table 2: Water levels of 14 March"], 24)
    columns, top, height = (70, 310, 470, 630, 780), 118, 52
    rows = (
        ("Station", "Water level", None, "Wind"),
        (None, "High", "Low", None),
        ("North quay", "3.42 m", "0.87 m", "W 5"),
        ("Old harbour", "3.18 m", "", "SW 4"),
        ("Mill weir", "2.96 m", "0.55 m", "W 3"),
    )
    draw = sheet.draw
    bottom = top + height * len(rows)
    draw.rectangle((columns[0], top, columns[-1], bottom), outline=_INK, width=2)
    for number in range(1, len(rows)):
        # Station and Wind span the two lines of the head.
        ends = (columns[1], columns[3]) if number == 1 else (columns[0], columns[-1])
        draw.line((ends[0], top + height * number, ends[1], top + height * number), _INK, 2)
    for number, x in enumerate(columns[1:-1], 1):
        # Water level spans two columns.
        draw.line((x, top + (height if number == 2 else 0), x, bottom), _INK, 2)
    font = ImageFont.load_default(22)
    for number, row in enumerate(rows):
        for x, cell in zip(columns, row, strict=False):
            draw.text((x + 14, top + height * number + height / 2), cell or "", _INK, font, "lm")
    otsl = (
        "<fcel>Station<fcel>Water level<lcel><fcel>Wind<nl>"
        "<ucel><fcel>High<fcel>Low<ucel><nl>"
        "<fcel>North quay<fcel>3.42 m<fcel>0.87 m<fcel>W 5<nl>"
        "<fcel>Old harbour<fcel>3.18 m<ecel><fcel>SW 4<nl>"
        "<fcel>Mill weir<fcel>2.96 m<fcel>0.55 m<fcel>W 3<nl>"
    )
    html = (
        '<table><tr><td rowspan="2">Station</td><td colspan="2">Water level</td>'
        '<td rowspan="2">Wind</td></tr><tr><td>High</td><td>Low</td></tr>'
        "<tr><td>North quay</td><td>3.42 m</td><td>0.87 m</td><td>W 5</td></tr>"
        "<tr><td>Old harbour</td><td>3.18 m</td><td></td><td>SW 4</td></tr>"
        "<tr><td>Mill weir</td><td>2.96 m</td><td>0.55 m</td><td>W 3</td></tr></table>"
    )
    box = sheet.thousandths((columns[0], top, columns[-1], bottom))
    sheet.blocks.append(Block("table", box, otsl, html))
    sheet.write("table_footnote", (70, 410), ["Levels ±0.02 m, read at 6 h and 18 h"], 18)
    return Page("table", sheet.image, tuple(sheet.blocks))


def _formulas() -> Page:
    """Two displayed formulas, a fraction and a root, among text."""
    sheet = _sheet(640, 877)
    draw = sheet.draw
    sheet.write("title", (60, 60), ["3. Energy of a wave"], 28)
    sheet.write(
        "text",
        (60, 128),
        ["A body of mass m that moves with", "speed v at height h has the energy"],
        22,
    )
    font, small = ImageFont.load_default(34), ImageFont.load_default(20)
    draw.text((180, 290), "E =", _INK, font, "ls")
    draw.text((262, 268), "mv", _INK, font, "ls")
    draw.text((314, 252), "2", _INK, small, "ls")
    draw.line((256, 280, 332, 280), _INK, 2)
    draw.text((284, 316), "2", _INK, font, "ls")
    draw.text((344, 290), "+ mgh", _INK, font, "ls")
    _formula(sheet, (180, 232, 452, 318), r"E = \frac {m v ^ {2}}{2} + m g h")
    sheet.write("text", (60, 372), ["and the length of its path is given by"], 22)
    draw.text((200, 496), "c =", _INK, font, "ls")
    draw.line((268, 480, 276, 476, 286, 500, 298, 452, 442, 452), _INK, 2)
    draw.text((304, 496), "a", _INK, font, "ls")
    draw.text((326, 480), "2", _INK, small, "ls")
    draw.text((346, 496), "+ b", _INK, font, "ls")
    draw.text((404, 480), "2", _INK, small, "ls")
    _formula(sheet, (200, 450, 444, 502), r"c = \sqrt {a ^ {2} + b ^ {2}}")
    return Page("formulas", sheet.image, tuple(sheet.blocks))


def _formula(sheet: _Sheet, box: Box, latex: str) -> None:
    answer = f"\\[\n{latex}\n\\]"
    sheet.blocks.append(Block("equation", sheet.thousandths(box), answer, answer))


def _turned() -> Page:
    """Blocks that stand on each of their sides."""
    sheet = _sheet(555, 777)
    sheet.write("title", (150, 48), ["Plan of the mole"], 26)
    sheet.write("text", (44, 140), ["Breakwater, built 1902,", "length 310 m"], 20, angle=270)
    sheet.write("text", (458, 150), ["Slipway for boats up", "to 12 tons"], 20, angle=90)
    draw = sheet.draw
    draw.polygon([(150, 150), (400, 180), (380, 420), (170, 400)], (222, 226, 230), _LINE)
    draw.ellipse((230, 240, 320, 330), (255, 255, 255), _LINE, 3)
    box = sheet.thousandths((150, 150, 400, 420))
    caption = "Outline of a mole with a round tower"
    analysis = Analysis(
        f"<|class_start|>natural_image<|class_end|><|caption_start|>{caption}<|caption_end|>",
        caption,
        "natural_image",
    )
    sheet.blocks.append(Block("image", box, None, None, analysis=analysis))
    sheet.write("image_caption", (160, 440), ["Fig. 4: the mole from above"], 18)
    sheet.write("text", (120, 560), ["Printed upside down", "to save one sheet"], 22, angle=180)
    return Page("turned", sheet.image, tuple(sheet.blocks))


def _screen() -> Page:
    """A window of a desktop: wide, white on dark, with a chart and a line of tiny print."""
    sheet = _sheet(1366, 421, (246, 247, 249))
    draw = sheet.draw
    draw.rectangle((0, 0, 1366, 46), _BAR)
    sheet.write("header", (24, 15), ["Tide desk - gauge 4"], 20, ink=(255, 255, 255))
    sheet.write("text", (40, 84), ["Next high water at 18:42", "in 3 hours and 7 minutes"], 24)
    sheet.write("text", (40, 190), ["Battery 12.6 V · cabin 21°"], 24, ink=_ACCENT)
    draw.rectangle((700, 76, 1320, 340), (255, 255, 255), _LINE)
    font = ImageFont.load_default(18)
    for number, (name, value) in enumerate((("Mon", 3), ("Tue", 5), ("Wed", 2))):
        x = 780 + 180 * number
        draw.rectangle((x, 300 - 40 * value, x + 90, 300), _ACCENT)
        draw.text((x + 45, 320), name, _INK, font, "mm")
        draw.text((x + 45, 286 - 40 * value), str(value), _INK, font, "mm")
    table = "| Day | Calls |\n| --- | --- |\n| Mon | 3 |\n| Tue | 5 |\n| Wed | 2 |"
    analysis = Analysis(
        "<|class_start|>chart<|class_end|><|sub_class_start|>bar<|sub_class_end|>"
        "<|caption_start|>Calls of three days<|caption_end|>"
        f"<|content_start|>{table}<|content_end|>",
        table,
        "bar",
    )
    box = sheet.thousandths((700, 76, 1320, 340))
    sheet.blocks.append(Block("chart", box, None, None, analysis=analysis))
    # So flat that the client pads the crop and enlarges it.
    words = "Receiver on, last packet 14:31, signal good, no alarms, disk 61 percent, clock in step"
    apart = [words.replace(", ", " " * 48)]
    sheet.write("footer", (12, 398), apart, 13, said=words, margin=2)
    return Page("screen", sheet.image, tuple(sheet.blocks))


def _receipt() -> Page:
    """Narrow and tall, with a list."""
    sheet = _sheet(301, 1007)
    sheet.write("title", (70, 50), ["HARBOUR", "KIOSK"], 30)
    items = ["- 2 coffee", "- 1 bun with cheese", "- 1 map of the coast"]
    first = len(sheet.blocks)
    for number, item in enumerate(items):
        sheet.write("list_item", (28, 190 + 46 * number), [item], 22)
    boxes = [block.box for block in sheet.blocks[first:]]
    whole = (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )
    sheet.blocks.insert(first, Block("list", whole, None, None))
    sheet.draw.line((28, 380, 273, 380), _LINE, 2)
    sheet.write("text", (28, 404), ["Total 11.40", "paid in cash"], 26)
    sheet.write("text", (28, 880), ["Thank you", "and a safe voyage!"], 22)
    return Page("receipt", sheet.image, tuple(sheet.blocks))
