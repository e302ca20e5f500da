"""Checkpoints for tests that look at files and names, not at what a model reads."""

from __future__ import annotations

from dataclasses import replace

from mineru_daemon.bench.random_checkpoint import Shapes

SMALL = Shapes(
    hidden=64,
    layers=2,
    heads=2,
    kv_heads=1,
    intermediate=96,
    vocabulary=300,
    rope_sections=(4, 6, 6),
    vision_width=64,
    vision_depth=2,
    vision_heads=2,
)
"""Of the architecture, with weights of less than a megabyte."""

SMALL_WITH_TEXT = replace(SMALL, vocabulary=Shapes().vocabulary)
"""With room for every token of the synthetic tokenizer: for tests that encode prompts."""
