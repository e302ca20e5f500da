"""A checkpoint of MinerU2.5's architecture so small that it ships with the tests.

`pages` draws what it can read, `train` taught it, `checkpoint/` holds it in the folder format
of the published model, `reference` reads with it through transformers and the official client.
"""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "checkpoint"

LAYOUT_SIZE = 336
"""Pixels of the square in which it is shown a page for its layout. The official client's 1036
were tried: in half an hour of two cores the model did not learn to tell the pages apart there."""
