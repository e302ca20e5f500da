"""PDF files: measured without drawing, drawn once at the size that is wanted."""

from __future__ import annotations

import resource
import threading
from pathlib import Path

import numpy as np
import pytest
from pdf_building import build_pdf, encryption
from PIL import Image

from mineru_daemon.documents import PDFIUM_LOCK, Document, Limits, PdfPage, open_document
from mineru_daemon.errors import DocumentError, LimitError

LIMITS = Limits()
A_PAGE = b"/MediaBox [0 0 200 100]"


def opened(
    tmp_path: Path, content: bytes, limits: Limits = LIMITS, pdf_dpi: float = 200.0
) -> Document:
    path = tmp_path / "scan.pdf"
    path.write_bytes(content)
    return open_document(path, limits, pdf_dpi)


def ink(image: Image.Image) -> tuple[float, float]:
    """Where the middle of what is drawn lies, as fractions of width and height."""
    rows, columns = np.nonzero(np.asarray(image.convert("L")) < 128)
    return float(columns.mean() / image.width), float(rows.mean() / image.height)


def test_a_page_is_drawn_at_the_resolution_asked_for(tmp_path: Path) -> None:
    for dpi, size in ((200.0, (555, 277)), (72.0, (200, 100)), (100.0, (277, 138))):
        with opened(tmp_path, build_pdf(A_PAGE), pdf_dpi=dpi) as document:
            page = document.page(0)
            rendering = page.render()
            assert rendering.image.mode == "RGB"
            assert rendering.image.size == size
            assert rendering.dpi == pytest.approx(dpi)
            assert (page.width_pt, page.height_pt) == (200, 100)
            assert page.warnings == []


def test_the_longest_side_is_bounded_and_the_resolution_follows(tmp_path: Path) -> None:
    with opened(tmp_path, build_pdf(A_PAGE)) as document:
        rendering = document.page(0).render(300)
    assert rendering.image.size == (300, 150)
    assert rendering.dpi == pytest.approx(300 / 200 * 72)


@pytest.mark.parametrize(
    ("rotate", "size", "where"),
    [
        (0, (200, 100), (0.24, 0.5)),
        (90, (100, 200), (0.5, 0.24)),
        (180, (200, 100), (0.76, 0.5)),
        (270, (100, 200), (0.5, 0.76)),
        (-90, (100, 200), (0.5, 0.76)),
    ],
)
def test_rotation_is_applied(
    tmp_path: Path, rotate: int, size: tuple[int, int], where: tuple[float, float]
) -> None:
    content = build_pdf(A_PAGE + b"/Rotate %d" % rotate)
    with opened(tmp_path, content, pdf_dpi=72) as document:
        page = document.page(0)
        image = page.render().image
    assert image.size == size == (page.width_pt, page.height_pt)
    assert ink(image) == pytest.approx(where, abs=0.08)
    assert page.rotation == rotate % 360


def test_the_crop_box_is_the_page(tmp_path: Path) -> None:
    content = build_pdf(A_PAGE + b"/CropBox [0 20 100 80]")
    with opened(tmp_path, content, pdf_dpi=72) as document:
        page = document.page(0)
        assert (page.width_pt, page.height_pt) == (100, 60)
        assert page.render().image.size == (100, 60)


def test_the_user_unit_makes_pages_larger(tmp_path: Path) -> None:
    content = build_pdf(A_PAGE + b"/UserUnit 2.5", A_PAGE)
    with opened(tmp_path, content, pdf_dpi=72) as document:
        first, second = document.page(0), document.page(1)
        assert (first.width_pt, first.height_pt) == (500, 250)
        assert first.render().image.size == (500, 250)
        assert first.render(250).dpi == pytest.approx(36)
        assert (second.width_pt, second.height_pt) == (200, 100)


def test_annotations_and_form_fields_are_drawn(tmp_path: Path) -> None:
    appearance = (
        b"<< /Type /XObject /Subtype /Form /BBox [0 0 20 20] /Length 23 >>\n"
        b"stream\n0 0 0 rg 0 0 20 20 re f\nendstream"
    )
    stamp = b"<< /Type /Annot /Subtype /Stamp /F 4 /Rect [10 10 30 30] /AP << /N 6 0 R >> >>"
    field = (
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /F 4 /Rect [170 70 190 90] "
        b"/AP << /N 6 0 R >> >>"
    )
    content = build_pdf(
        A_PAGE + b"/Annots [7 0 R 8 0 R]",
        content=b"",
        catalog=b"/AcroForm << /Fields [8 0 R] >>",
        more=(appearance, stamp, field),
    )
    with opened(tmp_path, content, pdf_dpi=72) as document:
        image = document.page(0).render().image
    assert image.getpixel((20, 80)) == (0, 0, 0)
    assert image.getpixel((180, 20)) == (0, 0, 0)
    assert image.getpixel((100, 50)) == (255, 255, 255)


