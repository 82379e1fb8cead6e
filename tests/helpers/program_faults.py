"""Faults for programs: what a step of a right plan runs is changed while it is bound.

A test injects one with pytest's monkeypatch, which takes it out again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from arena_ckpt import Phase
from arena_ckpt.engine import program
from arena_ckpt.engine.program import Program, TensorViews
from arena_ckpt.kernels import elementwise, normalization
from arena_ckpt.kernels.activations import ACTIVATIONS
from arena_ckpt.layers.base import Call
from arena_ckpt.planning.tensors import Execution
from helpers.plan_faults import RECOMPUTE

Calls = list[Call]
Patch = pytest.MonkeyPatch


class Step:
    """What a program binds at one step, for a fault to change."""

    def __init__(self, of: Program, execution: Execution, calls: Calls) -> None:
        self.program = of
        self.views: TensorViews = of._views
        self.execution = execution
        self.calls = calls

    @property
    def recomputes(self) -> bool:
        """The plan has recomputes; the one that it is compared with has none."""
        return any(e.phase is RECOMPUTE for e in self.views.plan.executions)

    def array(self, role: str) -> Any:
        operand = self.execution.operand(role)
        assert operand is not None
        return self.views.array(operand.tensor, self.program._n_samples).reshape(-1)

    def calls_of(self, phase: Phase) -> Calls:
        """Return the calls of another step of the layer."""
        other = next(
            e
            for e in self.views.plan.executions
            if (e.phase, e.layer) == (phase, self.execution.layer)
        )
        return self.program._calls(other)


Change = Callable[[Step], Calls]


def at(phase: Phase, layer: str, change: Change) -> Callable[[Patch], None]:
    """Change the calls of the steps of a layer in a phase."""

    def inject(patch: Patch) -> None:
        original = Program._calls

        def calls(self: Program, execution: Execution) -> Calls:
            right = original(self, execution)
            if (execution.phase, execution.layer) != (phase, layer):
                return right
            return change(Step(self, execution, right))

        patch.setattr(Program, "_calls", calls)

    return inject


def floats_at(array: Any, place: int, n: int = 1) -> Any:
    """Return n elements from a place on, which need not be within the array."""
    address = array.ctypes.data + 4 * place
    return np.ctypeslib.as_array((ctypes.c_float * n).from_address(address))


def also_writes(role: str, place: int) -> Change:
    """Write an element counted from the start, or with a negative one before it."""

    def change(step: Step) -> Calls:
        where = floats_at(step.array(role), place)
        return [*step.calls, Call(elementwise.fill, (7.5, where))]

    return change


def also_writes_behind(role: str, elems: int) -> Change:
    def change(step: Step) -> Calls:
        array = step.array(role)
        return also_writes(role, array.size + elems)(step)

    return change


def also_fills(role: str, part: slice) -> Change:
    def change(step: Step) -> Calls:
        return [*step.calls, Call(elementwise.fill, (0.0, step.array(role)[part]))]

    return change


def with_argument(place: int, value: Callable[[Step, Any], Any]) -> Change:
    """Replace an argument of the first call."""

    def change(step: Step) -> Calls:
        first, *rest = step.calls
        arguments = list(first.arguments)
        arguments[place] = value(step, arguments[place])
        return [Call(first.kernel, tuple(arguments)), *rest]

    return change


def first_life(name: str) -> Callable[[Step, Any], Any]:
    """Take the first life of a tensor, in the shape of the argument."""

    def value(step: Step, argument: Any) -> Any:
        return step.views.named(name, step.program._n_samples).reshape(argument.shape)

    return value


def moves_statistics(step: Step) -> Call:
    roles = ("mean", "inv_std_dev", "moving_mean", "moving_variance")
    mean, inverse, moving_mean, moving_variance = map(step.array, roles)
    arguments = (mean, inverse, 1e-3, 0.9, 1.0, moving_mean, moving_variance)
    return Call(normalization.move_statistics, arguments)


def moved(times: int) -> Change:
    """Move the running statistics so many times."""

    def change(step: Step) -> Calls:
        return [
            call
            for call in step.calls
            for _ in range(times if call.kernel is normalization.move_statistics else 1)
        ]

    return change


def where_recomputed(change: Change) -> Change:
    return lambda step: change(step) if step.recomputes else step.calls


def never_adds(patch: Patch) -> None:
    patch.setattr(Program, "_accumulates", lambda self, execution: False)


def fuses_always(patch: Patch) -> None:
    """Apply an activation with the bias even where its result goes elsewhere."""
    original = program._fuse_bias

    def fuse(calls: list[tuple[int, Call]]) -> list[tuple[int, Call]]:
        kernels = {a.forward: a.bias_forward for a in ACTIVATIONS.values()}
        fused: list[tuple[int, Call]] = []
        for step, call in original(calls):
            one = kernels.get(call.kernel)
            if one and fused and fused[-1][1].kernel is elementwise.add_bias:
                fused[-1] = (fused[-1][0], Call(one, fused[-1][1].arguments))
                continue
            fused.append((step, call))
        return fused

    patch.setattr(program, "_fuse_bias", fuse)


def displaced(name: str, by: int) -> Callable[[Patch], None]:
    """Bind a tensor some bytes away from its place."""

    def inject(patch: Patch) -> None:
        original = TensorViews.offset_bytes

        def offset_bytes(self: TensorViews, tensor: int) -> int:
            right = original(self, tensor)
            return right + by * (self.plan.tensors[tensor].name == name)

        patch.setattr(TensorViews, "offset_bytes", offset_bytes)

    return inject


def other_seed(patch: Patch) -> None:
    """Draw other random numbers here than in another process."""
    original = program.random_key
    patch.setattr(program, "random_key", lambda seed, layer: original(seed + 1, layer))
