"""How pictures are normalised for networks that were first trained on ImageNet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
"""Of the channels red, green and blue in 0..1 over ImageNet's pictures; so in the
configurations of PaddleClas, PaddleDetection and PaddleOCR."""


def planes(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """A network's input (1, 3, h, w) for an image (h, w, 3): its first channel normalised as
    red, whichever it is."""
    found = np.empty((1, 3, *image.shape[:2]), np.float32)
    for channel in range(3):
        factor = np.float32(1 / (255 * DEVIATION[channel]))
        np.multiply(image[:, :, channel], factor, out=found[0, channel])
        found[0, channel] -= MEAN[channel] / DEVIATION[channel]
    return found
