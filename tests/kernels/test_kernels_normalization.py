from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.kernel_calls import (
    assert_python_agrees,
    assert_same_bits,
    normal,
    poison,
    run_entry,
    slope,
)

from arena_ckpt.kernels import normalization
from arena_ckpt.kernels.kernel import Kernel

Array = npt.NDArray[Any]
EPSILON = 1e-3


def reference(
    x: Array,
    gamma: Array,
    beta: Array,
    dy: Array,
    axes: tuple[int, ...],
    *,
    centred: bool = True,
    parameters: tuple[int, ...],
) -> list[Array]:
    """Normalize over `axes`; return y, dx, d_gamma, d_beta, in float64.

    `gamma` and `beta` broadcast against x; `parameters` are the axes they do not have.
    """
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    mean = x.mean(axis=axes, keepdims=True) if centred else 0.0
    variance = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(variance + EPSILON)
    x_hat = (x - mean) * inverse
    g = gamma * dy
    dx = g - x_hat * (g * x_hat).mean(axis=axes, keepdims=True)
    if centred:
        dx = dx - g.mean(axis=axes, keepdims=True)
    return [
        gamma * x_hat + beta,
        dx * inverse,
        (dy * x_hat).sum(axis=parameters),
        dy.sum(axis=parameters),
    ]


def assert_near(ours: list[Array], exact: list[Array]) -> None:
    for number, (found, expected) in enumerate(zip(ours, exact, strict=True)):
        found, expected = found.reshape(-1), expected.reshape(-1)
        scale = np.abs(expected).max() + 0.1  # one element: differences cancel
        assert np.abs(found - expected).max() <= 3e-6 * scale, number


ROWS = [(1, 1), (3, 1), (4, 31), (5, 32), (7, 33), (40, 200)]


def layer_norm(x: Array, gamma: Array, beta: Array, dy: Array) -> list[Array]:
    rows, columns = x.shape
    mean, inverse = poison(rows), poison(rows)
    y, d_gamma, d_beta = poison(*x.shape), poison(columns), poison(columns)
    run_entry(
        normalization.layer_norm_forward, x, gamma, beta, EPSILON, mean, inverse, y
    )
    in_place = x.copy()
    run_entry(
        normalization.layer_norm_forward,
        *(in_place, gamma, beta, EPSILON, mean, inverse, in_place),
    )
    assert_same_bits(in_place, y)
    for accumulate in (0.0, 1.0):
        run_entry(
            normalization.layer_norm_gradient,
            *(x, dy, mean, inverse, accumulate, d_gamma, d_beta),
        )
    dx, into_dy = poison(*x.shape), dy.copy()
    run_entry(normalization.layer_norm_derivative, x, gamma, dy, mean, inverse, dx)
    run_entry(
        normalization.layer_norm_derivative, x, gamma, into_dy, mean, inverse, into_dy
    )
    assert_same_bits(into_dy, dx)
    return [y, dx, d_gamma / 2, d_beta / 2]


@pytest.mark.parametrize("shape", ROWS)
def test_layer_norm(shape: tuple[int, int]) -> None:
    x, dy = normal(*shape) + 3, normal(*shape, seed=1)
    gamma, beta = normal(shape[1], seed=2), normal(shape[1], seed=3)
    exact = reference(x, gamma, beta, dy, (1,), parameters=(0,))
    assert_near(layer_norm(x, gamma, beta, dy), exact)


