"""What a model of mixed layers computes in training and between its steps, as bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import assume

from arena_ckpt import Model
from arena_ckpt.errors import NonFiniteError
from arena_ckpt.verification.batches import smaller_batch
from helpers.mixed_graphs import MixedSpec

N_STEPS = 4


@dataclass(frozen=True)
class Outcome:
    """Everything a model computed, as bits."""

    numbers: dict[str, float]
    arrays: dict[str, bytes]

    @property
    def is_finite(self) -> bool:
        if not np.isfinite(list(self.numbers.values())).all():
            return False
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
        evaluation = model.evaluate((x, y))
        numbers[f"{when} evaluated"] = evaluation.loss
        for name, part in (evaluation.losses or {}).items():
            numbers[f"{when} evaluated {name}"] = part
        many = {name: np.concatenate([array, array[:1]]) for name, array in x.items()}
        predicted = model.predict(many)
        if not isinstance(predicted, dict):
            predicted = {"of the loss": predicted}
        for name, array in predicted.items():
            arrays[f"{when} prediction {name}"] = array.tobytes()
        again, same = model.compute_gradients(x, y)
        assert again == loss
        assert {k: v.tobytes() for k, v in same.items()} == {
            k: v.tobytes() for k, v in gradients.items()
        }
        for name, gradient in gradients.items():
            arrays[f"{when} gradient {name}"] = gradient.tobytes()
        assert state(model) == before, "looking has changed the model"

    look("first")
    fewer = smaller_batch(model.compile(), max(2, n - 1), model.plan.pass_samples)
    for step in range(N_STEPS):
        n_step = min(n, fewer) if step == 2 else n
        some_x = {name: array[:n_step] for name, array in x.items()}
        some_y = first_rows(y, n_step)
        numbers[f"step {step}"] = model.train_step(some_x, some_y)
        if step == 1:
            numbers["between"] = model.evaluate((some_x, some_y)).loss
    look("last")
    arrays |= {f"weight {name}": bits for name, bits in state(model).items()}
    return Outcome(numbers, arrays)


def first_rows(y: Any, n: int) -> Any:
    """Return the labels of the first samples, for each loss if there are several."""
    return {k: v[:n] for k, v in y.items()} if isinstance(y, dict) else y[:n]


def state(model: Model) -> dict[str, bytes]:
    return {name: weight.tobytes() for name, weight in model.weights().items()}


def finite_outcome(spec: MixedSpec) -> Outcome:
    """Return the outcome of a model, or let hypothesis draw another."""
    try:
        expected = outcome(spec)
    except NonFiniteError:
        assume(False)
    assume(expected.is_finite)  # debug mode refuses what the others only compute
    return expected
