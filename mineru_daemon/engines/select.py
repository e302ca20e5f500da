"""Which engine reads: the one that was asked for, or the best that is installed."""

from __future__ import annotations

import structlog

from mineru_daemon import cpu
from mineru_daemon.engines import graph_cache
from mineru_daemon.engines.base import Engine
from mineru_daemon.errors import EngineError
from mineru_daemon.settings import Settings

_log = structlog.get_logger()


def granted(settings: Settings) -> cpu.ThreadPlan:
    """The thread plan of this moment: what the settings ask for and the unit grants."""
    return cpu.granted_threads(
        settings.intra_op_num_threads, settings.inter_op_num_threads, settings.spin_microseconds
    )


def load(settings: Settings, plan: cpu.ThreadPlan | None = None) -> Engine:
    """Load the engine that the settings ask for, within `plan` (None: what is granted now).

    Its `info` says why it was chosen. Raises EngineError when its models or packages are
    missing or cannot be loaded; `auto` falls back to `ppocr`.
    """
    plan = plan or granted(settings)
    if settings.engine == "ppocr":
        return _ppocr(settings, plan, "The settings ask for ppocr.")
    if settings.engine == "mineru":
        return _mineru(settings, plan, "The settings ask for mineru.")
    if not settings.model.exists():
        return _ppocr(settings, plan, f"There is no model for mineru in {settings.model}.")
    try:
        return _mineru(settings, plan, f"There is a model for mineru in {settings.model}.")
    except EngineError as error:
        _log.warning("fallback", engine="ppocr", reason=str(error))
        return _ppocr(settings, plan, f"The engine mineru cannot be used: {error}")


def _ppocr(settings: Settings, plan: cpu.ThreadPlan, reason: str) -> Engine:
    from mineru_daemon.engines.ppocr.engine import PPOCREngine

    return PPOCREngine(
        plan,
        max_image_size=settings.max_image_size,
        min_image_size=settings.min_image_size,
        recogniser=settings.recogniser,
        pdf_mode=settings.pdf_mode,
        recognition_model=settings.recognition_model,
        graphs_in=graph_cache.folder(settings.graph_cache),
        reason=reason,
    )


def _mineru(settings: Settings, plan: cpu.ThreadPlan, reason: str) -> Engine:
    from mineru_daemon.engines.mineru.engine import MinerUEngine

    return MinerUEngine(
        plan,
        settings.model,
        preset=settings.preset,
        max_image_size=settings.max_image_size,
        min_image_size=settings.min_image_size,
        pdf_mode=settings.pdf_mode,
        image_analysis=settings.image_analysis,
        decode_batch=settings.decode_batch,
        block_tokens=settings.block_tokens,
        block_seconds=settings.block_seconds,
        reason=reason,
    )
