"""From a claimed job to its result, with the real spool and real documents.

The engine here measures the picture instead of reading it: what is tested is what the
worker makes of an engine's answers, errors and deaths.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from pathlib import Path

import jsonschema
import pytest
from hostile_building import CRASH, CRASH_ONCE, LOOP, faults, pages
from PIL import Image

from mineru_daemon import results
from mineru_daemon.engines.base import PageReading
from mineru_daemon.errors import CancelledError, EngineError
from mineru_daemon.pacing import SHORTEST_REST
from mineru_daemon.results import Block, EngineInfo, ErrorInfo
from mineru_daemon.samples import paths
from mineru_daemon.serving import Serving
from mineru_daemon.spool import Spool
from mineru_daemon.status import Status
from mineru_daemon.storage import identity
from mineru_daemon.worker import Worker

PDF, PNG = paths()


class MeasuringEngine:
    """Says how large each page is; `before` is called with each page's index first."""

    def __init__(self, before=lambda _index: None):
        self.info = EngineInfo(name="measure", model="none", precision="none", settings={})
        self.before = before
        self.read_pages = []

    def warm_up(self):
        pass

    def close(self):
        pass

    def read(self, page, progress):
        progress("measure")
        self.before(page.index)
        progress("render")
        image = page.render(100).image
        self.read_pages.append(page.index)
        text = f"{image.width} x {image.height}"
        return PageReading(
            [Block(type="text", bbox=(0, 0, 1, 1), content=text)], image.width, image.height, None
        )


class Bench:
    def __init__(self, settings, spool, engine):
        self.settings, self.spool, self.engine = settings, spool, engine
        self.status = Status()
        self.worker = Worker(settings, spool, self.status, engine)

    def claim(self, source, name=None, **options):
        path = self.settings.inbox / (name or source.name)
        path.write_bytes(source.read_bytes())
        job = self.spool.claim(path, identity(path), **options)
        assert job is not None
        return job

    def serve(self, *jobs):
        """Serve these jobs and stop."""
        for job in jobs:
            self.worker.offer(job)
        thread = threading.Thread(target=self.worker.run)
        thread.start()
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and thread.is_alive():
            state = self.status.snapshot()
            if state["success"] + state["partial"] + state["failed"] >= len(jobs):
                break
            time.sleep(0.01)
        self.worker.stop(5)
        thread.join(20)
        assert not thread.is_alive()

    def serve_here(self, job):
        """Give a job all its turns, in this thread, until it needs no other."""
        serving = Serving(job, self.worker._means)
        while not self.worker._serve(serving):
            pass
        serving.park()

    def result(self, name, folder="outbox"):
        document = json.loads((getattr(self.settings, folder) / f"{name}.json").read_text("utf-8"))
        jsonschema.Draft202012Validator(results.json_schema()).validate(document)
        return document


@pytest.fixture
def bench(settings):
    with Spool.opened(settings) as spool:
        yield Bench(settings, spool, MeasuringEngine())


def test_a_document_becomes_a_valid_result_with_all_its_pages(bench):
    bench.serve(bench.claim(PDF))
    result = bench.result(PDF.name)
    assert result["status"] == "success"
    assert result["error"] is None
    assert [page["index"] for page in result["pages"]] == [0, 1]
    assert result["source"]["media_type"] == "application/pdf"
    assert result["source"]["bytes"] == PDF.stat().st_size
    assert len(result["content_list"]) == 2
    assert {"total", "write"} <= set(result["timings"])
    assert (bench.settings.outbox / f"{PDF.name}.md").read_text() == "70 x 100\n\n70 x 100\n"


def test_a_page_that_fails_leaves_the_others_and_is_named(bench):
    def fail_on_second(index):
        if index == 1:
            raise EngineError("The model choked on this page.")

    bench.engine.before = fail_on_second
    bench.serve(bench.claim(PDF))
    result = bench.result(PDF.name)
    assert result["status"] == "partial"
    assert "1 of 2 pages" in result["error"]["message"]
    assert result["pages"][0]["error"] is None
    assert result["pages"][1]["error"]["message"] == "The model choked on this page."
    assert (bench.settings.done / PDF.name).exists()


