"""Values far from 0: errors beside those of PyTorch's float32, both against float64.

Run as a program (``python tests/kernels/test_accuracy.py``) it prints the table of all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.kernel_calls import normal, poison, run_entry

from arena_ckpt.kernels import losses, normalization, pooling

torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")

Array = npt.NDArray[Any]
OFFSETS = (0.0, 1e2, 1e3)
EPSILON = 1e-5
ROWS, COLUMNS = 64, 128

MOST = 1.5
"""Our error may be so many times PyTorch's, beside rounding to float32."""

ROUNDING = 4e-7
"""Of the largest value: what an error may be where PyTorch happens to have none."""

Case = Callable[[float], tuple[list[Array], Callable[[Any], list[Any]]]]
"""Given an offset: our results, and a function that makes them in a torch dtype."""


def torch_results(
    dtype: Any, inputs: list[Array], function: Callable[..., Any], dy: Array | None
) -> list[Any]:
    """Return the output and the derivatives of all inputs that have one."""
    tensors = [torch.tensor(a).to(dtype).requires_grad_() for a in inputs]
    y = function(*tensors)
    y.backward(torch.ones_like(y) if dy is None else torch.tensor(dy).to(dtype))
    return [y.detach(), *(t.grad for t in tensors if t.grad is not None)]


def _drawn(offset: float) -> tuple[Array, Array, Array, Array]:
    x = normal(ROWS, COLUMNS, spread=1.0) + np.float32(offset)
    return (
        x,
        normal(ROWS, COLUMNS, seed=1, spread=1.0),
        normal(COLUMNS, seed=2, spread=1.0),
        normal(COLUMNS, seed=3, spread=1.0),
    )


def layer_norm(offset: float) -> Any:
    x, dy, gamma, beta = _drawn(offset)
    mean, inverse = poison(ROWS), poison(ROWS)
    y, dx = poison(*x.shape), poison(*x.shape)
    d_gamma, d_beta = poison(COLUMNS), poison(COLUMNS)
    n = normalization
    run_entry(n.layer_norm_forward, x, gamma, beta, EPSILON, mean, inverse, y)
    run_entry(n.layer_norm_gradient, x, dy, mean, inverse, 0.0, d_gamma, d_beta)
    run_entry(n.layer_norm_derivative, x, gamma, dy, mean, inverse, dx)

    def judge(dtype: Any) -> list[Any]:
        def function(x: Any, gamma: Any, beta: Any) -> Any:
            f = torch.nn.functional.layer_norm
            return f(x, (COLUMNS,), gamma, beta, EPSILON)

        return torch_results(dtype, [x, gamma, beta], function, dy)

    return [y, dx, d_gamma, d_beta], judge


def strided_norm(offset: float) -> Any:
    """Over the first axis of rows: that of channels."""
    x, dy, _, _ = _drawn(offset)
    gamma, beta = normal(ROWS, seed=2), normal(ROWS, seed=3)
    mean, inverse = poison(COLUMNS), poison(COLUMNS)
    y, dx, d_gamma, d_beta = (poison(n) for n in (x.size, x.size, ROWS, ROWS))
    flat, flat_dy, strides = x.reshape(-1), dy.reshape(-1), (ROWS, COLUMNS, 1)
    n = normalization
    run_entry(
        n.strided_norm_forward,
        *(flat, gamma, beta, EPSILON, mean, inverse, y, *strides),
    )
    run_entry(
        n.strided_norm_gradient,
        *(flat, flat_dy, mean, inverse, 0.0, d_gamma, d_beta, *strides),
    )
    run_entry(
        n.strided_norm_derivative, flat, gamma, flat_dy, mean, inverse, dx, *strides
    )

    def judge(dtype: Any) -> list[Any]:
        def function(x: Any, gamma: Any, beta: Any) -> Any:
            f = torch.nn.functional.layer_norm
            return f(x.T, (ROWS,), gamma, beta, EPSILON).T

        return torch_results(dtype, [x, gamma, beta], function, dy)

    return [y, dx, d_gamma, d_beta], judge


