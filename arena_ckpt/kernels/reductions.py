"""Sums over tensors, and what is made of them: clipping, L2 penalty, bias gradient.

Float sums run in float64 (see `lanes`).
"""

from __future__ import annotations

import math

import numpy as np

from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import LANES, clear, double_lanes, total
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.operations.array_types import Doubles, Integers, Matrix, Vector

_INFINITY = np.float32(np.inf)


@helper
def _sum_of_squares(x):
    lanes = double_lanes()
    clear(lanes)
    for start in range(0, x.size, LANES):
        part = x[start : start + LANES]
        for j in range(part.size):
            v = np.float64(part[j])
            lanes[j] += v * v
    return total(lanes, LANES)


@kernel
def square_sum(x: Vector, sum_so_far: Doubles) -> None:
    """``sum_so_far[0] += sum(x**2)``, in float64."""
    sum_so_far[0] += _sum_of_squares(x)


@kernel
def clip_scale(square_norm: Doubles, max_norm: float, scale: Doubles) -> None:
    """``scale[0] = min(1, max_norm / (sqrt(square_norm[0]) + 1e-6))``, NaN if that is.

    References
    ----------
    PyTorch, ``torch.nn.utils.clip_grad_norm_``.
    """
    ratio = max_norm / (math.sqrt(square_norm[0]) + 1e-6)
    scale[0] = 1.0 if ratio > 1.0 else ratio


@kernel
def l2_penalty(
    weight: Vector, constant: float, fraction: Doubles, loss: Doubles
) -> None:
    """``loss[0] += constant / 2 * fraction[0] * sum(weight**2)``."""
    loss[0] += 0.5 * constant * fraction[0] * _sum_of_squares(weight)


@kernel
def l2_gradient(
    weight: Vector, constant: float, fraction: Doubles, gradient: Vector
) -> None:
    """``gradient += constant * fraction[0] * weight``."""
    factor = np.float32(constant * fraction[0])
    for i in range(gradient.size):
        gradient[i] += factor * weight[i]


@kernel
def count_nonfinite(x: Vector, count: Integers) -> None:
    """``count[0]`` = how many elements are NaN or infinite."""
    found = 0
    for i in range(x.size):
        # inf - inf and NaN - NaN are NaN, which differs from 0.
        found += 1 if x[i] - x[i] != ZERO else 0
    count[0] = found


@kernel
def count_unusable_in_mask(x: Vector, count: Integers) -> None:
    """``count[0]`` = how many elements are NaN or +inf."""
    found = 0
    for i in range(x.size):
        found += 0 if x[i] < _INFINITY else 1
    count[0] = found


@kernel
def bias_gradient(dy: Matrix, beta: float, db: Vector) -> None:
    """``db = sum(dy, axis=0) + beta * db``, beta 0 or 1; at 0, db is only written."""
    lanes = double_lanes()
    for start in range(0, dy.shape[1], LANES):
        clear(lanes)
        for r in range(dy.shape[0]):
            part = dy[r][start : start + LANES]
            for j in range(part.size):
                lanes[j] += np.float64(part[j])
        out = db[start : start + LANES]
        if beta == 0.0:
            for j in range(out.size):
                out[j] = np.float32(lanes[j])
        else:
            for j in range(out.size):
                out[j] = np.float32(np.float64(out[j]) + lanes[j])
