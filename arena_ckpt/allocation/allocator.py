"""The entry of the allocator: it turns a user's arguments into a checked layout."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from arena_ckpt.allocation.buffers import Buffers, Gap, make_buffers
from arena_ckpt.allocation.integers import IntegerLike
from arena_ckpt.allocation.layout import Layout
from arena_ckpt.allocation.pool_rules import (
    AllowedPools,
    Pools,
    PoolSizes,
    make_pools,
)
from arena_ckpt.allocation.pools import allocate_in_pools
from arena_ckpt.allocation.search_options import SearchOptions
from arena_ckpt.allocation.single import allocate_in_one
from arena_ckpt.common.arguments import public_call
from arena_ckpt.errors import InvalidParameterError


@public_call
def allocate(
    lower: IntegerLike,
    upper: IntegerLike,
    size: IntegerLike,
    *,
    alignment: int | IntegerLike = 1,
    fixed_offset: Sequence[int | None] | None = None,
    gaps: Sequence[Iterable[Gap] | None] | None = None,
    group: Sequence[Hashable | None] | None = None,
    capacity: int | None = None,
    pools: PoolSizes | None = None,
    allowed_pools: AllowedPools | None = None,
    spill_weights: Sequence[float] | None = None,
    time_limit_seconds: float = 1.0,
    node_limit: int | None = None,
    engine: str = "auto",
    seed: int = 0,
    progress: bool | None = None,
) -> Layout:
    """Place buffers so that no two that overlap in time overlap in memory.

    Parameters
    ----------
    lower, upper : sequence of int, length n
        Live ranges in steps, half-open.
    size : sequence of int, length n
        Sizes in bytes.
    alignment : int or sequence of int
        Bytes of which each offset must be a multiple.
    fixed_offset : sequence of int or None, optional
        Offsets that are given; None leaves one free.
    gaps : sequence, optional
        For each buffer None or its gaps ``(lower, upper)`` in ascending order: steps in
        which its bytes are free for others; with ``(lower, upper, window_lower,
        window_upper)`` all but those bytes of it.
    group : sequence of hashable or None, optional
        Buffers of equal value are placed one behind the other in the order of their
        indexes, with no more between them than their alignment asks for. A group
        begins at a multiple of all its members' alignments.
    capacity : int, optional
        Maximum height in bytes; the first layout that fits is returned. Without it the
        height is minimized.
    pools : sequence of int or None, or mapping of str to size, optional
        Sizes in bytes of several memories, the preferred first; None, for the last
        only, has no limit. A mapping gives them names, and there a size may be a text
        as in ``"128KiB"``. What does not fit into one spills to the next, as few bytes
        × steps as can be found: for up to 40 buffers or groups every choice is
        searched, and ``stats["spill_proved_least"]`` says whether that ended. The
        layout says the pool of each buffer.
    allowed_pools : sequence, optional
        For each buffer the pools that it may lie in: None for all, the number or name
        of one, or a collection of them. A group lies in a pool that is allowed for all
        its members. A fixed offset counts from the start of the buffer's pool, and
        needs exactly one that is allowed.
    spill_weights : sequence of float, optional
        For each buffer what it costs if it lies one pool further down, a number of at
        least 0, for example the bytes that are read and written there. What lies beyond
        the first pool is made as small as can be found, then what lies beyond the
        second, and so on, counted in these weights instead of bytes × steps.
    time_limit_seconds : float
        Maximum seconds for improving and proving, after the greedy orders.
    node_limit : int, optional
        Maximum number of nodes of the search, instead of seconds: the same buffers then
        give the same layout on every machine.
    engine : {"auto", "greedy", "exact", "large"}
        ``"greedy"`` tries static orders only; ``"exact"`` searches with proofs, for at
        most 2,000 bodies; ``"large"`` goes on with jittered orders; ``"auto"`` is
        ``"exact"`` where it can be and else ``"large"``. All begin with the greedy
        orders, so none is ever worse than they are.
    seed : int
        Seed of the jitter in orders.
    progress : bool, optional
        False shows no line of progress where standard error is a terminal.

    Returns
    -------
    Layout
        Checked by `arena_ckpt.allocation.validate`. After Ctrl-C it is the best so far,
        and ``stats["interrupted"]`` is True.

    Raises
    ------
    InvalidBufferError
        Buffers that make no sense, or whose fixed offsets collide; a pool that does not
        exist, a weight that is negative or not finite, a fixed offset in no one pool.
    CapacityError
        It is proved that the capacity is too small, or the pools whichever buffer goes
        into which of those that it may lie in.
    TimeLimitError
        Neither a layout that fits nor a proof was found in time; carries the best
        layout.
    InvalidParameterError
        An unknown engine, a negative limit, pools together with a capacity, allowed
        pools or weights without pools.

    Notes
    -----
    Lowest-first placement takes O(n log n) for most inputs; the search is exponential
    in the worst case.
    """
    buffers = make_buffers(
        lower,
        upper,
        size,
        alignment=alignment,
        fixed_offset=fixed_offset,
        gaps=gaps,
        group=group,
    )
    options = SearchOptions(time_limit_seconds, node_limit, engine, seed, progress)
    if pools is None:
        _require_no_rules(allowed_pools=allowed_pools, spill_weights=spill_weights)
        return allocate_buffers(buffers, capacity, None, options)
    several = make_pools(buffers, pools, allowed_pools, spill_weights)
    return allocate_buffers(buffers, capacity, several, options)


def allocate_buffers(
    buffers: Buffers,
    capacity: int | None,
    pools: Pools | None,
    options: SearchOptions,
) -> Layout:
    """Do what `allocate` does, for what is already checked."""
    if pools is None:
        return allocate_in_one(buffers, capacity, options)
    if capacity is not None:
        raise InvalidParameterError(
            "capacity and pools are both given; the sizes of the pools are the "
            "capacities, so leave capacity out",
            capacity_bytes=capacity,
        )
    return allocate_in_pools(buffers, pools, options)


def _require_no_rules(**rules: object) -> None:
    """Refuse rules about pools where there are none."""
    for name, value in rules.items():
        if value is not None:
            raise InvalidParameterError(
                f"{name} is given, but no pools; give the sizes of the memories as "
                "pools, or leave it out",
                name=name,
            )
