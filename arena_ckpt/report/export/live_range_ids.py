"""What exporters call tensors and buffers, the same in every format."""

from __future__ import annotations

from arena_ckpt.planning.plan import Buffer, MemoryPlan
from arena_ckpt.planning.tensors import LiveRange


def life_id(tensor: LiveRange) -> str:
    """Return ``"fc1:out0"`` for the first life of a tensor, ``"fc1:out0#1"`` later.

    No name has a ``#`` in it, so two lives never have one id.
    """
    return f"{tensor.name}#{tensor.life}" if tensor.life else tensor.name


def main_life(plan: MemoryPlan, buffer: Buffer) -> LiveRange:
    """Return the life that a buffer is named after, the longest of its tensor."""
    lives = [plan.tensors[index] for index in buffer.tensors]
    named = [life for life in lives if life.name == buffer.tensor]
    return max(named or lives, key=lambda life: life.stop - life.start)


def buffer_id(plan: MemoryPlan, buffer: Buffer) -> str:
    """Return the id of a buffer's main life; no two buffers have one id."""
    return life_id(main_life(plan, buffer))
