from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.kernel_calls import (
    EDGES,
    SIZES,
    assert_same_bits,
    normal,
    poison,
    run_entry,
    run_python,
    slope,
)

from arena_ckpt.kernels import tokens

Array = npt.NDArray[Any]
KEY = (1 << 63) - 12345


def control(iteration: float, first_sample: float) -> Array:
    return np.array([iteration, first_sample], np.float64)


# -- embedding


def test_embedding_takes_rows_and_marks_what_is_no_row() -> None:
    weight = normal(5, 3)
    ids = np.array([4, 0, -0.0, 5, -1, np.nan, 2.5, np.inf, -np.inf, 1e30], np.float32)
    y, by_hand = poison(10, 3), poison(10, 3)
    loss = np.zeros(1)
    run_entry(tokens.embedding_forward, ids[:3], weight, y[:3], loss)
    assert loss[0] == 0
    run_entry(tokens.embedding_forward, ids, weight, y, loss)
    assert np.isnan(loss[0])
    run_python(tokens.embedding_forward, ids, weight, by_hand, np.zeros(1))
    assert_same_bits(y, by_hand)
    assert_same_bits(y[:3], weight[[4, 0, 0]])
    assert np.isnan(y[3:]).all()


def test_embedding_gradient_adds_rows_in_order() -> None:
    ids = np.array([1, 3, 1, 7, np.nan, 1], np.float32)
    dy, gradient = normal(6, 40), poison(4, 40)
    run_entry(tokens.embedding_gradient, ids, dy, 0.0, gradient)
    expected = np.zeros((4, 40), np.float32)
    for row, source in ((1, 0), (3, 1), (1, 2), (1, 5)):
        expected[row] += dy[source]
    assert_same_bits(gradient, expected)
    run_entry(tokens.embedding_gradient, ids[:2], dy[:2], 1.0, gradient)
    expected[[1, 3]] += dy[:2]
    assert_same_bits(gradient, expected)


# -- positions


@pytest.mark.parametrize(("t", "d"), [(1, 1), (4, 2), (6, 5), (1000, 64)])
def test_positions_are_sines_and_cosines(t: int, d: int) -> None:
    x = normal(2, t, d)
    y, in_place, work = poison(x.size), x.reshape(-1).copy(), np.full(9 * d, np.nan)
    run_entry(tokens.add_positions, x.reshape(-1), y, work, t, d)
    run_entry(tokens.add_positions, in_place, in_place, work, t, d)
    assert_same_bits(in_place, y)
    column = np.arange(d)
    angle = np.arange(t)[:, None] / 10000.0 ** (column // 2 * 2 / d)
    exact = np.where(column % 2 == 0, np.sin(angle), np.cos(angle))
    np.testing.assert_allclose(y.reshape(x.shape), x + exact, atol=1e-6)


# -- dropout


def kept(n: int, size: int, rate: float, at: Array, key: int = KEY) -> Array:
    y = poison(n * size)
    x = np.ones(n * size, np.float32)
    run_entry(tokens.dropout, x, y, at, key, rate, size)
    return y.reshape(n, size)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    y = kept(20, 10_000, rate, control(0, 0))
    assert set(np.unique(y)) <= {np.float32(0), np.float32(1 / (1 - rate))}
    share = (y == 0).mean(axis=1)
    deviation = np.sqrt(rate * (1 - rate) / 10_000)
    assert np.abs(share - rate).max() <= 4 * deviation
    assert abs(share.mean() - rate) <= 4 * deviation / np.sqrt(20)


def test_dropout_is_a_function_of_key_iteration_sample_and_element() -> None:
    whole = kept(6, 500, 0.5, control(7, 10))
    assert_same_bits(kept(2, 500, 0.5, control(7, 13)), whole[3:5])
    assert_same_bits(kept(6, 500, 0.5, control(7, 10)), whole)
    streams = [
        *whole,
        kept(1, 500, 0.5, control(8, 10))[0],
        kept(1, 500, 0.5, control(10, 7))[0],
        kept(1, 500, 0.5, control(7, 10), key=KEY - 1)[0],
        kept(1, 500, 0.5, control(7, 10), key=KEY ^ (1 << 40))[0],
    ]
    # Neither streams nor their shifts are correlated: 5 deviations of chance.
    signs = np.array(streams) - 1
    for shift in (0, 1, 2, 8, 32):
        products = signs @ np.roll(signs, shift, axis=1).T / 500
        if shift == 0:
            products -= np.eye(len(streams))
        assert np.abs(products).max() < 5 / np.sqrt(500)


def test_dropout_in_place_and_in_python() -> None:
    x = normal(77)
    y, by_hand, in_place = poison(77), poison(77), x.copy()
    arguments = (control(2, 0), KEY, 0.3, 11)
    run_entry(tokens.dropout, x, y, *arguments)
    run_entry(tokens.dropout, in_place, in_place, *arguments)
    run_python(tokens.dropout, x, by_hand, *arguments)
    assert_same_bits(in_place, y)
    assert_same_bits(by_hand, y)


# -- SwiGLU


def swiglu(a: Array, b: Array) -> Array:
    return a * np.exp(-np.logaddexp(0, -a)) * b


@pytest.mark.parametrize("size", SIZES)
def test_swiglu(size: int) -> None:
    a, b, dy = normal(size), normal(size, seed=1), normal(size, seed=2)
    y, da, db = poison(size), poison(size), poison(size)
    run_entry(tokens.swiglu_forward, a, b, y)
    np.testing.assert_allclose(y, swiglu(a.astype(np.float64), b), rtol=1e-6, atol=1e-6)
    run_entry(tokens.swiglu_derivatives, a, b, dy, da, db)
    if size < 100:
        wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
        for found, exact in (
            (da, slope(lambda v: swiglu(v, wide_b) * dy, a)),
            (db, slope(lambda v: swiglu(wide_a, v) * dy, b)),
        ):
            np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5)
    for into in range(2):
        pair = [a.copy(), b.copy()]
        run_entry(tokens.swiglu_forward, *pair, pair[into])
        assert_same_bits(pair[into], y)
    for into in range(3):
        given = [a.copy(), b.copy(), dy.copy()]
        run_entry(tokens.swiglu_gate_derivative, *given, given[into])
        assert_same_bits(given[into], da)
        given = [a.copy(), dy.copy()]
        if into < 2:
            run_entry(tokens.swiglu_value_derivative, *given, given[into])
            assert_same_bits(given[into], db)
        for other in {0, 1, 2} - {into}:
            given = [a.copy(), b.copy(), dy.copy()]
            run_entry(tokens.swiglu_derivatives, *given, given[into], given[other])
            assert_same_bits(given[into], da)
            assert_same_bits(given[other], db)


def test_swiglu_at_the_edges_and_in_python() -> None:
    a, b, dy = EDGES, normal(EDGES.size), normal(EDGES.size, seed=1)
    results = []
    for run in (run_entry, run_python):
        y, da, db, gate, value = (poison(a.size) for _ in range(5))
        run(tokens.swiglu_forward, a, b, y)
        run(tokens.swiglu_derivatives, a, b, dy, da, db)
        run(tokens.swiglu_gate_derivative, a, b, dy, gate)
        run(tokens.swiglu_value_derivative, a, dy, value)
        assert_same_bits(gate, da)
        assert_same_bits(value, db)
        results.append(np.concatenate([y, da, db]))
    assert np.isfinite(results[0]).all()
    assert_same_bits(*results)
