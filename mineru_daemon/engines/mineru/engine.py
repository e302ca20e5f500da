"""The engine `mineru`: a page in the official two steps, layout and then each block.

Prompts, parsing and post-processing are the official package's; the model is asked through
`client`. What is decided here is which blocks the model reads, and which are taken from the
text layer of a PDF.
"""

from __future__ import annotations

from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
from PIL import Image

from mineru_daemon import cpu
from mineru_daemon.documents import Page, TextPage
from mineru_daemon.engines.base import PageReading, Progress, size_warning
from mineru_daemon.engines.mineru import (
    blocks,
    confidence,
    folder,
    generate,
    layer_text,
    loading,
    scale,
)
from mineru_daemon.engines.mineru.generate import Finish
from mineru_daemon.engines.mineru.scale import Preset
from mineru_daemon.engines.ppocr import links, textlayer
from mineru_daemon.engines.ppocr.textlayer import PdfMode, TextLayer
from mineru_daemon.engines.timing import Timings, timed
from mineru_daemon.errors import EngineError
from mineru_daemon.results import EngineInfo

if TYPE_CHECKING:
    from mineru_daemon.engines.mineru.client import Answer

ContentBlock = dict[str, Any]
"""Of mineru-vl-utils: type, bbox, angle, content, and what one adds."""

PACKAGES = ("tokenizers", "mineru_vl_utils")
"""What the extra `mineru` installs."""

FROM_LAYER = "text_of_layer"
"""Key of a block whose text is not the model's."""

BROKEN_OFF: dict[Finish, str] = {
    "length": "after {tokens} tokens",
    "time": "after {seconds:g} seconds",
    "loop": "because it repeated itself",
}
"""By why a text ended."""


def missing_packages() -> list[str]:
    """Packages that the engine needs and that are not installed."""
    return [name for name in PACKAGES if find_spec(name) is None]


