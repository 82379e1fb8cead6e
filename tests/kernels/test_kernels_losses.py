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

from arena_ckpt.kernels import losses

Array = npt.NDArray[Any]
SHAPES = [(0, 5), (3, 0), (1, 1), (5, 7), (4, 8), (3, 70), (2, 1000)]
SCALE = np.array([0.25])


def mse(p: Array, t: Array) -> Array:
    return (p - t) ** 2


def cross_softmax(x: Array, t: Array) -> Array:
    most = x.max(axis=1, keepdims=True)
    sums = np.log(np.exp(x - most).sum(axis=1, keepdims=True)) + most
    return t * (sums - x)


def cross_sigmoid(x: Array, t: Array) -> Array:
    return np.logaddexp(0, x) - t * x


def soft_labels(*shape: int) -> Array:
    return np.random.default_rng(2).uniform(size=shape).astype(np.float32)


def exact(x: Array) -> Array:
    return x.astype(np.float64)


@pytest.mark.parametrize("size", SIZES)
def test_mse(size: int) -> None:
    p, t = normal(size), normal(size, seed=1)
    loss, dx, in_place = np.array([3.0]), poison(size), p.copy()
    run_entry(losses.mse_loss, p, t, SCALE, loss)
    expected = 3 + 0.25 * mse(exact(p), exact(t)).sum()
    np.testing.assert_allclose(loss[0], expected, rtol=1e-12)
    run_entry(losses.mse_derivative, p, t, SCALE, dx)
    run_entry(losses.mse_derivative, in_place, t, SCALE, in_place)
    assert_same_bits(in_place, dx)
    np.testing.assert_allclose(dx, 0.5 * (exact(p) - t), rtol=1e-6)


