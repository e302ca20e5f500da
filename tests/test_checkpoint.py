"""A checkpoint is opened whole or refused in a sentence that names the file at fault."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from checkpoint_building import SMALL
from safetensors import safe_open

from mineru_daemon.bench import random_checkpoint
from mineru_daemon.engines.mineru.export import checkpoint
from mineru_daemon.errors import EX_DATAERR, ModelError
from mineru_daemon.storage import digest

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
EMBEDDING = "model.embed_tokens.weight"
POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    "size 2332000000\n"
)

Tensors = dict[str, tuple[str, list[int], bytes]]
"""Name -> dtype, shape, bytes."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "small"
    random_checkpoint.write(path, shapes=SMALL)
    (path / "tokenizer.json").write_text('{"model": {}}')  # the real one has megabytes
    change_config(path, image_token_id=297, vision_start_token_id=298, vision_end_token_id=299)
    return path


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "checkpoint"))


def read(path: Path) -> Tensors:
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    return {
        name: (
            one["dtype"],
            one["shape"],
            content[begin + one["data_offsets"][0] : begin + one["data_offsets"][1]],
        )
        for name, one in header.items()
        if name != "__metadata__"
    }


def write(path: Path, tensors: Tensors, **changes: Any) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(content)]}
        end += len(content)
    text = json.dumps(header | changes).encode()
    data = b"".join(content for _, _, content in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def sentence(folder: Path) -> str:
    """What is said of `folder`: one line, of the documented type."""
    with pytest.raises(ModelError) as caught, checkpoint.opened(folder):
        pass
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith((".", "OUT"))
    assert str(folder) in said
    assert caught.value.exit_code == EX_DATAERR
    return said


# --- what is read -------------------------------------------------------------


def test_every_tensor_is_the_float32_of_its_bfloat16(folder):
    stored = read(folder / WEIGHTS)
    with checkpoint.opened(folder) as opened:
        assert set(stored) == set(checkpoint.shapes(opened.architecture))
        for name, (_, shape, content) in stored.items():
            expected = np.frombuffer(content, ml_dtypes.bfloat16).reshape(shape)
            copy = opened.tensor(name)
            assert copy.dtype == np.float32
            np.testing.assert_array_equal(copy, expected.astype(np.float32))


def test_the_safetensors_library_sees_the_same_tensors(folder):
    with checkpoint.opened(folder) as opened, safe_open(folder / WEIGHTS, "np") as reference:
        assert set(reference.keys()) == {
            name for file in opened.weight_files for name in file.entries
        }
        for name in reference.keys():  # noqa: SIM118 - no dict
            assert tuple(reference.get_slice(name).get_shape()) == opened.raw(name)[0].shape


@pytest.mark.parametrize(
    ("stored", "dtype", "kind"), [("F16", "float16", "<f2"), ("F32", "float32", "<f4")]
)
def test_other_float_types_are_read_too(folder, stored, dtype, kind):
    values = np.arange(math.prod((300, 64)), dtype=kind).reshape(300, 64) / 7
    tensors = read(folder / WEIGHTS)
    tensors[EMBEDDING] = (stored, [300, 64], values.astype(kind).tobytes())
    write(folder / WEIGHTS, tensors)
    with checkpoint.opened(folder) as opened:
        np.testing.assert_array_equal(opened.tensor(EMBEDDING), values.astype(np.float32))
        view, name = opened.raw(EMBEDDING)
        assert (view.dtype, name) == (np.dtype(kind), dtype)


def test_the_embedding_can_be_taken_as_it_is_stored(folder):
    with checkpoint.opened(folder) as opened:
        view, dtype = opened.raw(EMBEDDING)
        assert (view.dtype.name, view.shape, dtype) == ("uint16", (300, 64), "bfloat16")
        assert view.tobytes() == read(folder / WEIGHTS)[EMBEDDING][2]
        assert not view.flags.owndata


def test_a_copy_outlives_the_checkpoint_and_can_be_changed(folder):
    with checkpoint.opened(folder) as opened:
        copy = opened.tensor(EMBEDDING)
    copy += 1
    assert np.isfinite(copy).all()


def test_names_of_transformers_5_mean_the_same(folder):
    def renamed(name: str) -> str:
        if name.startswith("visual."):
            return f"model.{name}"
        return name.replace("model.", "model.language_model.", 1)

    tensors = read(folder / WEIGHTS)
    write(folder / WEIGHTS, {renamed(name): one for name, one in tensors.items()})
    with checkpoint.opened(folder) as opened:
        for name in tensors:
            assert opened.raw(name)[0].tobytes() == tensors[name][2]


def test_an_untied_head_is_a_tensor_of_its_own(folder):
    change_config(folder, tie_word_embeddings=False)
    assert "no tensor lm_head.weight" in sentence(folder)
    tensors = read(folder / WEIGHTS)
    tensors["lm_head.weight"] = ("BF16", [300, 64], bytes(300 * 64 * 2))
    write(folder / WEIGHTS, tensors)
    with checkpoint.opened(folder) as opened:
        assert not opened.tensor("lm_head.weight").any()


def test_a_tied_head_may_be_stored_all_the_same(folder):
    tensors = read(folder / WEIGHTS)
    tensors["lm_head.weight"] = tensors[EMBEDDING]
    write(folder / WEIGHTS, tensors)
    with checkpoint.opened(folder):
        pass


def shard(folder: Path) -> list[Path]:
    """Split the weights into two files and an index, as large checkpoints are published."""
    tensors = read(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    places = {name: names[name.startswith("visual.")] for name in tensors}
    for file in names:
        write(folder / file, {name: one for name, one in tensors.items() if places[name] == file})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return [folder / name for name in names]


def test_shards_are_read_together(folder, original):
    expected = read(original / WEIGHTS)
    paths = shard(folder)
    with checkpoint.opened(folder) as opened:
        for name, (_, _, content) in expected.items():
            assert opened.raw(name)[0].tobytes() == content
        told: list[int] = []
        digests = opened.weights_sha256(told.append)
        assert digests == {path.name: digest(path) for path in paths}
        assert sum(told) == opened.weights_bytes == sum(path.stat().st_size for path in paths)


def test_files_beside_the_weights_are_named_for_copying(folder):
    (folder / "README.md").write_text("not needed")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    with checkpoint.opened(folder) as opened:
        assert {path.name for path in opened.side_files} == {
            "config.json",
            "tokenizer.json",
            "preprocessor_config.json",
            "tokenizer_config.json",
            "generation_config.json",
            "chat_template.json",
            "chat_template.jinja",
        }


# --- where it comes from ------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def note_download(path: Path, etag: str, commit: str = COMMIT) -> None:
    """As `huggingface_hub` does it beside a file that it downloads to a folder."""
    notes = path.parent / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True, exist_ok=True)
    (notes / f"{path.name}.metadata").write_text(f"{commit}\n{etag}\n{time.time()}\n")


def test_the_revision_is_told_from_what_the_download_left(folder):
    note_download(folder / "config.json", "a" * 40)
    note_download(folder / WEIGHTS, digest(folder / WEIGHTS))
    with checkpoint.opened(folder) as opened:
        assert opened.revision == COMMIT
        opened.weights_sha256()


def test_files_of_two_revisions_have_none(folder):
    note_download(folder / "config.json", "a" * 40)
    note_download(folder / WEIGHTS, digest(folder / WEIGHTS), commit="f" * 40)
    with checkpoint.opened(folder) as opened:
        assert opened.revision is None


def test_weights_that_differ_from_what_the_hub_sent_are_refused(folder):
    note_download(folder / WEIGHTS, "0" * 64)
    with (
        checkpoint.opened(folder) as opened,
        pytest.raises(ModelError, match=r"model\.safetensors is not what the hub sent"),
    ):
        opened.weights_sha256()


def test_weights_that_were_changed_on_purpose_after_the_download_are_taken(folder):
    note_download(folder / WEIGHTS, "0" * 64)
    later = time.time() + 60
    os.utime(folder / WEIGHTS, (later, later))
    with checkpoint.opened(folder) as opened:
        opened.weights_sha256()
        assert opened.revision is None


def test_name_and_revision_are_told_from_the_hubs_cache(folder, tmp_path):
    snapshot = tmp_path / "models--owner--some-model" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        (snapshot / path.name).symlink_to(path)
    with checkpoint.opened(snapshot) as opened:
        assert (opened.name, opened.revision) == ("owner/some-model", COMMIT)


def test_any_other_folder_has_its_own_name_and_no_revision(folder):
    with checkpoint.opened(folder) as opened:
        assert (opened.name, opened.revision) == ("checkpoint", None)


# --- what is refused ----------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path):
    assert "does not exist" in sentence(tmp_path / "none")


def test_a_file_instead_of_the_folder(folder):
    assert "is a file" in sentence(folder / WEIGHTS)


def test_another_folder(tmp_path):
    assert "has no config.json" in sentence(tmp_path)


def test_a_model_folder_is_exported_already(folder):
    (folder / WEIGHTS).unlink()
    (folder / "manifest.json").write_text("{}")
    assert "was exported already" in sentence(folder)


def test_a_model_of_another_kind(folder):
    change_config(folder, model_type="internvl_chat")
    said = sentence(folder)
    assert "config.json" in said
    assert "internvl_chat" in said


def test_a_quantised_checkpoint(folder):
    change_config(folder, quantization_config={"quant_method": "awq"})
    assert "config.json tells of quantised weights" in sentence(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json"])
def test_json_cut_short(folder, name):
    (folder / name).write_text((folder / name).read_text()[:5])
    assert f"{folder / name} is" in sentence(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json"])
def test_a_missing_side_file(folder, name):
    (folder / name).unlink()
    assert f"{folder / name} is missing" in sentence(folder)


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json", "config.json"])
def test_a_pointer_of_git_lfs(folder, name):
    (folder / name).write_text(POINTER)
    said = sentence(folder)
    assert f"{folder / name} is only the pointer of Git LFS" in said
    assert "git lfs pull" in said


def test_weights_cut_off(folder):
    size = (folder / WEIGHTS).stat().st_size
    with (folder / WEIGHTS).open("r+b") as stream:
        stream.truncate(size - 1)
    assert f"is cut off: it has {size - 1} bytes instead of {size}" in sentence(folder)


@pytest.mark.parametrize("size", [3, 8, 100])
def test_weights_cut_off_within_the_header(folder, size):
    with (folder / WEIGHTS).open("r+b") as stream:
        stream.truncate(size)
    assert "is cut off" in sentence(folder)


def test_empty_weights(folder):
    (folder / WEIGHTS).write_bytes(b"")
    assert f"{folder / WEIGHTS} is empty" in sentence(folder)


def test_weights_that_go_on(folder):
    with (folder / WEIGHTS).open("ab") as stream:
        stream.write(b"more")
    assert "goes on after its last tensor" in sentence(folder)


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html><body>404</body></html>" * 9, b"PK\3\4" + bytes(99)]
)
def test_weights_that_are_none(folder, content):
    (folder / WEIGHTS).write_bytes(content)
    assert "is no safetensors file" in sentence(folder)


@pytest.mark.parametrize(
    "entry",
    [
        "nothing",
        {"dtype": "BF16", "shape": [300, 64]},
        {"dtype": "BF16", "shape": [300, -64], "data_offsets": [0, 38400]},
        {"dtype": "BF16", "shape": [300, 64], "data_offsets": [38400, 0]},
        {"dtype": "BF16", "shape": [300, 64], "data_offsets": [0, 38402]},
        {"dtype": "BF16", "shape": [300, 64], "data_offsets": [0, "x"]},
    ],
)
def test_a_damaged_header(folder, entry):
    write(folder / WEIGHTS, read(folder / WEIGHTS), **{EMBEDDING: entry})
    assert f"The header of {folder / WEIGHTS} is damaged" in sentence(folder)


def test_a_header_that_is_no_json(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[20] = 0xFF
    (folder / WEIGHTS).write_bytes(content)
    assert "is damaged" in sentence(folder)


def test_weights_of_another_type(folder):
    tensors = read(folder / WEIGHTS)
    tensors[EMBEDDING] = ("F8_E4M3", [300, 64], bytes(300 * 64))
    write(folder / WEIGHTS, tensors)
    said = sentence(folder)
    assert EMBEDDING in said
    assert "F8_E4M3" in said


@pytest.mark.parametrize("sharded", [False, True])
def test_a_missing_tensor_names_the_file_that_should_tell_of_it(folder, sharded):
    tensors = read(folder / WEIGHTS)
    del tensors["visual.blocks.1.attn.proj.bias"]
    write(folder / WEIGHTS, tensors)
    if sharded:
        shard(folder)
    said = sentence(folder)
    assert f"{folder / (INDEX if sharded else WEIGHTS)} has no tensor" in said
    assert "visual.blocks.1.attn.proj.bias" in said


def test_a_missing_layer_is_one_sentence_too(folder):
    change_config(folder, num_hidden_layers=3)
    said = sentence(folder)
    assert "model.layers.2.input_layernorm.weight and 11 more" in said


def test_a_layer_too_many(folder):
    change_config(folder, num_hidden_layers=1)
    said = sentence(folder)
    assert "model.layers.1." in said
    assert "do not belong together" in said


def test_a_wrong_shape(folder):
    change_config(folder, intermediate_size=100)
    said = sentence(folder)
    assert "model.layers.0.mlp." in said
    assert "[96, 64], config.json asks for [100, 64]" in said


def test_buffers_of_old_versions_are_let_pass(folder):
    tensors = read(folder / WEIGHTS)
    tensors["visual.rotary_pos_emb.inv_freq"] = ("F32", [16], bytes(64))
    write(folder / WEIGHTS, tensors)
    with checkpoint.opened(folder):
        pass


def test_a_missing_shard(folder):
    paths = shard(folder)
    paths[1].unlink()
    assert f"{paths[1]} is missing" in sentence(folder)


def test_shards_without_their_index(folder):
    shard(folder)
    (folder / INDEX).unlink()
    assert "neither model.safetensors nor model.safetensors.index.json" in sentence(folder)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "", ".."])
def test_an_index_that_leads_outside(folder, name):
    shard(folder)
    (folder / INDEX).write_text(json.dumps({"weight_map": {EMBEDDING: name}}))
    assert f"{folder / INDEX} is damaged" in sentence(folder)


@pytest.mark.parametrize("text", ["{}", '{"weight_map": []}', '{"weight_map": '])
def test_a_damaged_index(folder, text):
    shard(folder)
    (folder / INDEX).write_text(text)
    assert f"{folder / INDEX} is damaged" in sentence(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "MinerU2.5-Q8_0.gguf"])
