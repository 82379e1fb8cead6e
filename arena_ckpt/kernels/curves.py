"""Functions of every element that take numbers, and slopes that are learned.

Stages of the file: one scalar helper per function and direction, the loops around them,
which are one source text, the table `CURVES`, and kernels that need no table. All
functions take two numbers, which those without a use for them ignore.

Known shortcomings: sine, cosine and tangent are NaN of angles from 2²⁰ on, and run one
element after the other in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.elementary import cosine, sine
from arena_ckpt.kernels.kernel import Kernel, kernel
from arena_ckpt.kernels.lanes import LANES, clear, double_lanes, total
from arena_ckpt.kernels.vector_math import HALF, ONE, ZERO, exp, expm1, log_double
from arena_ckpt.operations.array_types import Vector
from arena_ckpt.operations.curves import SAVES

# -- one scalar function per curve and direction ---------------------------------------
# The first argument of a slope is what the function saves: output or input. Adding 0
# keeps LLVM from masked stores, as in `activations`.

_THREE = np.float32(3.0)
_SIX = np.float32(6.0)
_SIXTH = np.float32(1 / 6)
_THIRD = np.float32(1 / 3)
_EXPM1_LEAST = np.float32(-25.0)  # expm1 is -1 here
_GELU_SCALE = np.float32(1.702)
_SIGMOID_MOST = np.float32(80.0)
_INFINITY = np.float32(np.inf)


@helper
def _relu6(x, a, b):
    x = ZERO if x < ZERO else x
    return (_SIX if x > _SIX else x) + ZERO


@helper
def _relu6_slope(y, dy, a, b):
    dy = ZERO if y <= ZERO else dy
    return (ZERO if y >= _SIX else dy) + ZERO


@helper
def _clamp(x, least, most):
    x = least if x < least else x
    return (most if x > most else x) + ZERO


@helper
def _clamp_slope(x, dy, least, most):
    dy = ZERO if x < least else dy
    return (ZERO if x > most else dy) + ZERO


@helper
def _hard_sigmoid(x, a, b):
    x = x + _THREE
    x = ZERO if x < ZERO else x
    return (_SIX if x > _SIX else x) / _SIX


@helper
def _hard_sigmoid_slope(y, dy, a, b):
    dy = ZERO if y <= ZERO else dy * _SIXTH
    return (ZERO if y >= ONE else dy) + ZERO


@helper
def _hard_swish(x, a, b):
    t = x + _THREE
    t = ZERO if t < ZERO else t
    t = _SIX if t > _SIX else t
    return x * t / _SIX


@helper
def _hard_swish_slope(x, dy, a, b):
    slope = x * _THIRD + HALF
    slope = ZERO if x <= -_THREE else slope
    return dy * (ONE if x >= _THREE else slope)


@helper
def _exp(x, a, b):
    return exp(x)


@helper
def _exp_slope(y, dy, a, b):
    return dy * y


@helper
def _log(x, a, b):
    y = np.float32(log_double(np.float64(x)))
    y = -_INFINITY if x == ZERO else y
    return x if x == _INFINITY else y


@helper
def _log_slope(x, dy, a, b):
    return dy / x


@helper
def _abs(x, a, b):
    return abs(x)


@helper
def _abs_slope(x, dy, a, b):
    sign = ONE if x > ZERO else ZERO
    return dy * (-ONE if x < ZERO else sign)


@helper
def _sigmoid_gelu(x, a, b):
    return x / (ONE + exp(-(_GELU_SCALE * x)))


@helper
def _sigmoid_gelu_slope(x, dy, a, b):
    u = _GELU_SCALE * x
    u = -_SIGMOID_MOST if u < -_SIGMOID_MOST else u
    u = _SIGMOID_MOST if u > _SIGMOID_MOST else u
    e = exp(-u)
    s = ONE / (ONE + e)
    # e * s = 1 - s, without cancellation
    return dy * (s * (ONE + u * (e * s)))


@helper
def _sin(x, a, b):
    return np.float32(sine(np.float64(x)))


@helper
def _sin_slope(x, dy, a, b):
    return dy * np.float32(cosine(np.float64(x)))


@helper
def _cos(x, a, b):
    return np.float32(cosine(np.float64(x)))


@helper
def _cos_slope(x, dy, a, b):
    return -(dy * np.float32(sine(np.float64(x))))


@helper
def _tan(x, a, b):
    angle = np.float64(x)
    return np.float32(sine(angle) / cosine(angle))


@helper
def _tan_slope(y, dy, a, b):
    return dy * (ONE + y * y)


@helper
def _leaky_relu(x, slope, b):
    return x * (slope if x <= ZERO else ONE)


@helper
def _leaky_relu_slope(y, dy, slope, b):
    return dy * (slope if y <= ZERO else ONE)


@helper
def _elu(x, alpha, b):
    positive = ZERO if x < ZERO else x
    negative = ZERO if x > ZERO else x
    negative = _EXPM1_LEAST if negative < _EXPM1_LEAST else negative
    return positive + alpha * expm1(negative)


@helper
def _elu_slope(y, dy, alpha, b):
    return dy * (ONE if y > ZERO else y + alpha)


# -- the loops -------------------------------------------------------------------------

_LOOPS = '''
def curve_{name}_forward(x: Vector, a: float, b: float, y: Vector) -> None:
    """``y = {name}(x)``, made by the numbers a and b; y may be x."""
    first, second = np.float32(a), np.float32(b)
    for i in range(x.size):
        y[i] = _{name}(x[i], first, second)


def curve_{name}_backward(
    saved: Vector, a: float, b: float, dy: Vector, dx: Vector
) -> None:
    """``dx = dy * {name}'``, from the saved {saves}; dx may be dy or saved."""
    first, second = np.float32(a), np.float32(b)
    for i in range(dx.size):
        dx[i] = _{name}_slope(saved[i], dy[i], first, second)
