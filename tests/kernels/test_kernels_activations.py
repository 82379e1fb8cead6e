from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers import TESTS
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
from helpers.reference import elu, selu, sigmoid

from arena_ckpt.kernels import activations
from arena_ckpt.kernels.activations import ACTIVATIONS

Array = npt.NDArray[Any]


def tanh_gelu(x: Array) -> Array:
    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def gelu(x: Array) -> Array:
    # erfc, so that the tail on the left has no cancellation
    return x * 0.5 * np.vectorize(math.erfc, otypes=[float])(-x / math.sqrt(2))


def softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


REFERENCES: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "gelu": gelu,
    "tanh_gelu": tanh_gelu,
    "swish": lambda x: x * sigmoid(x),
    "elu": elu,
    "selu": selu,
    "softplus": softplus,
    "mish": lambda x: x * np.tanh(softplus(x)),
}
NAMES = list(REFERENCES)


def forward(name: str, x: Array) -> Array:
    y = poison(*x.shape)
    run_entry(ACTIVATIONS[name].forward, x, y)
    return y


def saved_of(name: str, x: Array) -> Array:
    return x if ACTIVATIONS[name].saves == "input" else forward(name, x)


def test_every_activation_has_a_reference_and_named_kernels() -> None:
    assert [*NAMES, "softmax"] == list(ACTIVATIONS)
    for name in NAMES:
        activation = ACTIVATIONS[name]
        assert getattr(activations, f"{name}_forward") is activation.forward
        assert getattr(activations, f"{name}_backward") is activation.backward
        assert getattr(activations, f"bias_{name}_forward") is activation.bias_forward
    assert ACTIVATIONS["softmax"].bias_forward is None
    with pytest.raises(AttributeError, match="nothing"):
        _ = activations.nothing


@pytest.mark.parametrize("name", NAMES)
def test_forward_is_within_1e_6_of_float64(name: str) -> None:
    x = np.concatenate([EDGES, normal(500), np.linspace(-95, 95, 20_001)])
    x = x.astype(np.float32)
    expected = REFERENCES[name](x.astype(np.float64))
    np.testing.assert_allclose(forward(name, x), expected, rtol=1e-6, atol=3e-7)