@pytest.mark.parametrize("shape", ROWS)
def test_rms_norm(shape: tuple[int, int]) -> None:
    x, dy = normal(*shape), normal(*shape, seed=1)
    gamma, inverse, y = normal(shape[1], seed=2), poison(shape[0]), poison(*shape)
    d_gamma, dx = poison(shape[1]), poison(*shape)
    run_entry(normalization.rms_norm_forward, x, gamma, EPSILON, inverse, y)
    for accumulate in (0.0, 1.0):
        run_entry(normalization.rms_norm_gradient, x, dy, inverse, accumulate, d_gamma)
    run_entry(normalization.rms_norm_derivative, x, gamma, dy, inverse, dx)
    into_dy, in_place = dy.copy(), x.copy()
    run_entry(normalization.rms_norm_derivative, x, gamma, into_dy, inverse, into_dy)
    assert_same_bits(into_dy, dx)
    run_entry(
        normalization.rms_norm_forward, in_place, gamma, EPSILON, inverse, in_place
    )
    assert_same_bits(in_place, y)
    exact = reference(x, gamma, np.zeros(1), dy, (1,), centred=False, parameters=(0,))
    assert_near([y, dx, d_gamma / 2], exact[:3])


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 3, 4, 1), (3, 2, 5, 4), (1, 4, 1, 3), (2, 1, 3, 40)]
)
def test_strided_norm(shape: tuple[int, int, int, int]) -> None:
    a, p, b, q = shape
    x, dy = normal(*shape) + 3, normal(*shape, seed=1)
    gamma, beta = normal(p, 1, q, seed=2), normal(p, 1, q, seed=3)
    exact = reference(x, gamma, beta, dy, (1, 3), parameters=(0, 2))
    flat, flat_dy, y, dx = x.reshape(-1), dy.reshape(-1), poison(x.size), poison(x.size)
    statistics = poison(a * b), poison(a * b)
    d_gamma, d_beta = poison(p * q), poison(p * q)
    run_entry(
        normalization.strided_norm_forward,
        *(flat, gamma.reshape(-1), beta.reshape(-1), EPSILON, *statistics, y, p, b, q),
    )
    for accumulate in (0.0, 1.0):
        run_entry(
            normalization.strided_norm_gradient,
            *(flat, flat_dy, *statistics, accumulate, d_gamma, d_beta, p, b, q),
        )
    run_entry(
        normalization.strided_norm_derivative,
        *(flat, gamma.reshape(-1), flat_dy, *statistics, dx, p, b, q),
    )
    assert_near([y, dx, d_gamma / 2, d_beta / 2], exact)


@pytest.mark.parametrize(
    ("axes", "centred"), [((1,), True), ((0,), True), ((1,), False)]
)
def test_the_derivatives_of_the_reference_are_slopes(
    axes: tuple[int, ...], centred: bool
) -> None:
    x, dy = normal(4, 5), normal(4, 5, seed=1)
    gamma, beta = normal(5, seed=2), normal(5, seed=3)

    def forward(x: Array, gamma: Array) -> Array:
        y = reference(x, gamma, beta, dy, axes, centred=centred, parameters=(0,))
        return y[0] * dy

    made = reference(x, gamma, beta, dy, axes, centred=centred, parameters=(0,))
    np.testing.assert_allclose(
        made[1], slope(lambda v: forward(v, gamma), x), atol=1e-5
    )
    np.testing.assert_allclose(
        made[2], slope(lambda v: forward(x, v), gamma), atol=1e-5
    )


def batch_norm(
    x: Array, gamma: Array, beta: Array, dy: Array, moving: list[Array], size: int
) -> list[Array]:
    flat, flat_dy, channels = x.reshape(-1), dy.reshape(-1), gamma.size
    mean, inverse, sums = poison(channels), poison(channels), poison(2 * channels)
    y, dx = poison(x.size), poison(x.size)
    d_gamma, d_beta = poison(channels), poison(channels)
    run_entry(
        normalization.batch_norm_statistics,
        *(flat, EPSILON, mean, inverse, size, 0, channels),
    )
    statistics = mean, inverse
    run_entry(normalization.move_statistics, *statistics, EPSILON, 0.9, 1.0, *moving)
    run_entry(
        normalization.batch_norm_forward, flat, gamma, beta, mean, inverse, y, size
    )
    run_entry(
        normalization.batch_norm_sums,
        *(flat, flat_dy, mean, inverse, sums, size, 0, channels),
    )
    count = x.size // channels
    for accumulate in (0.0, 1.0):
        run_entry(normalization.batch_norm_gradient, sums, accumulate, d_gamma, d_beta)
    run_entry(
        normalization.batch_norm_derivative,
        *(flat, gamma, flat_dy, mean, inverse, sums, dx, size, count),
    )
    into_dy = flat_dy.copy()
    run_entry(
        normalization.batch_norm_derivative,
        *(flat, gamma, into_dy, mean, inverse, sums, into_dy, size, count),
    )
    assert_same_bits(into_dy, dx)
    return [y, dx, d_gamma / 2, d_beta / 2]


