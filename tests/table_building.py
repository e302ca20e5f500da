"""Tables that the tests draw themselves, and grids without a picture."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mineru_daemon.engines.ppocr.detection import Pixels
from mineru_daemon.engines.ppocr.image_tables.cells import Cell
from mineru_daemon.engines.ppocr.lines import TextLine

PRICES = [["Fruit", "Price", "Stock"], ["Apple", "1.20", "15"], ["Pear", "2.40", "7"]]
COLUMN, ROW = 200, 60


def line(text: str, x: float, y: float, width: float | None = None) -> TextLine:
    right, bottom = x + (width or 12 * len(text)), y + 24
    return TextLine(((x, y), (right, y), (right, bottom), (x, bottom)), text, 0.99)


def lines_of(rows: Sequence[Sequence[str]], left: float = 0, top: float = 0) -> list[TextLine]:
    return [
        line(text, left + column * COLUMN + 20, top + row * ROW + 18)
        for row, texts in enumerate(rows)
        for column, text in enumerate(texts)
        if text
    ]


def grid(rows: int, columns: int) -> list[Cell]:
    return [
        Cell(
            row, column, 1, 1, (column * COLUMN, row * ROW, (column + 1) * COLUMN, (row + 1) * ROW)
        )
        for row in range(rows)
        for column in range(columns)
    ]


def drawn(rows: Sequence[Sequence[str]], left: int = 0, top: int = 0) -> Pixels:
    across, down = COLUMN * len(rows[0]), ROW * len(rows)
    image = Image.new("RGB", (left + across + 2, top + down + 2), "white")
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=24)
    for row, texts in enumerate(rows):
        for column, text in enumerate(texts):
            x, y = left + column * COLUMN, top + row * ROW
            pen.rectangle((x, y, x + COLUMN, y + ROW), outline="black", width=2)
            pen.text((x + 20, y + 16), text, fill="black", font=font)
    return np.array(image)


def texts(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]
