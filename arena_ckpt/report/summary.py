"""The facts in the tables of a plan as plain values; loads nothing that draws."""

from __future__ import annotations

import dataclasses
from typing import Any

from arena_ckpt.common.phases import Phase
from arena_ckpt.planning.plan import MemoryPlan


def plan_summary(plan: MemoryPlan) -> dict[str, Any]:
    """Return what the tables show as plain values: sizes in bytes, times in steps.

    Returns
    -------
    dict
        ``docs/cli.md`` lists the keys.
    """
    step = plan.peak_step
    running = plan.steps[step]
    again = recomputed_layers(plan)
    return {
        "batch_size": plan.batch_size,
        "micro_batches": plan.micro_batches,
        "arena_bytes": plan.arena_bytes,
        "live_lower_bound_bytes": plan.live_lower_bound_bytes,
        "local_lower_bound_bytes": plan.local_lower_bound_bytes,
        "naive_bytes": plan.naive_bytes,
        "constant_bytes": plan.constant_bytes,
        "memories": [dataclasses.asdict(use) for use in plan.memories.values()],
        "proved_optimal": plan.proved_optimal,
        "overhead": plan.overhead,
        "allocator": plan.allocator,
        "canary_bytes": plan.canary_bytes,
        "peak": {
            "step": step,
            "phase": running.phase.value if running else None,
            "layer": running.layer if running else None,
            "bytes_by_kind": {
                kind.value: size for kind, size in plan.bytes_by_kind(step).items()
            },
            "buffers": [
                {
                    "tensor": plan.tensor_in(buffer, step).name,
                    "kind": plan.tensor_in(buffer, step).kind.value,
                    "size_bytes": buffer.size_bytes,
                    "memory": buffer.memory,
                    "offset_bytes": buffer.offset_bytes,
                    "start_step": buffer.start,
                    "stop_step": buffer.stop,
                }
                for buffer in plan.alive_at(step)
            ],
        },
        "blocks": [
            {
                "name": block.name,
                "layers": list(block.layers),
                "recomputed": [name for name in block.layers if name in again],
            }
            for block in plan.blocks
        ],
        "execution_order": {
            name: order._asdict() for name, order in plan.execution_order.items()
        },
    }


def recomputed_layers(plan: MemoryPlan) -> tuple[str, ...]:
    """Return the layers whose forward kernels run again, in order of time."""
    return tuple(
        execution.layer
        for execution in plan.executions
        if execution.phase is Phase.RECOMPUTE
    )


def plan_rows(plan: MemoryPlan) -> list[dict[str, Any]]:
    """Return a row of plain values for each live range; see `MemoryPlan.to_rows`."""
    buffer_of = {i: buffer for buffer in plan.buffers for i in buffer.tensors}
    rows = []
    for index, tensor in enumerate(plan.tensors):
        buffer = buffer_of[index]
        others = [plan.tensors[i].name for i in buffer.tensors if i != index]
        rows.append(
            {
                "tensor": tensor.name,
                "life": tensor.life,
                "kind": tensor.kind.value,
                "layer": tensor.layer,
                "dtype": tensor.dtype,
                "shape": "x".join(map(str, tensor.shape)),
                "size_bytes": tensor.size_bytes,
                "memory": buffer.memory,
                "offset_bytes": buffer.offset_bytes,
                "start_step": tensor.start,
                "stop_step": tensor.stop,
                "shares_with": ";".join(dict.fromkeys(others)),
            }
        )
    return rows