def test_a_page_beyond_the_pixel_limit_is_drawn_smaller_and_says_so(tmp_path: Path) -> None:
    with opened(tmp_path, build_pdf(A_PAGE), Limits(max_page_pixels=20_000)) as document:
        page = document.page(0)
        rendering = page.render()
        page.render()
    assert rendering.image.size == (200, 100)
    assert rendering.dpi == pytest.approx(72)
    assert page.warnings == ["The page is too large for 200 dpi; it was drawn at 72 dpi."]


def test_a_page_of_a_kilometre_takes_no_memory(tmp_path: Path) -> None:
    side = b"/MediaBox [0 0 1036800 1036800]"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with opened(tmp_path, build_pdf(side, side)) as document:
        page = document.page(0)
        assert page.width_pt == 14_400 * 72
        rendering = page.render(800)
    assert rendering.image.size == (800, 800)
    assert rendering.dpi == pytest.approx(800 / 14_400)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000


def test_a_thread_of_a_page_is_still_a_page(tmp_path: Path) -> None:
    with opened(tmp_path, build_pdf(b"/MediaBox [0 0 100000 1]")) as document:
        assert document.page(0).render(900).image.size == (900, 1)


def test_a_page_that_cannot_be_loaded_leaves_the_others_readable(tmp_path: Path) -> None:
    content = build_pdf(A_PAGE, A_PAGE, A_PAGE, more=(b"42",))
    content = content.replace(b"/Kids [5 0 R 6 0 R 7 0 R]", b"/Kids [5 0 R 8 0 R 7 0 R]")
    with opened(tmp_path, content) as document:
        assert document.page_count == 3
        document.page(0).render()
        with pytest.raises(DocumentError, match=r"^page 2 of scan\.pdf cannot be read"):
            document.page(1)
        document.page(2).render()


def test_a_page_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    endless = b"0 0 200 100 re f\n" * 20_000
    limits = Limits(render_seconds=0.01)
    with (
        opened(tmp_path, build_pdf(A_PAGE, content=endless), limits) as document,
        pytest.raises(LimitError, match=r"^scan\.pdf takes more than 0\.01 s to draw"),
    ):
        document.page(0).render()


def test_an_empty_password_opens(tmp_path: Path) -> None:
    with opened(tmp_path, build_pdf(A_PAGE, trailer=encryption(b""))) as document:
        assert document.page_count == 1


def test_a_pdf_whose_end_is_missing_says_so_on_its_pages(tmp_path: Path) -> None:
    whole = build_pdf(A_PAGE)
    with opened(tmp_path, whole[: whole.index(b"startxref")]) as document:
        page = document.page(0)
        assert page.warnings == ["The file's end is missing; some of the page may be, too."]
        assert page.render().image.size == (555, 277)


def test_the_page_of_pdfium_is_reachable_until_closed(tmp_path: Path) -> None:
    with opened(tmp_path, build_pdf(A_PAGE)) as document:
        page = document.page(0)
        assert isinstance(page, PdfPage)
        text = page.pdfium_page.get_textpage()
        assert text.get_text_range() == "Hello"
        text.close()
        page.close()
        page.close()


def test_every_call_waits_for_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "scan.pdf"
    path.write_bytes(build_pdf(A_PAGE))
    document = open_document(path, LIMITS)
    page = document.page(0)
    for call in (
        lambda: open_document(path, LIMITS).close(),
        lambda: document.page(0).close(),
        lambda: page.render(100),
        page.close,
        document.close,
    ):
        thread = threading.Thread(target=call)
        with PDFIUM_LOCK:
            thread.start()
            thread.join(0.05)
            assert thread.is_alive()
        thread.join(10)
        assert not thread.is_alive()


def test_documents_can_be_read_by_two_threads_at_once(tmp_path: Path) -> None:
    path = tmp_path / "scan.pdf"
    path.write_bytes(build_pdf(*[A_PAGE] * 5))
    failures = []

    def read() -> None:
        try:
            for _ in range(10):
                with open_document(path, LIMITS) as document:
                    for index in range(document.page_count):
                        page = document.page(index)
                        page.render(200)
                        page.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_files_are_closed(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    errors = []  # Their tracebacks keep alive what was open.
    for content in (build_pdf(A_PAGE), build_pdf(), b"%PDF-1.7 nothing"):
        for _ in range(5):
            try:
                with opened(tmp_path, content) as document:
                    document.page(0).render(100)
            except DocumentError as error:
                errors.append(error)
    assert len(errors) == 10
    assert len(list(descriptors.iterdir())) <= before
