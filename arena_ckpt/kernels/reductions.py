"""Sums over tensors, and what is made of them: clipping, L2 penalty, bias gradient.

Float sums run in float64, in `_LANES` lanes that are combined in order: they vectorize
without reordering, so the bits are those of the source text on every machine.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from arena_ckpt.kernels.jit import Doubles, Integers, Matrix, Vector, helper, kernel

_typed_intrinsic: Any = intrinsic  # typed in some Numba releases, untyped in others

_LANES = 64
_ZERO = np.float32(0.0)


@_typed_intrinsic
def _stack_lanes(typing_context: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.ArrayType(ir.DoubleType(), _LANES)
        memory = cgutils.alloca_once(builder, lanes)
        memory.align = 64
        return builder.bitcast(memory, ir.DoubleType().as_pointer())

    return types.CPointer(types.float64)(), codegen


def _lanes() -> Any:
    """Array of `_LANES` float64 on the stack, not initialized."""
    return np.empty(_LANES)


@overload(_lanes, inline="always")
def _compiled_lanes() -> Any:
    return lambda: carray(_stack_lanes(), _LANES)


@helper
def _sum_of_squares(x):
    lanes = _lanes()
    for j in range(_LANES):
        lanes[j] = 0.0
    for start in range(0, x.size, _LANES):
        part = x[start : start + _LANES]
        for j in range(part.size):
            v = np.float64(part[j])
            lanes[j] += v * v
    total = 0.0
    for j in range(_LANES):
        total += lanes[j]
    return total


@kernel
def square_sum(x: Vector, total: Doubles) -> None:
    """``total[0] += sum(x**2)``, in float64."""
    total[0] += _sum_of_squares(x)


@kernel
def clip_scale(total: Doubles, max_norm: float, scale: Doubles) -> None:
    """``scale[0] = min(1, max_norm / (sqrt(total[0]) + 1e-6))``, NaN if total is.

    References
    ----------
    PyTorch, ``torch.nn.utils.clip_grad_norm_``.
    """
    ratio = max_norm / (math.sqrt(total[0]) + 1e-6)
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
        found += 1 if x[i] - x[i] != _ZERO else 0
    count[0] = found


@kernel
def bias_gradient(dy: Matrix, beta: float, db: Vector) -> None:
    """``db = sum(dy, axis=0) + beta * db``, beta 0 or 1; at 0, db is only written."""
    lanes = _lanes()
    for start in range(0, dy.shape[1], _LANES):
        for j in range(_LANES):
            lanes[j] = 0.0
        for r in range(dy.shape[0]):
            part = dy[r][start : start + _LANES]
            for j in range(part.size):
                lanes[j] += np.float64(part[j])
        out = db[start : start + _LANES]
        if beta == 0.0:
            for j in range(out.size):
                out[j] = np.float32(lanes[j])
        else:
            for j in range(out.size):
                out[j] = np.float32(np.float64(out[j]) + lanes[j])