@pytest.mark.parametrize(
    "shape", [(1, 1, 2), (4, 3, 6), (2, 5, 33), (3, 2, 100), (9, 3, 1), (30, 70, 1)]
)
def test_batch_norm(shape: tuple[int, int, int]) -> None:
    channels = shape[1]
    x, dy = normal(*shape) + 3, normal(*shape, seed=1)
    gamma, beta = normal(channels, 1, seed=2), normal(channels, 1, seed=3)
    exact = reference(x, gamma, beta, dy, (0, 2), parameters=(0, 2))
    moving = [normal(channels, seed=4), np.ones(channels, np.float32)]
    wide = x.astype(np.float64)
    expected = [
        0.9 * moving[0] + 0.1 * wide.mean(axis=(0, 2)),
        0.9 * moving[1] + 0.1 * wide.var(axis=(0, 2)),
    ]
    ours = batch_norm(x, gamma.reshape(-1), beta.reshape(-1), dy, moving, size=shape[2])
    assert_near(ours, exact)
    assert_near(moving, expected)


def test_statistics_survive_a_large_mean_and_no_variance() -> None:
    x = (normal(64) * np.float32(1e-2) + 100).astype(np.float32)
    mean, inverse = poison(1), poison(1)
    run_entry(normalization.batch_norm_statistics, x, 0.0, mean, inverse, 64, 0, 1)
    np.testing.assert_allclose(inverse, 1 / x.astype(np.float64).std(), rtol=1e-4)
    same = np.full(8, 0.1, np.float32)
    run_entry(
        normalization.batch_norm_statistics, same, EPSILON, mean, inverse, 8, 0, 1
    )
    np.testing.assert_allclose(inverse, 1 / np.sqrt(EPSILON), rtol=1e-5)


def test_moving_statistics_of_a_dead_channel_reach_zero_and_stay() -> None:
    """Nine tenths of 1.2e-38 are subnormal; 2e-38 is still a normal number then."""
    mean, inverse = np.zeros(3, np.float32), np.full(3, 1e3, np.float32)
    moving_mean = np.array([1.2e-38, -1.2e-38, 2e-38], np.float32)
    moving_variance = moving_mean.copy()
    run_entry(
        normalization.move_statistics,
        *(mean, inverse, 1.0, 0.9, 1.0, moving_mean, moving_variance),
    )
    for moving in (moving_mean, moving_variance):
        assert moving.tolist()[:2] == [0.0, 0.0]
        assert moving[2] == np.float32(0.9 * np.float64(np.float32(2e-38)))


@pytest.mark.parametrize("shape", [(3, 4, 5), (6, 5, 1)])
def test_moving_statistics_are_constants(shape: tuple[int, int, int]) -> None:
    channels = shape[1]
    mean, variance = normal(channels), np.abs(normal(channels, seed=1))
    found = poison(channels), poison(channels)
    run_entry(normalization.moving_statistics, mean, variance, EPSILON, *found)
    assert_same_bits(found[0], mean)
    np.testing.assert_allclose(found[1], (variance + EPSILON) ** -0.5, rtol=1e-6)
    dy, gamma = normal(*shape, seed=2), normal(channels, seed=3)
    dx, into_dy = poison(dy.size), dy.reshape(-1).copy()
    arguments = (gamma, dy.reshape(-1), found[1], dx, shape[2])
    run_entry(normalization.scale_channels, *arguments)
    expected = dy * (gamma * found[1]).reshape(-1, 1)
    np.testing.assert_allclose(dx.reshape(shape), expected, rtol=1e-6)
    run_entry(normalization.scale_channels, gamma, into_dy, found[1], into_dy, shape[2])
    assert_same_bits(into_dy, dx)


