"""What else transformers are made of: embedding, positions, dropout, SwiGLU."""

from __future__ import annotations

import math

import numpy as np

from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.elementary import cosine, power, sine
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.random_bits import drop_threshold, keep, row_key, sample_key
from arena_ckpt.kernels.vector_math import ONE, ZERO, exp
from arena_ckpt.operations.array_types import Doubles, Matrix, Vector

_SWISH_MOST = np.float32(80.0)
_NAN = np.float32(math.nan)

# -- embedding ------------------------------------------------------------------------


@helper
def table_row(number, n_rows):
    """Return the row that a float32 names, or -1 if there is none."""
    if number >= ZERO and number < np.float32(n_rows):
        row = int(number)
        return row if row < n_rows and np.float32(row) == number else -1
    return -1


@kernel
def embedding_forward(ids: Vector, weight: Matrix, y: Matrix, loss: Doubles) -> None:
    """Row r of y is row ``ids[r]`` of the weight; NaN if there is no such row.

    The loss is NaN as well then, even where it does not depend on that row: training
    has to stop.
    """
    for r in range(ids.size):
        row, out = table_row(ids[r], weight.shape[0]), y[r]
        if row < 0:
            loss[0] = math.nan
            for j in range(out.size):
                out[j] = _NAN
        else:
            source = weight[row]
            for j in range(out.size):
                out[j] = source[j]


@kernel
def embedding_gradient(ids: Vector, dy: Matrix, beta: float, d_weight: Matrix) -> None:
    """Add row r of dy to row ``ids[r]``, in order; `beta` 0 starts from zeros."""
    if beta == 0.0:
        for row in range(d_weight.shape[0]):
            out = d_weight[row]
            for j in range(out.size):
                out[j] = ZERO
    for r in range(ids.size):
        row, source = table_row(ids[r], d_weight.shape[0]), dy[r]
        if row >= 0:
            out = d_weight[row]
            for j in range(out.size):
                out[j] += source[j]


# -- positional encoding --------------------------------------------------------------


@kernel
def add_positions(x: Vector, y: Vector, work: Doubles, t: int, d: int) -> None:
    """``y[n, i, 2c] = x + sin(i w)``, ``[2c + 1]``: cos; w = 10000**(-2c / d).

    Angles grow by w from one position to the next, so sine and cosine are turned by a
    rotation in float64 instead of computed. `work` has 5 * ((d + 1) // 2) elements;
    y may be x.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017, 3.5.
    """
    half = (d + 1) // 2
    sines, cosines = work[:half], work[half : 2 * half]
    turn_sines, turn_cosines = work[2 * half : 3 * half], work[3 * half : 4 * half]
    for c in range(half):
        w = power(10000.0, -2.0 * c / d)
        sines[c], cosines[c] = 0.0, 1.0
        turn_sines[c], turn_cosines[c] = sine(w), cosine(w)
    for i in range(t):
        for n in range(x.size // (t * d)):
            at = (n * t + i) * d
            for c in range(d // 2):
                y[at + 2 * c] = x[at + 2 * c] + np.float32(sines[c])
                y[at + 2 * c + 1] = x[at + 2 * c + 1] + np.float32(cosines[c])
            if d % 2:
                y[at + d - 1] = x[at + d - 1] + np.float32(sines[half - 1])
        for c in range(half):
            up, along = sines[c], cosines[c]
            sines[c] = up * turn_cosines[c] + along * turn_sines[c]
            cosines[c] = along * turn_cosines[c] - up * turn_sines[c]


# -- dropout --------------------------------------------------------------------------


@kernel
def dropout(
    x: Vector, y: Vector, control: Doubles, key: int, rate: float, size: int
) -> None:
    """``y = x / (1 - rate)`` or 0 with probability `rate`; forward and backward alike.

    Parameters
    ----------
    x, y : (samples, size)
        May be the same.
    control : iteration, first sample
    key : of the layer
    """
    threshold = drop_threshold(rate)
    scale = np.float32(1.0 / (1.0 - rate))
    for n in range(x.size // size):
        bits = sample_key(key, int(control[0]), int(control[1]) + n)
        bits = row_key(bits, 0)
        at = n * size
        for j in range(size):
            y[at + j] = x[at + j] * keep(bits, j, threshold, scale)


@kernel
def drop_path(
    x: Vector, y: Vector, control: Doubles, key: int, rate: float, size: int
) -> None:
    """``y = x / (1 - rate)``, or 0 for a whole sample with probability `rate`.

    Forward and backward are alike; the parameters are those of `dropout`.
    """
    threshold = drop_threshold(rate)
    scale = np.float32(1.0 / (1.0 - rate))
    for n in range(x.size // size):
        bits = sample_key(key, int(control[0]), int(control[1]) + n)
        factor = keep(row_key(bits, 0), 0, threshold, scale)
        for i in range(n * size, (n + 1) * size):
            y[i] = x[i] * factor


# -- SwiGLU ---------------------------------------------------------------------------


@helper
def _swish_and_slope(a):
    x = -_SWISH_MOST if a < -_SWISH_MOST else a
    x = _SWISH_MOST if x > _SWISH_MOST else x
    e = exp(-x)
    s = ONE / (ONE + e)
    return a * s, s * (ONE + x * (e * s))


@kernel
def swiglu_forward(a: Vector, b: Vector, y: Vector) -> None:
    """``y = a * sigmoid(a) * b``; y may be a or b."""
    for i in range(y.size):
        y[i] = _swish_and_slope(a[i])[0] * b[i]


@kernel
def swiglu_gate_derivative(a: Vector, b: Vector, dy: Vector, da: Vector) -> None:
    """``da = dy * b * swish'(a)``; da may be any of the others."""
    for i in range(da.size):
        da[i] = dy[i] * b[i] * _swish_and_slope(a[i])[1]


@kernel
def swiglu_value_derivative(a: Vector, dy: Vector, db: Vector) -> None:
    """``db = dy * swish(a)``; db may be any of the others."""
    for i in range(db.size):
        db[i] = dy[i] * _swish_and_slope(a[i])[0]


@kernel
def swiglu_derivatives(
    a: Vector, b: Vector, dy: Vector, da: Vector, db: Vector
) -> None:
    """Both derivatives in one pass; da and db may each be any one of the others."""
    for i in range(da.size):
        swish, slope = _swish_and_slope(a[i])
        gate, value = dy[i] * b[i] * slope, dy[i] * swish
        da[i] = gate
        db[i] = value
