"""Places a buffer for each group of tensors that share their bytes.

Constants stand one behind the other in a memory of their own. The others are laid out
in one RAM as low as can be found, or in several so that the slower ones are touched as
little as can be found: a buffer counts with the bytes that an iteration reads and
writes there. Where not all of it fits, the last RAM is taken to be longer than it is,
and the plan says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arena_ckpt.allocation import Layout, allocate
from arena_ckpt.allocation.bounds import live_bytes
from arena_ckpt.allocation.integers import Integers
from arena_ckpt.common.memories import ARENA, CONSTANTS
from arena_ckpt.common.units import ALIGNMENT_BYTES, align_up, format_bytes
from arena_ckpt.common.wording import listed, nearest
from arena_ckpt.errors import (
    BudgetError,
    CapacityError,
    InvalidBufferError,
    InvalidParameterError,
    TimeLimitError,
)
from arena_ckpt.planning.live_ranges import Liveness
from arena_ckpt.planning.memory_use import PlannedRam, touched_bytes
from arena_ckpt.planning.placing import Pin, describe_rams
from arena_ckpt.planning.plan import Buffer
from arena_ckpt.planning.settings import PlanSettings
from arena_ckpt.planning.tensors import LiveRange
from arena_ckpt.planning.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the buffers of a plan lie.

    Attributes
    ----------
    buffers : tuple of Buffer
        One for each group of tensors, in their order.
    rams : tuple of PlannedRam
        Those of the settings; the last is longer where not all of it fits, or where
        canaries take room as well.
    arena_bytes : int
        Bytes of RAM.
    constant_bytes : int
        Bytes of the memory `CONSTANTS`.
    lower_bound_bytes : int
        The most bytes of RAM alive at one step.
    allocator : str
        Name of the method that found the layout of the RAM.
    """

    buffers: tuple[Buffer, ...]
    rams: tuple[PlannedRam, ...]
    arena_bytes: int
    constant_bytes: int
    lower_bound_bytes: int
    allocator: str


def place(
    liveness: Liveness,
    timeline: Timeline,
    settings: PlanSettings,
    constants: frozenset[int],
    layout_nodes: int,
) -> Placement:
    """Place the buffers of an iteration.

    Parameters
    ----------
    liveness : Liveness
    timeline : Timeline
    settings : PlanSettings
    constants : frozenset of int
        Tensors that lie beside the RAM.
    layout_nodes : int
        Maximum number of nodes of the search for a layout.

    Returns
    -------
    Placement

    Raises
    ------
    InvalidParameterError
        A pin that fits no tensor, or contradicts another.
    BudgetError
        Pinned buffers do not fit together.
    """
    n_steps = len(timeline.steps)
    all_steps = None if settings.share_memory else (0, n_steps)
    groups = [
        _Group(
            [liveness.tensors[index] for index in members],
            members,
            settings.canary_bytes,
            all_steps,
        )
        for members in liveness.groups
    ]
    _follow_pins(groups, settings.pins)
    apart = [g for g in groups if g.members[0] in constants]
    in_ram = [g for g in groups if g.members[0] not in constants]
    layout, heights = _lay_out(in_ram, liveness, timeline, settings, layout_nodes)
    names = [ram.name for ram in settings.rams] or [ARENA]
    pools = np.zeros(len(in_ram), np.int64) if layout.pool is None else layout.pool
    for group, offset, pool in zip(
        in_ram, layout.offset.tolist(), pools.tolist(), strict=True
    ):
        group.memory, group.offset_bytes = names[pool], offset
    constant_bytes = 0
    for group in apart:
        group.memory, group.offset_bytes = CONSTANTS, constant_bytes
        constant_bytes += group.taken_bytes
    return Placement(
        buffers=tuple(group.buffer() for group in groups),
        rams=tuple(
            PlannedRam(ram.name, max(ram.size_bytes, height))
            for ram, height in zip(settings.rams, heights, strict=False)
        ),
        arena_bytes=sum(heights),
        constant_bytes=constant_bytes,
        lower_bound_bytes=_most_alive(in_ram),
        allocator=layout.engine,
    )


