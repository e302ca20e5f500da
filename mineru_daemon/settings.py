"""One tree of settings: what can be set, in which bounds, and what it means.

Where the values come from is `configuration`'s business, whether the folders can be used
`folders`', what the unit grants `cpu`'s.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from mineru_daemon import cpu

ENV_PREFIX = "MINERU_"


def _folder(value: Any) -> Any:
    """`~` is expanded and the path made absolute, so that a changed directory cannot move it."""
    if isinstance(value, str | Path):
        if not str(value):
            raise ValueError("a folder's path cannot be empty")
        try:
            return Path(value).expanduser().absolute()
        except RuntimeError:
            raise ValueError(
                "a path with ~ is not known where the user has no home; write it out"
            ) from None
    return value


def _optional_folder(value: Any) -> Any:
    """An empty path is none."""
    return None if value == "" else _folder(value)


def _cache_folder(value: Any) -> Any:
    """A path as `_folder` has it, but for the two words."""
    if isinstance(value, str | Path) and value not in ("auto", "off"):
        return str(_folder(value))
    return value


def _words(value: Any) -> Any:
    """A list may be written `a,b` in the environment and on the command line."""
    if isinstance(value, str):
        return [word for part in value.split(",") if (word := part.strip())]
    return value


Folder = Annotated[Path, BeforeValidator(_folder)]
OptionalFolder = Annotated[Path | None, BeforeValidator(_optional_folder)]
CacheFolder = Annotated[str, BeforeValidator(_cache_folder)]
Words = Annotated[list[str], NoDecode, BeforeValidator(_words)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Format = Literal["json", "markdown", "content_list"]
Formats = Annotated[list[Format], NoDecode, BeforeValidator(_words)]

FOLDER_NAMES = ("inbox", "outbox", "done", "failed", "spool")


def _setting(default: Any, meaning: str, unit: str = "", reload: bool = False) -> Any:
    return Field(
        default=default, description=meaning, json_schema_extra={"unit": unit, "reload": reload}
    )


class Settings(BaseSettings):
    """Every setting of the daemon. Immutable; reloading makes a new one."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, validate_default=True
    )

    inbox: Folder = _setting("~/mineru/inbox", "Documents are delivered here.")
    outbox: Folder = _setting("~/mineru/outbox", "Results are put here: JSON and Markdown.")
    done: Folder = _setting("~/mineru/done", "Originals that were read go here.")
    failed: Folder = _setting(
        "~/mineru/failed", "Originals that could not be read go here, each beside its reason."
    )
    spool: Folder = _setting(
        "~/mineru/.spool",
        "Work in progress. Best on the inbox's file system: a claim is then one rename.",
    )

    recursive: bool = _setting(False, "Sub-folders of the inbox are served and mirrored too.")
    watch: Literal["auto", "inotify", "poll"] = _setting(
        "auto",
        "How new files are noticed: inotify for local folders, poll for network mounts, "
        "auto tells them apart by file system type.",
    )
    poll_seconds: Annotated[Seconds, Field(gt=0)] = _setting(
        2.0, "Interval of polling, where files are noticed by polling.", "seconds"
    )
    rescan_seconds: Annotated[Seconds, Field(gt=0)] = _setting(
        15.0,
        "Interval at which the whole inbox is listed: the truth, where events are only hints.",
        "seconds",
        reload=True,
    )
    settle_seconds: Seconds = _setting(
        2.0,
        "A file is taken when size, time and identity have been still for this long.",
        "seconds",
        reload=True,
    )
    append_seconds: Seconds = _setting(
        7.0,
        "The same for files that scanners extend page by page while each state looks "
        "complete: TIFF, PDF of images without a font, and any file that was seen to be "
        "continued after a pause.",
        "seconds",
        reload=True,
    )
    incomplete_seconds: Seconds = _setting(
        300.0,
        "An empty or cut-off file that has been still for this long is set aside as failed.",
        "seconds",
        reload=True,
    )
    ignore: Words = _setting(
        [],
        "Names passed over besides dotfiles, ~*, *.tmp, *.part and the like; shell patterns "
        "without regard to case.",
        reload=True,
    )
    on_success: Literal["move", "delete", "keep"] = _setting(
        "move",
        "What becomes of an original that was read: move it to done, delete it, or keep it "
        "untouched in the inbox (a ledger remembers it, a mark in .mineru-kept tells others).",
    )

    queue_depth: Annotated[int, Field(ge=1, le=1000)] = _setting(
        3,
        "Files claimed at most, besides the one whose page is read; all others wait in the inbox.",
        "files",
    )
    scheduling: Literal["fair", "fifo"] = _setting(
        "fair",
        "Which of the claimed files has its next page read: fair gives each a page in turn, so "
        "that a screenshot does not wait for a book; fifo reads one file to its end first.",
        reload=True,
    )
    rate_limit: Annotated[float, Field(ge=0, allow_inf_nan=False)] = _setting(
        0.0,
        "Files taken per minute and source at most; more are delayed, never dropped. 0 is off.",
        "files per minute",
        reload=True,
    )
    rate_source: Literal["folder", "owner"] = _setting(
        "folder",
        "What counts as a source: the sub-folder of the inbox, or the file's owner.",
        reload=True,
    )
    max_attempts: Annotated[int, Field(ge=1, le=100)] = _setting(
        3, "A page whose reading ends the process this often is given up.", "attempts"
    )
    stall_seconds: Annotated[Seconds, Field(ge=5)] = _setting(
        120.0,
        "An engine that shows no progress for this long counts as hung; the daemon ends "
        "itself and is restarted by systemd.",
        "seconds",
    )
    stop_seconds: Seconds = _setting(
        10.0,
        "At a stop the current page may take this long to finish before it is given up.",
        "seconds",
        reload=True,
    )

    engine: Literal["auto", "ppocr", "mineru"] = _setting(
        "auto",
        "Which engine reads: ppocr is the embedded one, mineru the vision language model "
        "MinerU2.5, auto is mineru where its model is installed and ppocr elsewhere.",
    )
    model: Folder = _setting(
        "~/mineru/model", "The model of the engine mineru; `mineru-daemon model pull` puts it here."
    )
    preset: Literal["quality", "balanced", "economy"] = _setting(
        "balanced",
        "How much the engine mineru sees: quality is what the model's makers show it (the page "
        "at 1036 x 1036 pixels, then each block as it is), balanced the page at 672 x 672 and "
        "blocks no larger than their text needs, economy the same with no block above 768.",
    )
    image_analysis: bool = _setting(
        False, "The engine mineru describes images and turns charts into tables; slow."
    )
    decode_batch: Annotated[int, Field(ge=1, le=64)] = _setting(
        16, "Blocks of a page that the engine mineru writes at the same time.", "blocks"
    )
    block_tokens: Annotated[int, Field(ge=1)] = _setting(
        8192,
        "A block's text is broken off here, with a warning; the engine mineru only.",
        "tokens",
    )
    block_seconds: Annotated[Seconds, Field(gt=0)] = _setting(
        300.0,
        "A block's text is broken off after so long a writing, with a warning; the engine "
        "mineru only.",
        "seconds",
    )
    recogniser: Literal["cascade", "small", "tiny"] = _setting(
        "cascade",
        "What reads lines of text in the engine ppocr: PP-OCRv6 tiny, small, or (cascade) tiny "
        "all lines and small the words that tiny is unsure of.",
    )
    pdf_mode: Literal["auto", "text", "ocr"] = _setting(
        "auto",
        "Where the text of PDF pages comes from: their text layer, recognition, or (auto) the "
        "text layer wherever it can be trusted.",
    )
    recognition_model: OptionalFolder = _setting(
        "",
        "A folder with another of PP-OCR's recognition models for the engine ppocr, for languages "
        "that the shipped one does not read: inference.onnx, and its characters as a .txt of one a "
        "line, as inference.yml, or inside the model.",
    )
    max_image_size: Annotated[int, Field(ge=0)] = _setting(
        0,
        "Longest side of the image that the engine sees, of the page and with mineru of each "
        "block too; larger ones are scaled down, smaller ones never up. 0 is no bound. With "
        "ppocr 768 takes three times the CPU on a 4K screenshot, as unclear words are read twice, "
        "and loses most of them.",
        "pixels",
    )
    min_image_size: Annotated[int, Field(ge=0)] = _setting(
        400, "Images with a shorter longest side are read with a warning.", "pixels"
    )
    pdf_dpi: Annotated[float, Field(ge=36, le=1200)] = _setting(
        200.0, "Resolution at which PDF pages are drawn.", "dots per inch", reload=True
    )
    intra_op_num_threads: Annotated[int, Field(ge=1, le=256)] = _setting(
        4,
        "Threads within an operator; never more than the CPUs that affinity and quota grant. "
        "Measured on two: two threads take 6 to 16 % more CPU time than one and two thirds "
        "to three quarters of its time; more threads than CPUs are slower and dearer.",
        "threads",
    )
    inter_op_num_threads: Annotated[int, Field(ge=1, le=256)] = _setting(
        2, "Threads across operators; without effect in sequential mode.", "threads"
    )
    spin_microseconds: Annotated[int, Field(ge=0, le=1_000_000)] = _setting(
        cpu.SPIN_MICROSECONDS,
        "How long a thread waits awake for its next part of a run before it sleeps; between runs "
        "all sleep. Measured, MinerU's decoding on two CPUs: 10 is 17 % faster than 0 for 9 % "
        "less CPU time, and 3 % faster where another process wants one of them; 200 is no faster, "
        "and 30 to 40 % slower there.",
        "microseconds",
    )

    cpu_budget: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = _setting(
        0.0,
        "Mean share of its CPUs that the daemon keeps to, by resting between pages and lines: "
        "with 0.5 and two CPUs, one CPU second in each second. Its CPUs are the least of "
        "intra_op_num_threads, affinity and quota. Ten quiet seconds may be made up for. "
        "0 and 1 are off.",
        reload=True,
    )
    pressure_limit: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = _setting(
        0.0,
        "A page is put off, for 30 seconds at most, while others wait for a CPU in more of the "
        "time than this (/proc/pressure/cpu). 0 is off.",
        "percent",
        reload=True,
    )
    unload_after: Seconds = _setting(
        600.0,
        "When nothing was read for this long the engine is given back, with its memory, and "
        "loaded again for the next file. 0 is never.",
        "seconds",
    )
    graph_cache: CacheFolder = _setting(
        "auto",
        "Where the engine ppocr keeps its networks as ONNX Runtime optimised them, to load faster: "
        "a folder that only its user may write, off for none, auto for the unit's CacheDirectory= "
        "or else ~/.cache/mineru-daemon. One on a network file system is not used. The unit's "
        "sandbox lets no other folder be written.",
    )
    priority: Literal["normal", "low", "idle"] = _setting(
        "normal",
        "Place behind other processes: low is a nice value of 10 and SCHED_BATCH, idle is "
        "SCHED_IDLE, normal leaves it as it was started. The unit's sandbox refuses a change; "
        "set Nice= and CPUSchedulingPolicy= there.",
    )

    formats: Formats = _setting(
        ["json", "markdown"],
        "What is written to the outbox; json is always among it. content_list gives a "
        "folder NAME.mineru as MinerU does: NAME_content_list.json, pictures of images, tables and "
        "formulas under images/, and with markdown a Markdown that links them.",
    )

    max_file_bytes: Annotated[int, Field(ge=1)] = _setting(
        512 * 1024 * 1024, "Larger files are set aside unread.", "bytes", reload=True
    )
    max_pages: Annotated[int, Field(ge=1)] = _setting(
        2000, "Documents with more pages are set aside unread.", "pages", reload=True
    )
    max_page_pixels: Annotated[int, Field(ge=1)] = _setting(
        100_000_000,
        "Larger images are not decoded; PDF pages are drawn smaller.",
        "pixels",
        reload=True,
    )
    render_seconds: Annotated[Seconds, Field(ge=1)] = _setting(
        60.0,
        "Opening a document, or drawing or taking apart one page of it, may take this long; then "
        "the process that does it is ended.",
        "seconds",
        reload=True,
    )
    page_seconds: Annotated[Seconds, Field(ge=1)] = _setting(
        1800.0, "Reading one page may take this long; then it is given up.", "seconds", reload=True
    )
    document_seconds: Annotated[Seconds, Field(ge=1)] = _setting(
        86_400.0,
        "Reading one document may take this long; pages not begun by then are given up.",
        "seconds",
        reload=True,
    )
    max_memory_bytes: Annotated[int, Field(ge=128 * 1024 * 1024)] = _setting(
        2 * 1024 * 1024 * 1024,
        "Memory of the process that opens, draws and decodes documents; what takes more is given "
        "up. The engine has its own beside it.",
        "bytes",
        reload=True,
    )

    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "What is logged.", reload=True
    )
    log_format: Literal["auto", "json", "console"] = _setting(
        "auto", "Form of the log; auto is console on a terminal and json elsewhere."
    )

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if "json" not in self.formats:
            raise ValueError("The setting formats must contain json")
        real = {name: Path(os.path.realpath(getattr(self, name))) for name in FOLDER_NAMES}
        for i, one in enumerate(FOLDER_NAMES):
            for other in FOLDER_NAMES[i + 1 :]:
                if real[one] == real[other]:
                    raise ValueError(
                        f"The folders {one} and {other} are the same, {real[one]}; "
                        "give each its own"
                    )
                for inner, outer in ((one, other), (other, one)):
                    if real[inner].is_relative_to(real[outer]):
                        raise ValueError(
                            f"The folder {inner} ({real[inner]}) lies inside {outer} "
                            f"({real[outer]}); put the folders side by side"
                        )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`configuration.load` merges the sources itself, to know where each value came from."""
        return (init_settings,)


def reloadable() -> frozenset[str]:
    """Names of the settings that a running daemon takes over on SIGHUP."""
    return frozenset(
        name
        for name, field in Settings.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra["reload"]
    )
