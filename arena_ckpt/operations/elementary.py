"""Elementary functions of float64, the same bits in Python, in kernels and in C.

They are made of IEEE additions, multiplications and divisions, each rounded once, and
of exact steps: comparisons, whole numbers, and a change of the exponent. A C library's
``log`` or ``pow`` differs from another's in the last digit, and with it a loss or a
learning rate would.

The largest errors found against exact results, in units of the last place: `log` and
`exp` 0.9, `sine` and `cosine` 2.2 for angles below 2²⁰. `power` errs by that of `exp`
and ``2⁻⁵² · |y log x|`` of the result.

References
----------
Cody and Waite, "Software Manual for the Elementary Functions", 1980 (taking a large
argument apart).
"""

from __future__ import annotations

import math

_LN2_HIGH = 0.6931471803691238  # 32 bits: times an exponent it is exact
_LN2_LOW = 1.9082149292705877e-10
_LOG2_E = 1.4426950408889634
_SQRT_HALF = 0.7071067811865476
# pi / 2 in three parts; a whole number below 2**20 times the first two is exact.
_HALF_PI_HIGH = 1.5707963267341256
_HALF_PI_MIDDLE = 6.077100506303966e-11
_HALF_PI_LOW = 2.0222662487959506e-21
_TWO_OVER_PI = 0.6366197723675814
_LARGEST_ANGLE = 1048576.0


def log(x: float) -> float:
    """Return the natural logarithm; -inf of 0, NaN below it and of NaN."""
    if not x > 0.0:
        return -math.inf if x == 0.0 else math.nan
    if x == math.inf:
        return x
    mantissa, exponent = math.frexp(x)
    if mantissa < _SQRT_HALF:
        mantissa, exponent = mantissa + mantissa, exponent - 1
    # log((1 + s) / (1 - s)) = 2 (s + s**3 / 3 + s**5 / 5 + …), |s| <= 0.1716
    f = mantissa - 1.0
    s = f / (mantissa + 1.0)
    q = s * s
    p = 1 / 17 + q * (1 / 19 + q * (1 / 21))
    p = 1 / 9 + q * (1 / 11 + q * (1 / 13 + q * (1 / 15 + q * p)))
    p = q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * p)))
    # 2 s = f - s f, so what is rounded is small beside f
    e = float(exponent)
    return e * _LN2_HIGH + (f - (s * (f - (p + p)) - e * _LN2_LOW))


def exp(x: float) -> float:
    """Return ``e**x``; inf above 709.78, 0 below -745.13."""
    if not x < 709.782712893384:
        return math.inf if x > 709.0 else x  # NaN stays
    if x < -745.2:
        return 0.0
    n = math.floor(x * _LOG2_E + 0.5)
    k = float(n)
    high = x - k * _LN2_HIGH
    low = k * _LN2_LOW
    r = high - low
    p = 1 / 39916800 + r * (
        1 / 479001600 + r * (1 / 6227020800 + r * (1 / 87178291200))
    )
    p = 1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + r * p))
    p = 1 / 120 + r * (1 / 720 + r * (1 / 5040 + r * p))
    p = r * r * (0.5 + r * (1 / 6 + r * (1 / 24 + r * p)))
    # what rounding r lost goes to the small terms
    value = 1.0 + (high - (low - p))
    if n < -1021:
        return math.ldexp(math.ldexp(value, n + 1000), -1000)
    return math.ldexp(value, n)


def power(x: float, y: float) -> float:
    """Return ``x**y`` for x > 0, by `exp` and `log`; 1 where y is 0."""
    return exp(y * log(x)) if y != 0.0 else 1.0


def whole_power(x: float, n: int) -> float:
    """Return ``x**n`` for n >= 0, by squaring."""
    value = 1.0
    while n > 0:
        if n % 2 == 1:
            value *= x
        x *= x
        n //= 2
    return value


def _quarter(x: float) -> int:
    """Return the whole number of quarter turns nearest to an angle."""
    return math.floor(x * _TWO_OVER_PI + 0.5)


def _rest(x: float, quarter: int) -> float:
    """Return what an angle has beside its quarter turns, within ±pi / 4."""
    k = float(quarter)
    return ((x - k * _HALF_PI_HIGH) - k * _HALF_PI_MIDDLE) - k * _HALF_PI_LOW


def _sine_of_rest(r: float) -> float:
    q = r * r
    p = 1 / 362880 - q * (1 / 39916800 - q * (1 / 6227020800 - q * (1 / 1307674368000)))
    p = q * (1 / 6 - q * (1 / 120 - q * (1 / 5040 - q * p)))
    return r - r * p


def _cosine_of_rest(r: float) -> float:
    q = r * r
    p = 1 / 87178291200 - q * (1 / 20922789888000 - q * (1 / 6402373705728000))
    p = 1 / 3628800 - q * (1 / 479001600 - q * p)
    p = q * q * (1 / 24 - q * (1 / 720 - q * (1 / 40320 - q * p)))
    half = 0.5 * q
    one = 1.0 - half
    return one + (((1.0 - one) - half) + p)


def sine(x: float) -> float:
    """Return the sine of an angle below 2²⁰; NaN of any other."""
    if not -_LARGEST_ANGLE < x < _LARGEST_ANGLE:
        return math.nan
    quarter = _quarter(x)
    r = _rest(x, quarter)
    turn = quarter % 4
    value = _sine_of_rest(r) if turn % 2 == 0 else _cosine_of_rest(r)
    return value if turn < 2 else -value


def cosine(x: float) -> float:
    """Return the cosine of an angle below 2²⁰; NaN of any other."""
    if not -_LARGEST_ANGLE < x < _LARGEST_ANGLE:
        return math.nan
    quarter = _quarter(x)
    r = _rest(x, quarter)
    turn = quarter % 4
    value = _cosine_of_rest(r) if turn % 2 == 0 else _sine_of_rest(r)
    return -value if turn in (1, 2) else value
