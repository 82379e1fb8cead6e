"""What a small model computes, as bits, and that no plan of it changes one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import assume

from arena_ckpt.errors import NonFiniteError
from helpers.strategies import ModelSpec

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
