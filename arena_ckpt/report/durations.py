"""How long each step of a plan takes: counted here, or measured and given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from arena_ckpt.common.phases import Phase
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.planning.plan import MemoryPlan

MOST_SECONDS = 1e6
"""Maximum duration of a step, in seconds."""


class TimedCall(Protocol):
    """A kernel call whose duration was measured, as a profile has them."""

    @property
    def step(self) -> int:
        """Step of the plan."""

    @property
    def kernel(self) -> str:
        """Name of the kernel."""

    @property
    def seconds(self) -> float:
        """How long it took."""


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


def require_timed_calls(plan: MemoryPlan, calls: Sequence[TimedCall]) -> None:
    """Refuse timed calls that are not of a plan, or not in the order of its steps.

    Parameters
    ----------
    plan : MemoryPlan
    calls : sequence of TimedCall

    Raises
    ------
    InvalidParameterError
    """
    n_steps, before = len(plan.steps), 0
    for call in calls:
        if not before <= call.step < n_steps or plan.steps[call.step] is None:
            raise InvalidParameterError(
                f"a call of {call.kernel} is timed at step {call.step}, and the plan "
                f"has {n_steps} steps, in ascending order; give the calls of a profile "
                "of this plan",
                step=call.step,
                n_steps=n_steps,
            )
        if not 0 <= call.seconds < MOST_SECONDS:
            raise InvalidParameterError(
                f"a call of {call.kernel} at step {call.step} takes {call.seconds} "
                "seconds; durations are finite and at least 0",
                step=call.step,
                seconds=call.seconds,
            )
        before = call.step