'''


@dataclass(frozen=True)
class Curve:
    """The kernels of one function.

    Attributes
    ----------
    forward : Kernel
        Takes (x, a, b, y).
    backward : Kernel
        Takes (saved, a, b, dy, dx).
    """

    forward: Kernel
    backward: Kernel


def _made(name: str, saves: str) -> Curve:
    # Compiled under this file's name: that is where Numba keeps and stamps its cache.
    made: dict[str, Any] = {}
    source = _LOOPS.format(name=name, saves=saves)
    exec(compile(source, __file__, "exec"), globals(), made)
    return Curve(
        kernel(made[f"curve_{name}_forward"]), kernel(made[f"curve_{name}_backward"])
    )


CURVES: dict[str, Curve] = {name: _made(name, saves) for name, saves in SAVES.items()}
"""By the names of `operations.curves`."""


def variant(function: str) -> Curve:
    """Return the kernels of one function, for `kernel.kernel_of`."""
    return CURVES[function]


# -- a number, and learned slopes ------------------------------------------------------


@kernel
def affine(x: Vector, factor: float, term: float, y: Vector) -> None:
    """``y = factor * x + term``, both rounded to float32; y may be x."""
    times, more = np.float32(factor), np.float32(term)
    for i in range(y.size):
        y[i] = times * x[i] + more


@kernel
def prelu_forward(x: Vector, slopes: Vector, y: Vector, size: int) -> None:
    """``y = x``, or x times the slope of its channel where x <= 0; y may be x.

    x has the shape (samples, channels, size), and each channel a slope.
    """
    for row in range(x.size // size):
        slope, at = slopes[row % slopes.size], row * size
        for i in range(at, at + size):
            y[i] = x[i] * (slope if x[i] <= ZERO else ONE)


@kernel
def prelu_derivative(
    x: Vector, slopes: Vector, dy: Vector, dx: Vector, size: int
) -> None:
    """``dx = dy``, or dy times the slope where x <= 0; dx may be dy or x."""
    for row in range(x.size // size):
        slope, at = slopes[row % slopes.size], row * size
        for i in range(at, at + size):
            dx[i] = dy[i] * (slope if x[i] <= ZERO else ONE)


@kernel
def prelu_gradient(
    x: Vector, dy: Vector, beta: float, d_slopes: Vector, size: int
) -> None:
    """Sum ``dy * x`` where x <= 0, for each channel; `beta` 0 writes, 1 adds."""
    lanes = double_lanes()
    channels = d_slopes.size
    for c in range(channels):
        clear(lanes)
        for at in range(c * size, x.size, channels * size):
            for start in range(0, size, LANES):
                width = min(LANES, size - start)
                for j in range(width):
                    i = at + start + j
                    product = dy[i] * x[i]
                    lanes[j] += np.float64(product if x[i] <= ZERO else ZERO)
        before = 0.0 if beta == 0.0 else np.float64(d_slopes[c])
        d_slopes[c] = np.float32(total(lanes, size) + before)
