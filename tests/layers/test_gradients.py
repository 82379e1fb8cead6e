"""Gradients of whole models against central differences of a float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import reference
from helpers.residuals import SKIPS, residual
from helpers.strategies import LOSSES, ModelSpec, chain, normal

from arena_ckpt.kernels.activations import ACTIVATIONS

STEP = 1e-5


def one_hot(spec: ModelSpec, y: Any) -> Any:
    units = spec.model().make_plan().layers[-1].output_shape[-1]
    return np.eye(units)[y] if y.ndim == 1 else y


def assert_gradients_are_slopes(spec: ModelSpec, **given: object) -> None:
    model = spec.initialized()
    generator = np.random.default_rng(1)  # a zero bias can leave a relu on its kink
    model.set_weights(
        {name: normal(generator, *w.shape) for name, w in model.weights().items()}
    )
    x, y = spec.batch(spec.batch_size)
    loss, gradients = model.compute_gradients(x, y)
    label = one_hot(spec, y)
    weights = {name: w.astype(np.float64) for name, w in model.weights().items()}
    assert loss == pytest.approx(
        reference.loss_of(model, weights, x, label), rel=1e-5, abs=1e-7
    )
    for name, gradient in gradients.items():
        slopes = np.zeros(gradient.shape)
        for index in np.ndindex(gradient.shape):
            changed = weights[name].copy()
            values = []
            for sign in (1, -1):
                changed[index] = weights[name][index] + sign * STEP
                moved = weights | {name: changed}
                values.append(reference.loss_of(model, moved, x, label))
            slopes[index] = (values[0] - values[1]) / (2 * STEP)
        largest = float(np.abs(slopes).max())
        assert np.abs(gradient - slopes).max() <= 2e-5 * largest + 1e-7, name


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "none"])
def test_an_activation(activation: str) -> None:
    spec = chain(4, activation, 3, activation, 2, blocks=(("fc1", "act1", "fc2"),))
    assert_gradients_are_slopes(spec)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss(loss: str) -> None:
    assert_gradients_are_slopes(chain(4, "tanh", 3, loss=loss))


@pytest.mark.parametrize("trainable", [True, "bias"])
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_a_regularizer(micro_batches: int, trainable: object) -> None:
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 3)}),
        (
            "fully_connected",
            {
                "name": "a",
                "unit": 4,
                "activation": "gelu",
                "weight_regularizer": "l2norm",
                "weight_regularizer_constant": 0.3,
                "trainable": trainable,
            },
        ),
        ("fully_connected", {"name": "b", "unit": 2, "disable_bias": True}),
        ("mse", {"name": "loss"}),
    )
    properties = {"batch_size": 7, "micro_batches": micro_batches}
    assert_gradients_are_slopes(ModelSpec(layers, (("a", "b"),), properties))


@pytest.mark.parametrize("where", ["inside", "over", "out"])
def test_a_skip(where: str) -> None:
    assert_gradients_are_slopes(residual("gelu", *SKIPS[where]))


def test_pictures_and_tensors_added_to_themselves() -> None:
    layers = (
        ("input", {"name": "in", "input_shape": (2, 2, 3)}),
        ("fully_connected", {"name": "a", "unit": 3, "activation": "swish"}),
        ("addition", {"name": "sum", "input_layers": ["a", "a", "in"]}),
        ("activation", {"name": "soft", "activation": "softmax"}),
        ("flatten", {"name": "flat"}),
        ("fully_connected", {"name": "b", "unit": 2}),
        ("cross_sigmoid", {"name": "loss"}),
    )
    blocks = (("a", "sum", "soft", "flat"),)
    assert_gradients_are_slopes(ModelSpec(layers, blocks, {"batch_size": 3}))
