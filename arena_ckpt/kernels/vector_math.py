"""float32 functions that LLVM vectorizes: no branches, no calls.

The polynomials were fitted for this file, by iteratively reweighted least squares
towards the least maximum error, in float64; the maximum errors beside them are before
rounding to float32. NaN goes through everything: clamps are written so that a
comparison with NaN keeps it.

References
----------
Cody and Waite, "Software Manual for the Elementary Functions", 1980 (exp).
Abramowitz and Stegun, 7.1.26 (the form of the tail of the normal distribution).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.kernel import typed_intrinsic

# Numba computes float32 with a Python literal in float64; with these it does not.
ZERO = np.float32(0.0)
HALF = np.float32(0.5)
ONE = np.float32(1.0)
TWO = np.float32(2.0)
FOUR = np.float32(4.0)


LOG2_E = np.float32(1.4426950408889634)
# Adding 1.5 * 2**23 rounds to an integer, which then stands in the low bits.
ROUNDER = np.float32(12582912.0)
_ROUNDER_LESS_ONE = np.float32(12582911.0)
# ln 2 = high + low; an integer below 2**15 times high is exact.
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(-2.12194440e-4)
EXP_LEAST = np.float32(-87.0)  # exp is 0 here
_EXP_MOST = np.float32(89.0)  # exp is inf here
# expm1(r) = r + r*r*P(r) for |r| <= ln(2)/2, relative error 1.4e-8
E0 = np.float32(0.4999999701976776)
E1 = np.float32(0.1666654348373413)
E2 = np.float32(0.04166720062494278)
E3 = np.float32(0.008366547524929047)
E4 = np.float32(0.0013882516650483012)


@typed_intrinsic
def power_of_two(typing_context: Any, rounded: Any) -> Any:
    """``2**n`` for ``rounded = n + ROUNDER``, -126 <= n <= 127; 0 for n = -127."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer = ir.IntType(32)
        bits = builder.bitcast(args[0], integer)
        # The low nine bits of ROUNDER are 0, so shifting leaves only n.
        scale = builder.add(builder.shl(bits, integer(23)), integer(0x3F800000))
        return builder.bitcast(scale, ir.FloatType())

    return types.float32(types.float32), codegen


@helper
def exp(x):
    """``e**x``, relative error 2e-7; 0 below -86.99, inf above 88.73."""
    x = EXP_LEAST if x < EXP_LEAST else x
    x = _EXP_MOST if x > _EXP_MOST else x
    rounded = x * LOG2_E + _ROUNDER_LESS_ONE
    n = rounded - _ROUNDER_LESS_ONE
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    p = r + r * r * (E0 + r * (E1 + r * (E2 + r * (E3 + r * E4))))
    # As 2 * 2**(n - 1), n may be 128; subnormal numbers, which are slow, never arise.
    return (TWO + (p + p)) * power_of_two(rounded)


@helper
def expm1(x):
    """``e**x - 1`` for -80 <= x <= 80, small relative error also beside 0."""
    rounded = x * LOG2_E + ROUNDER
    n = rounded - ROUNDER
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    p = r + r * r * (E0 + r * (E1 + r * (E2 + r * (E3 + r * E4))))
    scale = power_of_two(rounded)
    return scale * p + (scale - ONE)


# atanh(s) = s + s**3 * P(s**2) for 0 <= s <= 1/3, relative error 5e-9
_L0 = np.float32(0.3333320617675781)
_L1 = np.float32(0.20010849833488464)
_L2 = np.float32(0.13999570906162262)
_L3 = np.float32(0.14012229442596436)


@helper
def log1p(u):
    """``log(1 + u)`` for 0 <= u <= 1."""
    s = u / (u + TWO)
    square = s * s
    p = square * (_L0 + square * (_L1 + square * (_L2 + square * _L3)))
    return TWO * (s + s * p)


# P(N(0, 1) > x) = exp(-x*x/2) * t*Q(t), t = 1 / (1 + 0.26 x), x >= 0, error 2e-8
_T = np.float32(0.26)
_Q0 = np.float32(0.10388366132974625)
_Q1 = np.float32(0.10329440981149673)
_Q2 = np.float32(0.08921022713184357)
_Q3 = np.float32(0.1336411088705063)
_Q4 = np.float32(-0.07006936520338058)
_Q5 = np.float32(0.208211749792099)
_Q6 = np.float32(-0.06817179918289185)
INVERSE_SQRT_TWO_PI = np.float32(0.3989422804014327)


