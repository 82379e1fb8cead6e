"""Elementary functions: near the exact values, and one sequence of bits everywhere."""

from __future__ import annotations

import ctypes
import decimal
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
from helpers.c_kernels import NEEDS_GCC, compile_kernels

from arena_ckpt.kernels import elementary as compiled
from arena_ckpt.operations import elementary
from arena_ckpt.operations.elementary import (
    cosine,
    exp,
    log,
    power,
    sine,
    whole_power,
)

C_NAMES = {
    "log": "ac_log",
    "exp": "ac_exp_double",
    "power": "ac_power",
    "sine": "ac_sine",
    "cosine": "ac_cosine",
}
"""Functions whose bits are compared, with their names in C."""

_ENDS = [0.0, math.inf, math.nan, 5e-324, 2.0**-1022, 1.0, 1.7976931348623157e308]
_ENDS += [0.7071067811865476, 709.782712893384, 709.7827128933839, 745.13, 745.2]
_ENDS += [709.0, 1048576.0, 1048575.9, math.pi / 4, math.pi / 2, math.pi]


def numbers_for(name: str, n: int = 1000) -> list[npt.NDArray[np.float64]]:
    """Return columns of arguments: any bits, any magnitudes, and the ends of ranges."""
    random = np.random.default_rng(list(name.encode()))
    parts = [
        np.array([*_ENDS, *(-x for x in _ENDS)]),
        random.integers(0, 2**64, n, np.uint64).view(np.float64),
        random.normal(size=n) * 300,
        random.normal(size=n) * 2e5,
        2.0 ** random.uniform(-1074, 1024, n),
        random.uniform(0.5, 2, n),
    ]
    x = np.concatenate(parts)
    if name != "power":
        return [x]
    x = np.abs(x)  # of what is not above 0, `power` says nothing
    x[x == 0] = 1.0
    exponents = random.normal(size=x.size) * 2.0 ** random.uniform(-10, 10, x.size)
    exponents[random.random(x.size) < 0.1] = 0.0
    return [x, exponents]


def differing(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]
) -> list[tuple[int, float, float]]:
    """Return where two arrays differ in a bit, but for the bits of NaN."""
    bits = a.view(np.uint64) != b.view(np.uint64)
    places = np.flatnonzero(bits & ~(np.isnan(a) & np.isnan(b)))
    return [(int(i), float(a[i]), float(b[i])) for i in places[:8]]


_DIGITS = 60
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781")


def ulps(value: float, exact: Decimal) -> float:
    """Return an error in units of the last place."""
    return float(abs(Decimal(value) - exact) / Decimal(math.ulp(value)))


def worst(
    function: Callable[[float], float],
    exact: Callable[[Decimal], Decimal],
    numbers: list[float],
) -> float:
    """Return the largest error of a function of some numbers."""
    with decimal.localcontext() as context:
        context.prec = _DIGITS
        context.Emin, context.Emax = -5000, 5000
        return max(ulps(function(x), exact(Decimal(x))) for x in numbers)


def exact_sine(x: Decimal) -> Decimal:
    """Return the sine by its series, from at most half a turn."""
    x -= 2 * _PI * (x / (2 * _PI)).to_integral_value()
    term, total, n = x, x, 1
    while abs(term) > Decimal(10) ** -(_DIGITS - 5):
        n += 2
        term = -term * x * x / (n * (n - 1))
        total += term
    return total


def random_numbers(least: float, most: float) -> list[float]:
    random = np.random.default_rng(3)
    return [float(x) for x in random.uniform(least, most, 400)]


def test_logarithms_err_by_less_than_a_unit() -> None:
    beside_one = [1 + x for x in random_numbers(-0.3, 0.4)]
    anywhere = [2.0**x for x in random_numbers(-1074, 1023.9)]
    assert worst(log, Decimal.ln, beside_one + anywhere) < 1
    assert [log(x) for x in (1.0, 0.0, -0.0, math.inf)] == [
        *(0.0, -math.inf, -math.inf, math.inf)
    ]
    assert all(math.isnan(log(x)) for x in (-1.0, -math.inf, math.nan))