def test_mse_derivative_is_the_slope() -> None:
    p, t, dx = normal(9), normal(9, seed=1), poison(9)
    run_entry(losses.mse_derivative, p, t, SCALE, dx)
    numeric = slope(lambda x: 0.25 * mse(x, t), p)
    np.testing.assert_allclose(dx, numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
def test_cross_softmax(shape: tuple[int, int]) -> None:
    x, t = normal(*shape), soft_labels(*shape)
    loss, in_place_loss = np.array([3.0]), np.array([3.0])
    p, in_place = poison(*shape), x.copy()
    run_entry(losses.cross_softmax_loss, x, t, p, SCALE, loss)
    run_entry(losses.cross_softmax_loss, in_place, t, in_place, SCALE, in_place_loss)
    assert_same_bits(in_place, p)
    assert loss[0] == in_place_loss[0]
    dx = poison(*shape)
    run_entry(losses.cross_softmax_derivative, p, t, SCALE, dx)
    run_entry(losses.cross_softmax_derivative, in_place, t, SCALE, in_place)
    assert_same_bits(in_place, dx)
    if x.size == 0:
        assert loss[0] == 3
        return
    expected = 3 + 0.25 * cross_softmax(exact(x), exact(t)).sum()
    np.testing.assert_allclose(loss[0], expected, rtol=1e-6)
    e = np.exp(exact(x) - x.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(p, e, rtol=1e-6, atol=1e-7)
    expected = 0.25 * (e * exact(t).sum(axis=1, keepdims=True) - t)
    np.testing.assert_allclose(dx, expected, rtol=1e-5, atol=1e-6)
    if x.size < 50:
        numeric = slope(lambda v: 0.25 * cross_softmax(v, exact(t)), x)
        np.testing.assert_allclose(dx, numeric, rtol=1e-5, atol=1e-6)


def test_cross_softmax_of_extreme_logits_is_finite() -> None:
    x = np.array([[1e4, 0, -1e4], [-88, 88, 0]], np.float32)
    t = np.array([[0, 1, 0], [0, 1, 0]], np.float32)
    loss, p = np.zeros(1), poison(2, 3)
    run_entry(losses.cross_softmax_loss, x, t, p, np.ones(1), loss)
    np.testing.assert_allclose(loss[0], 1e4, rtol=1e-12)
    assert_same_bits(p, np.array([[1, 0, 0], [0, 1, 0]], np.float32))


@pytest.mark.parametrize("size", SIZES)
def test_cross_sigmoid(size: int) -> None:
    x, t = normal(size), soft_labels(size)
    loss, in_place_loss = np.array([3.0]), np.array([3.0])
    p, in_place = poison(size), x.copy()
    run_entry(losses.cross_sigmoid_loss, x, t, p, SCALE, loss)
    run_entry(losses.cross_sigmoid_loss, in_place, t, in_place, SCALE, in_place_loss)
    assert_same_bits(in_place, p)
    assert loss[0] == in_place_loss[0]
    expected = 3 + 0.25 * cross_sigmoid(exact(x), exact(t)).sum()
    np.testing.assert_allclose(loss[0], expected, rtol=1e-6)
    dx = poison(size)
    run_entry(losses.cross_sigmoid_derivative, p, t, SCALE, dx)
    run_entry(losses.cross_sigmoid_derivative, in_place, t, SCALE, in_place)
    assert_same_bits(in_place, dx)
    numeric = slope(lambda v: 0.25 * cross_sigmoid(v, exact(t[:20])), x[:20])
    np.testing.assert_allclose(dx[:20], numeric, rtol=1e-5, atol=1e-6)


def test_cross_sigmoid_of_extreme_logits() -> None:
    t = np.ones(EDGES.size, np.float32)
    loss, p = np.zeros(1), poison(EDGES.size)
    run_entry(losses.cross_sigmoid_loss, EDGES, t, p, np.ones(1), loss)
    expected = cross_sigmoid(exact(EDGES), t).sum()
    np.testing.assert_allclose(loss[0], expected, rtol=1e-6)
    expected = np.exp(-np.logaddexp(0, -exact(EDGES)))
    np.testing.assert_allclose(p, expected, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_of_nan_is_nan(bad: float) -> None:
    x, t = np.full((2, 5), bad, np.float32), soft_labels(2, 5)
    flat, label = x.reshape(-1), t.reshape(-1)
    total = np.zeros(3)
    run_entry(losses.cross_softmax_loss, x, t, poison(2, 5), SCALE, total[:1])
    assert np.isnan(total[0])
    run_entry(losses.mse_loss, flat, label, SCALE, total[1:2])
    assert not np.isfinite(total[1])
    run_entry(losses.cross_sigmoid_loss, flat, label, poison(10), SCALE, total[2:])
    assert not np.isfinite(total[2])


def test_the_python_text_agrees() -> None:
    x, t, p = normal(3, 40), soft_labels(3, 40), soft_labels(3, 40)
    for kernel, arguments in (
        (losses.mse_loss, (x[0], t[0], SCALE, np.ones(1))),
        (losses.mse_derivative, (x[0], t[0], SCALE, p[0])),
        (losses.cross_softmax_loss, (x, t, p, SCALE, np.ones(1))),
        (losses.cross_softmax_derivative, (x, t, SCALE, p)),
        (losses.cross_sigmoid_loss, (x[0], t[0], p[0], SCALE, np.ones(1))),
        (losses.cross_sigmoid_derivative, (x[0], t[0], SCALE, p[0])),
    ):
        by_hand = [argument.copy() for argument in arguments]
        compiled = [argument.copy() for argument in arguments]
        run_python(kernel, *by_hand)
        run_entry(kernel, *compiled)
        for ours, theirs in zip(by_hand, compiled, strict=True):
            # Not the same bits: between two helpers, Python carries float64.
            np.testing.assert_allclose(ours, theirs, 1e-6, err_msg=kernel.name)


def test_pytorch_agrees() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the outside judge")
    functional = torch.nn.functional
    x, t = normal(6, 11), soft_labels(6, 11)
    t /= t.sum(axis=1, keepdims=True)

    def judge(function: Any) -> tuple[float, Array]:
        logits = torch.from_numpy(x.copy()).requires_grad_()
        loss = function(logits, torch.from_numpy(t), reduction="sum") * 0.25
        loss.backward()
        return loss.item(), logits.grad.numpy()

    loss, p, dx = np.zeros(1), poison(6, 11), poison(6, 11)
    theirs, their_dx = judge(functional.cross_entropy)
    run_entry(losses.cross_softmax_loss, x, t, p, SCALE, loss)
    run_entry(losses.cross_softmax_derivative, p, t, SCALE, dx)
    np.testing.assert_allclose(loss[0], theirs, rtol=1e-6)
    np.testing.assert_allclose(dx, their_dx, rtol=1e-5, atol=1e-7)

    loss, p, dx = np.zeros(1), poison(66), poison(66)
    theirs, their_dx = judge(functional.binary_cross_entropy_with_logits)
    run_entry(losses.cross_sigmoid_loss, x.ravel(), t.ravel(), p, SCALE, loss)
    run_entry(losses.cross_sigmoid_derivative, p, t.ravel(), SCALE, dx)
    np.testing.assert_allclose(loss[0], theirs, rtol=1e-6)
    np.testing.assert_allclose(dx, their_dx.ravel(), rtol=1e-5, atol=1e-7)

    loss, dx = np.zeros(1), poison(66)
    theirs, their_dx = judge(functional.mse_loss)
    run_entry(losses.mse_loss, x.ravel(), t.ravel(), SCALE, loss)
    run_entry(losses.mse_derivative, x.ravel(), t.ravel(), SCALE, dx)
    np.testing.assert_allclose(loss[0], theirs, rtol=1e-6)
    np.testing.assert_allclose(dx, their_dx.ravel(), rtol=1e-6)
