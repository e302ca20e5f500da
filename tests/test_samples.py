from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw

from mineru_daemon import samples
from mineru_daemon.documents import Limits, PdfPage, check_complete, open_document
from mineru_daemon.samples import make

PDF, SCREENSHOT = samples.paths()


def test_the_samples_are_small_complete_and_readable() -> None:
    for path, media_type, pages in ((PDF, "application/pdf", 2), (SCREENSHOT, "image/png", 1)):
        assert path.stat().st_size < 100_000
        check_complete(path, Limits())
        with open_document(path, Limits()) as document:
            assert (document.media_type, document.page_count) == (media_type, pages)
            for index in range(pages):
                assert document.page(index).render(1000).image.getextrema()[0] != (255, 255)


def test_the_pdf_is_what_the_script_makes() -> None:
    assert PDF.read_bytes() == make.pdf()


def test_the_screenshot_is_what_the_script_makes() -> None:
    with Image.open(SCREENSHOT) as shipped:
        assert shipped.size == (1280, 800)
        # Other versions of FreeType set some pixels of a letter a little differently.
        difference = np.asarray(ImageChops.difference(shipped.convert("RGB"), make.screenshot()))
    assert difference.mean() < 1


def test_the_pdf_holds_every_text_in_reading_order() -> None:
    with open_document(PDF, Limits()) as document:
        for index, parts in enumerate(samples.PDF_PAGES):
            page = document.page(index)
            assert isinstance(page, PdfPage)
            text_page = page.pdfium_page.get_textpage()
            words = text_page.get_text_range().split()
            text_page.close()
            assert words == " ".join(part.text for part in parts).split()


def test_the_pages_have_what_a_demo_wants_to_show() -> None:
    kinds = {part.kind for page in samples.PDF_PAGES for part in page}
    assert kinds == {"title", "text", "list", "table"}
    for page in samples.PDF_PAGES:
        for part in page:
            assert len({len(row) for row in part.rows}) <= 1


def test_every_text_of_the_screenshot_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    plain = ImageDraw.ImageDraw.text

    def text(
        self: ImageDraw.ImageDraw, xy: object, text: str, *args: object, **rest: object
    ) -> None:
        drawn.append(text)
        plain(self, xy, text, *args, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    make.screenshot()
    assert sorted(drawn) == sorted(samples.SCREENSHOT_TEXTS)


def test_the_invoice_adds_up() -> None:
    table = next(part for part in samples.PDF_PAGES[0] if part.kind == "table")
    goods = [row for row in table.rows[1:] if row[0]]
    amounts = [float(row[4]) for row in table.rows[1:]]
    assert [round(int(row[2]) * float(row[3]), 2) for row in goods] == amounts[: len(goods)]
    net, tax, total = amounts[len(goods) :]
    assert net == sum(amounts[: len(goods)])
    assert tax == round(net * 0.19, 2)
    assert total == round(net + tax, 2)
