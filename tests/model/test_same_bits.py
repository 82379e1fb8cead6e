"""Neither checkpoint blocks nor memory reuse nor debug mode change a single bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.residuals import SKIPS, residual
from helpers.same_bits import assert_same_bits
from helpers.scale import how_many
from helpers.strategies import OPTIMIZERS, ModelSpec, chain, chains, dags
from hypothesis import given, settings


@settings(derandomize=True, deadline=None, max_examples=how_many(40, 100))
@given(chains())
def test_random_chains(spec: ModelSpec) -> None:
    assert_same_bits(spec)


@settings(derandomize=True, deadline=None, max_examples=how_many(60, 150))
@given(dags())
def test_random_graphs(spec: ModelSpec) -> None:
    assert_same_bits(spec)


# -- cases with names ------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "gelu", "softmax", "tanh", "none"])
@pytest.mark.parametrize("where", SKIPS)
def test_a_skip(where: str, activation: str) -> None:
    assert_same_bits(residual(activation, *SKIPS[where]))


@pytest.mark.parametrize("activation", ["relu", "gelu", "sigmoid", "softmax", "mish"])
def test_a_block_that_ends_in_an_activation_in_place(activation: str) -> None:
    """NNTrainer's own example, which trains to other weights there."""
    block = ("fc1", "act1", "fc2", "act2")
    assert_same_bits(
        chain(16, activation, 16, activation, 8, activation, 4, blocks=(block,))
    )


def test_a_block_that_begins_with_the_input() -> None:
    """The samples are not made by the forward pass, so they cannot be recomputed."""
    block = ("in", "fc1", "act1", "fc2")
    spec = chain(5, "relu", 5, "relu", 3, blocks=(block,))
    assert_same_bits(spec)


@pytest.mark.parametrize(
    "properties",
    [
        {"micro_batches": 1},
        {"micro_batches": 3},
        {"micro_batches": 8},
        {"clip_grad_by_norm": 0.01},
        {"clip_grad_by_norm": 0.01, "micro_batches": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: "-".join(map(str, o)))
def test_micro_batches_and_clipping(
    properties: dict[str, Any], optimizer: tuple[str, dict[str, Any]]
) -> None:
    block = ("fc1", "act1", "fc2", "act2")
    assert_same_bits(
        chain(
            *(7, "gelu", 7, "relu", 5),
            loss="cross_softmax",
            blocks=(block,),
            optimizer=optimizer,
            **properties,
        )
    )


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_adding_a_tensor_to_itself(copies: int) -> None:
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 4)}),
        ("fully_connected", {"name": "a", "unit": 4}),
        ("addition", {"name": "sum", "input_layers": ["a"] * copies}),
        ("activation", {"name": "act", "activation": "gelu"}),
        ("fully_connected", {"name": "b", "unit": 2}),
        ("mse", {"name": "loss"}),
    )
    blocks = (("a", "sum", "act"),)
    spec = ModelSpec(layers, blocks, {"batch_size": 4}, OPTIMIZERS[0])
    assert_same_bits(spec)
    model = spec.initialized()
    x = np.ones((4, 4), np.float32)
    y = np.zeros((4, 2), np.float32)
    _, gradients = model.compute_gradients(x, y)
    assert np.abs(gradients["a:weight"]).max() > 0
