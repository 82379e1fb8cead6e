"""A plan as some lines of plain text, which `print(plan)` shows."""

from __future__ import annotations

import textwrap

from arena_ckpt.common.short_repr import counted
from arena_ckpt.common.units import format_bytes, format_percent
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.report.explain import explain
from arena_ckpt.report.summary import recomputed_layers

_COLUMNS = 80


def plan_text(plan: MemoryPlan) -> str:
    """Return the totals of a plan and the sentences on what limits it."""
    head = [
        counted(len(plan.layers), "layer"),
        f"batch size {plan.batch_size:,}",
        counted(len(plan.steps), "step"),
        counted(len(plan.buffers), "buffer"),
    ]
    if plan.micro_batches > 1:
        head.append(f"{plan.micro_batches} micro-batches")
    if plan.canary_bytes:
        head.append("debug")
    what = "inference" if plan.is_inference else "training"
    proof = "proved optimal" if plan.proved_optimal else "not proved optimal"
    totals = [("arena", plan.arena_bytes, proof)]
    if len(plan.rams) > 1:
        totals = [("all RAMs", plan.arena_bytes, "")]
    totals += [
        (use.name, use.height_bytes, "nothing writes here" if use.is_constant else "")
        for use in plan.memories.values()
        if use.is_constant or plan.rams
    ]
    totals += [
        ("live lower bound", plan.live_lower_bound_bytes, "of this plan"),
        ("local lower bound", plan.local_lower_bound_bytes, "of every plan"),
        ("sum without reuse", plan.naive_bytes, ""),
    ]
    names = [name if len(name) <= 24 else f"{name[:23]}…" for name, _, _ in totals]
    sizes = [format_bytes(size) for _, size, _ in totals]
    left, right = max(map(len, names)), max(map(len, sizes))
    lines = [f"memory plan for {what}: {', '.join(head)}"]
    lines += [
        f"  {name:{left}}  {size:>{right}}  {said}".rstrip()
        for name, size, (_, _, said) in zip(names, sizes, totals, strict=True)
    ]
    n_reruns = len(recomputed_layers(plan))
    if n_reruns:
        again = counted(n_reruns, "recompute")
        lines.append(f"{again}, {format_percent(plan.overhead)} overhead")
    for sentence in explain(plan):
        lines += textwrap.wrap(sentence, _COLUMNS)
    return "\n".join(lines)
