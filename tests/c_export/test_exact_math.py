"""Square roots and fused multiply-adds of processors without an instruction."""

from __future__ import annotations

import ctypes
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.c_kernels import NEEDS_GCC, WARNINGS
from helpers.scale import how_many

from arena_ckpt.c_export.sources import FOLDER

pytestmark = NEEDS_GCC


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Return ac_math.c as a processor gets it that has none of these instructions."""
    target: Path = tmp_path_factory.mktemp("math") / "math.so"
    without = ("-U__SSE2__", "-U__FMA__")
    command = ["gcc", "-O2", *WARNINGS, *without, "-shared", "-fPIC", f"-I{FOLDER}"]
    subprocess.run([*command, "-o", target, FOLDER / "ac_math.c"], check=True)
    loaded = ctypes.CDLL(str(target))
    for name, kind, n in (
        ("ac_exact_fma", ctypes.c_float, 3),
        ("ac_exact_sqrt", ctypes.c_float, 1),
        ("ac_exact_double_sqrt", ctypes.c_double, 1),
    ):
        function = getattr(loaded, name)
        function.restype, function.argtypes = kind, [kind] * n
    return loaded


def numbers(dtype: type[np.floating], n: int, seed: int) -> np.ndarray:
    """Return numbers of all sizes, subnormal, infinite and NaN ones among them."""
    random = np.random.default_rng(seed)
    bits = np.dtype(f"u{np.dtype(dtype).itemsize}")
    return random.integers(0, np.iinfo(bits).max, n, dtype=bits).view(dtype)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("ac_exact_sqrt", np.float32), ("ac_exact_double_sqrt", np.float64)],
)
def test_roots_are_rounded_once(
    name: str, dtype: type[np.floating], library: ctypes.CDLL
) -> None:
    given = np.concatenate(
        [
            numbers(dtype, how_many(20_000, 1_000_000), 0),
            np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1, 2, 4], dtype),
            np.array([np.finfo(dtype).tiny, np.finfo(dtype).max], dtype),
            np.finfo(dtype).smallest_subnormal * np.arange(100, dtype=dtype),
        ]
    )
    found = np.array([getattr(library, name)(float(x)) for x in given], dtype)
    with np.errstate(invalid="ignore"):
        expected = np.sqrt(given)
    np.testing.assert_array_equal(found, expected)
    assert np.array_equal(np.signbit(found[given == 0]), np.signbit(given[given == 0]))


def rounded(x: Fraction) -> float:
    """Return the float32 nearest to a number, of two the even one."""
    near = np.float32(float(x))
    around = [np.nextafter(near, np.float32(end)) for end in (-np.inf, np.inf)]
    finite = [c for c in (near, *around) if np.isfinite(c)]
    even = {c: int(c.view(np.uint32)) & 1 for c in finite}
    return float(min(finite, key=lambda c: (abs(Fraction(float(c)) - x), even[c])))


def test_multiply_adds_are_rounded_once(library: ctypes.CDLL) -> None:
    random = np.random.default_rng(1)
    for _ in range(how_many(5_000, 100_000)):
        scales = 2.0 ** random.integers(-70, 40, 2)
        a, b = (np.float32(x) for x in random.standard_normal(2) * scales)
        product = Fraction(float(a)) * Fraction(float(b))
        # A sum that nearly cancels, or one whose addend decides a tie.
        near = np.float32(-float(product))
        c = random.choice([near, np.nextafter(near, np.float32(0)), near * 2**24, a])
        exact = product + Fraction(float(c))
        expected = rounded(exact)
        if abs(expected) < 3e38:
            found = library.ac_exact_fma(float(a), float(b), float(c))
            assert found == expected, (a, b, c)


def test_multiply_adds_of_infinities_and_nan(library: ctypes.CDLL) -> None:
    fma = library.ac_exact_fma
    assert fma(np.inf, 1.0, 2.0) == np.inf
    assert fma(2.0, 3.0, -np.inf) == -np.inf
    assert np.isnan(fma(np.inf, 0.0, 1.0))
    assert np.isnan(fma(np.inf, 1.0, -np.inf))
    assert np.isnan(fma(np.nan, 1.0, 1.0))
    assert fma(3e38, 10.0, 0.0) == np.inf