class _Group:
    """Tensors that share their bytes, and where these lie.

    Parameters
    ----------
    held : sequence of LiveRange
    members : tuple of int
        Indices of the same tensors.
    canary_bytes : int
    steps : (int, int) or None
        Steps of the buffer; by default those from the first to the last of a tensor.
    """

    def __init__(
        self,
        held: Sequence[LiveRange],
        members: tuple[int, ...],
        canary_bytes: int,
        steps: tuple[int, int] | None,
    ) -> None:
        self.held = held
        self.members = members
        self.main = max(held, key=lambda t: t.stop - t.start)
        self.start, self.stop = steps or (
            min([t.start for t in held]),
            max([t.stop for t in held]),
        )
        self.size_bytes = held[0].size_bytes
        self.taken_bytes = align_up(self.size_bytes + canary_bytes)
        self.pin: Pin | None = None
        self.memory, self.offset_bytes = ARENA, 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(t.name for t in self.held))

    def buffer(self) -> Buffer:
        return Buffer(
            self.main.name,
            self.main.kind,
            self.start,
            self.stop,
            self.offset_bytes,
            self.size_bytes,
            self.members,
            self.memory,
        )


def _most_alive(groups: Sequence[_Group]) -> int:
    return int(live_bytes(*_columns(groups)).max(initial=0))


def _columns(groups: Sequence[_Group]) -> tuple[Integers, Integers, Integers]:
    """Return starts, stops and sizes of groups."""
    return (
        np.array([g.start for g in groups], dtype=np.int64),
        np.array([g.stop for g in groups], dtype=np.int64),
        np.array([g.taken_bytes for g in groups], dtype=np.int64),
    )


def _follow_pins(groups: Sequence[_Group], pins: Sequence[Pin]) -> None:
    """Give each group the pin of its tensors.

    Raises
    ------
    InvalidParameterError
    """
    for pin in pins:
        found = [g for g in groups if any(map(pin.fits, g.names))]
        if not found:
            known = [name for group in groups for name in group.names]
            raise InvalidParameterError(
                f"pin: no tensor of the plan is called {pin.pattern!r}"
                f"{nearest(pin.pattern, known)}; arena-ckpt plan lists the largest, "
                "[t.name for t in plan.tensors] all",
                tensor=pin.pattern,
            )
        for group in found:
            other = group.pin
            if other is not None and (other.memory, other.offset_bytes) != (
                pin.memory,
                pin.offset_bytes,
            ):
                raise InvalidParameterError(
                    f"pin: {pin.pattern!r} and {other.pattern!r} want the same bytes, "
                    f"those of {listed(group.names)}, in {pin.memory}"
                    f"{_at(pin)} and in {other.memory}{_at(other)}; keep one",
                    tensor=group.main.name,
                )
            group.pin = pin


def _at(pin: Pin) -> str:
    return "" if pin.offset_bytes is None else f" at {pin.offset_bytes}"


def _lay_out(
    groups: Sequence[_Group],
    liveness: Liveness,
    timeline: Timeline,
    settings: PlanSettings,
    layout_nodes: int,
) -> tuple[Layout, tuple[int, ...]]:
    """Lay out what lies in RAM; return the layout and the height of each RAM.

    Raises
    ------
    BudgetError, InvalidParameterError
    """
    if len(settings.rams) > 1:
        return _lay_out_in_several(groups, liveness, timeline, settings, layout_nodes)
    layout = _allocate(groups, layout_nodes)
    return layout, (layout.height_bytes,)


