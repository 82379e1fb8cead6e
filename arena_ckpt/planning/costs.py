"""Counts or looks up the cost of each step in time.

Counted costs are floating-point operations plus `BYTE_COST` for each byte of the
tensors that a step touches, so that a pass over memory without arithmetic is not free.
They are the same on every machine. Measured ones are seconds; only ratios matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.names import TILE, gradient_of, output_index, role_of
from arena_ckpt.common.phases import Phase
from arena_ckpt.common.short_repr import brief_repr
from arena_ckpt.planning.tensors import Execution, LiveRange, TensorKind

BYTE_COST = 8.0
"""Number of operations that take as long as one byte takes to be moved.

That is about 100 GFLOP/s over 12 GB/s of one core; with it the counted time of every
family of kernels is within a factor of 3 of the measured time.
"""


@dataclass(frozen=True, slots=True)
class Costs:
    """The cost of each step of one iteration.

    Attributes
    ----------
    of_step : dict from (str, Phase) to float
        Cost by layer and phase; steps at which no kernel runs have none.
    without_outputs : dict from str to float
        Cost of a forward pass that makes only what is saved for the backward pass, for
        layers that can leave their outputs out.
    """

    of_step: Mapping[tuple[str, Phase], float]
    without_outputs: Mapping[str, float]

    __repr__ = brief_repr

    def step(self, layer: str, phase: Phase) -> float:
        """Return the cost of a step, or 0 where no kernel runs."""
        return self.of_step.get((layer, phase), 0.0)

    def rerun(self, layer: str, tensors: Iterable[str]) -> float:
        """Return the cost of a recompute of some tensors of a layer."""
        whole = self.step(layer, Phase.FORWARD)
        if any(output_index(role_of(tensor)) is not None for tensor in tensors):
            return whole
        return self.without_outputs.get(layer, whole)


def count_costs(
    executions: Iterable[Execution],
    tensors: Sequence[LiveRange],
    flops: Mapping[str, Flops],
    n_samples: int,
) -> Costs:
    """Return the counted cost of every step except recomputes.

    Parameters
    ----------
    executions : iterable of Execution
    tensors : sequence of LiveRange
    flops : mapping from str to Flops
        Operations of each layer for one sample.
    n_samples : int
        Samples of a pass.
    """
    of_step: dict[tuple[str, Phase], float] = {}
    without_outputs = {}
    for execution in executions:
        layer, phase = execution.layer, execution.phase
        if phase is Phase.RECOMPUTE:
            continue
        n_bytes = sum(tensors[o.tensor].size_bytes for o in execution.operands)
        n_bytes += _bytes_through_tile(execution, tensors)
        of_layer = flops.get(layer, Flops())
        n_flops = _flops_of(of_layer, phase) * n_samples
        cost = n_flops + BYTE_COST * n_bytes
        of_step[layer, phase] = cost
        if phase is Phase.FORWARD and of_layer.output:
            without_outputs[layer] = cost - of_layer.output * n_samples
    return Costs(of_step, without_outputs)


def rerun_cost(
    executions: Iterable[Execution], tensors: Sequence[LiveRange], costs: Costs
) -> float:
    """Return the cost of all recomputes among some executions."""
    return sum(
        costs.rerun(
            execution.layer,
            (tensors[o.tensor].name for o in execution.operands if o.access.writes),
        )
        for execution in executions
        if execution.phase is Phase.RECOMPUTE
    )


def other_cost(executions: Iterable[Execution], costs: Costs) -> float:
    """Return the cost of all executions that are no recompute."""
    return sum(
        costs.step(execution.layer, execution.phase)
        for execution in executions
        if execution.phase is not Phase.RECOMPUTE
    )


def _bytes_through_tile(execution: Execution, tensors: Sequence[LiveRange]) -> int:
    """Return the bytes of gradients that are written and read again, tile by tile.

    The tile stays in the cache, but products of few rows are slower: measured, both are
    about even.
    """
    if execution.operand(TILE) is None:
        return 0
    return sum(
        2 * tensors[operand.tensor].size_bytes
        for operand in execution.operands
        if tensors[operand.tensor].kind is TensorKind.WEIGHT
        and execution.operand(gradient_of(operand.role)) is None
    )


def _flops_of(flops: Flops, phase: Phase) -> int:
    if phase is Phase.FORWARD:
        return flops.forward
    if phase is Phase.CALC_GRADIENT:
        return flops.calc_gradient
    return flops.calc_derivative if phase is Phase.CALC_DERIVATIVE else 0
