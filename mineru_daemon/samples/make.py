"""Make the sample files anew: `python -m mineru_daemon.samples.make`.

Says how the texts are laid out; what they say is in the package itself. The PDF comes out
the same byte for byte; the screenshot's bytes depend on the versions of Pillow and zlib.
"""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from mineru_daemon import samples
from mineru_daemon.samples import Part
from mineru_daemon.samples.pdf_file import pdf_file, stream

_PAGE = (595, 842)
"""A4 in points."""
_LEFT, _RIGHT, _TOP = 64, 531, 770
_COLUMNS = (70, 130, 310, 380, 462)
"""Where the cells of the table begin, in points."""


def pdf() -> bytes:
    """The sample PDF: plain objects, Helvetica of the reader, no dates, no identifiers."""
    contents = [_page_content(parts) for parts in samples.PDF_PAGES]
    kids = " ".join(f"{5 + 2 * number} 0 R" for number in range(len(contents)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /Lang (en) >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>".encode(),
        _font("Helvetica"),
        _font("Helvetica-Bold"),
    ]
    for number, content in enumerate(contents):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {_PAGE[0]} {_PAGE[1]}] "
            f"/Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> "
            f"/Contents {6 + 2 * number} 0 R >>".encode()
        )
        objects.append(stream(content))
    return pdf_file(objects, b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")


def _font(name: str) -> bytes:
    return (
        f"<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>"
    ).encode()


def _page_content(parts: tuple[Part, ...]) -> bytes:
    """Drawing operators of one page, from top to bottom."""
    out: list[str] = []
    y = float(_TOP)
    for index, part in enumerate(parts):
        if part.kind == "title":
            size = 20 if index == 0 else 14
            y -= 0 if index == 0 else 10
            out.append(_text(_LEFT, y, part.lines[0], size, bold=True))
            y -= size + 12
        elif part.kind == "table":
            y = _table(out, y, part.rows)
        else:
            indent = 14 if part.kind == "list" else 0
            for line in part.lines:
                out.append(_text(_LEFT + indent, y, line, 11))
                y -= 16
            y -= 12
    return "\n".join(out).encode("cp1252")


def _table(out: list[str], y: float, rows: tuple[tuple[str, ...], ...]) -> float:
    """A ruled table whose first line of text stands at `y`; returns where to go on."""
    height = 21
    top = y + 14
    for number, row in enumerate(rows):
        for x, cell in zip(_COLUMNS, row, strict=True):
            if cell:
                out.append(_text(x, top - 14 - number * height, cell, 10.5, bold=number == 0))
    bottom = top - len(rows) * height
    out.append("0.8 w")
    for number in range(len(rows) + 1):
        out.append(f"{_LEFT} {top - number * height} m {_RIGHT} {top - number * height} l S")
    for x in (*(column - 6 for column in _COLUMNS), _RIGHT):
        out.append(f"{x} {top} m {x} {bottom} l S")
    return bottom - 28


def _text(x: float, y: float, text: str, size: float, *, bold: bool = False) -> str:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /F{2 if bold else 1} {size} Tf {x} {y} Td ({escaped}) Tj ET"


_SIZE = (1280, 800)
_INK, _SOFT, _LINE = (32, 36, 42), (96, 104, 114), (208, 212, 218)
_BAR, _SIDE, _CHOSEN, _ACCENT = (44, 62, 80), (240, 242, 245), (214, 228, 244), (31, 97, 160)


def screenshot() -> Image.Image:
    """A window as a desktop shows it, RGB of 1280 x 800 pixels."""
    image = Image.new("RGB", _SIZE, "white")
    draw = ImageDraw.Draw(image)

    def write(x: int, y: int, text: str, size: int = 16, fill: tuple[int, int, int] = _INK) -> int:
        font = ImageFont.load_default(size)
        draw.text((x, y), text, fill, font, anchor="lm")
        return round(draw.textlength(text, font))

    draw.rectangle((0, 0, 1280, 40), _BAR)
    write(18, 20, samples.WINDOW_TITLE, 17, (255, 255, 255))
    for x, colour in ((1196, (95, 190, 110)), (1222, (230, 180, 70)), (1248, (225, 95, 85))):
        draw.ellipse((x - 7, 13, x + 7, 27), colour)
    x = 18
    for entry in samples.MENU:
        x += write(x, 60, entry, 15) + 28
    draw.line((0, 80, 1280, 80), _LINE)

    draw.rectangle((0, 81, 230, 764), _SIDE)
    for number, folder in enumerate(samples.FOLDERS):
        y = 112 + 38 * number
        if number == 1:
            draw.rectangle((0, y - 18, 230, y + 18), _CHOSEN)
        draw.rounded_rectangle((18, y - 7, 34, y + 7), 3, _ACCENT if number == 1 else _SOFT)
        write(46, y, folder)

    columns = (254, 360, 660, 830, 980)
    for number, row in enumerate(samples.ORDERS):
        y = 112 + 42 * number
        if number == 3:
            draw.rectangle((240, y - 20, 1264, y + 20), _CHOSEN)
        for x, cell in zip(columns, row, strict=True):
            write(x, y, cell, 15 if number == 0 else 16, _SOFT if number == 0 else _INK)
        draw.line((240, y + 21, 1264, y + 21), _LINE)

    draw.rounded_rectangle((240, 396, 1264, 740), 8, outline=_LINE)
    write(264, 434, samples.DETAIL_TITLE, 22, _ACCENT)
    for number, line in enumerate(samples.DETAIL):
        write(264, 486 + 32 * number, line, 17)
    x = 264
    for button in samples.BUTTONS:
        width = round(draw.textlength(button, ImageFont.load_default(16))) + 40
        draw.rounded_rectangle((x, 660, x + width, 704), 6, _ACCENT)
        write(x + 20, 682, button, 16, (255, 255, 255))
        x += width + 20

    draw.rectangle((0, 765, 1280, 800), _SIDE)
    draw.line((0, 764, 1280, 764), _LINE)
    write(18, 782, samples.STATUS, 14, _SOFT)
    return image


def main() -> None:
    """Write both files beside this module."""
    pdf_path, screenshot_path = samples.paths()
    pdf_path.write_bytes(pdf())
    screenshot().save(screenshot_path, optimize=True)


if __name__ == "__main__":
    main()
