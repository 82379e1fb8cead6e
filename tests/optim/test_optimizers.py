"""Optimizers step by step, beside their formulas in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.kernel_calls import run_entry
from helpers.strategies import ModelSpec

from arena_ckpt import Model
from arena_ckpt.errors import SavedStateError
from arena_ckpt.kernels.rmsprop_centered import centered as centered_kernel

N_STEPS = 4
RATE, MOMENTUM, BETA1, BETA2, EPSILON = 0.1, 0.75, 0.875, 0.96875, 1e-3
DECAY, LAYER_DECAY = 0.5, 0.25
ALPHA = 0.9375

Array = np.ndarray


def model_of(optimizer: str, **values: Any) -> Model:
    """One weight a feature, and a loss that is steepest where the weight is large."""
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 3)}),
        ("fully_connected", {"name": "fc", "unit": 2, "weight_decay": LAYER_DECAY}),
        ("mse", {"name": "loss"}),
    )
    given = {"learning_rate": RATE, **values}
    return ModelSpec(layers, (), {"batch_size": 2}, (optimizer, given)).initialized()


def sgd(weight: Array, gradient: Array, state: dict[str, Array], step: int) -> Array:
    return weight - RATE * gradient


def momentum(weight: Array, gradient: Array, state: Any, step: int) -> Array:
    state["v"] = MOMENTUM * state.get("v", 0.0) + gradient
    return weight - RATE * state["v"]


def nesterov(weight: Array, gradient: Array, state: Any, step: int) -> Array:
    state["v"] = MOMENTUM * state.get("v", 0.0) + gradient
    return weight - RATE * (gradient + MOMENTUM * state["v"])


def adam(weight: Array, gradient: Array, state: Any, step: int) -> Array:
    state["m"] = BETA1 * state.get("m", 0.0) + (1 - BETA1) * gradient
    state["s"] = BETA2 * state.get("s", 0.0) + (1 - BETA2) * gradient**2
    first, second = state["m"] / (1 - BETA1**step), state["s"] / (1 - BETA2**step)
    return weight - RATE * first / (np.sqrt(second) + EPSILON)


def rmsprop(weight: Array, gradient: Array, state: Any, step: int) -> Array:
    state["s"] = ALPHA * state.get("s", 0.0) + (1 - ALPHA) * gradient**2
    return weight - RATE * gradient / (np.sqrt(state["s"]) + EPSILON)


def rmsprop_momentum(weight: Array, gradient: Array, state: Any, step: int) -> Array:
    state["s"] = ALPHA * state.get("s", 0.0) + (1 - ALPHA) * gradient**2
    divided = gradient / (np.sqrt(state["s"]) + EPSILON)
    state["v"] = MOMENTUM * state.get("v", 0.0) + divided
    return weight - RATE * state["v"]


def deviation_of(gradient: Array, state: Any) -> Array:
    state["s"] = ALPHA * state.get("s", 0.0) + (1 - ALPHA) * gradient**2
    state["m"] = ALPHA * state.get("m", 0.0) + (1 - ALPHA) * gradient
    return np.sqrt(state["s"] - state["m"] ** 2) + EPSILON


def centered(weight: Array, gradient: Array, state: Any, step: int) -> Array:
    return weight - RATE * gradient / deviation_of(gradient, state)


def centered_momentum(weight: Array, gradient: Array, state: Any, step: int) -> Array:
    divided = gradient / deviation_of(gradient, state)
    state["v"] = MOMENTUM * state.get("v", 0.0) + divided
    return weight - RATE * state["v"]


SQUARES = {"alpha": ALPHA, "epsilon": EPSILON}
MOMENTS = {"beta1": BETA1, "beta2": BETA2, "epsilon": EPSILON}
OPTIMIZERS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "sgd": (sgd, "sgd", {}),
    "momentum": (momentum, "sgd", {"momentum": MOMENTUM}),
    "nesterov": (nesterov, "sgd", {"momentum": MOMENTUM, "nesterov": True}),
    "adam": (adam, "adam", MOMENTS),
    "adamw": (adam, "adamw", {**MOMENTS, "weight_decay": DECAY}),
    "rmsprop": (rmsprop, "rmsprop", SQUARES),
    "rmsprop_momentum": (
        *(rmsprop_momentum, "rmsprop"),
        {**SQUARES, "momentum": MOMENTUM},
    ),
    "centered": (centered, "rmsprop", {**SQUARES, "centered": True}),
    "centered_momentum": (
        *(centered_momentum, "rmsprop"),
        {**SQUARES, "momentum": MOMENTUM, "centered": True},
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_first_steps_are_those_of_the_formula(name: str) -> None:
    formula, kind, values = OPTIMIZERS[name]
    model = model_of(kind, **values)
    x, y = np.random.default_rng(0).normal(size=(2, 2, 3))
    expected = {n: w.astype(np.float64) for n, w in model.weights().items()}
    states: dict[str, dict[str, Array]] = {weight: {} for weight in expected}
    for step in range(1, N_STEPS + 1):
        _, gradients = model.compute_gradients(x, y[:, :2])
        model.train_step(x, y[:, :2])
        for weight, values_before in expected.items():
            if name == "adamw":  # its decay is no part of the gradient
                values_before = values_before * (1 - RATE * DECAY)
            gradient = gradients[weight].astype(np.float64)
            if weight == "fc:weight":
                gradient += LAYER_DECAY * values_before
            expected[weight] = formula(values_before, gradient, states[weight], step)
            found = model.weights()[weight]
            np.testing.assert_allclose(found, expected[weight], rtol=2e-5, atol=1e-6)


def test_an_optimizer_keeps_what_its_formula_remembers() -> None:
    found = {
        name: model_of(kind, **values).optimizer.state_names
        for name, (_, kind, values) in OPTIMIZERS.items()
    }
    assert found == {
        "sgd": (),
        "momentum": ("velocity",),
        "nesterov": ("velocity",),
        "adam": ("first_moment", "second_moment"),
        "adamw": ("first_moment", "second_moment"),
        "rmsprop": ("square_mean",),
        "rmsprop_momentum": ("square_mean", "velocity"),
        "centered": ("square_mean", "gradient_mean"),
        "centered_momentum": ("square_mean", "gradient_mean", "velocity"),
    }


def test_rounding_leaves_centered_no_root_of_less_than_nothing() -> None:
    """A gradient that stays the same has the deviation 0; PyTorch may have NaN."""
    gradient = np.linspace(0.1, 3, 64).astype(np.float32)
    square, mean = gradient**2 * np.float32(1 - 1e-6), gradient.copy()
    assert (square < mean * mean).any()
    weight, hyper = np.zeros(64, np.float32), np.array([1e-3, 1.0, 0.999, 1e-3])
    run_entry(centered_kernel, weight, gradient, square, mean, 0.0, hyper)
    assert np.isfinite(weight).all()
    assert (weight < 0).all()


def test_a_centered_run_goes_on_from_its_folder(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 6, 3))
    data = x, y[:, :2]
    given = {**SQUARES, "centered": True, "momentum": MOMENTUM}
    whole = model_of("rmsprop", **given)
    whole.train(data, epochs=4, progress=False)
    for epochs in (2, 4):
        part = model_of("rmsprop", **given)
        resume = epochs == 4
        part.train(
            data, epochs=epochs, checkpoint=tmp_path, resume=resume, progress=False
        )
    for name, weight in whole.weights().items():
        np.testing.assert_array_equal(part.weights()[name], weight)
    other = model_of("rmsprop", **SQUARES)
    with pytest.raises(SavedStateError):
        other.train(data, epochs=5, checkpoint=tmp_path, resume=True, progress=False)
