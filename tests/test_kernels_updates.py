from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from kernel_calls import SIZES, normal, run_entry, run_python

from arena_ckpt.kernels import updates
from arena_ckpt.kernels.jit import Kernel

Array = npt.NDArray[Any]
RATE, GRADIENT_SCALE, DECAY, STEPS = 0.05, 0.5, 0.1, 5
BETA1, BETA2, EPSILON, WEIGHT_DECAY = 0.9, 0.999, 1e-8, 0.2
N_STATES = {"sgd": 0, "sgd_momentum": 1, "sgd_nesterov": 1, "adam": 2, "adamw": 2}
NAMES = list(N_STATES)


def hyper_of(name: str, step: int) -> Array:
    hyper = [RATE, GRADIENT_SCALE]
    if name.startswith("sgd_"):
        hyper += [0.9]
    if name.startswith("adam"):
        hyper += [BETA1, BETA2, EPSILON, 1 - BETA1**step, 1 - BETA2**step]
    if name == "adamw":
        hyper += [WEIGHT_DECAY]
    return np.array(hyper)


def reference(
    name: str, w: Array, gradient: Array, states: list[Array], t: int
) -> None:
    """One step in float64, as the papers and PyTorch's documentation write it."""
    if name == "adamw":
        w *= 1 - RATE * WEIGHT_DECAY
    g = gradient * GRADIENT_SCALE + DECAY * w
    if name == "sgd":
        w -= RATE * g
    elif name.startswith("sgd_"):
        states[0][:] = 0.9 * states[0] + g
        w -= RATE * (g + 0.9 * states[0] if name == "sgd_nesterov" else states[0])
    else:
        states[0][:] = BETA1 * states[0] + (1 - BETA1) * g
        states[1][:] = BETA2 * states[1] + (1 - BETA2) * g * g
        root = np.sqrt(states[1] / (1 - BETA2**t)) + EPSILON
        w -= RATE * states[0] / (1 - BETA1**t) / root


def train(name: str, run: Callable[..., None], size: int) -> tuple[Array, list[Array]]:
    made: Kernel = getattr(updates, name)
    w = normal(size)
    states = [np.zeros(size, np.float32) for _ in range(N_STATES[name])]
    for step in range(1, STEPS + 1):
        gradient = normal(size, seed=step)
        before = gradient.copy()
        run(made, w, gradient, *states, DECAY, hyper_of(name, step))
        assert np.array_equal(gradient, before)
    return w, states


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_five_steps_follow_float64(name: str, size: int) -> None:
    w, states = train(name, run_entry, size)
    exact = normal(size).astype(np.float64)
    exact_states = [np.zeros(size) for _ in states]
    for step in range(1, STEPS + 1):
        reference(name, exact, normal(size, seed=step), exact_states, step)
    np.testing.assert_allclose(w, exact, rtol=2e-6, atol=1e-6)
    for ours, theirs in zip(states, exact_states, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_python_text_gives_the_same_bits(name: str) -> None:
    compiled, compiled_states = train(name, run_entry, 11)
    by_hand, states = train(name, run_python, 11)
    assert np.array_equal(compiled, by_hand)
    assert np.array_equal(compiled_states, states)


@pytest.mark.parametrize(("k", "m", "n"), [(1, 1, 1), (5, 7, 3), (40, 33, 65)])
def test_a_product_is_taken_off_the_weight(k: int, m: int, n: int) -> None:
    a, b, w = normal(k, m), normal(k, n, seed=1), normal(m, n, seed=2)
    exact = w - RATE * (a.astype(np.float64).T @ b)
    run_entry(updates.sgd_product, a, b, np.array([RATE, 1.0]), w)
    np.testing.assert_allclose(w, exact, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_nan_gradient_spoils_its_own_weight_only(name: str) -> None:
    w, gradient = normal(10), normal(10, seed=1)
    gradient[3] = np.nan
    states = [np.zeros(10, np.float32) for _ in range(N_STATES[name])]
    run_entry(getattr(updates, name), w, gradient, *states, DECAY, hyper_of(name, 1))
    assert np.flatnonzero(np.isnan(w)).tolist() == [3]


def test_adam_without_gradient_divides_by_epsilon() -> None:
    w, zero = normal(9), np.zeros(9, np.float32)
    before = w.copy()
    hyper = hyper_of("adam", 1)
    run_entry(updates.adam, w, zero.copy(), zero.copy(), zero.copy(), 0.0, hyper)
    assert np.array_equal(w, before)
    assert math.isclose(hyper[5], 0.1)


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_agrees(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the outside judge")
    theirs = torch.nn.Parameter(torch.from_numpy(normal(50)))
    betas, decay = (BETA1, BETA2), WEIGHT_DECAY
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, RATE, weight_decay=DECAY),
        "sgd_momentum": lambda p: torch.optim.SGD(p, RATE, 0.9, weight_decay=DECAY),
        "sgd_nesterov": lambda p: torch.optim.SGD(
            p, RATE, 0.9, weight_decay=DECAY, nesterov=True
        ),
        "adam": lambda p: torch.optim.Adam(p, RATE, betas, EPSILON, DECAY),
        "adamw": lambda p: torch.optim.AdamW(p, RATE, betas, EPSILON, decay),
    }[name]([theirs])
    made: Kernel = getattr(updates, name)
    w = normal(50)
    states = [np.zeros(50, np.float32) for _ in range(N_STATES[name])]
    for step in range(1, STEPS + 1):
        gradient = normal(50, seed=step)
        theirs.grad = torch.from_numpy(gradient * np.float32(GRADIENT_SCALE))
        optimizer.step()
        l2 = 0.0 if name == "adamw" else DECAY
        run_entry(made, w, gradient, *states, l2, hyper_of(name, step))
    np.testing.assert_allclose(w, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
