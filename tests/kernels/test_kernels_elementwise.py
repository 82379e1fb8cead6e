from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.kernel_calls import (
    SIZES,
    assert_python_agrees,
    assert_same_bits,
    normal,
    poison,
    run_entry,
)

from arena_ckpt.kernels import elementwise, reductions
from arena_ckpt.kernels.kernel import Kernel

Array = npt.NDArray[Any]
SHAPES = [(0, 3), (3, 0), (1, 1), (5, 7), (4, 8), (3, 200)]


def doubles(*values: float) -> Array:
    return np.array(values, np.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_add_bias(shape: tuple[int, int]) -> None:
    x, bias, y = normal(*shape), normal(shape[1], seed=1), poison(*shape)
    run_entry(elementwise.add_bias, x, bias, y)
    assert_same_bits(y, x + bias)
    run_entry(elementwise.add_bias, x, bias, x)
    assert_same_bits(x, y)


@pytest.mark.parametrize("size", SIZES)
def test_copies_sums_and_fills(size: int) -> None:
    a, b, y = normal(size), normal(size, seed=1), poison(size)
    run_entry(elementwise.copy, a, y)
    assert_same_bits(y, a)
    run_entry(elementwise.add_to, b, y)
    assert_same_bits(y, a + b)
    run_entry(elementwise.add_to, y, y)
    assert_same_bits(y, (a + b) + (a + b))
    run_entry(elementwise.add, a, b, y)
    assert_same_bits(y, a + b)
    for into in (0, 1):
        pair = [a.copy(), b.copy()]
        run_entry(elementwise.add, *pair, pair[into])
        assert_same_bits(pair[into], a + b)
    run_entry(elementwise.fill, 0.1, y)
    assert_same_bits(y, np.full(size, 0.1, np.float32))
    wide = np.full(size, np.nan)
    run_entry(elementwise.fill_doubles, 0.1, wide)
    assert (wide == 0.1).all()


def test_one_hot_ignores_labels_of_no_column() -> None:
    labels = np.array([2, 0, -1, 3], np.int64)
    y = poison(4, 3)
    run_entry(elementwise.one_hot, labels, y)
    assert y.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("size", [*SIZES, 63, 64, 65])
def test_square_sum_and_l2_penalty(size: int) -> None:
    x = normal(size)
    total, loss, fraction = doubles(2.0), doubles(3.0), doubles(0.25)
    expected = (x.astype(np.float64) ** 2).sum()
    run_entry(reductions.square_sum, x, total)
    np.testing.assert_allclose(total[0], 2 + expected, rtol=1e-13)
    run_entry(reductions.l2_penalty, x, 0.1, fraction, loss)
    np.testing.assert_allclose(loss[0], 3 + 0.5 * 0.1 * 0.25 * expected, rtol=1e-13)
    gradient = normal(size, seed=1)
    slope = gradient + 0.1 * 0.25 * x.astype(np.float64)
    run_entry(reductions.l2_gradient, x, 0.1, fraction, gradient)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("total", "expected"),
    [(0.0, 1.0), (0.25, 1.0), (16.0, 0.25), (np.inf, 0.0), (np.nan, np.nan)],
)
def test_clip_scale(total: float, expected: float) -> None:
    scale = doubles(7.0)
    run_entry(reductions.clip_scale, doubles(total), 1.0, scale)
    np.testing.assert_allclose(scale[0], expected, rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_count_nonfinite(size: int) -> None:
    x, count = normal(size), np.array([99], np.int64)
    x[::3], x[1::3], x[2::7] = np.nan, np.inf, np.finfo(np.float32).max
    run_entry(reductions.count_nonfinite, x, count)
    assert count[0] == (~np.isfinite(x)).sum()


@pytest.mark.parametrize("shape", SHAPES)
def test_bias_gradient_overwrites_or_adds(shape: tuple[int, int]) -> None:
    dy, db = normal(*shape), poison(shape[1])
    expected = dy.astype(np.float64).sum(axis=0)
    run_entry(reductions.bias_gradient, dy, 0.0, db)
    assert_same_bits(db, expected.astype(np.float32))
    run_entry(reductions.bias_gradient, dy, 1.0, db)
    np.testing.assert_allclose(db, 2 * expected, rtol=1e-6, atol=1e-6)


def cases() -> list[tuple[Kernel, tuple[Any, ...]]]:
    x, z = normal(90), normal(90, seed=1)
    matrix, label = normal(3, 70), np.array([1, 69, 70], np.int64)
    half = doubles(0.5)
    return [
        (elementwise.add_bias, (matrix, x[:70], matrix.copy())),
        (elementwise.copy, (x, z)),
        (elementwise.add_to, (x, z)),
        (elementwise.add, (x, z, x.copy())),
        (elementwise.fill, (0.1, z)),
        (elementwise.fill_doubles, (0.1, half)),
        (elementwise.one_hot, (label, matrix)),
        (reductions.square_sum, (x, half)),
        (reductions.clip_scale, (doubles(9.0), 1.0, half)),
        (reductions.l2_penalty, (x, 0.1, half, doubles(1.0))),
        (reductions.l2_gradient, (x, 0.1, half, z)),
        (reductions.count_nonfinite, (x, label[:1])),
        (reductions.bias_gradient, (matrix, 0.0, z[:70])),
        (reductions.bias_gradient, (matrix, 1.0, z[:70])),
    ]


@pytest.mark.parametrize(
    ("made", "arguments"),
    [pytest.param(*case, id=f"{n}-{case[0].name}") for n, case in enumerate(cases())],
)
def test_the_python_text_gives_the_same_bits(
    made: Kernel, arguments: tuple[Any, ...]
) -> None:
    assert_python_agrees(made, arguments)
