"""The model folder: whole or refused in a sentence, and published by one rename."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mineru_daemon import storage
from mineru_daemon.engines.mineru import drafts, folder
from mineru_daemon.errors import EX_DATAERR, EngineError, ModelError, StorageError

HEAD: dict[str, Any] = {
    "architecture": "Qwen2VLForConditionalGeneration",
    "precision": "int8",
    "source": folder.Source(name="owner/name", revision="a" * 40, weights_sha256={"w": "0" * 64}),
    "embedding": folder.Embedding(dtype="bfloat16", shape=(10, 4)),
    "graphs": folder.Graphs(vision="vision.onnx", prefill="prefill.onnx", decode="decode.onnx"),
    "verification": {"logits": {"cosine": 0.999}},
}
NAMES = ("vision.onnx", "vision.onnx.data", "prefill.onnx", "decode.onnx", *folder.REQUIRED)


def fill(path: Path, mark: str = "") -> None:
    for name in NAMES:
        (path / name).write_text(f"content of {name} {mark}")
    (path / folder.EMBEDDING).write_bytes(bytes(80))


def publish(
    out: Path,
    mark: str = "",
    replace: bool = False,
    meanwhile: Callable[[Path], object] = lambda path: None,
) -> folder.ModelFolder:
    """`meanwhile` is called with the folder in which the model is made."""
    with drafts.begun(out, replace=replace) as draft:
        fill(draft.path, mark)
        meanwhile(draft.path)
        return draft.publish(**HEAD)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    publish(tmp_path / "model")
    return tmp_path / "model"


def change(model: Path, **values: object) -> None:
    manifest = json.loads((model / folder.MANIFEST).read_text())
    (model / folder.MANIFEST).write_text(json.dumps(manifest | values))


def sentence(path: Path) -> str:
    """What `load` says about `path`: one line, of the documented type."""
    with pytest.raises(ModelError) as caught:
        folder.load(path)
    said = str(caught.value)
    assert "\n" not in said
    assert str(path) in said
    assert isinstance(caught.value, EngineError)
    assert (caught.value.code, caught.value.exit_code) == ("model", EX_DATAERR)
    return said


# --- what is loaded -----------------------------------------------------------


def test_what_is_published_loads_and_verifies(model):
    loaded = folder.load(model)
    assert loaded.manifest.precision == "int8"
    assert loaded.manifest.source.name == "owner/name"
    assert loaded.manifest.verification == {"logits": {"cosine": 0.999}}
    assert loaded.graph("decode") == model / "decode.onnx"
    assert loaded.embedding.stat().st_size == 80
    assert loaded.file("tokenizer.json").read_text().startswith("content of tokenizer.json")
    told: list[int] = []
    folder.verify(model, told.append)
    assert sum(told) == loaded.manifest.bytes


def test_the_manifest_is_the_documented_json(model):
    manifest = json.loads((model / "manifest.json").read_text("utf-8"))
    assert (manifest["format"], manifest["version"]) == ("mineru-daemon/model", 1)
    assert manifest["embedding"] == {"dtype": "bfloat16", "shape": [10, 4]}
    assert sorted(manifest["files"]) == sorted(NAMES)
    entry = manifest["files"]["vision.onnx"]
    assert entry["bytes"] == (model / "vision.onnx").stat().st_size
    assert entry["sha256"] == storage.digest(model / "vision.onnx")


def test_without_a_graph_for_decoding_the_prompts_graph_decodes(tmp_path):
    with drafts.begun(tmp_path / "model") as draft:
        fill(draft.path)
        head = HEAD | {"graphs": folder.Graphs(vision="vision.onnx", prefill="prefill.onnx")}
        loaded = draft.publish(**head)
    assert loaded.graph("decode") == tmp_path / "model" / "prefill.onnx"


def test_what_a_later_exporter_tells_besides_is_let_pass(model):
    change(model, tuned_for="a later version")
    folder.load(model)


# --- what is refused ----------------------------------------------------------


def test_a_folder_that_is_not_there_says_how_to_make_one(tmp_path):
    said = sentence(tmp_path / "none")
    assert "does not exist" in said
    assert "mineru-daemon model pull" in said


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "model").write_text("")
    assert "is a file" in sentence(tmp_path / "model")


def test_another_folder_is_told_to_have_no_manifest(tmp_path):
    assert "has no manifest.json" in sentence(tmp_path)


def test_a_checkpoint_is_to_be_exported_first(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    said = sentence(tmp_path)
    assert "is a Hugging Face checkpoint" in said
    assert "mineru-daemon model export" in said


def test_the_manifest_of_another_program_is_told_apart(model):
    change(model, format="browser extension")
    assert "belongs to another program" in sentence(model)


@pytest.mark.parametrize("text", ["[]", "3", '{"name": "extension"}'])
def test_json_of_another_kind_is_no_manifest(model, text):
    (model / "manifest.json").write_text(text)
    assert "belongs to another program" in sentence(model)


def test_a_newer_format_asks_for_an_upgrade(model):
    change(model, version=2, exporter="9.1", graphs="something new")
    said = sentence(model)
    assert "newer mineru-daemon (9.1" in said
    assert "upgrade" in said


def test_a_manifest_cut_short_is_damaged(model):
    text = (model / "manifest.json").read_text()
    (model / "manifest.json").write_text(text[: len(text) // 2])
    assert "manifest.json is damaged" in sentence(model)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"precision": "int2"}, "precision"),
        ({"version": 0}, "version"),
        ({"embedding": {"dtype": "bfloat16", "shape": [11, 4]}}, "embedding.bin"),
        ({"graphs": {"vision": "vision.onnx", "prefill": "other.onnx"}}, "other.onnx"),
        ({"graphs": {"vision": "vision.onnx", "prefill": "../prefill.onnx"}}, "graphs.prefill"),
        ({"files": {}}, "is not listed"),
        ({"files": {"../../etc/passwd": {"bytes": 1, "sha256": "0" * 64}}}, "files"),
    ],
)
def test_a_manifest_that_contradicts_itself_or_leads_outside_is_damaged(model, values, words):
    change(model, **values)
    said = sentence(model)
    assert "is damaged" in said
    assert words in said


@pytest.mark.parametrize("name", NAMES)
def test_each_missing_file_is_named(model, name):
    (model / name).unlink()
    said = sentence(model)
    assert f"{model / name} is missing" in said
    assert "export the model again" in said


@pytest.mark.parametrize("name", NAMES)
def test_each_file_cut_off_is_named(model, name):
    size = (model / name).stat().st_size
    os.truncate(model / name, size - 1)
    assert f"{model / name} is cut off: it has {size - 1} bytes instead of {size}" in sentence(
        model
    )


def test_a_file_that_grew_is_named(model):
    with (model / "decode.onnx").open("a") as stream:
        stream.write("x")
    assert "decode.onnx is too long" in sentence(model)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_file_that_the_service_may_not_read_is_named_with_the_cure(model):
    (model / "decode.onnx").chmod(0o600)
    for path in (model, *model.parents):
        path.chmod(path.stat().st_mode | 0o755)
    try:
        os.seteuid(65534)
        said = sentence(model)
    finally:
        os.seteuid(0)
    assert f"{model / 'decode.onnx'} may not be read by user id 65534" in said
    assert "chmod -R a+rX" in said


def test_a_changed_byte_loads_but_does_not_verify(model):
    content = bytearray((model / "vision.onnx.data").read_bytes())
    content[3] ^= 1
    (model / "vision.onnx.data").write_bytes(content)
    folder.load(model)
    with pytest.raises(ModelError, match=r"vision\.onnx\.data is not what was exported"):
        folder.verify(model)


def test_a_file_that_the_model_does_not_have_is_asked_for_in_vain(model):
    with pytest.raises(ModelError, match=r"has no chat_template\.jinja"):
        folder.load(model).file("chat_template.jinja")


# --- publication --------------------------------------------------------------


def test_nothing_is_left_beside_the_model(model):
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_folders_above_are_made(tmp_path):
    publish(tmp_path / "a" / "b" / "model")
    folder.load(tmp_path / "a" / "b" / "model")


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "model").mkdir()
    publish(tmp_path / "model")
    folder.load(tmp_path / "model")


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "disk" / "model")
    publish(tmp_path / "model")
    assert (tmp_path / "model").is_symlink()
    folder.load(tmp_path / "disk" / "model")


def test_others_may_read_what_the_umask_allows(tmp_path):
    before = os.umask(0o022)
    try:
        publish(tmp_path / "model")
    finally:
        os.umask(before)
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "model" / "manifest.json").stat().st_mode & 0o777 == 0o644


def test_a_failed_export_leaves_nothing(tmp_path):
    def fail(path):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        publish(tmp_path / "model", meanwhile=fail)
    assert not list(tmp_path.iterdir())


def test_a_model_is_replaced_only_on_request(model):
    with pytest.raises(ModelError, match="holds a model already; give --force"):
        publish(model, "second")
    assert "second" not in (model / "vision.onnx").read_text()
    publish(model, "second", replace=True)
    assert "second" in (model / "vision.onnx").read_text()
    folder.verify(model)
    assert [path.name for path in model.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("damage", ["version", "missing"])
def test_a_damaged_model_or_one_of_another_version_can_be_replaced(model, damage):
    if damage == "version":
        change(model, version=7)
    else:
        (model / "decode.onnx").unlink()
    publish(model, "second", replace=True)
    folder.verify(model)


def test_a_model_is_replaced_where_folders_cannot_be_exchanged(model, monkeypatch):
    class NoCall:
        pass

    monkeypatch.setattr(storage, "_libc", NoCall())
    publish(model, "second", replace=True)
    assert "second" in (model / "vision.onnx").read_text()
    assert [path.name for path in model.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("replace", [False, True])
def test_other_files_are_never_replaced(tmp_path, replace):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.odt").write_text("years of work")
    with pytest.raises(ModelError, match=r"holds other files \(thesis\.odt, …\)"):
        publish(tmp_path / "model", replace=replace)
    assert (tmp_path / "model" / "thesis.odt").read_text() == "years of work"


def test_a_file_put_into_a_model_is_not_deleted_with_it(model):
    (model / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match=r"something beside its model \(notes\.txt\)"):
        publish(model, "second", replace=True)
    assert (model / "notes.txt").read_text() == "mine"


def test_a_file_in_the_place_is_refused(tmp_path):
    (tmp_path / "model").write_text("")
    with pytest.raises(ModelError, match="is a file"):
        publish(tmp_path / "model", replace=True)


def test_what_came_to_the_place_meanwhile_is_not_replaced(tmp_path):
    def occupy(path):
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "thesis.odt").write_text("years of work")

    with pytest.raises(ModelError, match="holds other files"):
        publish(tmp_path / "model", meanwhile=occupy)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_place_that_cannot_be_written_is_one_sentence():
    with pytest.raises(StorageError) as caught:
        publish(Path("/proc/nothing/model"))
    assert "/proc/nothing" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(StorageError, match="No space left on device"):
        publish(tmp_path / "model", meanwhile=lambda path: Path("/dev/full").write_text("x"))
    assert not list(tmp_path.iterdir())


# --- kills --------------------------------------------------------------------

EXPORTER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_model_folder import HEAD, fill
from mineru_daemon.engines.mineru import drafts, folder
with drafts.begun(Path({out!r}), replace=True) as draft:
    fill(draft.path, "of another process")
    {then}
"""
WAITING = 'print("ready", flush=True); time.sleep(60)'