def test_weights_in_another_format_only(folder, name):
    (folder / WEIGHTS).rename(folder / name)
    said = sentence(folder)
    assert name in said
    assert "model.safetensors is needed" in said


def test_no_weights_at_all(folder):
    (folder / WEIGHTS).unlink()
    assert "has no model.safetensors" in sentence(folder)


@pytest.mark.parametrize(
    "name", ["model.safetensors.0123.part", ".cache/huggingface/download/0123.incomplete"]
)
def test_a_download_that_was_not_finished(folder, name):
    (folder / WEIGHTS).unlink()
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"half")
    assert "was not finished" in sentence(folder)


def test_weights_that_cannot_be_read(folder):
    # A folder by that name cannot be read as a file by anybody, not even by root.
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    assert f"{folder / WEIGHTS} cannot be read" in sentence(folder)


def test_tokens_beyond_the_vocabulary(folder):
    tokens = [{"id": 299, "content": "<|im_end|>"}, {"id": 300, "content": "<ecel>"}]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    assert f"{folder / 'tokenizer.json'} gives <ecel> the number 300, but" in sentence(folder)


@pytest.mark.parametrize("token", ["<ecel>", {"content": "<ecel>"}, {"id": "299"}])
def test_damaged_tokens(folder, token):
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [token]}))
    assert f"{folder / 'tokenizer.json'} is damaged" in sentence(folder)


def test_an_image_token_beyond_the_vocabulary(folder):
    change_config(folder, image_token_id=151655)
    said = sentence(folder)
    assert f"{folder / 'config.json'} gives image_token_id the number 151655, but" in said


# --- memory -------------------------------------------------------------------


def test_tensors_that_were_read_do_not_stay_in_memory(tmp_path):
    """Resident pages of the file's mapping, after every tensor was read once."""
    wide = replace(SMALL, vocabulary=200_000)
    path = tmp_path / "wide"
    random_checkpoint.write(path, shapes=wide)
    with checkpoint.opened(path) as opened:
        for name in checkpoint.shapes(opened.architecture):
            opened.tensor(name)
        assert opened.weights_bytes > 25_000_000
        assert resident(path / WEIGHTS) < 2_000_000


def resident(path: Path) -> int:
    """Bytes of the file that are mapped and in this process's memory."""
    found = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.endswith(str(path)):
            found = True
        elif found and line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{path} is not mapped")
