"""Losses and their derivatives.

Each ``*_loss`` adds its sum times ``scale[0]`` to ``loss[0]``, in float64; lanes that
are combined in order let it vectorize without reordering. `_exp` and `_log1p` are those
of `activations`, repeated because Numba's disk cache watches one file per kernel
(a test keeps the two texts equal).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from arena_ckpt.kernels.jit import Doubles, Matrix, Vector, helper, kernel

_typed_intrinsic: Any = intrinsic  # typed in some Numba releases, untyped in others

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)

_LOG2_E = np.float32(1.4426950408889634)
_ROUNDER = np.float32(12582912.0)
_ROUNDER_LESS_ONE = np.float32(12582911.0)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_EXP_LEAST = np.float32(-87.0)
_EXP_MOST = np.float32(89.0)
_E0 = np.float32(0.4999999701976776)
_E1 = np.float32(0.1666654348373413)
_E2 = np.float32(0.04166720062494278)
_E3 = np.float32(0.008366547524929047)
_E4 = np.float32(0.0013882516650483012)
_L0 = np.float32(0.3333320617675781)
_L1 = np.float32(0.20010849833488464)
_L2 = np.float32(0.13999570906162262)
_L3 = np.float32(0.14012229442596436)


@_typed_intrinsic
def _power_of_two(typing_context: Any, rounded: Any) -> Any:
    """``2**n`` for ``rounded = n + _ROUNDER``, -126 <= n <= 127; 0 for n = -127."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer = ir.IntType(32)
        bits = builder.bitcast(args[0], integer)
        # The low nine bits of _ROUNDER are 0, so shifting leaves only n.
        scale = builder.add(builder.shl(bits, integer(23)), integer(0x3F800000))
        return builder.bitcast(scale, ir.FloatType())

    return types.float32(types.float32), codegen


@helper
def _exp(x):
    """``e**x``, relative error 2e-7; 0 below -86.99, inf above 88.73."""
    x = _EXP_LEAST if x < _EXP_LEAST else x
    x = _EXP_MOST if x > _EXP_MOST else x
    rounded = x * _LOG2_E + _ROUNDER_LESS_ONE
    n = rounded - _ROUNDER_LESS_ONE
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = r + r * r * (_E0 + r * (_E1 + r * (_E2 + r * (_E3 + r * _E4))))
    # As 2 * 2**(n - 1), n may be 128; subnormal numbers, which are slow, never arise.
    return (_TWO + (p + p)) * _power_of_two(rounded)


@helper
def _log1p(u):
    """``log(1 + u)`` for 0 <= u <= 1."""
    s = u / (u + _TWO)
    square = s * s
    p = square * (_L0 + square * (_L1 + square * (_L2 + square * _L3)))
    return _TWO * (s + s * p)


_LANES = 32


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
def _clear(lanes):
    for j in range(_LANES):
        lanes[j] = 0.0


@helper
def _total(lanes, width):
    total = 0.0
    for j in range(min(width, _LANES)):
        total += lanes[j]
    return total


@helper
def _sum(row, lanes):
    _clear(lanes)
    for start in range(0, row.size, _LANES):
        part = row[start : start + _LANES]
        for j in range(part.size):
            lanes[j] += np.float64(part[j])
    return _total(lanes, row.size)


@helper
def _most(row, lanes):
    """Return the greatest element; any number if one is NaN."""
    first = row[:_LANES]
    for j in range(first.size):
        lanes[j] = np.float64(first[j])
    for start in range(_LANES, row.size, _LANES):
        part = row[start : start + _LANES]
        for j in range(part.size):
            v = np.float64(part[j])
            most = v if v > lanes[j] else lanes[j]
            lanes[j] = most + 0.0  # else LLVM makes a masked store, slow on Zen
    most = lanes[0]
    for j in range(1, first.size):
        most = lanes[j] if lanes[j] > most else most
    return np.float32(most)


