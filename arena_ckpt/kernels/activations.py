"""Activations: forward, backward, and bias with forward in one pass.

Stages of the file: one scalar helper per activation and direction, the loops around the
helpers, softmax, and the table `ACTIVATIONS`. The loops of all elementwise activations
are one source text; ``<name>_forward``, ``<name>_backward`` and ``bias_<name>_forward``
are looked up as attributes of this module.

Known shortcomings: where PyTorch computes ``inf * 0`` (swish, gelu, mish at -inf) so do
we, and the result is NaN. ``tanh(-0.0)`` and ``elu(-0.0)`` are ``+0.0``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.kernel import Kernel, kernel
from arena_ckpt.kernels.lanes import LANES, clear, float_lanes, most_of, total
from arena_ckpt.kernels.vector_math import (
    EXP_LEAST,
    FOUR,
    INVERSE_SQRT_TWO_PI,
    ONE,
    TWO,
    ZERO,
    bell,
    exp,
    expm1,
    log1p,
    normal_cdf,
)
from arena_ckpt.operations.activations import SAVES
from arena_ckpt.operations.array_types import Matrix

# -- one scalar function per activation and direction ---------------------------------
# The first argument of a backward is what the activation saves: output or input.

_SLOPE = np.float32(0.01)
_TANH_MOST = np.float32(10.0)  # tanh is 1 from here on
_GELU_MOST = np.float32(14.0)  # gelu'(x) is 0 or 1 beyond ±14
_TANH_GELU_MOST = np.float32(9.5)
_SWISH_MOST = np.float32(80.0)
_MISH_MOST = np.float32(20.0)
_EXPM1_LEAST = np.float32(-25.0)  # expm1 is -1 here
_CUBIC = np.float32(0.044715)
_CUBIC_3 = np.float32(3 * 0.044715)
_TWO_SQRT_TWO_OVER_PI = np.float32(2 * 0.7978845608028654)
# Klambauer et al., "Self-Normalizing Neural Networks", 2017
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = np.float32(1.0507009873554805)
_SELU_SCALE_ALPHA = np.float32(1.0507009873554805 * _SELU_ALPHA)


# These four, elu and selu avoid "store either what was there or something else": in
# place, LLVM makes a masked store of it, which is 4 times slower on AMD's Zen. Adding 0
# is no idle step to LLVM, for it makes +0 of -0.
@helper
def _relu(x):
    return (ZERO if x < ZERO else x) + ZERO


@helper
def _relu_slope(y, dy):
    return (ZERO if y <= ZERO else dy) + ZERO


@helper
def _leaky_relu(x):
    return x * (_SLOPE if x <= ZERO else ONE)


@helper
def _leaky_relu_slope(y, dy):
    return dy * (_SLOPE if y <= ZERO else ONE)


@helper
def _sigmoid(x):
    return ONE / (ONE + exp(-x))


@helper
def _sigmoid_slope(y, dy):
    return dy * (ONE - y) * y


@helper
def _tanh(x):
    x = -_TANH_MOST if x < -_TANH_MOST else x
    x = _TANH_MOST if x > _TANH_MOST else x
    e = expm1(x + x)
    return e / (e + TWO)


@helper
def _tanh_slope(y, dy):
    return dy * (ONE - y * y)


@helper
def _gelu(x):
    return x * normal_cdf(x, bell(x))


@helper
def _gelu_slope(x, dy):
    x = -_GELU_MOST if x < -_GELU_MOST else x
    x = _GELU_MOST if x > _GELU_MOST else x
    density = bell(x)
    return dy * (normal_cdf(x, density) + x * density * INVERSE_SQRT_TWO_PI)


@helper
def _tanh_gelu(x):
    # (1 + tanh u) / 2 = sigmoid(2 u), without cancellation for u < 0
    u = _TWO_SQRT_TWO_OVER_PI * (x + _CUBIC * x * x * x)
    return x / (ONE + exp(-u))


@helper
def _tanh_gelu_slope(x, dy):
    x = -_TANH_GELU_MOST if x < -_TANH_GELU_MOST else x
    x = _TANH_GELU_MOST if x > _TANH_GELU_MOST else x
    square = x * x
    e = exp(-_TWO_SQRT_TWO_OVER_PI * (x + _CUBIC * square * x))
    s = ONE / (ONE + e)
    du = _TWO_SQRT_TWO_OVER_PI * (ONE + _CUBIC_3 * square)
    return dy * (s * (ONE + x * du * (e * s)))


@helper
def _swish(x):
    return x / (ONE + exp(-x))


@helper
def _swish_slope(x, dy):
    x = -_SWISH_MOST if x < -_SWISH_MOST else x
    x = _SWISH_MOST if x > _SWISH_MOST else x
    e = exp(-x)
    s = ONE / (ONE + e)
    # e * s = 1 - s, without cancellation
    return dy * (s * (ONE + x * (e * s)))


@helper
def _elu(x):
    positive = ZERO if x < ZERO else x
    negative = ZERO if x > ZERO else x
    negative = _EXPM1_LEAST if negative < _EXPM1_LEAST else negative
    return positive + expm1(negative)


@helper
def _elu_slope(y, dy):
    return dy * (ONE + (ZERO if y > ZERO else y))


@helper
def _selu(x):
    positive = ZERO if x < ZERO else x
    negative = ZERO if x > ZERO else x
    negative = _EXPM1_LEAST if negative < _EXPM1_LEAST else negative
    return _SELU_SCALE * positive + _SELU_SCALE_ALPHA * expm1(negative)


@helper
def _selu_slope(y, dy):
    return dy * (_SELU_SCALE if y > ZERO else y + _SELU_SCALE_ALPHA)


@helper
def _softplus(x):
    positive = ZERO if x < ZERO else x
    return positive + log1p(exp(-abs(x)))


@helper
def _softplus_slope(x, dy):
    return dy / (ONE + exp(-x))


@helper
def _mish(x):
    # tanh(log(1 + e)) = w / (w + 2) for w = e (e + 2)
    e = exp(_MISH_MOST if x > _MISH_MOST else x)
    w = e * (e + TWO)
    return x * (w / (w + TWO))


@helper
def _mish_slope(x, dy):
    x = EXP_LEAST if x < EXP_LEAST else x
    x = _MISH_MOST if x > _MISH_MOST else x
    e = exp(x)
    w = e * (e + TWO)
    inverse = ONE / (w + TWO)
    return dy * (inverse * (w + x * (FOUR * e * (e + ONE) * inverse)))


# -- the loops ------------------------------------------------------------------------

_LOOPS = '''
def {name}_forward(x: Vector, y: Vector) -> None:
    """``y = {name}(x)``; y may be x."""
    for i in range(x.size):
        y[i] = _{name}(x[i])


def {name}_backward(saved: Vector, dy: Vector, dx: Vector) -> None:
    """``dx = dy * {name}'``, from the saved {saves}; dx may be dy or saved."""
    for i in range(dx.size):
        dx[i] = _{name}_slope(saved[i], dy[i])


