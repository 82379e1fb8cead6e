"""Faults put into kernels and programs on purpose: the checks of `verify` find them.

As in `test_faults`, but the plan is right and what runs is not. The faults in steps of
the backward pass are put where there are recomputes only, or everywhere: then no plan
is right to compare with, and slopes of the loss decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from helpers.fault_checks import checks_of, first_defect, names_a_tensor
from helpers.plan_faults import APPLY, DERIVATIVE, FORWARD, GRADIENT, PLANS, RECOMPUTE
from helpers.plan_surgery import NETS, plan_of
from helpers.program_faults import (
    Patch,
    also_fills,
    also_writes,
    also_writes_behind,
    at,
    displaced,
    first_life,
    fuses_always,
    moved,
    moves_statistics,
    never_adds,
    other_seed,
    where_recomputed,
    with_argument,
)

from arena_ckpt.layers.base import Call
from arena_ckpt.operations.families import elementwise
from arena_ckpt.operations.regions import Region
from arena_ckpt.verification.check_runner import run_check


@dataclass(frozen=True)
class Fault:
    net: str
    inject: Callable[[Patch], None]
    check: str
    named: tuple[str, ...]


PROGRAMS: dict[str, Fault] = {
    # -- writes to constants
    "into a frozen weight": Fault(
        "frozen",
        at(FORWARD, "conv2", also_fills("filter", slice(0, 1))),
        "memory",
        ("'conv2' in forward", "conv2:filter, its operand filter"),
    ),
    "into a frozen statistic of another layer": Fault(
        "frozen",
        at(DERIVATIVE, "bn2", also_writes_behind("gamma", 16)),
        "memory",
        ("'bn2' in calc_derivative", "wrote", "bn2:beta"),
    ),
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
                        if isinstance(a, Region)
                        and a.offset_bytes == s.array("mean").offset_bytes
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
            with_argument(2, lambda s, counters: np.full(counters.shape, 5.0)),
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
    faults = [*PLANS.values(), *PROGRAMS.values()]
    assert len(faults) > 100
    assert {fault.net for fault in faults} == set(NETS)
    names = {name for name, _ in checks_of("mlp").all()}
    assert {fault.check for fault in faults} < names