def test_a_document_whose_pages_all_fail_is_set_aside(bench):
    def fail(_index):
        raise ValueError("a bug")

    bench.engine.before = fail
    bench.serve(bench.claim(PDF))
    result = bench.result(PDF.name, "failed")
    assert result["status"] == "failed"
    assert result["error"]["code"] == "internal"
    assert "ValueError: a bug" in result["error"]["message"]
    assert not list(bench.settings.outbox.iterdir())


def test_other_content_is_set_aside_as_unsupported(bench, tmp_path):
    other = tmp_path / "letter.txt"
    other.write_text("plain text")
    bench.serve(bench.claim(other))
    assert bench.result("letter.txt", "failed")["error"]["code"] == "unsupported"
    assert (bench.settings.failed / "letter.txt").read_text() == "plain text"


def test_a_job_that_was_claimed_with_a_reason_is_not_opened(bench):
    job = bench.claim(PNG, reason=ErrorInfo(code="empty", message="It is empty."))
    bench.serve(job)
    assert bench.result(PNG.name, "failed")["error"]["message"] == "It is empty."
    assert bench.engine.read_pages == []


def test_pages_read_before_a_kill_are_not_read_again(bench):
    job = bench.claim(PDF)

    def stop(index):
        if index == 1:
            raise CancelledError("stop")

    bench.engine.before = stop
    bench.serve_here(job)
    assert bench.engine.read_pages == [0]
    bench.engine.before = lambda _index: None
    (again,) = bench.spool.recover()
    fresh = Bench(bench.settings, bench.spool, bench.engine)
    fresh.serve(again)
    assert bench.engine.read_pages == [0, 1]
    assert len(fresh.result(PDF.name)["pages"]) == 2


def test_a_half_written_checkpoint_is_read_again(bench):
    job = bench.claim(PDF)
    checkpoint = job.folder / "pages" / "000000.json"
    checkpoint.parent.mkdir()
    checkpoint.write_text('{"index": 0, "wid')
    bench.serve(job)
    assert bench.engine.read_pages == [0, 1]


def test_a_page_that_ends_the_process_is_given_up_and_the_rest_is_read(bench):
    job = bench.claim(PDF)
    for _ in range(3):
        job.begin("0")  # and the process dies
    bench.serve(bench.spool.recover()[0])
    result = bench.result(PDF.name)
    assert result["status"] == "partial"
    assert result["pages"][0]["error"]["code"] == "crashed"
    assert result["pages"][1]["error"] is None


def test_a_document_that_ends_the_process_when_opened_is_set_aside(bench):
    job = bench.claim(PDF)
    for _ in range(3):
        job.begin("open")
    bench.serve(bench.spool.recover()[0])
    assert bench.result(PDF.name, "failed")["error"]["code"] == "crashed"
    assert bench.engine.read_pages == []


