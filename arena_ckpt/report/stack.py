"""The memories of a plan as one stack, in the order and to the scale of all pictures.

The RAMs stand one on the other, the fastest at the bottom, and a byte of them is a byte
of the axis. Constants live at every step, so their height says nothing that a number
could not: they are a band of their own on top, behind a gap, squeezed so that a large
frozen trunk leaves the RAM its room.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arena_ckpt.planning.memory_use import MemoryUse
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.report.axes import short_bytes

GAP = 0.02
"""Height of the gap below the constants, as a share of the RAM's height."""

LOWEST_BAND, HIGHEST_BAND = 0.05, 0.08
"""Limits of the height of the constants' band, as shares of the RAM's height. Between
them it is true to scale."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StackedMemory:
    """A memory, and the part of the axis of bytes that it takes.

    Attributes
    ----------
    use : MemoryUse
    low, high : float
        On the axis, on which a byte of RAM is 1.
    """

    use: MemoryUse
    low: float
    high: float

    @property
    def scale(self) -> float:
        """Height of one byte on the axis; 1 but for constants."""
        height_bytes = self.use.height_bytes
        return (self.high - self.low) / height_bytes if self.use.is_constant else 1.0


@dataclass(frozen=True, slots=True)
class Stack:
    """The memories of a plan, from below, and where each buffer lies.

    Attributes
    ----------
    memories : tuple of StackedMemory
    low, high : float64 array, shape (number of buffers,)
        Ends of the plan's buffers on the axis, alignment and canary included.
    """

    memories: tuple[StackedMemory, ...]
    low: Floats
    high: Floats

    @property
    def top(self) -> float:
        """End of the highest memory on the axis; at least 1."""
        return max(self.memories[-1].high, 1)

    @property
    def gap(self) -> tuple[float, float] | None:
        """The part of the axis between RAM and constants; None without constants."""
        last = self.memories[-1]
        if not last.use.is_constant:
            return None
        below = self.memories[-2].high if len(self.memories) > 1 else 0.0
        return below, last.low


def stack_memories(plan: MemoryPlan) -> Stack:
    """Return the memories of a plan stacked on each other.

    Parameters
    ----------
    plan : MemoryPlan

    Notes
    -----
    O(buffers + executions).
    """
    memories: list[StackedMemory] = []
    end = 0.0
    for use in plan.memories.values():
        if use.is_constant:
            low = end + GAP * plan.arena_bytes
            least, most = (
                max(share * plan.arena_bytes, 1)
                for share in (LOWEST_BAND, HIGHEST_BAND)
            )
            high = low + min(max(use.height_bytes, least), most)
        else:
            low = end
            high = low + (use.height_bytes if plan.rams else plan.arena_bytes)
        memories.append(StackedMemory(use, low, high))
        end = high
    held_by = np.array(memory_numbers(plan), dtype=np.int64)
    base = np.array([memory.low for memory in memories])[held_by]
    scale = np.array([memory.scale for memory in memories])[held_by]
    offset = np.array([b.offset_bytes for b in plan.buffers], dtype=np.float64)
    taken = np.array(
        [plan.taken_bytes(b.size_bytes) for b in plan.buffers], dtype=np.float64
    )
    return Stack(
        tuple(memories), base + offset * scale, base + (offset + taken) * scale
    )


def memory_numbers(plan: MemoryPlan) -> list[int]:
    """Return for each buffer the number of its memory in `MemoryPlan.memories`."""
    number = {name: index for index, name in enumerate(plan.memories)}
    return [number[buffer.memory] for buffer in plan.buffers]


def is_arena_alone(plan: MemoryPlan) -> bool:
    """Say whether the arena is the only memory of a plan, so that none needs a name."""
    return not plan.rams and not plan.constant_bytes


def describe_memory(use: MemoryUse, *, with_fill: bool = True) -> str:
    """Return a memory, its size and how full it is in a few words.

    For example ``"sram 187.3 KiB of 512 KiB, 36.6 %"``; without a limit the name and
    what is taken alone.
    """
    taken = f"{use.name} {short_bytes(use.height_bytes)}"
    if not use.size_bytes:
        return taken
    taken += f" of {short_bytes(use.size_bytes)}"
    if not with_fill:
        return taken
    return f"{taken}, {100 * use.height_bytes / use.size_bytes:.1f} %"
