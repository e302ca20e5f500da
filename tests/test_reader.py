"""Documents opened in a process of their own: the same pages, and an end to whatever it does.

The faults are real ones, put into the child by a `sitecustomize` on its path.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from daemon_process import is_gone
from hostile_building import CRASH, CRASH_ONCE, LOOP, LOOP_IN_TEXT, SWELL, faults, pages
from pdf_building import build_pdf, encryption
from PIL import Image

from mineru_daemon import samples
from mineru_daemon.documents import Limits, TextPage, open_document, pipes, reader
from mineru_daemon.documents.reader import Reader, ReaderFault
from mineru_daemon.engines.ppocr import digital, textlayer
from mineru_daemon.errors import (
    CancelledError,
    CrashedError,
    DocumentError,
    HungError,
    LimitError,
    MemoryLimitError,
)

LIMITS = Limits()
QUICK = Limits(render_seconds=1.0)
SMALL = Limits(max_memory_bytes=400 * 1024 * 1024)
PDF, PNG = samples.paths()


@pytest.fixture
def opener(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Reader]:
    """A reader whose children meet the faults."""
    faults(monkeypatch, tmp_path)
    with Reader() as one:
        yield one


def written(tmp_path: Path, content: bytes, name: str = "scan.pdf") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def child_of(one: Reader) -> int:
    assert one._child
    return one._child._process.pid


def saved(path: Path) -> Path:
    Image.effect_noise((90, 60), 80).convert("RGB").save(path)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.bmp", "a.gif", "a.pdf"])
@pytest.mark.parametrize("bound", [0, 40])
def test_a_page_is_the_same_as_in_this_process(tmp_path: Path, name: str, bound: int) -> None:
    path = saved(tmp_path / name)
    with (
        Reader() as one,
        one.open(path, LIMITS, 150.0) as there,
        open_document(path, LIMITS, 150.0) as here,
    ):
        assert (there.media_type, there.page_count) == (here.media_type, here.page_count)
        page, expected = there.page(0), here.page(0)
        for field in ("index", "width_pt", "height_pt", "rotation", "warnings"):
            assert getattr(page, field) == getattr(expected, field)
        rendering, wanted = page.render(bound), expected.render(bound)
        assert (rendering.size, rendering.dpi) == (wanted.size, wanted.dpi)
        assert rendering.image.size == wanted.image.size
        assert np.array_equal(rendering.pixels, wanted.pixels)
        assert page.warnings == expected.warnings


def test_what_a_pdf_says_is_the_same_as_in_this_process(tmp_path: Path) -> None:
    with Reader() as one, one.open(PDF, LIMITS) as there, open_document(PDF, LIMITS) as here:
        for index in range(here.page_count):
            page, expected = there.page(index), here.page(index)
            assert isinstance(page, TextPage)
            assert isinstance(expected, TextPage)
            told = page.ask(digital.read, "auto")
            assert told == expected.ask(digital.read, "auto")
            assert len(told.blocks) > 2
            layer = page.ask(textlayer.read, "auto")
            assert layer == expected.ask(textlayer.read, "auto")
            assert page.ask(digital.joined, layer, []) == told.blocks


@pytest.mark.parametrize(
    ("content", "limits"),
    [
        (b"hello\n", LIMITS),
        (b"", LIMITS),
        (bytes(5000), LIMITS),
        (build_pdf(), LIMITS),
        (build_pdf(b"/MediaBox [0 0 9 9]", trailer=encryption(b"secret")), LIMITS),
        (pages(200, 200), Limits(max_pages=1)),
        (pages(200)[:20], LIMITS),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), LIMITS),
    ],
)
def test_errors_are_the_same_as_in_this_process(
    tmp_path: Path, content: bytes, limits: Limits
) -> None:
    path = written(tmp_path, content, "bad\nname.xyz")
    with pytest.raises(DocumentError) as here:
        open_document(path, limits)
    with Reader() as one:
        with pytest.raises(DocumentError) as there:
            one.open(path, limits)
        assert type(there.value) is type(here.value)
        assert str(there.value) == str(here.value)
        survivor = child_of(one)
        one.open(PNG, LIMITS).close()
        assert child_of(one) == survivor


def test_a_page_that_crashes_fails_alone(opener: Reader, tmp_path: Path) -> None:
    path = written(tmp_path, pages(200, CRASH, 200))
    with opener.open(path, LIMITS) as document:
        first = document.page(0)
        expected = first.render().pixels
        with pytest.raises(CrashedError) as caught:
            document.page(1).render()
        assert str(caught.value) == (
            "page 2 of scan.pdf ended the process that reads documents (SIGSEGV); it is damaged, "
            "or an attack."
        )
        assert document.page(2).render().size == (555, 277)
        assert np.array_equal(first.render().pixels, expected)
    with opener.open(PNG, LIMITS) as document:
        assert document.page(0).render().size == (1280, 800)


@pytest.mark.parametrize("name", ["crash-on-open.pdf", "loop-on-open.pdf"])
def test_a_file_may_end_the_child_when_it_is_opened(
    opener: Reader, tmp_path: Path, name: str
) -> None:
    path = written(tmp_path, pages(200), name)
    with pytest.raises(CrashedError, match=f"^{name} "):
        opener.open(path, QUICK)
    with opener.open(PNG, QUICK) as document:
        assert document.page_count == 1


@pytest.mark.parametrize("width", [LOOP, LOOP_IN_TEXT])
def test_a_page_that_hangs_in_native_code_is_given_up(
    opener: Reader, tmp_path: Path, width: int
) -> None:
    path = written(tmp_path, pages(200, width))
    with opener.open(path, QUICK) as document:
        page = document.page(1)
        pid = child_of(opener)
        assert isinstance(page, TextPage)
        with pytest.raises(HungError) as caught:
            page.render() if width == LOOP else page.ask(textlayer.read, "auto")
        assert str(caught.value) == (
            "page 2 of scan.pdf was not done with after 1 s and was given up; it is damaged, or "
            "an attack, or render_seconds is too low for it."
        )
        assert is_gone(pid)
        page.close()
        assert document.page(0).render().size == (555, 277)


def test_a_page_that_takes_too_much_memory_is_given_up(opener: Reader, tmp_path: Path) -> None:
    path = written(tmp_path, pages(SWELL, 200))
    with opener.open(path, SMALL) as document:
        page = document.page(0)
        pid = child_of(opener)
        with pytest.raises(MemoryLimitError) as caught:
            page.render()
        assert str(caught.value) == (
            "page 1 of scan.pdf takes more than the 419,430,400 bytes of memory allowed; deliver "
            "it at a lower resolution or raise max_memory_bytes."
        )
        assert isinstance(caught.value, LimitError)
        assert is_gone(pid)
        assert document.page(1).render().size == (555, 277)


def test_the_kernel_bounds_memory_where_nobody_looks(
    opener: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipes, "LOOK_SECONDS", 3600.0)
    with (
        opener.open(written(tmp_path, pages(SWELL)), SMALL) as document,
        pytest.raises(MemoryLimitError),
    ):
        document.page(0).render()


def test_another_memory_limit_is_taken_over(opener: Reader) -> None:
    opener.open(PNG, LIMITS).close()
    before = child_of(opener)
    opener.open(PNG, SMALL).close()
    assert child_of(opener) != before
    opener.open(PNG, SMALL).close()


def test_a_child_that_has_grown_is_replaced(
    opener: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener.open(PNG, LIMITS).close()
    first = child_of(opener)
    opener.open(PNG, LIMITS).close()
    assert child_of(opener) == first
    monkeypatch.setattr(reader, "SPARE_BYTES", 1)
    opener.open(PNG, LIMITS).close()
    assert is_gone(first)


def test_what_is_raised_while_it_is_waited_for_ends_the_child(
    opener: Reader, tmp_path: Path
) -> None:
    def stop(_stage: str) -> None:
        raise CancelledError("The daemon is stopping.")

    with opener.open(written(tmp_path, pages(LOOP)), LIMITS) as document:
        page = document.page(0)
        pid = child_of(opener)
        document.progress = stop
        with pytest.raises(CancelledError):
            page.render()
        assert is_gone(pid)


def test_documents_can_be_read_in_turns(opener: Reader, tmp_path: Path) -> None:
    wide, narrow = (written(tmp_path, pages(width, width), f"{width}.pdf") for width in (300, 100))
    with opener.open(wide, LIMITS, 72) as one, opener.open(narrow, LIMITS, 72) as other:
        pid = child_of(opener)
        for index in range(2):
            for document, width in ((one, 300), (other, 100)):
                page = document.page(index)
                assert page.render().size == (width, 100)
                page.close()
        assert child_of(opener) == pid
        page = one.page(0)
        other.page(0)
        assert page.render().size == (300, 100)


def test_an_error_of_our_own_in_the_child_comes_with_its_traceback(
    opener: Reader, tmp_path: Path
) -> None:
    with opener.open(written(tmp_path, pages(200)), LIMITS) as document:
        page = document.page(0)
        assert isinstance(page, TextPage)
        with pytest.raises(ReaderFault, match="TypeError") as caught:
            page.ask(digital.read)
        assert "Traceback" in caught.value.__notes__[0]
        assert page.render().size == (555, 277)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


@pytest.mark.parametrize(
    "answer", [Evil(), os.getcwd, Path("x"), samples.paths, Reader], ids=lambda one: repr(one)[:20]
)
def test_answers_can_be_nothing_but_our_records(answer: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="no record"):
        pipes._Unpickler(io.BytesIO(pickle.dumps(answer))).load()


def test_nothing_is_imported_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pypdfium2", "numpy", "pydantic", "PIL", "encodings", "json"):
        written(tmp_path, b"open('met', 'w').close()", f"{name}.py")
    monkeypatch.chdir(tmp_path)
    with Reader() as one, one.open(PDF, LIMITS) as document:
        document.page(0).render()
    assert not (tmp_path / "met").exists()


def test_no_child_outlives_its_parent(
    opener: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = """
