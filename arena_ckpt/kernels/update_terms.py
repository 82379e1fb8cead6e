"""What changes gradients and learning rates on their way into an update."""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.operations.array_types import Doubles, Vector


@kernel
def clip_values(x: Vector, most: float, y: Vector) -> None:
    """``y = x``, but not below ``-most`` nor above `most`; NaN stays. y may be x."""
    limit = np.float32(most)
    for i in range(y.size):
        above = -limit if x[i] < -limit else x[i]
        y[i] = limit if above > limit else above


@kernel
def scale_number(x: Doubles, factor: float, y: Doubles) -> None:
    """``y[0] = x[0] * factor``."""
    y[0] = x[0] * factor
