"""Plans of several RAMs, laid out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from arena_ckpt.allocation import allocate
from arena_ckpt.planning.memory_use import PlannedRam
from arena_ckpt.planning.plan import Buffer, MemoryPlan, check_plan
from arena_ckpt.planning.tensors import PERSISTENT


def in_rams(plan: MemoryPlan, sizes: Mapping[str, int]) -> MemoryPlan:
    """Return a plan with its buffers in several RAMs; constants stay where they are.

    Parameters
    ----------
    plan : MemoryPlan
        Of one RAM.
    sizes : mapping from str to int
        Bytes of each RAM, the fastest first. What comes and goes is put into the first
        that it still fits in, the largest buffers last; the rest goes into the last.
    """
    rams = tuple(PlannedRam(name, size) for name, size in sizes.items())
    held: dict[str, list[Buffer]] = {name: [] for name in sizes}
    placed: dict[str, list[int]] = {name: [] for name in sizes}
    *fast, slowest = sizes
    for buffer in sorted(
        plan.ram_buffers, key=lambda b: (b.kind in PERSISTENT, b.size_bytes, b.start)
    ):
        for name in (*fast, slowest):
            offsets, height = _laid_out(plan, [*held[name], buffer])
            if height <= sizes[name]:
                held[name].append(buffer)
                placed[name] = offsets
                break
        else:
            raise AssertionError(f"{buffer.tensor} fits into none of {sizes}")
    moved = {
        buffer.tensors: replace(buffer, memory=name, offset_bytes=offset)
        for name in sizes
        for buffer, offset in zip(held[name], placed[name], strict=True)
    }
    heights = [_laid_out(plan, held[name])[1] for name in sizes]
    changed = replace(
        plan,
        buffers=tuple(moved.get(b.tensors, b) for b in plan.buffers),
        rams=rams,
        arena_bytes=sum(heights),
    )
    check_plan(changed)
    return changed


def _laid_out(plan: MemoryPlan, buffers: list[Buffer]) -> tuple[list[int], int]:
    if not buffers:
        return [], 0
    layout = allocate(
        [b.start for b in buffers],
        [b.stop for b in buffers],
        [plan.taken_bytes(b.size_bytes) for b in buffers],
        alignment=plan.alignment_bytes,
        engine="greedy",
    )
    return [int(offset) for offset in layout.offset], int(layout.height_bytes)