def rms_norm(offset: float) -> Any:
    x, dy, gamma, _ = _drawn(offset)
    inverse, y, dx, d_gamma = (
        *(poison(ROWS), poison(*x.shape), poison(*x.shape)),
        poison(COLUMNS),
    )
    n = normalization
    run_entry(n.rms_norm_forward, x, gamma, EPSILON, inverse, y)
    run_entry(n.rms_norm_gradient, x, dy, inverse, 0.0, d_gamma)
    run_entry(n.rms_norm_derivative, x, gamma, dy, inverse, dx)

    def judge(dtype: Any) -> list[Any]:
        def function(x: Any, gamma: Any) -> Any:
            return torch.nn.functional.rms_norm(x, (COLUMNS,), gamma, EPSILON)

        return torch_results(dtype, [x, gamma], function, dy)

    return [y, dx, d_gamma], judge


def batch_norm(size: int) -> Case:
    def case(offset: float) -> Any:
        x, dy, _, _ = _drawn(offset)
        channels = COLUMNS if size == 1 else 8
        shape = (-1, channels, size)
        gamma, beta = normal(channels, seed=2), normal(channels, seed=3)
        mean, inverse, sums = poison(channels), poison(channels), poison(2 * channels)
        y, dx = poison(x.size), poison(x.size)
        d_gamma, d_beta = poison(channels), poison(channels)
        moving = [np.zeros(channels, np.float32), np.zeros(channels, np.float32)]
        flat, flat_dy, n = x.reshape(-1), dy.reshape(-1), normalization
        count = x.size // channels
        all_channels = 0, channels
        run_entry(
            n.batch_norm_statistics, flat, EPSILON, mean, inverse, size, *all_channels
        )
        run_entry(n.batch_norm_forward, flat, gamma, beta, mean, inverse, y, size)
        run_entry(
            n.batch_norm_sums,
            *(flat, flat_dy, mean, inverse, sums, size, *all_channels),
        )
        run_entry(n.batch_norm_gradient, sums, 0.0, d_gamma, d_beta)
        run_entry(
            n.batch_norm_derivative,
            *(flat, gamma, flat_dy, mean, inverse, sums, dx, size, count),
        )
        unbiased = count / (count - 1)
        run_entry(n.move_statistics, mean, inverse, EPSILON, 0.0, unbiased, *moving)

        def judge(dtype: Any) -> list[Any]:
            moved = [torch.zeros(channels, dtype=dtype) for _ in range(2)]

            def function(x: Any, gamma: Any, beta: Any) -> Any:
                y = torch.nn.functional.batch_norm(
                    x.reshape(shape),
                    *(*moved, gamma, beta, True, 1.0, EPSILON),
                )
                return y.reshape(x.shape)

            return [*torch_results(dtype, [x, gamma, beta], function, dy), *moved]

        return [y, dx, d_gamma, d_beta, *moving], judge

    return case


def plane_average(offset: float) -> Any:
    x, _, _, _ = _drawn(offset)
    y = poison(ROWS)
    run_entry(pooling.plane_average_forward, x.reshape(-1), y, ROWS, COLUMNS)
    return [y], lambda dtype: [torch.tensor(x).to(dtype).mean(dim=1)]


def mse(offset: float) -> Any:
    x, target, _, _ = _drawn(offset)
    target += np.float32(offset)
    scale, loss, dx = np.array([1 / x.size]), np.zeros(1), poison(x.size)
    run_entry(losses.mse_loss, x.reshape(-1), target.reshape(-1), scale, loss)
    run_entry(losses.mse_derivative, x.reshape(-1), target.reshape(-1), scale, dx)

    def judge(dtype: Any) -> list[Any]:
        y = torch.tensor(target).to(dtype)
        return torch_results(
            dtype, [x], lambda x: torch.nn.functional.mse_loss(x, y), None
        )

    return [loss, dx], judge


def cross_softmax(offset: float) -> Any:
    x, _, _, _ = _drawn(offset)
    classes = np.arange(ROWS) % COLUMNS
    label = np.eye(COLUMNS, dtype=np.float32)[classes]
    scale, loss = np.array([1 / ROWS]), np.zeros(1)
    p, dx = poison(*x.shape), poison(*x.shape)
    run_entry(losses.cross_softmax_loss, x, label, p, scale, loss)
    run_entry(losses.cross_softmax_derivative, p, label, scale, dx)

    def judge(dtype: Any) -> list[Any]:
        y = torch.tensor(classes)
        return torch_results(
            dtype, [x], lambda x: torch.nn.functional.cross_entropy(x, y), None
        )

    return [loss, dx], judge


