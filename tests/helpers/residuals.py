"""A network with a residual connection, and checkpoint blocks around it."""

from __future__ import annotations

from typing import Any

from helpers.strategies import OPTIMIZERS, ModelSpec


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