import sys
from pathlib import Path
from mineru_daemon.documents import Limits
from mineru_daemon.documents.reader import Reader
reader = Reader()
page = reader.open(Path(sys.argv[1]), Limits()).page(0)
print(reader._child._process.pid, flush=True)
page.render()
"""
    path = written(tmp_path, pages(LOOP))
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    with parent:
        child = int(parent.stdout.readline())
        assert not is_gone(child)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not is_gone(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert is_gone(child)


def test_a_crash_once_is_over_at_the_next_try(opener: Reader, tmp_path: Path) -> None:
    with opener.open(written(tmp_path, pages(CRASH_ONCE)), LIMITS) as document:
        with pytest.raises(CrashedError):
            document.page(0).render()
        assert document.page(0).render().size == (152, 277)


def test_the_child_says_nothing_on_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (30, 20)).save(stream, "TIFF")
    content = bytearray(stream.getvalue())
    samples_per_pixel = content.index(b"\x15\x01\x03\x00\x01\x00\x00\x00")
    content[samples_per_pixel + 8 : samples_per_pixel + 10] = b"\xff\xff"
    with Reader() as one, pytest.raises(DocumentError):
        one.open(written(tmp_path, bytes(content), "odd.tif"), LIMITS)
    assert capfd.readouterr().err == ""
