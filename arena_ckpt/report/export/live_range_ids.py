"""Ids of live ranges and buffers, the same in every export format."""

from __future__ import annotations

from arena_ckpt.planning.plan import Buffer, MemoryPlan
from arena_ckpt.planning.tensors import LiveRange


def live_range_id(tensor: LiveRange) -> str:
    """Return ``"fc1:out0"`` for a tensor's first live range, ``"fc1:out0#1"`` later.

    No name has a ``#`` in it, so no two live ranges have one id.
    """
    return f"{tensor.name}#{tensor.life}" if tensor.life else tensor.name


def main_live_range(plan: MemoryPlan, buffer: Buffer) -> LiveRange:
    """Return the live range that a buffer is named after, its tensor's longest."""
    ranges = [plan.tensors[index] for index in buffer.tensors]
    named = [each for each in ranges if each.name == buffer.tensor]
    return max(named or ranges, key=lambda each: each.stop - each.start)


def buffer_id(plan: MemoryPlan, buffer: Buffer) -> str:
    """Return the id of a buffer's main live range; no two buffers have one id."""
    return live_range_id(main_live_range(plan, buffer))
