"""The tiny checkpoint has the published format and reads its pages through the official client."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from tiny_mineru import CHECKPOINT
from tiny_mineru.pages import client_blocks, pages

PAGES = {page.name: page for page in pages()}
PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>\nText Recognition:<|im_end|>\n"
    "<|im_start|>assistant\n"
)


def _settings(name: str) -> Any:
    return json.loads((CHECKPOINT / name).read_text(encoding="utf-8"))


def _tensors() -> dict[str, Any]:
    """The header of the weights: name -> dtype, shape."""
    with (CHECKPOINT / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    del header["__metadata__"]
    return header


def test_it_is_small_enough_to_ship() -> None:
    sizes = [path.stat().st_size for path in CHECKPOINT.iterdir()]
    assert max(sizes) < 2 * 2**20
    assert sum(sizes) < 4_000_000


def test_the_configuration_is_flat_as_published() -> None:
    config = _settings("config.json")
    assert config["architectures"] == ["Qwen2VLForConditionalGeneration"]
    assert "text_config" not in config
    head = config["hidden_size"] // config["num_attention_heads"]
    assert head % 16 == 0
    assert sum(config["rope_scaling"]["mrope_section"]) == head // 2
    vision = config["vision_config"]
    assert vision["hidden_size"] == config["hidden_size"]
    assert vision["embed_dim"] // vision["num_heads"] % 16 == 0


def test_token_ids_of_all_files_agree() -> None:
    ids = {token["content"]: token["id"] for token in _settings("tokenizer.json")["added_tokens"]}
    config, generation = _settings("config.json"), _settings("generation_config.json")
    assert config["image_token_id"] == ids["<|image_pad|>"]
    assert config["vision_start_token_id"] == ids["<|vision_start|>"]
    assert config["vision_end_token_id"] == ids["<|vision_end|>"]
    assert generation["eos_token_id"] == [ids["<|im_end|>"], ids["<|endoftext|>"]]
    assert generation["pad_token_id"] == ids["<|endoftext|>"]
    named = _settings("tokenizer_config.json")["added_tokens_decoder"]
    assert {token["content"]: int(number) for number, token in named.items()} == ids
    assert max(ids.values()) < config["vocab_size"]


def test_the_weights_are_bfloat16_under_the_published_names() -> None:
    tensors = _tensors()
    config = _settings("config.json")
    assert {tensor["dtype"] for tensor in tensors.values()} == {"BF16"}
    assert "lm_head.weight" not in tensors
    assert tensors["model.embed_tokens.weight"]["shape"] == [
        config["vocab_size"],
        config["hidden_size"],
    ]
    assert tensors["visual.patch_embed.proj.weight"]["shape"] == [
        config["vision_config"]["embed_dim"],
        *(3, 2, 14, 14),
    ]
    for part, count in (
        ("model.layers", config["num_hidden_layers"]),
        ("visual.blocks", config["vision_config"]["depth"]),
    ):
        found = {name.split(".")[2] for name in tensors if name.startswith(f"{part}.")}
        assert found == {str(number) for number in range(count)}


def test_the_tokenizer_merges_words_and_gives_every_answer_back() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    for page in pages():
        answers = [block.answer for block in page.blocks if block.answer]
        for text in (page.layout, *answers):
            ids = tokenizer.encode(text).ids
            assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.encode(" water").tokens == ["Ġwater"]
    assert len(tokenizer.encode(" xylophone").ids) > 1
    assert tokenizer.encode("1871").tokens == ["1", "8", "7", "1"]
    tokens = tokenizer.encode("<fcel>“3<|rotate_up|>").tokens
    assert (tokens[0], *tokens[-2:]) == ("<fcel>", "3", "<|rotate_up|>")


def test_pages_and_aspect_ratios_all_differ() -> None:
    sizes = [page.image.size for page in pages()]
    assert len({width / height for width, height in sizes}) == len(sizes)
    assert max(width / height for width, height in sizes) > 3
    assert min(width / height for width, height in sizes) < 1 / 3


def test_every_block_holds_ink_and_nothing_is_cut() -> None:
    for page in pages():
        width, height = page.image.size
        for block in page.blocks:
            left, top, right, bottom = block.box
            assert 0 <= left < right <= 1000
            assert 0 <= top < bottom <= 1000
            crop = page.image.crop(
                (
                    math.floor(left * width / 1000),
                    math.floor(top * height / 1000),
                    math.ceil(right * width / 1000),
                    math.ceil(bottom * height / 1000),
                )
            )
            colours = crop.getcolors(crop.width * crop.height)
            assert colours is not None
            assert len(colours) > 1, (page.name, block)


def test_the_chat_template_asks_as_qwen_does(reference: Any) -> None:
    messages = reference.client.build_messages("\nText Recognition:")
    processor = reference.client.processor
    for asked in (messages, messages[1:]):
        text = processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        assert text == PROMPT


def test_the_settings_are_what_the_script_writes(reference: Any, tmp_path: Path) -> None:
    from tiny_mineru.folder_format import train_tokenizer, write_settings
    from tiny_mineru.train import all_texts

    write_settings(tmp_path, train_tokenizer(all_texts()))
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (CHECKPOINT / path.name).read_bytes(), path.name


def test_the_pages_try_every_rule_of_the_crops(reference: Any) -> None:
    from tiny_mineru.train import crop_examples

    crops = {example.answer: example.image for page in pages() for example in crop_examples(page)}
    # Wider than 50 times its height: paper above and below, then enlarged to 28 pixels.
    flat = next(image for answer, image in crops.items() if answer.startswith("Receiver"))
    assert flat.height == 28
    assert flat.width > 28 * 49
    assert {block.angle for page in pages() for block in page.blocks} == {0, 90, 180, 270}
    turned = crops["Slipway for boats up to 12 tons"]
    assert turned.width > turned.height


MISREAD = 3
"""Blocks of all pages that the model takes for others: a caption, and two lines of a kind."""


def test_the_official_client_reads_the_pages(reference: Any) -> None:
    misread = 0
    for page in PAGES.values():
        found, expected = reference.two_step_extract(page.image), client_blocks(page)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            misread += one["content"] != other["content"]
            for key in ("type", "bbox", "angle"):
                assert one[key] == other[key]
    assert misread <= MISREAD


@pytest.mark.parametrize("name", ["turned", "screen"])
def test_the_official_client_analyses_pictures(name: str, reference: Any) -> None:
    page = PAGES[name]
    layout = [
        {"type": block.type, "bbox": [v / 1000 for v in block.box], "angle": block.angle}
        for block in page.blocks
        if block.analysis
    ]
    found = reference.extract_with_layout(page.image, layout, image_analysis=True)
    assert found == [block for block in client_blocks(page, True) if "sub_type" in block]