def cases() -> list[tuple[Kernel, tuple[Any, ...]]]:
    n = normalization
    x, dy, y = normal(3, 70), normal(3, 70, seed=1), poison(3, 70)
    flat, flat_dy, out = x.reshape(-1), dy.reshape(-1), poison(210)
    gamma, beta, d_gamma, d_beta = (normal(70, seed=i) for i in range(4))
    three = [np.abs(normal(3, seed=i)) for i in range(4)]
    six = normal(6, seed=5)
    return [
        (n.layer_norm_forward, (x, gamma, beta, 0.1, three[0], three[1], y)),
        (n.layer_norm_gradient, (x, dy, three[0], three[1], 1.0, d_gamma, d_beta)),
        (n.layer_norm_derivative, (x, gamma, dy, three[0], three[1], y)),
        (n.rms_norm_forward, (x, gamma, 0.1, three[0], y)),
        (n.rms_norm_gradient, (x, dy, three[0], 0.0, d_gamma)),
        (n.rms_norm_derivative, (x, gamma, dy, three[0], y)),
        *(
            case
            for size, wide in ((70, three), (1, [gamma, beta, d_gamma, d_beta]))
            for case in (
                (
                    n.batch_norm_statistics,
                    (flat, 0.1, wide[2], wide[3], size, 0, wide[2].size),
                ),
                (n.batch_norm_forward, (flat, *wide, out, size)),
                (
                    n.batch_norm_sums,
                    (
                        *(flat, flat_dy, wide[0], wide[1]),
                        *(poison(2 * wide[0].size), size, 0, wide[0].size),
                    ),
                ),
                (
                    n.batch_norm_derivative,
                    (
                        *(flat, wide[0], flat_dy, wide[1], wide[2]),
                        *(normal(2 * wide[0].size), out, size, 210 // wide[0].size),
                    ),
                ),
            )
        ),
        (n.batch_norm_gradient, (six, 1.0, three[0], three[1])),
        (n.moving_statistics, (three[0], three[1], 0.1, three[2], three[3])),
        (n.move_statistics, (*three[:2], 0.1, 0.9, 1.5, *three[2:])),
        (n.scale_channels, (three[0], flat, three[1], out, 70)),
    ]


@pytest.mark.parametrize(
    ("made", "arguments"),
    [pytest.param(*case, id=f"{n}-{case[0].name}") for n, case in enumerate(cases())],
)
def test_the_python_text_gives_the_same_bits(
    made: Kernel, arguments: tuple[Any, ...]
) -> None:
    assert_python_agrees(made, arguments)


def test_pytorch_agrees() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the outside judge")
    functional = torch.nn.functional
    x, dy = normal(64, 96), normal(64, 96, seed=1)
    gamma, beta = normal(96, seed=2), normal(96, seed=3)

    def judge(function: Any) -> list[Array]:
        leaves = [torch.tensor(v, requires_grad=True) for v in (x, gamma, beta)]
        y = function(*leaves)
        y.backward(torch.tensor(dy))
        return [v.detach().numpy() for v in (y, *(leaf.grad for leaf in leaves))]

    layer = judge(lambda x, g, b: functional.layer_norm(x, (96,), g, b, eps=EPSILON))
    assert_near(layer_norm(x, gamma, beta, dy), layer)
    moving = [np.zeros(96, np.float32), np.ones(96, np.float32)]
    batch = judge(
        lambda x, g, b: functional.batch_norm(
            x, None, None, g, b, training=True, eps=EPSILON
        )
    )
    assert_near(batch_norm(x, gamma, beta, dy, moving, size=1), batch)