@helper
def bell(x):
    """``exp(-x*x/2)``."""
    return exp(-HALF * x * x)


@helper
def normal_cdf(x, density):
    """P(N(0, 1) <= x) = (1 + erf(x / sqrt 2)) / 2, given density = ``bell(x)``."""
    t = ONE / (ONE + _T * abs(x))
    q = _Q3 + t * (_Q4 + t * (_Q5 + t * _Q6))
    q = t * (_Q0 + t * (_Q1 + t * (_Q2 + t * q)))
    tail = density * q
    return tail if x < ZERO else ONE - tail


# -- float64, where float32 would lose digits ------------------------------------------

_SPLIT = 0x3FE6A09E667F3BCD  # bits of sqrt(1/2): mantissas lie from there to sqrt(2)
_EXPONENT_BIAS = 1024 << 52
_INT64 = ir.IntType(64)


def _shifted_exponent(builder: Any, x: Any) -> Any:
    """Exponent of x + 1024, an integer of few bits (AVX2 shifts only unsigned)."""
    bits = builder.bitcast(x, _INT64)
    return builder.lshr(builder.add(bits, _INT64(_EXPONENT_BIAS - _SPLIT)), _INT64(52))


@typed_intrinsic
def _exponent(typing_context: Any, x: Any) -> Any:
    """Return the n of ``x = m * 2**n``, as a float64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.or_(
            _shifted_exponent(builder, args[0]), _INT64(0x4330000000000000)
        )
        number = builder.bitcast(bits, ir.DoubleType())  # 2**52 + n + 1024
        return builder.fsub(number, ir.DoubleType()(2.0**52 + 1024))

    return types.float64(types.float64), codegen


@typed_intrinsic
def _mantissa(typing_context: Any, x: Any) -> Any:
    """Return the m of ``x = m * 2**n``, from sqrt(1/2) to sqrt(2)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        exponent = builder.sub(_shifted_exponent(builder, args[0]), _INT64(1024))
        bits = builder.bitcast(args[0], _INT64)
        bits = builder.sub(bits, builder.shl(exponent, _INT64(52)))
        return builder.bitcast(bits, ir.DoubleType())

    return types.float64(types.float64), codegen


@typed_intrinsic
def _double_power_of_two(typing_context: Any, rounded: Any) -> Any:
    """``2**n`` for ``rounded = n + 1.5 * 2**52``, -1022 <= n <= 1023."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.shl(builder.bitcast(args[0], _INT64), _INT64(52))
        bits = builder.add(bits, _INT64(0x3FF0000000000000))
        return builder.bitcast(bits, ir.DoubleType())

    return types.float64(types.float64), codegen


_NAN = float("nan")
_INFINITY = float("inf")
_LN2 = 0.6931471805599453
_DOUBLE_ROUNDER = 6755399441055744.0  # 1.5 * 2**52


@helper
def log_double(x):
    """``log(x)`` of a normal float64, error 1e-11; NaN unless 0 < x < inf."""
    m = _mantissa(x)
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    # atanh(s) = s + s**3 / 3 + s**5 / 5 + …, |s| <= 0.172
    p = q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13 + q * (1 / 15)))))
    p = 2.0 * (s + s * (q * (1 / 3 + q * (1 / 5 + p))))
    value = _exponent(x) * _LN2 + p
    value = value if x > 0.0 else _NAN
    return value if x < _INFINITY else _NAN


@helper
def exp_double(x):
    """``e**x``, relative error 2e-9, for |x| <= 700."""
    rounded = x * (1.0 / _LN2) + _DOUBLE_ROUNDER
    r = x - (rounded - _DOUBLE_ROUNDER) * _LN2
    p = 1 / 120 + r * (1 / 720 + r * (1 / 5040 + r * (1 / 40320)))
    p = 1.0 + r * (1.0 + r * (0.5 + r * (1 / 6 + r * (1 / 24 + r * p))))
    return p * _double_power_of_two(rounded)
