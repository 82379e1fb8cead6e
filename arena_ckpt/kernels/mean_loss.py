"""The mean of what is a loss already, and its derivative."""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import LANES, clear, double_lanes, total
from arena_ckpt.operations.array_types import Doubles, Vector


@kernel
def mean_loss(terms: Vector, scale: Doubles, loss: Doubles) -> None:
    """``loss[0] += scale[0] * sum(terms)``, in float64."""
    lanes = double_lanes()
    clear(lanes)
    for start in range(0, terms.size, LANES):
        part = terms[start : start + LANES]
        for j in range(part.size):
            lanes[j] += np.float64(part[j])
    loss[0] += scale[0] * total(lanes, terms.size)


@kernel
def mean_derivative(scale: Doubles, dx: Vector) -> None:
    """``dx = scale[0]``."""
    factor = np.float32(scale[0])
    for i in range(dx.size):
        dx[i] = factor
