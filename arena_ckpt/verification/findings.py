"""The error for a plan that breaks a rule of `dataflow`."""

from __future__ import annotations

from arena_ckpt.errors import DataflowError
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import Execution


def broken(
    plan: MemoryPlan,
    rule: str,
    tensor: str,
    execution: Execution | None,
    problem: str,
    layer: str | None = None,
) -> DataflowError:
    """Return the error that names the rule, the tensor, the step and the layer.

    Parameters
    ----------
    plan : MemoryPlan
    rule, tensor : str
    execution : Execution or None
        The step at fault.
    problem : str
        What follows its description in the message.
    layer : str, optional
        Where no step is at fault.
    """
    where = f"{plan.describe_step(execution.step)} " if execution else ""
    return DataflowError(
        f"the plan breaks the rule of {rule}: {where}{problem}",
        rule=rule,
        tensor=tensor,
        step=execution.step if execution else None,
        layer=execution.layer if execution else layer,
    )
