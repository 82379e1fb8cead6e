"""What recomputes make once more although the forward pass has kept it.

A recompute that wants other results of its layer writes these to a workspace that
nobody reads. A layer may copy what was kept there, which costs less than to make it.
"""

from __future__ import annotations

from collections.abc import Mapping

from arena_ckpt.common.names import discarded
from arena_ckpt.common.phases import Phase
from arena_ckpt.planning.plan import MemoryPlan

NOTHING_KEPT: Mapping[str, int] = {}
"""What a step has where nothing was kept that it makes once more."""


def kept_results(plan: MemoryPlan) -> dict[int, dict[str, int]]:
    """Return, by step and role, the kept tensors that recomputes make once more.

    Parameters
    ----------
    plan : MemoryPlan

    Returns
    -------
    dict from int to dict from str to int
        Indices of tensors of the plan that are live at the step.

    Notes
    -----
    O(tensors + operands).
    """
    lives: dict[str, list[int]] = {}
    for index, tensor in enumerate(plan.tensors):
        lives.setdefault(discarded(tensor.name), []).append(index)
    found: dict[int, dict[str, int]] = {}
    for execution in plan.executions:
        if execution.phase is not Phase.RECOMPUTE:
            continue
        for operand in execution.operands:
            name = plan.tensors[operand.tensor].name
            for index in lives.get(name, ()):
                kept = plan.tensors[index]
                if kept.start <= execution.step < kept.stop:
                    found.setdefault(execution.step, {})[operand.role] = index
    return found