class MinerUEngine:
    """Reads pages with MinerU2.5. One engine serves one thread."""

    def __init__(
        self,
        plan: cpu.ThreadPlan,
        model: Path,
        *,
        preset: Preset = "balanced",
        max_image_size: int = 0,
        min_image_size: int = 400,
        pdf_mode: PdfMode = "auto",
        image_analysis: bool = False,
        decode_batch: int = generate.BATCH,
        block_tokens: int | None = None,
        block_seconds: float | None = None,
        reason: str | None = None,
    ) -> None:
        """Load the model folder `model`; the options are the settings of these names.

        `reason` tells why this engine was chosen. Raises ModelError for a folder that cannot
        be used, EngineError where a package is missing.
        """
        if missing := missing_packages():
            raise EngineError(
                f"The engine mineru needs the package {missing[0]}; install it: "
                "pip install 'mineru-daemon[mineru]'"
            )
        # Only now: the official package is not there for every user.
        from mineru_daemon.engines.mineru import client

        # OpenCV has a pool of its own, and its work here is too small for threads.
        cv2.setNumThreads(1)
        found = folder.load(model)
        self._model = loading.load(
            found,
            plan,
            batch=decode_batch,
            max_tokens=block_tokens,
            max_seconds=block_seconds,
        )
        self._task = client.Task
        self._client = client.OnnxVlmClient(self._model)
        side = scale.layout_side(preset, max_image_size)
        self._mineru = client.mineru_client(
            self._client, layout_image_size=(side, side), image_analysis=image_analysis
        )
        self._preset: Preset = preset
        self._max_image_size = max_image_size
        self._min_image_size = min_image_size
        self._pdf_mode: PdfMode = pdf_mode
        self._block_seconds = block_seconds
        manifest = found.manifest
        self.info = EngineInfo(
            name="mineru",
            model=manifest.source.name,
            precision=manifest.precision,
            reason=reason,
            settings={
                "revision": manifest.source.revision,
                "preset": preset,
                "max_image_size": max_image_size,
                "min_image_size": min_image_size,
                "pdf_mode": pdf_mode,
                "image_analysis": image_analysis,
                "decode_batch": decode_batch,
                "block_tokens": block_tokens,
                "block_seconds": block_seconds,
                "intra_op_num_threads": plan.intra,
                "spin_microseconds": plan.spin_microseconds,
            },
        )

    def warm_up(self) -> None:
        """Run every graph once on a small empty image."""
        few = type(self._mineru.sampling_params["[default]"])(max_new_tokens=2)
        blank = Image.new("RGB", (56, 56), "white")
        self._client.answer([self._task(blank, self._mineru.prompts["[default]"], few)])

    def close(self) -> None:
        """Give sessions and memory back."""
        self._model.close()

    def read(self, page: Page, progress: Progress) -> PageReading:
        """Read one page."""
        timings: Timings = defaultdict(float)
        layer = None
        if isinstance(page, TextPage):
            progress("text-layer")
            with timed(timings, "text-layer"):
                layer = page.ask(textlayer.read, self._pdf_mode)
        progress("render")
        with timed(timings, "render"):
            rendering = page.render()
        image = rendering.image
        found, warnings = self._layout(image, progress, timings)
        answers = self._extract(image, found, layer, progress, timings)
        taken = sum(FROM_LAYER in block for block in found)
        with timed(timings, "postprocess"):
            made = blocks.to_blocks(self._processed(found))
            if layer is not None:
                made = links.onto(made, layer.links, layer.width, layer.height)
            written = ((answer.tokens, answer.logprobs) for answer in answers)
            sure = confidence.of(written, self._model.tokenizer)
        return PageReading(
            blocks=made,
            width_px=image.width,
            height_px=image.height,
            dpi=rendering.dpi,
            rotation=page.rotation,
            origin=_origin(taken, len(answers)),
            origin_reason=_reason(layer, taken),
            confidence=sure,
            warnings=[
                *page.warnings,
                *size_warning(image.width, image.height, self._min_image_size),
                *warnings,
            ],
            timings=dict(timings),
        )

    # --- the two steps -------------------------------------------------------

    def _layout(
        self, image: Image.Image, progress: Progress, timings: Timings
    ) -> tuple[list[ContentBlock], list[str]]:
        """The page's blocks without content, and what is to be said of the page."""
        with timed(timings, "preprocess"):
            shown = self._mineru.helper.prepare_for_layout(image)
        text = self._mineru.prompts["[layout]"]
        params = self._mineru.sampling_params["[layout]"]
        [answer] = self._client.answer([self._task(shown, text, params)], progress, timings)
        found: list[ContentBlock] = self._mineru.helper.parse_layout_output(answer.text)
        return found, self._warnings(answer, "The layout", "blocks may be missing")

    def _extract(
        self,
        image: Image.Image,
        found: list[ContentBlock],
        layer: TextLayer | None,
        progress: Progress,
        timings: Timings,
    ) -> list[Answer]:
        """Give the blocks their content; returns what the model said.

        Captions inside of pictures are taken out of `found`, as the official client does.
        """
        tasks, asked = [], []
        with timed(timings, "preprocess"):
            prepared = self._mineru.helper.prepare_for_extract(image, found)
            for crop, text, params, place in zip(*prepared, strict=True):
                block = found[place]
                if known := _text_of_layer(layer, block):
                    block[FROM_LAYER] = known
                    continue
                size = scale.crop_size(crop, block["type"], self._preset, self._max_image_size)
                tasks.append(self._task(crop, text, params, size))
                asked.append(block)
        answers: list[Answer] = self._client.answer(tasks, progress, timings, scored=True)
        for block, answer in zip(asked, answers, strict=True):
            block["content"] = answer.text
            block["score"] = answer.score
            block["warnings"] = self._warnings(answer, "The text", "the block may hold more")
        return answers

    def _processed(self, found: list[ContentBlock]) -> list[ContentBlock]:
        """After the official post-processing, which is for what the model wrote."""
        processed: list[ContentBlock] = self._mineru.helper.post_process(found)
        for block in processed:
            if FROM_LAYER in block:
                block["content"] = block.pop(FROM_LAYER)
            elif block["type"] == "equation" and "score" not in block:
                blocks.inherit(block, found)
        return processed

    def _warnings(self, answer: Answer, what: str, so: str) -> list[str]:
        if answer.finish not in BROKEN_OFF:
            return []
        why = BROKEN_OFF[answer.finish].format(
            tokens=len(answer.tokens), seconds=self._block_seconds
        )
        return [f"{what} was broken off {why}; {so}."]


def _text_of_layer(layer: TextLayer | None, block: ContentBlock) -> str | None:
    if layer is None or block["type"] not in layer_text.KINDS or block["angle"]:
        return None
    return layer_text.text_of(layer, tuple(block["bbox"]))


def _origin(taken: int, recognised: int) -> Literal["ocr", "text-layer", "mixed"]:
    if not taken:
        return "ocr"
    return "mixed" if recognised else "text-layer"


def _reason(layer: TextLayer | None, taken: int) -> str | None:
    if layer is None:
        return None
    if layer.verdict.source == "ocr" or taken:
        return layer.verdict.reason
    return "The text layer agrees with no block of the layout."