def test_after_several_crashing_pages_the_rest_is_not_tried(bench, tmp_path):
    pages = [Image.new("L", (20, 20)) for _ in range(6)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    job = bench.claim(tmp_path / "a.tif")
    for index in range(3):
        for _ in range(3):
            job.begin(str(index))
    bench.serve(bench.spool.recover()[0])
    assert bench.engine.read_pages == []
    assert bench.result("a.tif", "failed")["error"]["code"] == "crashed"


def test_a_stop_is_not_held_against_the_file(bench):
    job = bench.claim(PDF)

    def stop(_index):
        raise CancelledError("stop")

    bench.engine.before = stop
    for _ in range(5):
        bench.serve_here(job)
        (job,) = bench.spool.recover()
    assert job.attempts == {}


def test_a_stop_ends_the_work_after_the_current_page(bench):
    job = bench.claim(PDF)
    bench.engine.before = lambda _index: bench.worker.stop(60)
    bench.serve_here(job)
    assert bench.engine.read_pages == [0]
    assert bench.spool.recover()[0].pages.load(0) is not None


def test_a_stop_gives_a_page_up_when_its_grace_is_over(bench):
    job = bench.claim(PNG)
    bench.worker.stop(-1)
    bench.worker._stopping.clear()
    bench.serve_here(job)
    assert bench.engine.read_pages == []
    assert len(bench.spool.recover()) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_the_result_is_tried_until_it_takes_it(bench, monkeypatch, number):
    monkeypatch.setattr("mineru_daemon.worker.RETRY_SECONDS", (0.01,))
    write = Spool.commit
    refusals: list[dict[str, str]] = []

    def refuse_often(self, *arguments):
        if len(refusals) < 12:
            refusals.append(bench.status.troubles())
            raise OSError(number, "disk says no", "/outbox")
        return write(self, *arguments)

    monkeypatch.setattr(Spool, "commit", refuse_often)
    bench.serve(bench.claim(PNG))
    assert bench.result(PNG.name)["status"] == "success"
    assert bench.engine.read_pages == [0], "the page is kept while the disk refuses"
    assert "disk says no" in refusals[-1]["worker"]
    assert bench.status.troubles() == {}


def test_a_document_that_the_disk_does_not_give_is_set_aside(bench, monkeypatch):
    monkeypatch.setattr("mineru_daemon.worker.RETRY_SECONDS", (0.01,))

    def refuse(_path):
        raise OSError(errno.EIO, "bad sector")

    monkeypatch.setattr("mineru_daemon.serving.digest", refuse)
    bench.serve(bench.claim(PNG))
    result = bench.result(PNG.name, "failed")
    assert result["error"]["code"] == "storage"
    assert "bad sector" in result["error"]["message"]


def test_a_job_that_cannot_even_be_set_aside_stays_and_the_next_is_served(bench, monkeypatch):
    commit = Spool.commit

    def fail_for_one(self, job, *arguments):
        if job.name == "bad.png":
            raise RuntimeError("a bug in the commit")
        return commit(self, job, *arguments)

    monkeypatch.setattr(Spool, "commit", fail_for_one)
    bad = bench.claim(PNG, "bad.png")
    bench.serve_here(bad)
    assert "a bug in the commit" in bench.status.troubles()[bad.id]
    bench.serve(bench.claim(PNG, "good.png"))
    assert bench.result("good.png")["status"] == "success"
    assert [job.name for job in bench.spool.recover()] == ["bad.png"]


def test_names_that_are_no_utf8_stand_in_the_result_as_bytes_too(bench):
    name = os.fsdecode(b"caf\xe9.png")
    bench.serve(bench.claim(PNG, name))
    source = bench.result(name)["source"]
    assert source["name"] == "caf\ufffd.png"
    assert bytes.fromhex(source["name_hex"]) == b"caf\xe9.png"


def test_markdown_is_left_out_on_request(make_settings):
    settings = make_settings(formats=["json"])
    with Spool.opened(settings) as spool:
        bench = Bench(settings, spool, MeasuringEngine())
        bench.serve(bench.claim(PNG))
    assert [path.name for path in settings.outbox.iterdir()] == [f"{PNG.name}.json"]


def test_what_returns_from_page_to_page_is_marked_and_not_in_the_markdown(bench, tmp_path):
    def read(page, progress):
        head = Block(type="text", bbox=(0.1, 0.03, 0.9, 0.05), content="A Journal")
        text = Block(type="text", bbox=(0.1, 0.3, 0.9, 0.5), content=f"Text {page.index}")
        return PageReading([head, text], 1, 1, None)

    bench.engine.read = read
    bench.serve(bench.claim(PDF))
    result = bench.result(PDF.name)
    kinds = [[block["type"] for block in page["blocks"]] for page in result["pages"]]
    assert kinds == [["header", "text"]] * 2
    assert [item["type"] for item in result["content_list"]] == ["header", "text"] * 2
    assert (bench.settings.outbox / f"{PDF.name}.md").read_text() == "Text 0\n\nText 1\n"


def test_the_content_list_is_a_file_on_request(make_settings):
    settings = make_settings(formats=["json", "content_list"])
    with Spool.opened(settings) as spool:
        bench = Bench(settings, spool, MeasuringEngine())
        bench.serve(bench.claim(PDF))
    assert [path.name for path in settings.outbox.glob("*.json")] == [f"{PDF.name}.json"]
    (file,) = settings.outbox.rglob("*_content_list.json")
    assert file.relative_to(settings.outbox).parts == (
        f"{PDF.name}.mineru", f"{PDF.name}_content_list.json"
    )  # fmt: skip
    assert json.loads(file.read_text("utf-8")) == bench.result(PDF.name)["content_list"]


def test_pictures_lie_beside_the_content_list_also_of_pages_read_before_a_stop(make_settings):
    settings = make_settings(formats=["json", "markdown", "content_list"])

    def read(page, progress):
        if page.index == 1 and not stopped:
            stopped.append(page.index)
            bench.worker.stop(5)
            raise CancelledError("The daemon is stopping.")
        picture = Block(type="image", bbox=(0.1, 0.1, 0.3, 0.2), content=None)
        text = Block(type="text", bbox=(0.1, 0.3, 0.9, 0.5), content=f"Text {page.index}")
        return PageReading([picture, text], 1, 1, None)

    stopped = []
    with Spool.opened(settings) as spool:
        bench = Bench(settings, spool, MeasuringEngine())
        bench.engine.read = read
        job = bench.claim(PDF)
        bench.serve(job)
        assert not (settings.outbox / f"{PDF.name}.json").exists()
        bench = Bench(settings, spool, MeasuringEngine())
        bench.engine.read = read
        bench.serve(job)
    folder = settings.outbox / f"{PDF.name}.mineru"
    items = json.loads((folder / f"{PDF.name}_content_list.json").read_text("utf-8"))
    paths = [item["img_path"] for item in items if item["type"] == "image"]
    assert paths == ["images/0001-01.jpg", "images/0002-01.jpg"]
    assert {path.name for path in (folder / "images").iterdir()} == {"0001-01.jpg", "0002-01.jpg"}
    for path in paths:
        with Image.open(folder / path) as image:
            assert image.width > image.height > 8
    linked = (folder / f"{PDF.name}.md").read_text("utf-8")
    assert linked.startswith("![](images/0001-01.jpg)\n\nText 0\n\n![](images/0002-01.jpg)")
    assert (settings.outbox / f"{PDF.name}.md").read_text("utf-8") == "Text 0\n\nText 1\n"


def test_no_picture_is_cut_out_where_none_is_asked_for(bench):
    def read(page, progress):
        return PageReading([Block(type="image", bbox=(0, 0, 1, 1), content=None)], 1, 1, None)

    bench.engine.read = read
    bench.serve(bench.claim(PNG))
    (page,) = bench.result(PNG.name)["pages"]
    assert page["blocks"][0]["image"] is None
    assert sorted(path.suffix for path in bench.settings.outbox.iterdir()) == [".json", ".md"]


def test_room_is_bounded_by_the_queues_depth(bench):
    assert bench.settings.queue_depth == 3
    for number in range(3):
        assert bench.worker.has_room()
        bench.worker.offer(bench.claim(PNG, f"{number}.png"))
    assert not bench.worker.has_room()


# --- several jobs at once ----------------------------------------------------


def pages_of(bench):
    """Whose pages were read, in this order: file and page of each."""
    read = []

    def note(index):
        read.append((bench.status.snapshot()["current"]["file"], index))

    bench.engine.before = note
    return read


def tiff(path, pages):
    images = [Image.new("L", (20 + number, 20)) for number in range(pages)]
    images[0].save(path, save_all=True, append_images=images[1:])
    return path


def test_a_book_in_front_of_a_screenshot_does_not_keep_it_waiting(bench, tmp_path):
    book = bench.claim(tiff(tmp_path / "book.tif", 5))
    read = pages_of(bench)
    bench.serve(book, bench.claim(PNG, "shot.png"), bench.claim(PDF, "letter.pdf"))
    assert read == [
        ("book.tif", 0), ("shot.png", 0), ("letter.pdf", 0), ("book.tif", 1), ("letter.pdf", 1),
        ("book.tif", 2), ("book.tif", 3), ("book.tif", 4),
    ]  # fmt: skip
    assert [page["index"] for page in bench.result("book.tif")["pages"]] == [0, 1, 2, 3, 4]
    assert len(bench.result("letter.pdf")["pages"]) == 2
    assert bench.result("shot.png")["status"] == "success"


def test_fifo_reads_one_file_to_its_end_first(make_settings, tmp_path):
    settings = make_settings(scheduling="fifo")
    with Spool.opened(settings) as spool:
        bench = Bench(settings, spool, MeasuringEngine())
        read = pages_of(bench)
        bench.serve(bench.claim(tiff(tmp_path / "book.tif", 3)), bench.claim(PNG, "shot.png"))
    assert read == [("book.tif", 0), ("book.tif", 1), ("book.tif", 2), ("shot.png", 0)]


def test_a_job_that_comes_while_others_are_read_gets_the_next_turn_but_one(bench, tmp_path):
    book = bench.claim(tiff(tmp_path / "book.tif", 4))
    late = bench.claim(PNG, "late.png")
    read = []

    def note(index):
        read.append((bench.status.snapshot()["current"]["file"], index))
        if len(read) == 2:
            bench.worker.offer(late)

    bench.engine.before = note
    bench.worker.offer(book)
    thread = threading.Thread(target=bench.worker.run)
    thread.start()
    while bench.status.snapshot()["success"] < 2:
        assert thread.is_alive()
        time.sleep(0.01)
    bench.worker.stop(5)
    thread.join(20)
    assert read == [
        ("book.tif", 0), ("book.tif", 1), ("book.tif", 2), ("late.png", 0), ("book.tif", 3)
    ]  # fmt: skip


def open_documents(bench):
    """Those that the process which opens them has open."""
    spool, found = bench.settings.spool / "jobs", set()
    for descriptor in Path(f"/proc/{bench.worker._reader._child._process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(descriptor))
    return [path for path in found if path.startswith(str(spool)) and "/document/" in path]


def test_however_many_jobs_take_turns_few_documents_are_open(bench):
    opened = []
    bench.engine.before = lambda _index: opened.append(len(open_documents(bench)))
    jobs = [bench.claim(PDF, f"{number}.pdf") for number in range(3)]
    bench.serve(*jobs)
    assert len(opened) == 6
    assert max(opened) == 2, "two stay open, so that a book and a screenshot are opened once"
    for number in range(3):
        assert len(bench.result(f"{number}.pdf")["pages"]) == 2


def test_a_page_that_ended_the_process_is_held_against_its_own_job_only(bench):
    first, second = bench.claim(PDF, "first.pdf"), bench.claim(PDF, "second.pdf")
    for _ in range(3):
        second.begin("1")  # and the process dies
    bench.serve(*bench.spool.recover())
    assert bench.result("first.pdf")["status"] == "success"
    pages = bench.result("second.pdf")["pages"]
    assert [page["error"] and page["error"]["code"] for page in pages] == [None, "crashed"]
    assert first.attempts == {}


def test_a_stop_keeps_the_pages_of_all_jobs_in_work(bench):
    jobs = [bench.claim(PDF, f"{number}.pdf") for number in range(2)]

    def stop_at_the_third(_index):
        if len(bench.engine.read_pages) == 2:
            bench.worker.stop(60)

    bench.engine.before = stop_at_the_third
    for job in jobs:
        bench.worker.offer(job)
    bench.worker.run()
    # The page that was being read was the first one's last: its result is out.
    assert len(bench.result("0.pdf")["pages"]) == 2
    (left,) = bench.spool.recover()
    assert [left.pages.load(index) is not None for index in range(2)] == [True, False]
    assert left.attempts == {}


def test_a_disk_that_loses_a_kept_page_has_it_read_again(bench):
    def lose_the_first(index):
        if index == 1 and bench.engine.read_pages == [0]:
            (page,) = bench.settings.spool.glob("jobs/*/pages/000000.json")
            page.unlink()

    bench.engine.before = lose_the_first
    bench.serve(bench.claim(PDF))
    assert bench.engine.read_pages == [0, 1, 0]
    assert len(bench.result(PDF.name)["pages"]) == 2


def test_room_is_made_by_a_job_that_is_done_not_by_one_that_had_a_turn(bench, tmp_path):
    rooms = []
    bench.engine.before = lambda _index: rooms.append(bench.worker.has_room())
    names = ("a.tif", "b.tif", "c.tif", "d.tif")
    for name in names:
        tiff(tmp_path / name, 2)
    bench.serve(*(bench.claim(tmp_path / name) for name in names))
    # Four are in work, which is one more than may wait, until the first is done.
    assert rooms[:5] == [False] * 5
    assert rooms[-1] is True


def test_a_rest_stands_in_the_pages_timings(make_settings):
    settings = make_settings(cpu_budget=0.1, intra_op_num_threads=1)
    with Spool.opened(settings) as spool:
        bench = Bench(settings, spool, MeasuringEngine())

        def read(page, progress):
            time.sleep(1.5 * SHORTEST_REST)  # it is not looked more often
            end = time.process_time() + 0.3
            while time.process_time() < end:
                pass
            progress("second model")
            return PageReading([], 1, 1, None)

        bench.engine.read = read
        bench.serve(bench.claim(PNG))
    (page,) = bench.result(PNG.name)["pages"]
    assert page["timings"]["rest"] > 0


def test_a_page_that_crashes_or_hangs_is_tried_again_and_given_up_in_the_end(
    make_settings, monkeypatch, tmp_path
):
    faults(monkeypatch, tmp_path)
    settings = make_settings(render_seconds=1, max_attempts=2)
    path = tmp_path / "hostile.pdf"
    path.write_bytes(pages(200, CRASH, LOOP, CRASH_ONCE, 200))
    with Spool.opened(settings) as spool:
        bench = Bench(settings, spool, MeasuringEngine())
        bench.serve(bench.claim(path), bench.claim(PNG))
        result = bench.result("hostile.pdf")
        assert result["status"] == "partial"
        errors = [page["error"] for page in result["pages"]]
        assert [error and error["code"] for error in errors] == [
            None, "crashed", "hung", None, None,
        ]  # fmt: skip
        assert errors[1]["message"].startswith("page 2 of hostile.pdf ended the process that")
        assert bench.result(PNG.name)["status"] == "success"
        order = [entry.name for entry in sorted(settings.outbox.glob("*.json"), key=written_at)]
        assert order == [f"{PNG.name}.json", "hostile.pdf.json"], "it holds up no other file"


def written_at(path):
    return path.stat().st_mtime_ns


def test_a_file_that_crashes_when_opened_is_tried_again_and_set_aside(
    make_settings, monkeypatch, tmp_path
):
    faults(monkeypatch, tmp_path)
    settings = make_settings(max_attempts=2)
    path = tmp_path / "crash-on-open.pdf"
    path.write_bytes(pages(200))
    with Spool.opened(settings) as spool:
        bench = Bench(settings, spool, MeasuringEngine())
        job = bench.claim(path)
        bench.serve(job)
        assert job.attempts["open"] == 2
        error = bench.result(path.name, "failed")["error"]
        assert error["code"] == "crashed"
        assert "(SIGSEGV)" in error["message"]


def test_pages_and_documents_have_their_time(make_settings, tmp_path):
    path = tmp_path / "long.pdf"
    path.write_bytes(pages(200, 200, 200))
    settings = make_settings(page_seconds=1, document_seconds=1)
    with Spool.opened(settings) as spool:
        bench = Bench(settings, spool, MeasuringEngine())

        def linger(index):
            if index == 1:
                time.sleep(1.1)

        bench.engine.before = linger
        bench.serve(bench.claim(path))
        errors = [page["error"] for page in bench.result("long.pdf")["pages"]]
    assert [error and error["code"] for error in errors] == [None, "too-slow", "too-slow"]
    assert errors[1]["message"] == (
        "Page 2 was given up after 1 s; raise page_seconds, or deliver it simpler or at a lower "
        "resolution."
    )
    assert errors[2]["message"] == (
        "Page 3 was not read, the pages before it took 1 s; split the document or raise "
        "document_seconds."
    )