def _lay_out_in_several(
    groups: Sequence[_Group],
    liveness: Liveness,
    timeline: Timeline,
    settings: PlanSettings,
    layout_nodes: int,
) -> tuple[Layout, tuple[int, ...]]:
    """Lay out what lies in RAM; the last is longer than it is if that has to be."""
    rams = settings.rams
    _require_room(groups, rams)
    touched = touched_bytes(
        liveness.tensors,
        liveness.executions,
        n_pass=timeline.n_pass,
        n_passes=settings.micro_batches,
    )
    number_of = {ram.name: number for number, ram in enumerate(rams)}
    allowed = [None if g.pin is None else number_of[g.pin.memory] for g in groups]
    sizes = [ram.size_bytes for ram in rams]
    # Canaries are no reason to refuse a plan that fits without.
    lasts = (None,) if settings.canary_bytes else (sizes[-1], None)
    for last in lasts:
        try:
            layout = _allocate(
                groups,
                layout_nodes,
                pools=[*sizes[:-1], last],
                allowed_pools=allowed,
                spill_weights=[sum(touched[i] for i in g.members) for g in groups],
            )
        except (CapacityError, TimeLimitError):
            continue
        return layout, layout.pool_heights_bytes
    raise _crowded(groups, rams)


def _allocate(groups: Sequence[_Group], layout_nodes: int, **pools: Any) -> Layout:
    """Lay out groups as they are pinned.

    Raises
    ------
    InvalidParameterError
        Pinned groups overlap.
    CapacityError, TimeLimitError
        The pools do not hold all, or are not known to.
    """
    try:
        return allocate(
            *_columns(groups),
            alignment=ALIGNMENT_BYTES,
            fixed_offset=_fixed(groups),
            node_limit=layout_nodes,
            **pools,
        )
    except InvalidBufferError as error:
        raise _colliding(groups, error) from None


def _fixed(groups: Sequence[_Group]) -> list[int | None] | None:
    """Return the offsets that pins fix; None if there are none."""
    offsets = [None if g.pin is None else g.pin.offset_bytes for g in groups]
    return offsets if any(offset is not None for offset in offsets) else None


def _require_room(groups: Sequence[_Group], rams: Sequence[PlannedRam]) -> None:
    sizes = {ram.name: ram.size_bytes for ram in rams}
    for group in groups:
        pin = group.pin
        if pin is None:
            continue
        end = (pin.offset_bytes or 0) + group.taken_bytes
        if end > sizes[pin.memory]:
            raise InvalidParameterError(
                f"pin: {group.main.name} takes {format_bytes(group.taken_bytes)}"
                f"{_at(pin)}, and {pin.memory} has {format_bytes(sizes[pin.memory])}; "
                "pin it to a larger RAM, or leave it free",
                tensor=group.main.name,
                memory=pin.memory,
                size_bytes=group.taken_bytes,
                memory_bytes=sizes[pin.memory],
            )


def _colliding(
    groups: Sequence[_Group], error: InvalidBufferError
) -> InvalidParameterError:
    names = [groups[index].main.name for index in getattr(error, "buffers", ())]
    return InvalidParameterError(
        f"pin: {listed(names) or 'tensors'} cannot lie where they are pinned, as they "
        "live at the same steps and would overlap; leave an offset open",
        tensors=tuple(names),
    )


def _crowded(groups: Sequence[_Group], rams: Sequence[PlannedRam]) -> BudgetError:
    """Return the error for pinned buffers that a RAM cannot hold together."""
    pinned = {
        ram.name: [g for g in groups if g.pin and g.pin.memory == ram.name]
        for ram in rams
    }
    most = {name: _most_alive(held) for name, held in pinned.items() if held}
    sizes = {ram.name: ram.size_bytes for ram in rams}
    worst = max(most, key=lambda name: most[name] - sizes[name], default=rams[0].name)
    return BudgetError(
        f"what is pinned does not fit into {describe_rams(tuple(rams))}: in {worst} "
        f"{format_bytes(most.get(worst, 0))} of it live at one step; pin less",
        budget_bytes=sum(sizes.values()),
        memory=worst,
    )