def test_exponentials_err_by_less_than_a_unit() -> None:
    numbers = random_numbers(-745, 709.7) + random_numbers(-1, 1)
    assert worst(exp, Decimal.exp, numbers) < 1
    ends = (0.0, -0.0, math.inf, -math.inf, 709.79, -745.2, -1e300)
    assert [exp(x) for x in ends] == [1.0, 1.0, math.inf, 0.0, math.inf, 0.0, 0.0]
    assert math.isnan(exp(math.nan))


def test_sines_and_cosines_err_by_less_than_three_units() -> None:
    numbers = random_numbers(-8, 8) + random_numbers(-1048575, 1048575)
    assert worst(sine, exact_sine, numbers) < 3
    assert worst(cosine, lambda x: exact_sine(x + _PI / 2), numbers) < 3
    assert (sine(0.0), cosine(0.0)) == (0.0, 1.0)
    for x in (1048576.0, -1048576.0, math.inf, math.nan):
        assert math.isnan(sine(x))
        assert math.isnan(cosine(x))


@pytest.mark.parametrize(("x", "n"), [(0.9, 1), (0.999, 1000), (0.9, 7000), (0.0, 3)])
def test_whole_powers_are_as_near_as_their_multiplications(x: float, n: int) -> None:
    assert whole_power(x, n) == pytest.approx(math.pow(x, n), rel=1e-15 * n, abs=1e-323)
    assert whole_power(x, 0) == 1.0


def test_powers_end_where_floats_do() -> None:
    assert power(10000.0, -0.25) == pytest.approx(0.1, rel=1e-15)
    assert power(10.0, 1000.0) == math.inf
    assert power(10.0, -1000.0) == 0.0
    assert power(7.0, 0.0) == 1.0


@pytest.mark.parametrize("name", C_NAMES)
def test_numba_gives_the_bits_of_python(name: str) -> None:
    assert compiled.log is log  # kernels name the functions themselves
    function: Any = getattr(elementary, name)
    columns = numbers_for(name)

    @numba.njit(error_model="numpy")
    def run(x: Any, y: Any, values: Any) -> None:
        for i in range(x.size):
            if name == "power":
                values[i] = function(x[i], y[i])
            else:
                values[i] = function(x[i])

    found = np.empty(columns[0].size)
    run(columns[0], columns[-1], found)
    wanted = [
        function(*row) for row in zip(*(c.tolist() for c in columns), strict=True)
    ]
    assert differing(found, np.array(wanted)) == []


@NEEDS_GCC
@pytest.mark.parametrize("options", ["-O2", "-O3 -march=native"])
def test_c_gives_the_bits_of_python(options: str) -> None:
    names = [*C_NAMES.values(), "ac_whole_power"]
    library = compile_kernels([], names, compiler=("gcc", *options.split()))
    for name in C_NAMES:
        function = getattr(library, C_NAMES[name])
        columns = numbers_for(name)
        function.restype = ctypes.c_double
        function.argtypes = [ctypes.c_double] * len(columns)
        rows = list(zip(*(column.tolist() for column in columns), strict=True))
        found = np.array([function(*row) for row in rows])
        wanted = np.array([getattr(elementary, name)(*row) for row in rows])
        assert differing(found, wanted) == [], name
    function = library.ac_whole_power
    function.restype = ctypes.c_double
    function.argtypes = [ctypes.c_double, ctypes.c_int64]
    for x in (0.9, 0.999, 0.0, 1.5, float(np.float32(0.1))):
        for n in (0, 1, 2, 3, 1000, 12345, 2**40 + 1):
            assert function(x, n) == elementary.whole_power(x, n), (x, n)