def exporter(out: Path, then: str) -> subprocess.Popen[str]:
    code = textwrap.dedent(EXPORTER).format(
        tests=str(Path(__file__).parent), out=str(out), then=then
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def test_a_killed_export_leaves_nothing_that_loads_and_the_next_one_clears_it(tmp_path):
    out = tmp_path / "model"
    process = exporter(out, WAITING)
    wait_until_ready(process)
    process.kill()
    process.wait()
    (leftover,) = tmp_path.iterdir()
    for path in (out, leftover):
        with pytest.raises(ModelError):
            folder.load(path)
    publish(out)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    folder.verify(out)


def test_an_export_that_is_at_work_is_not_cleared(tmp_path):
    process = exporter(tmp_path / "other", WAITING)
    try:
        wait_until_ready(process)
        (workplace,) = tmp_path.iterdir()
        publish(tmp_path / "model")
        assert sorted(path.name for path in tmp_path.iterdir()) == [workplace.name, "model"]
        assert (workplace / "vision.onnx").exists()
    finally:
        process.kill()
        process.wait()


def test_folders_of_others_beside_the_model_stay(tmp_path):
    (tmp_path / "mineru-export-mine").mkdir()
    publish(tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mineru-export-mine", "model"]


WATCHER = """
import os, sys
print("ready", flush=True)
while not os.path.exists({stop!r}):
    os.stat({manifest!r})
"""


def test_while_a_model_is_replaced_there_is_one_at_every_moment(model, tmp_path):
    code = WATCHER.format(stop=str(tmp_path / "stop"), manifest=str(model / "manifest.json"))
    watcher = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until_ready(watcher)
    for number in range(20):
        publish(model, str(number), replace=True)
    (tmp_path / "stop").touch()
    said = watcher.communicate(timeout=60)[1]
    assert watcher.returncode == 0, said


def test_killed_at_any_moment_the_place_holds_the_old_model_or_the_new_one(tmp_path):
    """Kills spread over a publication; each time what lies there is whole."""
    out = tmp_path / "model"
    publish(out, "first")
    for number in range(30):
        process = os.fork()
        if process == 0:  # The same publication over and over, so that any step is hit.
            try:
                while True:
                    publish(out, "again", replace=True)
            finally:
                os._exit(1)
        time.sleep(0.001 * number)
        os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
        assert os.WIFSIGNALED(status), "a publication failed"
        folder.verify(out)
    publish(out, "last", replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
