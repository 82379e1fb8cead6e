"""Allocation in several pools of memory; what does not fit in one spills to the next.

1. *Fill*: greedily, one pool after the other (`filling`).
2. *Assign*: of few bodies every assignment is searched for less spill, or for one of
   which every pool can hold its part (`assignment`).
3. *Finish*: a pool that is not laid out yet, as the last one that has no limit, is laid
   out with what is left of the effort.

That the buffers cannot be placed is said only where it is proved over all assignments:
by a bound that holds for each of them, or by a search that left none out. Filling alone
proves nothing: where a pool cannot hold what it must, another choice may.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from arena_ckpt.allocation.assignment import MOST_BODIES, AssignmentSearch
from arena_ckpt.allocation.bodies import Bodies, make_bodies
from arena_ckpt.allocation.bounds import LowerBound, lower_bound
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.buffers import Buffers
from arena_ckpt.allocation.filling import Filling, Spread, empty_spread
from arena_ckpt.allocation.layout import Layout
from arena_ckpt.allocation.pool_refusals import (
    not_known,
    nothing_fits,
    refuse_crowded,
    refuse_impossible,
    refuse_pinned,
)
from arena_ckpt.allocation.pool_rules import (
    Pools,
    byte_steps,
    refuse_contradictions,
    spill_of,
)
from arena_ckpt.allocation.search_options import SearchOptions
from arena_ckpt.allocation.single import (
    allocate_in_one,
    decide,
    refuse_fixed_collisions,
)
from arena_ckpt.allocation.validate import check_layout
from arena_ckpt.common.progress import status_line


def allocate_in_pools(buffers: Buffers, pools: Pools, options: SearchOptions) -> Layout:
    """Place buffers in pools, the preferred one first.

    Raises
    ------
    InvalidBufferError
        Fixed offsets that collide or name no one pool; a group without a common pool.
    CapacityError
        It is proved that no choice of pools fits.
    TimeLimitError
        It is not known whether one does.
    """
    bodies = make_bodies(buffers)
    refuse_contradictions(buffers, bodies, pools)
    only_pool = pools.allowed_of(bodies).argmax(axis=1)[bodies.body_of]
    refuse_fixed_collisions(buffers, bodies, only_pool, pools.label)
    bound = lower_bound(bodies, len(pools))
    refuse_impossible(buffers, bodies, bound, pools)
    began = time.perf_counter()
    with status_line("placing", options.progress, "buffers placed") as report:
        budget = Budget(options.node_limit, options.time_limit_seconds, report)
        spread, is_least = _spread_out(buffers, bodies, bound, pools, options, budget)
    nodes = budget.nodes
    options = _what_is_left(options, budget, spread.interrupted)
    for pool in np.flatnonzero(spread.is_open).tolist():
        nodes += _lay_out(buffers, spread, pool, pools.sizes[pool], options)
    too_high = [
        pool
        for pool, size in enumerate(pools.sizes)
        if size is not None and spread.end(pool, buffers) > size
    ]
    sizes = [None if i in too_high else size for i, size in enumerate(pools.sizes)]
    layout = _layout_of(buffers, spread, bound, pools, sizes)
    layout.stats.update(
        nodes=nodes,
        seconds=time.perf_counter() - began,
        proof=bound.reason,
        interrupted=spread.interrupted,
        **_spilled(buffers, spread, pools),
        spill_proved_least=is_least,
    )
    if too_high:
        raise not_known(layout, pools, too_high[0], len(bodies))
    return layout


def _spread_out(
    buffers: Buffers,
    bodies: Bodies,
    bound: LowerBound,
    pools: Pools,
    options: SearchOptions,
    budget: Budget,
) -> tuple[Spread, bool]:
    """Return the pool of each buffer, and whether it is proved that none spills less.

    Raises
    ------
    CapacityError
        It is proved that no choice of pools fits.
    """
    filling = Filling(buffers, bodies, pools, options)
    spread, spill = filling.spread, None
    if filling.has_layout:
        spill = spill_of(pools.weights, spread.pool.tolist(), len(pools))
        if spill == _least_spill(bodies, pools):
            return spread, True
    proves = options.engine in ("auto", "exact") and not spread.interrupted
    if proves and len(bodies) <= MOST_BODIES:
        search = AssignmentSearch(buffers, bodies, pools, budget, options.seed)
        search.run(spill)
        if search.best is not None:
            spread = _spread_of(buffers, bodies, search)
        spread.interrupted |= search.interrupted
        if search.best is not None or filling.has_layout:
            return spread, search.is_complete
        if search.is_complete:
            raise nothing_fits(buffers, bodies, bound, pools, options.seed)
    if filling.has_layout:
        return spread, False
    if proves and not spread.interrupted:
        refuse_pinned(buffers, bodies, pools, budget, options.seed)
        refuse_crowded(bodies, pools, budget, options.seed)
    if not spread.interrupted:
        filling.begin_anew()
    return filling.spread, False


def _least_spill(bodies: Bodies, pools: Pools) -> tuple[int, ...]:
    """Return what spills if every body lies in the first pool that it may lie in."""
    first = pools.allowed_of(bodies).argmax(axis=1).tolist()
    return spill_of(pools.weights_of(bodies), first, len(pools))


def _spilled(buffers: Buffers, spread: Spread, pools: Pools) -> dict[str, int | float]:
    """Return the figures that tell what lies beyond the first pool."""
    beyond = np.flatnonzero(spread.pool > 0)
    spilled: dict[str, int | float] = {
        "spilled_buffers": len(beyond),
        "spilled_byte_steps": sum(byte_steps(buffers.take(beyond))),
    }
    if pools.are_weighed:
        weight = sum(pools.weights[index] for index in beyond.tolist())
        spilled["spilled_weight"] = pools.cost_of(weight)
    return spilled


def _lay_out(
    buffers: Buffers,
    spread: Spread,
    pool: int,
    size: int | None,
    options: SearchOptions,
) -> int:
    """Lay out an open pool, within its size if possible; return the nodes taken."""
    members, nodes = spread.members(pool), 0
    rest = buffers.take(members)
    if size is not None:
        decision = decide(rest, size, options)
        nodes = decision.nodes
        spread.interrupted |= decision.interrupted
        if decision.layout is not None:
            spread.put(pool, members, decision.layout)
            return nodes
        options = replace(options, engine="greedy")
    layout = allocate_in_one(rest, None, options)
    spread.put(pool, members, layout)
    spread.interrupted |= layout.stats["interrupted"]
    return nodes + int(layout.stats["nodes"])


def _layout_of(
    buffers: Buffers,
    spread: Spread,
    bound: LowerBound,
    pools: Pools,
    sizes: Sequence[int | None],
) -> Layout:
    """Return the offsets and pools of all buffers as one checked layout."""
    heights = tuple(spread.end(pool, buffers) for pool in range(len(pools)))
    check_layout(
        buffers,
        spread.offset,
        sum(heights),
        pool=spread.pool,
        pool_bytes=sizes,
        allowed_pools=None
        if pools.are_open
        else [np.flatnonzero(row).tolist() for row in pools.allowed],
    )
    return Layout(
        spread.offset,
        sum(heights),
        bound.height_bytes,
        " | ".join(spread.engines[pool] for pool in sorted(spread.engines))
        or "greedy:empty",
        pool=spread.pool,
        pool_heights_bytes=heights,
        pool_names=pools.names,
    )


def _spread_of(buffers: Buffers, bodies: Bodies, search: AssignmentSearch) -> Spread:
    """Return the best assignment of a search; a pool without limit is not laid out."""
    assert search.best is not None
    spread = empty_spread(len(buffers), len(search.layouts))
    spread.pool = np.array(search.best, dtype=np.int64)[bodies.body_of]
    for pool, layout in enumerate(search.layouts):
        if layout is not None:
            spread.put(pool, spread.members(pool), layout)
    return spread


def _what_is_left(
    options: SearchOptions, budget: Budget, interrupted: bool
) -> SearchOptions:
    """Return options with the limit that is left; after Ctrl-C only static orders."""
    if interrupted:
        return replace(options, engine="greedy")
    if options.node_limit is not None:
        limit = options.node_limit
        return replace(options, node_limit=max(0, budget.nodes_left(limit)))
    return replace(options, time_limit_seconds=budget.seconds_left)