def bias_{name}_forward(x: Matrix, bias: Vector, y: Matrix) -> None:
    """``y = {name}(x + bias)``, bias (columns,); y may be x."""
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            y[r, c] = _{name}(x[r, c] + bias[c])
'''


@dataclass(frozen=True)
class Activation:
    """The kernels of one activation, and what its backward reads.

    Attributes
    ----------
    forward : Kernel
        Takes (x, y).
    backward : Kernel
        Takes (saved, dy, dx).
    bias_forward : Kernel or None
        Takes (x, bias, y).
    saves : str
        ``"output"`` or ``"input"``: the first argument of `backward`.
    """

    forward: Kernel
    backward: Kernel
    bias_forward: Kernel | None
    saves: str


def _elementwise(name: str, saves: str) -> Activation:
    # Compiled under this file's name: that is where Numba keeps and stamps its cache.
    # (Closures over a helper would be compiled anew in every process.)
    made: dict[str, Any] = {}
    source = _LOOPS.format(name=name, saves=saves)
    exec(compile(source, __file__, "exec"), globals(), made)
    return Activation(
        forward=kernel(made[f"{name}_forward"]),
        backward=kernel(made[f"{name}_backward"]),
        bias_forward=kernel(made[f"bias_{name}_forward"]),
        saves=saves,
    )


# -- softmax --------------------------------------------------------------------------


@kernel
def softmax_forward(x: Matrix, y: Matrix) -> None:
    """``y = exp(x) / sum(exp(x))`` in each row; y may be x."""
    lanes = float_lanes()
    n = x.shape[1]
    for r in range(x.shape[0] if n > 0 else 0):
        most = most_of(x[r], lanes)
        for c in range(n):
            y[r, c] = exp(x[r, c] - most)
        row = y[r]
        clear(lanes)
        for start in range(0, n, LANES):
            part = row[start : start + LANES]
            for j in range(part.size):
                lanes[j] += part[j]
        inverse = ONE / total(lanes, n)
        for c in range(n):
            y[r, c] *= inverse


@kernel
def softmax_backward(y: Matrix, dy: Matrix, dx: Matrix) -> None:
    """``dx = y * (dy - sum(y * dy))`` in each row; dx may be dy or y."""
    lanes = float_lanes()
    n = y.shape[1]
    for r in range(y.shape[0]):
        y_row, dy_row = y[r], dy[r]
        clear(lanes)
        for start in range(0, n, LANES):
            y_part = y_row[start : start + LANES]
            dy_part = dy_row[start : start + LANES]
            for j in range(y_part.size):
                lanes[j] += y_part[j] * dy_part[j]
        inner = total(lanes, n)
        for c in range(n):
            dx[r, c] = y[r, c] * (dy[r, c] - inner)


ACTIVATIONS: dict[str, Activation] = {
    name: _elementwise(name, saves)
    for name, saves in SAVES.items()
    if name != "softmax"
}
ACTIVATIONS["softmax"] = Activation(softmax_forward, softmax_backward, None, "output")


def variant(function: str) -> Activation:
    """Return the kernels of one activation function, for `kernel.kernel_of`."""
    return ACTIVATIONS[function]


_KERNELS = {
    made.name: made
    for activation in ACTIVATIONS.values()
    for made in (activation.forward, activation.backward, activation.bias_forward)
    if made is not None
}


def __getattr__(name: str) -> Kernel:
    try:
        return _KERNELS[name]
    except KeyError:
        raise AttributeError(f"module {__name__} has no attribute {name}") from None
