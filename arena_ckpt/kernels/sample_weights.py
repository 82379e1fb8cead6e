"""Weights of samples in the loss."""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.operations.array_types import Doubles, Vector


@kernel
def weigh_samples(weights: Vector, scale: Doubles, scales: Doubles) -> None:
    """``scales[i] = weights[i] * scale[0]``."""
    for i in range(scales.size):
        scales[i] = np.float64(weights[i]) * scale[0]
