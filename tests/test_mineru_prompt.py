"""Prompts are those of the checkpoint's chat format, and texts come back with their marks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_mineru import CHECKPOINT

from mineru_daemon.engines.mineru.architecture import Architecture
from mineru_daemon.engines.mineru.prompt import Tokenizer, chat, shared
from mineru_daemon.errors import ModelError

ARCHITECTURE = Architecture.read(CHECKPOINT / "config.json")
IMAGE = ARCHITECTURE.image_token_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a model folder that tell of tokens, to be changed."""
    for path in CHECKPOINT.glob("*.json"):
        shutil.copy(path, tmp_path)
    return tmp_path


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_prompt_is_a_system_text_an_image_and_a_question() -> None:
    assert chat("Be brief.", "\nText Recognition:", image=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>\nText Recognition:"
        "<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_text_may_say_where_the_image_stands_or_have_none() -> None:
    user = chat("", "Look: <image> What is it?", image=True).split("user\n")[1]
    assert user.startswith("Look: <|vision_start|><|image_pad|><|vision_end|> What is it?<|im_")
    assert "vision" not in chat("", "Hello", image=False)


def test_an_image_has_as_many_tokens_as_its_size_asks_for(folder: Path) -> None:
    tokenizer = Tokenizer(folder, ARCHITECTURE)
    prompt = chat("Be brief.", "\nText Recognition:", image=True)
    one, many = tokenizer.encode(prompt), tokenizer.encode(prompt, 5)
    place = one.index(IMAGE)
    assert one.count(IMAGE) == 1
    assert many == [*one[:place], *[IMAGE] * 5, *one[place + 1 :]]
    assert tokenizer.decode(one) == prompt.replace("<|im_end|>", "")


def test_marks_stay_in_a_text_but_for_those_that_end_it(folder: Path) -> None:
    tokenizer = Tokenizer(folder, ARCHITECTURE)
    text = "<|box_start|>010 020 030 040<|box_end|><|ref_start|>text<|ref_end|>"
    ids = tokenizer.encode(f"{text}<|im_end|><|endoftext|>")
    assert tokenizer.stops >= set(ids[-2:])
    assert tokenizer.decode(ids) == text


def test_prompts_share_their_beginning() -> None:
    assert shared([1, 2, 3], [1, 2, 4, 5]) == 2
    assert shared([1, 2], [1, 2, 3]) == 2
    assert shared([], [1]) == 0


def test_a_chat_format_of_another_kind_is_refused(folder: Path) -> None:
    _change(folder / "chat_template.json", chat_template="[INST] {{ content }} [/INST]")
    with pytest.raises(ModelError, match=r"chat_template\.json is not Qwen2-VL's"):
        Tokenizer(folder, ARCHITECTURE)


def test_a_checkpoint_without_a_template_is_read(folder: Path) -> None:
    (folder / "chat_template.json").unlink()
    _change(folder / "tokenizer_config.json", chat_template=None)
    assert Tokenizer(folder, ARCHITECTURE).stops


def test_a_folder_whose_texts_would_never_end_is_refused(folder: Path) -> None:
    _change(folder / "generation_config.json", eos_token_id=None)
    _change(folder / "config.json", eos_token_id=None)
    with pytest.raises(ModelError, match="names no eos_token_id"):
        Tokenizer(folder, ARCHITECTURE)


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("<|image_pad|>", "<|picture|>"))
    with pytest.raises(ModelError, match=r"tokenizer\.json is not of this model"):
        Tokenizer(folder, ARCHITECTURE)


@pytest.mark.parametrize("name", ["tokenizer.json", "generation_config.json"])
def test_a_damaged_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("{")
    with pytest.raises(ModelError, match=name):
        Tokenizer(folder, ARCHITECTURE)
