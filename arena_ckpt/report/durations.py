"""How long each step of a plan takes: counted here, or measured and given."""

from __future__ import annotations

from collections.abc import Sequence

from arena_ckpt.common.phases import Phase
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.planning.plan import MemoryPlan

MOST_SECONDS = 1e6
"""Maximum duration of a step, in seconds."""


def counted_operations(plan: MemoryPlan) -> list[float]:
    """Return the counted cost of each step in operations, 0 where no kernel runs.

    Parameters
    ----------
    plan : MemoryPlan

    Notes
    -----
    O(operands). `MemoryPlan.counted_costs` says what is counted.
    """
    costs = plan.counted_costs
    operations = [0.0] * len(plan.steps)
    for execution in plan.executions:
        if execution.phase is Phase.RECOMPUTE:
            written = (o.tensor for o in execution.operands if o.access.writes)
            names = (plan.tensors[tensor].name for tensor in written)
            operations[execution.step] = costs.rerun(execution.layer, names)
        else:
            cost = costs.step(execution.layer, execution.phase)
            operations[execution.step] = cost
    return operations


def require_durations(
    plan: MemoryPlan, step_seconds: Sequence[float], what: str = "steps"
) -> None:
    """Refuse durations that are not one for each step, finite and at least 0.

    Parameters
    ----------
    plan : MemoryPlan
    step_seconds : sequence of float
    what : str
        What to call the steps, where there are those of another plan too.
    """
    n_steps = len(plan.steps)
    if len(step_seconds) != n_steps:
        raise InvalidParameterError(
            f"there are {n_steps} {what} but {len(step_seconds)} durations; give one "
            "for each step of the plan",
            n_steps=n_steps,
        )
    for step, seconds in enumerate(step_seconds):
        if not 0 <= seconds < MOST_SECONDS:
            raise InvalidParameterError(
                f"step {step} takes {seconds} seconds; durations are finite and at "
                "least 0",
                step=step,
                seconds=seconds,
            )
