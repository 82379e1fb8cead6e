"""Faults for programs: what a step of a right plan runs is changed while it is bound.

A test injects one with pytest's monkeypatch, which takes it out again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from arena_ckpt import Phase
from arena_ckpt.engine import link
from arena_ckpt.engine.views import Part
from arena_ckpt.layers.base import Call
from arena_ckpt.lowering import calls as lowered
from arena_ckpt.lowering.calls import Lowering
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.lowering.tensor_regions import TensorRegions
from arena_ckpt.operations.activations import ACTIVATIONS
from arena_ckpt.operations.families import elementwise, normalization
from arena_ckpt.operations.regions import Region
from arena_ckpt.planning.tensors import Execution
from helpers.plan_faults import RECOMPUTE

Calls = list[Call]
Patch = pytest.MonkeyPatch


class Step:
    """What is lowered for one step, for a fault to change."""

    def __init__(self, of: Lowering, execution: Execution, calls: Calls) -> None:
        self.lowering = of
        self.plan, self.settings, self.regions = of.plan, of.settings, of.regions
        self.execution = execution
        self.calls = calls

    @property
    def recomputes(self) -> bool:
        """The plan has recomputes; the one that it is compared with has none."""
        return any(e.phase is RECOMPUTE for e in self.plan.executions)

    def array(self, role: str) -> Region:
        operand = self.execution.operand(role)
        assert operand is not None
        return self.regions.region(operand.tensor, self.settings.n_samples).reshape(-1)

    def calls_of(self, phase: Phase) -> Calls:
        """Return the calls of another step of the layer."""
        other = next(
            e
            for e in self.plan.executions
            if (e.phase, e.layer) == (phase, self.execution.layer)
        )
        return self.lowering.calls(other)


Change = Callable[[Step], Calls]


def at(phase: Phase, layer: str, change: Change) -> Callable[[Patch], None]:
    """Change the calls of the steps of a layer in a phase."""

    def inject(patch: Patch) -> None:
        original = Lowering.calls

        def calls(self: Lowering, execution: Execution) -> Calls:
            right = original(self, execution)
            if (execution.phase, execution.layer) != (phase, layer):
                return right
            return change(Step(self, execution, right))

        patch.setattr(Lowering, "calls", calls)
        patch.setattr(link, "_placed", anywhere)

    return inject


def anywhere(operand: Any, memories: Mapping[str, Part]) -> Any:
    """Return the array of a region that need not be within its memory."""
    if not isinstance(operand, Region):
        return operand
    part = memories[operand.memory]
    address = part.arena.span.ctypes.data + part.start + operand.offset_bytes
    raw = np.ctypeslib.as_array((ctypes.c_uint8 * operand.nbytes).from_address(address))
    return raw.view(operand.dtype).reshape(operand.shape)


def floats_at(array: Region, place: int, n: int = 1) -> Region:
    """Return n elements from a place on, which need not be within the array."""
    return replace(array, offset_bytes=array.offset_bytes + 4 * place, shape=(n,))


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
        return step.regions.named(name, step.settings.n_samples).reshape(argument.shape)

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
            for _ in range(times if call.kernel == normalization.move_statistics else 1)
        ]

    return change


def where_recomputed(change: Change) -> Change:
    return lambda step: change(step) if step.recomputes else step.calls


def never_adds(patch: Patch) -> None:
    patch.setattr(Lowering, "_accumulates", lambda self, execution: False)


def fuses_always(patch: Patch) -> None:
    """Apply an activation with the bias even where its result goes elsewhere."""
    original = lowered._fuse_bias

    def fuse(calls: list[KernelCall]) -> list[KernelCall]:
        kernels = {a.forward: a.bias_forward for a in ACTIVATIONS.values()}
        fused: list[KernelCall] = []
        for call in original(calls):
            one = kernels.get(call.kernel)
            if one and fused and fused[-1].kernel == elementwise.add_bias:
                fused[-1] = replace(fused[-1], kernel=one)
                continue
            fused.append(call)
        return fused

    patch.setattr(lowered, "_fuse_bias", fuse)


def displaced(name: str, by: int) -> Callable[[Patch], None]:
    """Bind a tensor some bytes away from its place."""

    def inject(patch: Patch) -> None:
        original = TensorRegions.place

        def place(self: TensorRegions, tensor: int) -> tuple[str, int]:
            memory, right = original(self, tensor)
            return memory, right + by * (self.plan.tensors[tensor].name == name)

        patch.setattr(TensorRegions, "place", place)

    return inject


def other_seed(patch: Patch) -> None:
    """Draw other random numbers here than in another process."""
    original = lowered.random_key
    patch.setattr(lowered, "random_key", lambda seed, layer: original(seed + 1, layer))
