"""How pictures are normalised for networks that were first trained on ImageNet."""

from __future__ import annotations

import numpy as np

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
"""Of the channels red, green and blue in 0..1 over ImageNet's pictures; so in the
configurations of PaddleClas, PaddleDetection and PaddleOCR."""
