"""The plan of inference, held against a budget: it has nothing to recompute."""

from __future__ import annotations

from dataclasses import replace

from arena_ckpt.common.units import format_bytes
from arena_ckpt.errors import BudgetError
from arena_ckpt.graph.build import Graph
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.planner import make_plan
from arena_ckpt.planning.settings import PlanSettings


def plan_inference(
    graph: Graph, settings: PlanSettings, budget_bytes: int | None = None
) -> MemoryPlan:
    """Return the plan of inference, if its arena is within a budget.

    Parameters
    ----------
    graph : Graph
    settings : PlanSettings
        Of inference.
    budget_bytes : int, optional
        Maximum bytes of the arena.

    Raises
    ------
    BudgetError
        The arena is larger; the message says which batch size would fit.
    """
    plan = make_plan(graph, settings)
    if budget_bytes is None or plan.arena_bytes <= budget_bytes:
        return plan
    step = plan.peak_step
    named = [plan.tensor_in(buffer, step).name for buffer in plan.alive_at(step)[:3]]
    raise BudgetError(
        f"inference takes {format_bytes(plan.arena_bytes)}, more than the budget of "
        f"{format_bytes(budget_bytes)}, and has nothing to recompute. At its peak "
        f"({plan.describe_step(step)}) the largest tensors are {', '.join(named)}. "
        f"{_advice(graph, settings, budget_bytes)}",
        budget_bytes=budget_bytes,
        least_bytes=plan.arena_bytes,
        lower_bound_bytes=plan.live_lower_bound_bytes,
        step=step,
        tensors=tuple(named),
        plan=plan,
    )


def _advice(graph: Graph, settings: PlanSettings, budget_bytes: int) -> str:
    """Return a sentence that names the largest batch size that fits."""
    low, high = 0, settings.pass_samples
    while high - low > 1:
        middle = (low + high) // 2
        smaller = replace(settings, batch_size=middle, micro_batches=1)
        fits = make_plan(graph, smaller).arena_bytes <= budget_bytes
        low, high = (middle, high) if fits else (low, middle)
    if low:
        return (
            f"It would fit with batch_size={low}; predict takes any number of samples."
        )
    return "Not even one sample fits: make the layers smaller."
