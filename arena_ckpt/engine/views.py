"""Arrays over the arena for the tensors of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from arena_ckpt.common.memories import CONSTANTS
from arena_ckpt.common.names import CONTROL
from arena_ckpt.engine.arena import Arena
from arena_ckpt.lowering.tensor_regions import TensorRegions
from arena_ckpt.operations.regions import Region
from arena_ckpt.planning.plan import Buffer, MemoryPlan


@dataclass(frozen=True, slots=True)
class Part:
    """A memory of a plan within the arena.

    Attributes
    ----------
    arena : Arena
    start : int
        Offset in the arena at which the memory begins.
    """

    arena: Arena
    start: int

    def at(self, region: Region) -> npt.NDArray[Any]:
        """Return the array that a region of this memory stands for."""
        offset_bytes = self.start + region.offset_bytes
        return self.arena.view(offset_bytes, region.shape, region.dtype)


def arena_of(plan: MemoryPlan) -> Arena:
    """Return an arena for all memories of a plan.

    Raises
    ------
    ArenaTooLargeError
    """
    return Arena(plan.arena_bytes, plan.constant_bytes)


class TensorViews:
    """The tensors of a plan as arrays in an arena.

    Parameters
    ----------
    plan : MemoryPlan
    arena : Arena
    """

    def __init__(self, plan: MemoryPlan, arena: Arena) -> None:
        self.plan = plan
        self.arena = arena
        self._regions = TensorRegions(plan)
        self.memories: Mapping[str, Part] = _parts(plan, arena)

    def offset_bytes(self, tensor: int) -> int:
        """Return where a live range begins in the arena, its memories side by side."""
        memory, offset_bytes = self._regions.place(tensor)
        return self.memories[memory].start + offset_bytes

    def start_of(self, buffer: Buffer) -> int:
        """Return where a buffer begins in the arena, its memories side by side."""
        return self.memories[buffer.memory].start + buffer.offset_bytes

    def extent_of(self, buffer: Buffer) -> tuple[int, int]:
        """Return where a buffer begins and ends in the arena, canary included."""
        start = self.start_of(buffer)
        return start, start + self.plan.taken_bytes(buffer.size_bytes)

    def is_constant(self, name: str) -> bool:
        """Tell whether no step writes the first live range of a tensor."""
        return self._regions.named(name).memory == CONSTANTS

    def describe_byte(self, byte: int) -> str:
        """Return a byte of the arena in words: ``"byte 64 of the constants"``."""
        name, part = max(
            (item for item in self.memories.items() if item[1].start <= max(byte, 0)),
            key=lambda item: item[1].start,
        )
        of = "the constants" if name == CONSTANTS else name if self.plan.rams else None
        return f"byte {byte - part.start} of {of or 'the arena'}"

    def array(self, tensor: int, n_samples: int | None = None) -> npt.NDArray[Any]:
        """Return the view of a live range, or of its first `n_samples` samples."""
        return self._at(self._regions.region(tensor, n_samples))

    def named(self, name: str, n_samples: int | None = None) -> npt.NDArray[Any]:
        """Return the view of the first live range of a tensor."""
        return self._at(self._regions.named(name, n_samples))

    def _at(self, region: Region) -> npt.NDArray[Any]:
        return self.memories[region.memory].at(region)

    @property
    def control(self) -> npt.NDArray[Any]:
        """The float64 scalars that change from step to step; see `Control`."""
        return self.named(CONTROL)


def _parts(plan: MemoryPlan, arena: Arena) -> dict[str, Part]:
    """Return where the memories of a plan stand: RAMs side by side, then constants."""
    parts, start = {}, 0
    for name, memory in plan.memories.items():
        if memory.is_constant:
            parts[name] = Part(arena, arena.constants_start)
        else:
            parts[name] = Part(arena, start)
            start += memory.height_bytes
    return parts
