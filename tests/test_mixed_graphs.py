"""Layers of all families in one graph: what always holds (DESIGN §5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from mixed_graphs import MixedSpec, mixed_graphs

from arena_ckpt import Model, load_ini
from arena_ckpt.errors import NonFiniteError
from arena_ckpt.plan import MemoryPlan

N_STEPS = 4


@dataclass(frozen=True)
class Outcome:
    """Everything a model computed, as bits."""

    numbers: dict[str, float]
    arrays: dict[str, bytes]

    @property
    def is_finite(self) -> bool:
        arrays = (np.frombuffer(bits, np.float32) for bits in self.arrays.values())
        return all(np.isfinite(array).all() for array in arrays)

    def differences(self, other: Outcome) -> list[str]:
        """Name what differs."""
        assert self.numbers.keys() == other.numbers.keys()
        assert self.arrays.keys() == other.arrays.keys()
        return [
            name
            for mine, theirs in (
                (self.numbers, other.numbers),
                (self.arrays, other.arrays),
            )
            for name in mine
            if mine[name] != theirs[name]
        ]


def outcome(spec: MixedSpec, *, debug: bool = False) -> Outcome:
    """Gradients twice, predictions and losses between steps, one of fewer samples."""
    model = spec.initialized(debug=debug)
    n = spec.batch_size
    x, y = spec.batch(n)
    numbers: dict[str, float] = {}
    arrays: dict[str, bytes] = {}

    def look(when: str) -> None:
        """Do all that must not change the model."""
        before = state(model)
        loss, gradients = model.compute_gradients(x, y)
        numbers[f"{when} loss"] = loss
        numbers[f"{when} evaluated"] = model.evaluate((x, y)).loss
        arrays[f"{when} prediction"] = model.predict(x).tobytes()
        again, same = model.compute_gradients(x, y)
        assert again == loss
        assert {k: v.tobytes() for k, v in same.items()} == {
            k: v.tobytes() for k, v in gradients.items()
        }
        for name, gradient in gradients.items():
            arrays[f"{when} gradient {name}"] = gradient.tobytes()
        assert state(model) == before, "looking has changed the model"

    look("first")
    for step in range(N_STEPS):
        n_step = max(1, n - 2) if step == 2 else n
        some_x = {name: array[:n_step] for name, array in x.items()}
        numbers[f"step {step}"] = model.train_step(some_x, y[:n_step])
        if step == 1:
            numbers["between"] = model.evaluate((some_x, y[:n_step])).loss
    look("last")
    arrays |= {f"weight {name}": bits for name, bits in state(model).items()}
    return Outcome(numbers, arrays)


def state(model: Model) -> dict[str, bytes]:
    return {name: weight.tobytes() for name, weight in model.weights().items()}


def assert_same_bits(spec: MixedSpec) -> None:
    plain = spec.without_blocks().with_properties(memory_optimization=False)
    try:
        expected = outcome(plain)
    except NonFiniteError:
        assume(False)
    if not expected.is_finite:  # debug mode refuses what the others only compute
        assume(False)
    assert not expected.differences(outcome(spec.without_blocks())), "memory reuse"
    assert not expected.differences(outcome(spec)), "blocks and memory reuse"
    unshared = spec.with_properties(memory_optimization=False)
    assert not expected.differences(outcome(unshared)), "blocks"
    assert not expected.differences(outcome(spec, debug=True)), "debug mode"


@settings(derandomize=True, deadline=None, max_examples=40)
@given(mixed_graphs())
def test_same_bits_of_any_graph(spec: MixedSpec) -> None:
    assert_same_bits(spec)
