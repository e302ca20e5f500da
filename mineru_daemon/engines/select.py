"""Which engine reads: the one that was asked for, or the best that is installed."""

from __future__ import annotations

from mineru_daemon import cpu
from mineru_daemon.engines.base import Engine
from mineru_daemon.settings import Settings


def load(settings: Settings) -> Engine:
    """Load the engine that the settings ask for, within what the unit grants.

    Raises EngineError when its models are missing or cannot be loaded.
    """
    from mineru_daemon.engines.ppocr.engine import PPOCREngine

    plan = cpu.granted_threads(settings.intra_op_num_threads, settings.inter_op_num_threads)
    return PPOCREngine(
        plan,
        max_image_size=settings.max_image_size,
        min_image_size=settings.min_image_size,
        pdf_mode=settings.pdf_mode,
        spinning=settings.spinning,
    )