@pytest.mark.parametrize("name", NAMES)
def test_backward_is_the_slope_of_the_forward(name: str) -> None:
    x = normal(60)
    x = x[np.abs(x) > 1e-3]  # relu has no slope at 0
    dy, dx = normal(x.size, seed=1), poison(x.size)
    run_entry(ACTIVATIONS[name].backward, saved_of(name, x), dy, dx)
    expected = dy * slope(REFERENCES[name], x)
    np.testing.assert_allclose(dx, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_any_size_in_place_and_plain_calls_give_the_same_bits(name: str) -> None:
    made = ACTIVATIONS[name]
    for size in SIZES:
        x, dy = normal(size), normal(size, seed=1)
        expected = forward(name, x)
        in_place = x.copy()
        run_entry(made.forward, in_place, in_place)
        assert_same_bits(in_place, expected)
        saved, dx = saved_of(name, x), poison(size)
        run_entry(made.backward, saved, dy, dx)
        into_dy, into_saved = dy.copy(), saved.copy()
        run_entry(made.backward, saved, into_dy, into_dy)
        run_entry(made.backward, into_saved, dy, into_saved)
        assert_same_bits(into_dy, dx)
        assert_same_bits(into_saved, dx)


@pytest.mark.parametrize("name", NAMES)
def test_bias_and_forward_in_one_pass_give_the_same_bits(name: str) -> None:
    made = ACTIVATIONS[name].bias_forward
    assert made is not None
    for rows, columns in ((0, 3), (3, 0), (1, 1), (5, 7), (3, 40)):
        x, bias = normal(rows, columns), normal(columns, seed=1)
        expected = forward(name, (x + bias).reshape(-1)).reshape(x.shape)
        y, in_place = poison(rows, columns), x.copy()
        run_entry(made, x, bias, y)
        run_entry(made, in_place, bias, in_place)
        assert_same_bits(y, expected)
        assert_same_bits(in_place, expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_python_text_gives_the_same_bits(name: str) -> None:
    x = np.concatenate([EDGES, [np.nan, np.inf]]).astype(np.float32)
    y = poison(x.size)
    run_python(ACTIVATIONS[name].forward, x, y)
    assert_same_bits(y, forward(name, x))
    saved, dy, dx = saved_of(name, x), normal(x.size), poison(x.size)
    run_python(ACTIVATIONS[name].backward, saved, dy, dx)
    expected = poison(x.size)
    run_entry(ACTIVATIONS[name].backward, saved, dy, expected)
    assert_same_bits(dx, expected)


@pytest.mark.parametrize("name", NAMES)
def test_nan_goes_through_and_infinity_saturates(name: str) -> None:
    x = np.full(19, np.nan, np.float32)  # vector loop and remainder
    x[1::2] = 1
    x[2::4].view(np.uint32)[:] = 0xFFC00000  # what inf - inf is on x86
    assert np.array_equal(np.isnan(forward(name, x)), np.isnan(x))
    dx = poison(x.size)
    run_entry(ACTIVATIONS[name].backward, np.ones_like(x), x, dx)
    assert np.array_equal(np.isnan(dx), np.isnan(x))
    most = forward(name, np.full(9, np.inf, np.float32))
    assert (most == (1 if name in ("sigmoid", "tanh") else np.inf)).all()


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_agrees(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the outside judge")
    functional = torch.nn.functional
    judge = {
        "swish": functional.silu,
        "tanh_gelu": lambda x: functional.gelu(x, approximate="tanh"),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
    }.get(name) or getattr(functional, name)
    x = np.concatenate([EDGES, normal(1000)])
    dy, dx = normal(x.size, seed=1), poison(x.size)
    theirs = torch.from_numpy(x.copy()).requires_grad_()
    y = judge(theirs)
    y.backward(torch.from_numpy(dy))
    np.testing.assert_allclose(
        forward(name, x), y.detach().numpy(), rtol=1e-5, atol=1e-6
    )
    run_entry(ACTIVATIONS[name].backward, saved_of(name, x), dy, dx)
    # PyTorch computes the left tail of tanh-GELU from 1 + tanh, which cancels.
    np.testing.assert_allclose(dx, theirs.grad.numpy(), rtol=1e-5, atol=4e-6)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "shape", [(0, 5), (3, 0), (1, 1), (5, 7), (4, 8), (3, 70), (2, 1000)]
)
def test_softmax(shape: tuple[int, int]) -> None:
    made = ACTIVATIONS["softmax"]
    x, dy = normal(*shape), normal(*shape, seed=1)
    y, in_place = poison(*shape), x.copy()
    run_entry(made.forward, x, y)
    run_entry(made.forward, in_place, in_place)
    assert_same_bits(in_place, y)
    if x.size == 0:
        return
    exact = softmax(x.astype(np.float64))
    np.testing.assert_allclose(y, exact, rtol=1e-6, atol=1e-7)
    dx, into_y, into_dy = poison(*shape), y.copy(), dy.copy()
    run_entry(made.backward, y, dy, dx)
    run_entry(made.backward, into_y, dy, into_y)
    run_entry(made.backward, y, into_dy, into_dy)
    assert_same_bits(into_y, dx)
    assert_same_bits(into_dy, dx)
    expected = exact * (dy - (exact * dy).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(dx, expected, rtol=1e-5, atol=1e-6)
    if x.size < 50:
        numeric = slope(lambda v: softmax(v) * dy, x)
        np.testing.assert_allclose(dx, numeric, rtol=1e-5, atol=1e-6)


def test_softmax_of_extreme_rows() -> None:
    x = np.zeros((4, 40), np.float32)
    x[0], x[1, 3], x[2, 5], x[3, 39] = -1e4, 1e4, -np.inf, np.nan
    y, by_hand = poison(*x.shape), poison(*x.shape)
    run_entry(ACTIVATIONS["softmax"].forward, x, y)
    run_python(ACTIVATIONS["softmax"].forward, x, by_hand)
    assert_same_bits(y, by_hand)
    np.testing.assert_allclose(y[0], 1 / 40, rtol=1e-6)
    assert y[1, 3] == 1
    assert y[1].sum() == 1
    assert y[2, 5] == 0
    assert np.isnan(y[3]).all()


def test_kernels_come_from_the_disk_cache_in_the_next_process() -> None:
    script = """
import numpy as np
from helpers.kernel_calls import run_entry
from arena_ckpt.kernels.activations import ACTIVATIONS
x = np.ones(9, np.float32)
kernel = ACTIVATIONS["gelu"].forward
run_entry(kernel, x, x)
print([sum(entry._cache_hits for entry in kernel._entries.values())])
"""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.strip() == "[1]"
