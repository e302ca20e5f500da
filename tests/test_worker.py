"""From a claimed job to its result, with the real spool and real documents.

The engine here measures the picture instead of reading it: what is tested is what the
worker makes of an engine's answers, errors and deaths.
"""

from __future__ import annotations

import errno
import json
import threading
import time

import jsonschema
import pytest
from PIL import Image

from mineru_daemon import results
from mineru_daemon.engines.base import PageReading
from mineru_daemon.errors import CancelledError, EngineError
from mineru_daemon.results import Block, EngineInfo, ErrorInfo
from mineru_daemon.samples import paths
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
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and thread.is_alive():
            state = self.status.snapshot()
            if state["success"] + state["partial"] + state["failed"] >= len(jobs):
                break
            time.sleep(0.01)
        self.worker.stop(5)
        thread.join(20)
        assert not thread.is_alive()

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
    bench.worker._serve(job)
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
        bench.worker._serve(job)
        (job,) = bench.spool.recover()
    assert job.attempts == {}


def test_a_stop_ends_the_work_after_the_current_page(bench):
    job = bench.claim(PDF)
    bench.engine.before = lambda _index: bench.worker.stop(60)
    bench.worker._serve(job)
    assert bench.engine.read_pages == [0]
    assert bench.spool.recover()[0].pages.load(0) is not None


def test_a_stop_gives_a_page_up_when_its_grace_is_over(bench):
    job = bench.claim(PNG)
    bench.worker.stop(-1)
    bench.worker._stopping.clear()
    bench.worker._serve(job)
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

    monkeypatch.setattr("mineru_daemon.worker.digest", refuse)
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
    bench.worker._serve(bad)
    assert "a bug in the commit" in bench.status.troubles()[bad.id]
    bench.serve(bench.claim(PNG, "good.png"))
    assert bench.result("good.png")["status"] == "success"
    assert [job.name for job in bench.spool.recover()] == ["bad.png"]


def test_names_that_are_no_utf8_stand_in_the_result_as_bytes_too(bench):
    import os

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
