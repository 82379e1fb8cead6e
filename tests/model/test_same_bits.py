"""DESIGN §5.1: neither blocks nor memory reuse nor debug mode change a single bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from helpers.strategies import OPTIMIZERS, ModelSpec, chain, chains, dags
from hypothesis import assume, given, settings

from arena_ckpt.errors import NonFiniteError

N_STEPS = 5


@dataclass(frozen=True)
class Outcome:
    losses: list[float]
    gradients: dict[str, bytes]
    weights: dict[str, bytes]
    prediction: bytes

    @property
    def is_finite(self) -> bool:
        tensors = (*self.gradients.values(), *self.weights.values(), self.prediction)
        return all(np.isfinite(np.frombuffer(t, np.float32)).all() for t in tensors)


def outcome(spec: ModelSpec, *, debug: bool = False) -> Outcome:
    """Gradients, five steps of which the fourth has fewer samples, gradients again."""
    model = spec.initialized(debug=debug)
    n = spec.batch_size
    x, y = spec.batch(n)
    first = model.compute_gradients(x, y)[1]
    losses = []
    for step in range(N_STEPS):
        n_step = max(1, n - 2) if step == 3 else n
        some_x = {name: array[:n_step] for name, array in x.items()}
        losses.append(model.train_step(some_x, y[:n_step]))
    loss, last = model.compute_gradients(x, y)
    return Outcome(
        [*losses, loss],
        {f"{name} first": array.tobytes() for name, array in first.items()}
        | {f"{name} last": array.tobytes() for name, array in last.items()},
        {name: array.tobytes() for name, array in model.weights().items()},
        model.predict(x).tobytes(),
    )


def assert_same_bits(spec: ModelSpec) -> None:
    plain = spec.without_blocks().with_properties(memory_optimization=False)
    try:
        expected = outcome(plain)
    except NonFiniteError:
        assume(False)
    if not expected.is_finite:  # debug mode refuses what the others only compute
        assume(False)
    assert outcome(spec.without_blocks()) == expected, "memory reuse"
    assert outcome(spec) == expected, "blocks and memory reuse"
    unshared = spec.with_properties(memory_optimization=False)
    assert outcome(unshared) == expected, "blocks"
    assert outcome(spec, debug=True) == expected, "debug mode"


@settings(derandomize=True, deadline=None, max_examples=100)
@given(chains())
def test_random_chains(spec: ModelSpec) -> None:
    assert_same_bits(spec)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(dags())
def test_random_graphs(spec: ModelSpec) -> None:
    assert_same_bits(spec)


# -- cases with names ------------------------------------------------------------------


def residual(activation: str, *blocks: tuple[str, ...]) -> ModelSpec:
    """in - a - act_a - b - act_b - c - act_c - sum(act_c, act_a) - d - loss."""
    layers: list[tuple[str, dict[str, Any]]] = [
        ("input", {"name": "in", "input_shape": (1, 1, 6)})
    ]
    for name in "abc":
        layers.append(("fully_connected", {"name": name, "unit": 6}))
        layers.append(("activation", {"name": f"act_{name}", "activation": activation}))
    layers.append(("addition", {"name": "sum", "input_layers": ["act_c", "act_a"]}))
    layers.append(("fully_connected", {"name": "d", "unit": 3}))
    layers.append(("cross_softmax", {"name": "loss"}))
    return ModelSpec(tuple(layers), blocks, {"batch_size": 8}, OPTIMIZERS[1])


SKIPS = {
    "inside": [("a", "act_a", "b", "act_b", "c", "act_c", "sum")],
    "into": [("b", "act_b", "c", "act_c", "sum")],
    "over": [("b", "act_b", "c", "act_c")],
    "out": [("a", "act_a", "b", "act_b")],
    "between two": [("a", "act_a", "b"), ("act_b", "c", "act_c", "sum")],
    "from the last": [("a", "act_a"), ("b", "act_b"), ("c", "act_c")],
    "with the sum only": [("sum", "d")],
    "with input and loss": [
        ("in", "a", "act_a"),
        ("b", "act_b"),
        ("c", "act_c", "sum", "d", "loss"),
    ],
}


@pytest.mark.parametrize("activation", ["relu", "gelu", "softmax", "tanh", "none"])
@pytest.mark.parametrize("where", SKIPS)
def test_a_skip(where: str, activation: str) -> None:
    assert_same_bits(residual(activation, *SKIPS[where]))


@pytest.mark.parametrize("activation", ["relu", "gelu", "sigmoid", "softmax", "mish"])
def test_a_block_that_ends_in_an_activation_in_place(activation: str) -> None:
    """NNTrainer's own example, which trains wrongly there (DESIGN §4)."""
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
