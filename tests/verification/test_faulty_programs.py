"""Faults put into kernels and programs on purpose: the checks of `verify` find them.

As in `test_faults`, but the plan is right and what runs is not. The faults in steps of
the backward pass are put where there are recomputes only, or everywhere: then no plan
is right to compare with, and slopes of the loss decide.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from helpers.plan_surgery import NETS
from test_faults import (
    APPLY,
    DERIVATIVE,
    FORWARD,
    GRADIENT,
    RECOMPUTE,
    checks_of,
    first_defect,
    names_a_tensor,
    plan_of,
)

from arena_ckpt import Phase
from arena_ckpt.engine import program
from arena_ckpt.engine.program import Program, TensorViews
from arena_ckpt.kernels import elementwise, normalization
from arena_ckpt.kernels.activations import ACTIVATIONS
from arena_ckpt.layers.base import Call
from arena_ckpt.planning.tensors import Execution
from arena_ckpt.verification.course import run_check

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


@dataclass(frozen=True)
class Fault:
    net: str
    inject: Callable[[Patch], None]
    check: str
    named: tuple[str, ...]


PROGRAMS: dict[str, Fault] = {
    # -- writes outside
    "past the end of an output": Fault(
        "mlp",
        at(FORWARD, "fc4", also_writes_behind("out0", 0)),
        "memory",
        ("'fc4' in forward", "past the end of fc4:out0"),
    ),
    "past the end of a weight gradient": Fault(
        "mlp",
        at(GRADIENT, "fc3", also_writes_behind("weight:grad", 0)),
        "memory",
        ("'fc3' in calc_gradient", "past the end of fc3:weight:grad"),
    ),
    "past the end of a derivative": Fault(
        "transformer",
        at(DERIVATIVE, "fc1", also_writes_behind("in0:grad", 3)),
        "memory",
        ("'fc1' in calc_derivative", "past the end of ln2:out0:grad"),
    ),
    "past the end in the recompute only": Fault(
        "cnn",
        at(RECOMPUTE, "conv2", also_writes_behind("out0", 0)),
        "memory",
        ("'conv2' in recompute", "past the end of conv2:out0"),
    ),
    "past the end of a workspace": Fault(
        "recurrent",
        at(GRADIENT, "lstm", also_writes_behind("d_cell_state", 0)),
        "memory",
        ("'lstm' in calc_gradient", "past the end of lstm:d_cell_state"),
    ),
    "before the start of a gradient": Fault(
        "mlp",
        at(GRADIENT, "fc4", also_writes("bias:grad", -1)),
        "memory",
        ("'fc4' in calc_gradient", "fc4:bias:grad"),
    ),
    "before the start of a recomputed output": Fault(
        "transformer",
        at(RECOMPUTE, "gelu", also_writes("out0", -1)),
        "memory",
        ("'gelu' in recompute", "gelu:out0"),
    ),
    "before the start of the arena": Fault(
        "mlp",
        at(APPLY, "fc1", also_writes("weight", -1)),
        "memory",
        ("'fc1' in apply_gradient", "before the start of the arena", "fc1:weight"),
    ),
    "far behind a tensor": Fault(
        "mlp",
        at(FORWARD, "fc2", also_writes("weight", 40 * 16)),
        "memory",
        ("'fc2' in forward", "does not declare"),
    ),
    "into an operand that is read": Fault(
        "mlp",
        at(GRADIENT, "fc3", also_writes("in0", 0)),
        "memory",
        ("'fc3' in calc_gradient", "act2:out0, its operand in0"),
    ),
    "into a weight, forward": Fault(
        "recurrent",
        at(FORWARD, "gru", also_writes("weight_hh", 2)),
        "memory",
        ("'gru' in forward", "gru:weight_hh, its operand weight_hh"),
    ),
    "into the label": Fault(
        "residual",
        at(DERIVATIVE, "loss", also_writes("label", 1)),
        "memory",
        ("'loss' in calc_derivative", "loss:label, its operand label"),
    ),
    "a tensor bound one place further": Fault(
        "mlp",
        displaced("act3:out0", 64),
        "memory",
        ("'act3' in forward", "past the end of act3:out0"),
    ),
    # -- stale reads
    "a dead life read": Fault(
        "mlp",
        at(DERIVATIVE, "act2", with_argument(0, first_life("fc2:out0"))),
        "memory",
        ("'act2' in calc_derivative", "fc2:out0:grad"),
    ),
    "a dead life read by a relu, which swallows NaN": Fault(
        "relu",
        at(DERIVATIVE, "act1", with_argument(0, first_life("act1:out0"))),
        "reads",
        ("'act1' in calc_derivative", "fc1:out0:grad", "act1:out0 stood before"),
    ),
    "dead statistics read": Fault(
        "transformer",
        at(
            DERIVATIVE,
            "ln2",
            lambda s: [
                Call(
                    c.kernel,
                    tuple(
                        first_life("ln2:mean")(s, a)
                        if a is not None
                        and getattr(a, "ctypes", None) is not None
                        and a.ctypes.data == s.array("mean").ctypes.data
                        else a
                        for a in c.arguments
                    ),
                )
                for c in s.calls
            ],
        ),
        "memory",
        ("'ln2' in calc_derivative", "ln2:in0:grad"),
    ),
    "a dead input of a recompute read": Fault(
        "chosen",
        at(RECOMPUTE, "act5", with_argument(0, first_life("fc5:out0"))),
        "reads",
        ("'act5' in recompute", "act5:out0"),
    ),
    "a derivative added to what was there": Fault(
        "mlp",
        at(
            DERIVATIVE,
            "fc4",
            lambda s: [Call(elementwise.add_to, (s.array("in0:grad"),) * 2)],
        ),
        "memory",
        ("'fc4' in calc_derivative", "act3:out0:grad"),
    ),
    "a gradient applied before it is made": Fault(
        "mlp",
        at(GRADIENT, "fc3", lambda s: [*s.calls_of(APPLY), *s.calls]),
        "memory",
        ("'fc3' in calc_gradient", "fc3:"),
    ),
    # -- recomputes
    "a recompute skipped": Fault(
        "mlp",
        at(RECOMPUTE, "fc2", lambda s: []),
        "memory",
        ("'act2' in calc_derivative", "because of those in fc2:out0"),
    ),
    "a recompute of pictures skipped": Fault(
        "cnn",
        at(RECOMPUTE, "conv1", lambda s: []),
        "memory",
        ("'bn1' in recompute", "because of those in conv1:out0", "bn1:out0"),
    ),
    "a recompute of a recurrence skipped": Fault(
        "recurrent",
        at(RECOMPUTE, "lstm", lambda s: []),
        "memory",
        ("'act' in recompute", "in place of lstm:out0"),
    ),
    "a recompute skipped before a relu": Fault(
        "relu",
        at(RECOMPUTE, "fc1", lambda s: []),
        "memory",
        ("'act1'", "fc1:out0"),
    ),
    "a recompute that skips the bias": Fault(
        "mlp",
        at(RECOMPUTE, "fc1", lambda s: s.calls[:1]),
        "bits of debug mode",
        ("'fc1' in recompute", "fc1:out0", "values"),
    ),
    "dropout replayed with another key": Fault(
        "transformer",
        at(RECOMPUTE, "drop", with_argument(3, lambda s, key: key ^ 1)),
        "bits of debug mode",
        ("'drop' in recompute", "drop:out0"),
    ),
    "dropout replayed with another iteration": Fault(
        "transformer",
        at(
            RECOMPUTE,
            "drop",
            with_argument(2, lambda s, counters: np.ones_like(counters) * 5),
        ),
        "bits of debug mode",
        ("'drop' in recompute", "drop:out0"),
    ),
    # -- states
    "a statistic moved by the recompute too": Fault(
        "cnn",
        at(RECOMPUTE, "bn1", lambda s: [*s.calls, moves_statistics(s)]),
        "memory",
        ("'bn1' in recompute", "bn1:moving_", "does not declare"),
    ),
    "a statistic moved twice where there are recomputes": Fault(
        "cnn",
        at(GRADIENT, "bn2", where_recomputed(moved(2))),
        "bits of debug mode",
        ("'bn2' in calc_gradient", "bn2:moving_mean"),
    ),
    "a statistic not moved where there are recomputes": Fault(
        "cnn",
        at(GRADIENT, "bn2", where_recomputed(moved(0))),
        "bits of debug mode",
        ("'bn2' in calc_gradient", "bn2:moving_mean"),
    ),
    "an update made twice": Fault(
        "mlp",
        at(APPLY, "fc3", where_recomputed(lambda s: s.calls * 2)),
        "bits of debug mode",
        ("'fc3' in apply_gradient", "fc3:weight"),
    ),
    "an update left out": Fault(
        "recurrent",
        at(APPLY, "gru", where_recomputed(lambda s: s.calls[1:])),
        "bits of debug mode",
        ("'gru' in apply_gradient", "gru:weight_ih"),
    ),
    "an update before the last use of the weight": Fault(
        "mlp",
        at(GRADIENT, "fc2", lambda s: [*s.calls, *s.calls_of(APPLY)]),
        "memory",
        ("'fc2' in calc_gradient", "fc2:", "does not declare"),
    ),
    # -- what is the same in every plan
    "an activation fused that does not overwrite": Fault(
        "mlp",
        fuses_always,
        "memory",
        ("'fc4' in forward", "because of", "act3:out0"),
    ),
    "the gradients of a micro-batch overwritten": Fault(
        "micro",
        never_adds,
        "gradients",
        ("gradient of fc",),
    ),
    "the gradients of a layer that shares overwritten": Fault(
        "shared",
        never_adds,
        "gradients",
        ("gradient of first:",),
    ),
    "a bias gradient left out": Fault(
        "mlp",
        at(GRADIENT, "fc3", also_fills("bias:grad", slice(None))),
        "gradients",
        ("gradient of fc3:bias",),
    ),
    "half of a weight gradient left out": Fault(
        "mlp",
        at(GRADIENT, "fc2", also_fills("weight:grad", slice(100, None))),
        "gradients",
        ("gradient of fc2:weight",),
    ),
    "a filter gradient left out": Fault(
        "cnn",
        at(GRADIENT, "conv2", also_fills("filter:grad", slice(0, 40))),
        "gradients",
        ("gradient of conv2:filter",),
    ),
    "a derivative without the slope": Fault(
        "mlp",
        at(
            DERIVATIVE,
            "act3",
            lambda s: [
                Call(elementwise.copy, (s.array("out0:grad"), s.array("in0:grad")))
            ],
        ),
        "gradients",
        ("gradient of fc",),
    ),
    "a derivative of other dropped elements": Fault(
        "transformer",
        at(DERIVATIVE, "drop", with_argument(3, lambda s, key: key ^ 1)),
        "gradients",
        ("gradient of ",),
    ),
    "a part of a residual's derivative left out": Fault(
        "residual",
        at(DERIVATIVE, "b", lambda s: s.calls[:-1]),
        "gradients",
        ("gradient of a:",),
    ),
    "random numbers of one process": Fault(
        "transformer",
        other_seed,
        "processes",
        ("bits of another process", "the first gradient of "),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_fault_in_a_program_is_found(name: str, monkeypatch: Patch) -> None:
    fault = PROGRAMS[name]
    fault.inject(monkeypatch)
    checks = checks_of(fault.net)

    found = list(first_defect(checks))
    if fault.check == "processes":
        assert found == []
        found = [run_check("processes", checks.processes)]

    assert found, "no check has found the fault"
    assert found[0].passed is False
    assert found[0].name == fault.check, found[0].finding
    missing = [part for part in fault.named if part not in found[0].finding]
    assert not missing, (missing, found[0].finding)
    assert names_a_tensor(found[0].finding, plan_of(fault.net)), found[0].finding


def test_there_are_faults_of_every_kind_in_every_kind_of_network() -> None:
    from test_faults import PLANS

    faults = [*PLANS.values(), *PROGRAMS.values()]
    assert len(faults) > 100
    assert {fault.net for fault in faults} == set(NETS)
    names = {name for name, _ in checks_of("mlp").all()}
    assert {fault.check for fault in faults} < names
