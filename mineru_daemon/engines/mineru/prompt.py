"""Texts to token ids and back, with the tokenizer and in the chat format of the checkpoint.

The chat template of a checkpoint is a program in a language of its own (Jinja), for
conversations of any kind. Here every conversation is the same one: a system prompt, then
one image and one text or a text alone. So the template is not run: the one prompt it would
give is written here, and `Tokenizer` makes sure that the checkpoint's template is of this
format. That spares a template engine, and code from a download is not run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mineru_daemon.engines.mineru.architecture import Architecture
from mineru_daemon.errors import EngineError, ModelError

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
"""Stands for the image; the token in its midst is then repeated, once for each image token."""

_NEEDED = frozenset(re.findall(r"<\|\w+\|>", IMAGE)) | {"<|im_start|>", "<|im_end|>"}
_ALLOWED = _NEEDED | {"<|video_pad|>"}


def chat(system: str, text: str, *, image: bool) -> str:
    """The prompt of a conversation: ChatML, as Qwen2-VL's template writes it.

    The image stands before the text, or where the text says `<image>`.
    """
    if not image:
        content = text
    elif "<image>" in text:
        before, after = text.split("<image>", 1)
        content = (before if before.strip() else "") + IMAGE + (after if after.strip() else "")
    else:
        content = IMAGE + text
    head = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    if not head:
        # The template supplies what it is not given.
        head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    return f"{head}<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"


class Tokenizer:
    """The tokenizer of a model folder, and which tokens end a text."""

    def __init__(self, folder: Path, architecture: Architecture) -> None:
        """Raises EngineError if `tokenizers` is not installed, ModelError for a bad folder."""
        try:
            from tokenizers import Tokenizer as Fast
        except ImportError as error:
            raise EngineError(
                "The engine mineru needs the package tokenizers; install it: "
                "pip install 'mineru-daemon[mineru]'"
            ) from error
        path = folder / "tokenizer.json"
        try:
            self._fast: Any = Fast.from_file(str(path))
        except Exception as error:
            raise ModelError(f"{path} cannot be read: {error}; export the model again.") from error
        self._fast.no_padding()
        self._fast.no_truncation()
        self._image_token = architecture.image_token_id
        if self._fast.token_to_id("<|image_pad|>") != self._image_token:
            raise ModelError(
                f"{path} is not of this model: <|image_pad|> has another number in config.json."
            )
        _check_template(folder)
        config, generation, tokens = (
            _optional(folder / name)
            for name in ("config.json", "generation_config.json", "tokenizer_config.json")
        )
        text = {**config, **config.get("text_config", {})}
        ends = _numbers(generation.get("eos_token_id")) or _numbers(text.get("eos_token_id"))
        named = [tokens.get(f"{kind}_token") for kind in ("bos", "eos", "pad")]
        self.stops: frozenset[int] = frozenset(ends)
        """Tokens after which generation ends."""
        self._silent = frozenset(
            number
            for source in (generation, text)
            for kind in ("bos", "eos", "pad")
            for number in _numbers(source.get(f"{kind}_token_id"))
        ) | frozenset(number for token in named if (number := self._number(token)) is not None)
        if not self.stops:
            raise ModelError(
                f"{folder / 'generation_config.json'} names no eos_token_id, so no text would "
                "end; export the model again from a complete checkpoint."
            )

    def _number(self, token: Any) -> int | None:
        """The number of a token as `tokenizer_config.json` names it: text, or an object."""
        content = token.get("content") if isinstance(token, dict) else token
        return self._fast.token_to_id(content) if isinstance(content, str) else None

    def encode(self, prompt: str, image_tokens: int = 0) -> list[int]:
        """Token ids of a prompt; its image token is repeated `image_tokens` times."""
        ids: list[int] = self._fast.encode(prompt, add_special_tokens=False).ids
        if not image_tokens:
            return ids
        place = ids.index(self._image_token)
        return [*ids[:place], *[self._image_token] * image_tokens, *ids[place + 1 :]]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of generated tokens.

        Special tokens stay in it, as layouts and tables are written with them; only those
        that begin, end or fill a text are left out. So does the official client.
        """
        kept = [number for number in ids if number not in self._silent]
        text: str = self._fast.decode(kept, skip_special_tokens=False)
        return text


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of tokens with which both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _check_template(folder: Path) -> None:
    """Raises ModelError if the checkpoint has a chat template of another format."""
    for name, template in _templates(folder):
        marks = set(re.findall(r"<\|\w+\|>", template))
        if not (marks >= _NEEDED and marks <= _ALLOWED and "assistant" in template):
            raise ModelError(
                f"The chat template in {folder / name} is not Qwen2-VL's; this version of "
                "mineru-daemon does not know the format."
            )


def _templates(folder: Path) -> Iterable[tuple[str, str]]:
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = _optional(folder / name).get("chat_template")
        if isinstance(template, str):
            yield name, template
    name = "chat_template.jinja"
    if (folder / name).exists():
        yield name, (folder / name).read_text("utf-8")


def _optional(path: Path) -> dict[str, Any]:
    """A JSON object, empty if there is no such file. Raises ModelError if it is damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}; export the model again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object; export the model again.")
    return content


def _numbers(value: Any) -> list[int]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int)]
