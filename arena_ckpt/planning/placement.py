"""Places a buffer for each group of tensors that share their bytes."""

from __future__ import annotations

from dataclasses import dataclass

from arena_ckpt.allocation import allocate
from arena_ckpt.common.memories import ARENA, CONSTANTS
from arena_ckpt.common.units import ALIGNMENT_BYTES, align_up
from arena_ckpt.planning.live_ranges import Liveness
from arena_ckpt.planning.memory_use import constant_tensors
from arena_ckpt.planning.plan import Buffer
from arena_ckpt.planning.settings import PlanSettings


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the buffers of a plan lie.

    Attributes
    ----------
    buffers : tuple of Buffer
        One for each group of tensors, in their order.
    arena_bytes : int
        Bytes of RAM.
    constant_bytes : int
        Bytes of the memory `CONSTANTS`.
    lower_bound_bytes : int
        Bytes of RAM that no layout of these buffers is below.
    allocator : str
        Name of the method that found the layout of the RAM.
    """

    buffers: tuple[Buffer, ...]
    arena_bytes: int
    constant_bytes: int
    lower_bound_bytes: int
    allocator: str


def place(
    liveness: Liveness, n_steps: int, settings: PlanSettings, layout_nodes: int
) -> Placement:
    """Place the buffers of an iteration.

    Parameters
    ----------
    liveness : Liveness
    n_steps : int
    settings : PlanSettings
    layout_nodes : int
        Maximum number of nodes of the search for a layout.

    Returns
    -------
    Placement
    """
    groups, tensors = liveness.groups, liveness.tensors
    apart = settings.constants_of(constant_tensors(tensors, liveness.executions))
    sizes = [tensors[group[0]].size_bytes for group in groups]
    taken = [align_up(size + settings.canary_bytes) for size in sizes]
    ranges = [
        _range_of(liveness, group, n_steps, settings.share_memory) for group in groups
    ]
    in_ram = [index for index, group in enumerate(groups) if group[0] not in apart]
    layout = allocate(
        [ranges[index][0] for index in in_ram],
        [ranges[index][1] for index in in_ram],
        [taken[index] for index in in_ram],
        alignment=ALIGNMENT_BYTES,
        node_limit=layout_nodes,
    )
    places = {
        index: (ARENA, int(offset))
        for index, offset in zip(in_ram, layout.offset, strict=True)
    }
    constant_bytes = 0
    for index in range(len(groups)):
        if index not in places:
            places[index] = CONSTANTS, constant_bytes
            constant_bytes += taken[index]
    buffers = []
    for index, group in enumerate(groups):
        main = max((tensors[i] for i in group), key=lambda t: t.stop - t.start)
        memory, offset_bytes = places[index]
        buffers.append(
            Buffer(
                main.name,
                main.kind,
                *ranges[index],
                offset_bytes,
                sizes[index],
                group,
                memory,
            )
        )
    return Placement(
        buffers=tuple(buffers),
        arena_bytes=layout.height_bytes,
        constant_bytes=constant_bytes,
        lower_bound_bytes=layout.lower_bound_bytes,
        allocator=layout.engine,
    )


def _range_of(
    liveness: Liveness, group: tuple[int, ...], n_steps: int, share_memory: bool
) -> tuple[int, int]:
    """Return the range of steps of a group's buffer; all steps without memory reuse."""
    if not share_memory:
        return 0, n_steps
    members = [liveness.tensors[i] for i in group]
    return min(t.start for t in members), max(t.stop for t in members)