@kernel
def mse_loss(prediction: Vector, label: Vector, scale: Doubles, loss: Doubles) -> None:
    """``loss[0] += scale[0] * sum((prediction - label)**2)``."""
    lanes = _lanes()
    _clear(lanes)
    for start in range(0, prediction.size, _LANES):
        p_part = prediction[start : start + _LANES]
        t_part = label[start : start + _LANES]
        for j in range(p_part.size):
            v = np.float64(p_part[j]) - np.float64(t_part[j])
            lanes[j] += v * v
    loss[0] += scale[0] * _total(lanes, prediction.size)


@kernel
def mse_derivative(
    prediction: Vector, label: Vector, scale: Doubles, dx: Vector
) -> None:
    """``dx = 2 * scale[0] * (prediction - label)``; dx may be prediction."""
    factor = np.float32(2.0 * scale[0])
    for i in range(dx.size):
        dx[i] = factor * (prediction[i] - label[i])


@kernel
def cross_softmax_loss(
    logits: Matrix, label: Matrix, probabilities: Matrix, scale: Doubles, loss: Doubles
) -> None:
    """Cross entropy of softmax(logits), rows; keeps the probabilities.

    ``loss[0] += scale[0] * sum(label * (logsumexp(row) - logits))``; probabilities may
    be logits.
    """
    lanes = _lanes()
    n = logits.shape[1]
    total_loss = 0.0
    for r in range(logits.shape[0] if n > 0 else 0):
        x_row, label_row = logits[r], label[r]
        most = _most(x_row, lanes)
        # The loss is read off before the probabilities may overwrite the logits.
        _clear(lanes)
        for start in range(0, n, _LANES):
            x_part = x_row[start : start + _LANES]
            t_part = label_row[start : start + _LANES]
            for j in range(x_part.size):
                below = np.float64(most) - np.float64(x_part[j])
                lanes[j] += np.float64(t_part[j]) * below
        total_loss += _total(lanes, n)

        for c in range(n):
            probabilities[r, c] = _exp(logits[r, c] - most)
        exponentials = _sum(probabilities[r], lanes)
        total_loss += _sum(label_row, lanes) * math.log(exponentials)
        inverse = np.float32(1.0 / exponentials)
        for c in range(n):
            probabilities[r, c] *= inverse
    loss[0] += scale[0] * total_loss


@kernel
def cross_softmax_derivative(
    probabilities: Matrix, label: Matrix, scale: Doubles, dx: Matrix
) -> None:
    """``dx = scale[0] * (probabilities * sum(label row) - label)``.

    dx may be probabilities.
    """
    lanes = _lanes()
    factor = np.float32(scale[0])
    for r in range(label.shape[0]):
        labels = np.float32(_sum(label[r], lanes))
        for c in range(label.shape[1]):
            dx[r, c] = factor * (probabilities[r, c] * labels - label[r, c])


@kernel
def cross_sigmoid_loss(
    logits: Vector,
    label: Vector,
    probabilities: Vector,
    scale: Doubles,
    loss: Doubles,
) -> None:
    """Binary cross entropy of sigmoid(logits), elementwise; keeps the probabilities.

    ``loss[0] += scale[0] * sum(log(1 + exp(logits)) - label * logits)``; probabilities
    may be logits.
    """
    lanes = _lanes()
    _clear(lanes)
    for start in range(0, logits.size, _LANES):
        x_part = logits[start : start + _LANES]
        t_part = label[start : start + _LANES]
        for j in range(x_part.size):
            x = x_part[j]
            positive = _ZERO if x < _ZERO else x
            term = positive - x * t_part[j] + _log1p(_exp(-abs(x)))
            lanes[j] += np.float64(term)
    for i in range(logits.size):
        probabilities[i] = _ONE / (_ONE + _exp(-logits[i]))
    loss[0] += scale[0] * _total(lanes, logits.size)


@kernel
def cross_sigmoid_derivative(
    probabilities: Vector, label: Vector, scale: Doubles, dx: Vector
) -> None:
    """``dx = scale[0] * (probabilities - label)``; dx may be probabilities."""
    factor = np.float32(scale[0])
    for i in range(dx.size):
        dx[i] = factor * (probabilities[i] - label[i])
