"""The vision encoder: patches of one image -> image tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mineru_daemon.engines.mineru import rope
from mineru_daemon.engines.mineru.architecture import VisionArchitecture
from mineru_daemon.engines.mineru.image import Float, Grid
from mineru_daemon.engines.onnx import Session, on_cpu


class VisionEncoder:
    """Runs `vision.onnx`; the interface of the graph is told in `export.models`."""

    def __init__(self, session: Session, architecture: VisionArchitecture) -> None:
        self._session = session
        self._architecture = architecture

    def __call__(self, patches: Float, grid: Grid, watch: Callable[[], object]) -> Float:
        """Image tokens float32 [tokens, hidden] of patches float32 [N, patch].

        `watch` is called all the while and can end the run by raising.
        """
        cos, sin = rope.vision_angles(grid, self._architecture)
        feeds: dict[str, npt.NDArray[Any]] = {
            "patches": patches,
            "pos": np.arange(grid.patches, dtype=np.int64)[None],
            "cos": cos,
            "sin": sin,
        }
        tokens = np.empty((grid.tokens, self._architecture.out_dim), np.float32)
        binding = self._session.native.io_binding()
        for name, array in feeds.items():
            binding.bind_ortvalue_input(name, on_cpu(array))
        binding.bind_ortvalue_output("image_embeds", on_cpu(tokens))
        self._session.run_bound(binding, watch)
        return tokens

    def close(self) -> None:
        """Give the session back."""
        self._session.close()