def cross_sigmoid(offset: float) -> Any:
    x, _, _, _ = _drawn(offset)
    label = (normal(ROWS, COLUMNS, seed=4) > 0).astype(np.float32)
    scale, loss = np.array([1 / x.size]), np.zeros(1)
    p, dx = poison(x.size), poison(x.size)
    arguments = (x.reshape(-1), label.reshape(-1), p, scale, loss)
    run_entry(losses.cross_sigmoid_loss, *arguments)
    run_entry(losses.cross_sigmoid_derivative, p, label.reshape(-1), scale, dx)

    def judge(dtype: Any) -> list[Any]:
        y = torch.tensor(label).to(dtype)
        f = torch.nn.functional.binary_cross_entropy_with_logits
        return torch_results(dtype, [x], lambda x: f(x, y), None)

    return [loss, dx], judge


CASES: dict[str, tuple[Case, tuple[str, ...]]] = {
    "layer_normalization": (layer_norm, ("y", "dx", "d_gamma", "d_beta")),
    "layer_normalization axis=1": (strided_norm, ("y", "dx", "d_gamma", "d_beta")),
    "rms_norm": (rms_norm, ("y", "dx", "d_gamma")),
    "batch_normalization of columns": (
        batch_norm(1),
        ("y", "dx", "d_gamma", "d_beta", "moving_mean", "moving_variance"),
    ),
    "batch_normalization of channels": (
        batch_norm(16),
        ("y", "dx", "d_gamma", "d_beta", "moving_mean", "moving_variance"),
    ),
    "global_average": (plane_average, ("y",)),
    "mse": (mse, ("loss", "dx")),
    "cross_softmax": (cross_softmax, ("loss", "dx")),
    "cross_sigmoid": (cross_sigmoid, ("loss", "dx")),
}


def errors(name: str, offset: float) -> list[tuple[str, float, float, float]]:
    """Return for each result its name, our error, PyTorch's, and its largest value."""
    case, names = CASES[name]
    ours, judge = case(offset)
    table = []
    for what, mine, theirs, exact in zip(
        names, ours, judge(torch.float32), judge(torch.float64), strict=True
    ):
        right = exact.numpy().reshape(-1)
        mine_off, theirs_off = (
            float(np.abs(found.reshape(-1).astype(np.float64) - right).max())
            for found in (mine, theirs.numpy())
        )
        table.append((what, mine_off, theirs_off, float(np.abs(right).max())))
    return table


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("name", CASES)
def test_errors_are_no_larger_than_pytorchs(name: str, offset: float) -> None:
    for what, ours, theirs, largest in errors(name, offset):
        assert ours <= MOST * theirs + ROUNDING * largest, (what, ours, theirs)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("axis", ["", " axis=1"])
def test_layer_normalization_is_right_to_rounding_wherever_values_lie(
    axis: str, offset: float
) -> None:
    (_, ours, _, largest), *_ = errors(f"layer_normalization{axis}", offset)
    assert ours <= ROUNDING * largest


@pytest.mark.parametrize("width", [2, 3, 10, 600])
def test_a_loss_behind_layer_normalization_is_right_to_rounding(width: int) -> None:
    """The mean squared difference to 0 of normalized rows is var / (var + epsilon)."""
    for offset in OFFSETS:
        x = normal(50, width, spread=0.1) + np.float32(offset)
        ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
        y, statistics = poison(*x.shape), (poison(50), poison(50))
        run_entry(
            normalization.layer_norm_forward, x, ones, zeros, EPSILON, *statistics, y
        )
        variance = x.astype(np.float64).var(axis=1)
        expected = (variance / (variance + EPSILON)).mean()
        assert (y.astype(np.float64) ** 2).mean() == pytest.approx(expected, rel=2e-7)


def test_batch_statistics_keep_the_variance_of_values_far_from_zero() -> None:
    for size in (1, 999):
        x = (np.arange(999) % 2 + 2.0**23).astype(np.float32)
        mean, inverse = poison(1), poison(1)
        run_entry(
            normalization.batch_norm_statistics, x, 0.0, mean, inverse, size, 0, 1
        )
        assert inverse[0] == pytest.approx(999 / np.sqrt(500 * 499), rel=1e-6)
        assert mean[0] == 2.0**23


if __name__ == "__main__":
    print(f"{'':32} {'':16} {'offset':>7} {'ours':>9} {'PyTorch':>9} {'ratio':>6}")
    for name in CASES:
        for offset in OFFSETS:
            for what, ours, theirs, largest in errors(name, offset):
                print(
                    f"{name:32} {what:16} {offset:7g} {ours / largest:9.1e} "
                    f"{theirs / largest:9.1e} {ours / max(theirs, 1e-300):6.2f}"
                )
