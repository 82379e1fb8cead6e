"""Activations: forward, backward, and bias with forward in one pass.

Stages of the file: float32 functions that LLVM vectorizes (no branches, no calls), one
scalar helper per activation and direction, the loops around the helpers, softmax, and
the table `ACTIVATIONS`. The loops of all elementwise activations are one source text;
``<name>_forward``, ``<name>_backward`` and ``bias_<name>_forward`` are looked up as
attributes of this module.

The polynomials were fitted for this file, by iteratively reweighted least squares
towards the least maximum error, in float64; the maximum errors beside them are before
rounding to float32.

NaN goes through everything: clamps are written so that a comparison with NaN keeps it.

Known shortcomings: where PyTorch computes ``inf * 0`` (swish, gelu, mish at -inf) so do
we, and the result is NaN. ``tanh(-0.0)`` and ``elu(-0.0)`` are ``+0.0``.

References
----------
Cody and Waite, "Software Manual for the Elementary Functions", 1980 (exp).
Abramowitz and Stegun, 7.1.26 (the form of the tail of the normal distribution).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from arena_ckpt.kernels.jit import Kernel, Matrix, helper, kernel

_typed_intrinsic: Any = intrinsic  # typed in some Numba releases, untyped in others

# Numba computes float32 with a Python literal in float64; with these it does not.
_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)
_FOUR = np.float32(4.0)

# -- exp, expm1, log1p, the normal distribution ---------------------------------------

_LOG2_E = np.float32(1.4426950408889634)
# Adding 1.5 * 2**23 rounds to an integer, which then stands in the low bits.
_ROUNDER = np.float32(12582912.0)
_ROUNDER_LESS_ONE = np.float32(12582911.0)
# ln 2 = high + low; an integer below 2**15 times high is exact.
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_EXP_LEAST = np.float32(-87.0)  # exp is 0 here
_EXP_MOST = np.float32(89.0)  # exp is inf here
# expm1(r) = r + r*r*P(r) for |r| <= ln(2)/2, relative error 1.4e-8
_E0 = np.float32(0.4999999701976776)
_E1 = np.float32(0.1666654348373413)
_E2 = np.float32(0.04166720062494278)
_E3 = np.float32(0.008366547524929047)
_E4 = np.float32(0.0013882516650483012)


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
def _expm1(x):
    """``e**x - 1`` for -80 <= x <= 80, small relative error also beside 0."""
    rounded = x * _LOG2_E + _ROUNDER
    n = rounded - _ROUNDER
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = r + r * r * (_E0 + r * (_E1 + r * (_E2 + r * (_E3 + r * _E4))))
    scale = _power_of_two(rounded)
    return scale * p + (scale - _ONE)


# atanh(s) = s + s**3 * P(s**2) for 0 <= s <= 1/3, relative error 5e-9
_L0 = np.float32(0.3333320617675781)
_L1 = np.float32(0.20010849833488464)
_L2 = np.float32(0.13999570906162262)
_L3 = np.float32(0.14012229442596436)


@helper
def _log1p(u):
    """``log(1 + u)`` for 0 <= u <= 1."""
    s = u / (u + _TWO)
    square = s * s
    p = square * (_L0 + square * (_L1 + square * (_L2 + square * _L3)))
    return _TWO * (s + s * p)


# P(N(0, 1) > x) = exp(-x*x/2) * t*Q(t), t = 1 / (1 + 0.26 x), x >= 0, error 2e-8
_T = np.float32(0.26)
_Q0 = np.float32(0.10388366132974625)
_Q1 = np.float32(0.10329440981149673)
_Q2 = np.float32(0.08921022713184357)
_Q3 = np.float32(0.1336411088705063)
_Q4 = np.float32(-0.07006936520338058)
_Q5 = np.float32(0.208211749792099)
_Q6 = np.float32(-0.06817179918289185)
_INVERSE_SQRT_TWO_PI = np.float32(0.3989422804014327)


@helper
def _bell(x):
    """``exp(-x*x/2)``."""
    return _exp(-_HALF * x * x)


@helper
def _normal_cdf(x, bell):
    """P(N(0, 1) <= x) = (1 + erf(x / sqrt 2)) / 2, given ``_bell(x)``."""
    t = _ONE / (_ONE + _T * abs(x))
    q = _Q3 + t * (_Q4 + t * (_Q5 + t * _Q6))
    q = t * (_Q0 + t * (_Q1 + t * (_Q2 + t * q)))
    tail = bell * q
    return tail if x < _ZERO else _ONE - tail


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
    return (_ZERO if x < _ZERO else x) + _ZERO


@helper
def _relu_slope(y, dy):
    return (_ZERO if y <= _ZERO else dy) + _ZERO


@helper
def _leaky_relu(x):
    return x * (_SLOPE if x <= _ZERO else _ONE)


@helper
def _leaky_relu_slope(y, dy):
    return dy * (_SLOPE if y <= _ZERO else _ONE)


@helper
def _sigmoid(x):
    return _ONE / (_ONE + _exp(-x))


@helper
def _sigmoid_slope(y, dy):
    return dy * (_ONE - y) * y


@helper
def _tanh(x):
    x = -_TANH_MOST if x < -_TANH_MOST else x
    x = _TANH_MOST if x > _TANH_MOST else x
    e = _expm1(x + x)
    return e / (e + _TWO)


@helper
def _tanh_slope(y, dy):
    return dy * (_ONE - y * y)


@helper
def _gelu(x):
    return x * _normal_cdf(x, _bell(x))


@helper
def _gelu_slope(x, dy):
    x = -_GELU_MOST if x < -_GELU_MOST else x
    x = _GELU_MOST if x > _GELU_MOST else x
    bell = _bell(x)
    return dy * (_normal_cdf(x, bell) + x * bell * _INVERSE_SQRT_TWO_PI)


@helper
def _tanh_gelu(x):
    # (1 + tanh u) / 2 = sigmoid(2 u), without cancellation for u < 0
    u = _TWO_SQRT_TWO_OVER_PI * (x + _CUBIC * x * x * x)
    return x / (_ONE + _exp(-u))


@helper
def _tanh_gelu_slope(x, dy):
    x = -_TANH_GELU_MOST if x < -_TANH_GELU_MOST else x
    x = _TANH_GELU_MOST if x > _TANH_GELU_MOST else x
    square = x * x
    e = _exp(-_TWO_SQRT_TWO_OVER_PI * (x + _CUBIC * square * x))
    s = _ONE / (_ONE + e)
    du = _TWO_SQRT_TWO_OVER_PI * (_ONE + _CUBIC_3 * square)
    return dy * (s * (_ONE + x * du * (e * s)))


@helper
def _swish(x):
    return x / (_ONE + _exp(-x))


@helper
def _swish_slope(x, dy):
    x = -_SWISH_MOST if x < -_SWISH_MOST else x
    x = _SWISH_MOST if x > _SWISH_MOST else x
    e = _exp(-x)
    s = _ONE / (_ONE + e)
    # e * s = 1 - s, without cancellation
    return dy * (s * (_ONE + x * (e * s)))


@helper
def _elu(x):
    positive = _ZERO if x < _ZERO else x
    negative = _ZERO if x > _ZERO else x
    negative = _EXPM1_LEAST if negative < _EXPM1_LEAST else negative
    return positive + _expm1(negative)


@helper
def _elu_slope(y, dy):
    return dy * (_ONE + (_ZERO if y > _ZERO else y))


@helper
def _selu(x):
    positive = _ZERO if x < _ZERO else x
    negative = _ZERO if x > _ZERO else x
    negative = _EXPM1_LEAST if negative < _EXPM1_LEAST else negative
    return _SELU_SCALE * positive + _SELU_SCALE_ALPHA * _expm1(negative)


@helper
def _selu_slope(y, dy):
    return dy * (_SELU_SCALE if y > _ZERO else y + _SELU_SCALE_ALPHA)


@helper
def _softplus(x):
    positive = _ZERO if x < _ZERO else x
    return positive + _log1p(_exp(-abs(x)))


@helper
def _softplus_slope(x, dy):
    return dy / (_ONE + _exp(-x))


@helper
def _mish(x):
    # tanh(log(1 + e)) = w / (w + 2) for w = e (e + 2)
    e = _exp(_MISH_MOST if x > _MISH_MOST else x)
    w = e * (e + _TWO)
    return x * (w / (w + _TWO))


@helper
def _mish_slope(x, dy):
    x = _EXP_LEAST if x < _EXP_LEAST else x
    x = _MISH_MOST if x > _MISH_MOST else x
    e = _exp(x)
    w = e * (e + _TWO)
    inverse = _ONE / (w + _TWO)
    return dy * (inverse * (w + x * (_FOUR * e * (e + _ONE) * inverse)))


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

# Sums run in this many lanes, combined in order: the bits are those of the source text,
# whatever vectors the machine has.
_LANES = 32


@_typed_intrinsic
def _stack_lanes(typing_context: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.ArrayType(ir.FloatType(), _LANES)
        memory = cgutils.alloca_once(builder, lanes)
        memory.align = 64
        return builder.bitcast(memory, ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(), codegen


def _lanes() -> Any:
    """Array of `_LANES` float32 on the stack, not initialized."""
    return np.empty(_LANES, np.float32)


@overload(_lanes, inline="always")
def _compiled_lanes() -> Any:
    return lambda: carray(_stack_lanes(), _LANES)


@helper
def _most(row, lanes):
    """Return the greatest element; any number if one is NaN."""
    first = row[:_LANES]
    for j in range(first.size):
        lanes[j] = first[j]
    for start in range(_LANES, row.size, _LANES):
        part = row[start : start + _LANES]
        for j in range(part.size):
            most = part[j] if part[j] > lanes[j] else lanes[j]
            lanes[j] = most + _ZERO  # else a slow masked store, see _relu
    most = lanes[0]
    for j in range(1, first.size):
        most = lanes[j] if lanes[j] > most else most
    return most


@helper
def _clear(lanes):
    for j in range(_LANES):
        lanes[j] = _ZERO


@helper
def _total(lanes, width):
    total = _ZERO
    for j in range(min(width, _LANES)):
        total += lanes[j]
    return total


@kernel
def softmax_forward(x: Matrix, y: Matrix) -> None:
    """``y = exp(x) / sum(exp(x))`` in each row; y may be x."""
    lanes = _lanes()
    n = x.shape[1]
    for r in range(x.shape[0] if n > 0 else 0):
        most = _most(x[r], lanes)
        for c in range(n):
            y[r, c] = _exp(x[r, c] - most)
        row = y[r]
        _clear(lanes)
        for start in range(0, n, _LANES):
            part = row[start : start + _LANES]
            for j in range(part.size):
                lanes[j] += part[j]
        inverse = _ONE / _total(lanes, n)
        for c in range(n):
            y[r, c] *= inverse


@kernel
def softmax_backward(y: Matrix, dy: Matrix, dx: Matrix) -> None:
    """``dx = y * (dy - sum(y * dy))`` in each row; dx may be dy or y."""
    lanes = _lanes()
    n = y.shape[1]
    for r in range(y.shape[0]):
        y_row, dy_row = y[r], dy[r]
        _clear(lanes)
        for start in range(0, n, _LANES):
            y_part = y_row[start : start + _LANES]
            dy_part = dy_row[start : start + _LANES]
            for j in range(y_part.size):
                lanes[j] += y_part[j] * dy_part[j]
        total = _total(lanes, n)
        for c in range(n):
            dx[r, c] = y[r, c] * (dy[r, c] - total)


_SAVES = {
    "relu": "output",
    "leaky_relu": "output",
    "sigmoid": "output",
    "tanh": "output",
    "gelu": "input",
    "tanh_gelu": "input",
    "swish": "input",
    "elu": "output",
    "selu": "output",
    "softplus": "input",
    "mish": "input",
}

ACTIVATIONS: dict[str, Activation] = {
    **{name: _elementwise(name, saves) for name, saves in _SAVES.items()},
    "softmax": Activation(softmax_forward, softmax_backward, None, "output"),
}

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
