"""Allocation in one arena: greedy orders first, then searches while time is left.

While there is time: rectangles are joined where edges meet, and what is left is
searched; then the exact search where there are few enough bodies, else jittered orders.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from arena_ckpt.allocation import disjunctive, joined
from arena_ckpt.allocation.bodies import Bodies, make_bodies
from arena_ckpt.allocation.bounds import LowerBound, lower_bound
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.buffers import FREE, Buffers
from arena_ckpt.allocation.conflict import conflicting_buffers
from arena_ckpt.allocation.exact import LARGEST_INSTANCE, ExactEngine
from arena_ckpt.allocation.greedy import try_jittered, try_orders
from arena_ckpt.allocation.incumbent import Incumbent
from arena_ckpt.allocation.integers import Integers, Label
from arena_ckpt.allocation.joins import can_join
from arena_ckpt.allocation.layout import Layout
from arena_ckpt.allocation.orders import Orders
from arena_ckpt.allocation.search_options import SearchOptions, require_natural
from arena_ckpt.allocation.validate import check_layout
from arena_ckpt.common.progress import status_line
from arena_ckpt.common.units import format_bytes
from arena_ckpt.errors import (
    CapacityError,
    InvalidBufferError,
    InvalidParameterError,
    LayoutError,
    TimeLimitError,
)

NO_LAYOUT_BYTES = 2**62
"""Stands for the height in bytes before any order has been tried."""

N_FIRST = 2
"""Number of orders that are tried before many bodies are joined; each may show that
joins are not needed."""

FAR_ABOVE = 1.02
"""If the best height is below this multiple of the lower bound, jittered orders improve
layouts of many bodies more than joins do."""


def allocate_in_one(
    buffers: Buffers, capacity: int | None, options: SearchOptions
) -> Layout:
    """Place checked buffers in one arena."""
    if capacity is not None:
        require_natural("capacity", capacity)
    bodies = make_bodies(buffers)
    refuse_fixed_collisions(buffers, bodies)
    bound = lower_bound(bodies)
    if capacity is None:
        return _best_layout(buffers, bodies, bound, None, options)
    if bound.height_bytes > capacity:
        raise _capacity_error(buffers, bodies, bound, capacity, None)
    layout = _best_layout(buffers, bodies, bound, capacity, options)
    if layout.lower_bound_bytes > capacity:
        raise _capacity_error(buffers, bodies, bound, capacity, layout)
    if layout.height_bytes > capacity:
        raise _time_limit_error(layout, capacity)
    return layout


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """Whether buffers fit in a capacity, as far as it is known.

    Attributes
    ----------
    layout : Layout or None
        A layout that takes at most the capacity, if one was found.
    is_impossible : bool
        Whether it is proved that there is none.
    nodes : int
        Number of nodes of the search.
    interrupted : bool
        Whether Ctrl-C ended the search.
    """

    layout: Layout | None
    is_impossible: bool
    nodes: int = 0
    interrupted: bool = False


def decide(buffers: Buffers, capacity: int, options: SearchOptions) -> Decision:
    """Search for a layout within a capacity, and for a proof that there is none."""
    bodies = make_bodies(buffers)
    bound = lower_bound(bodies)
    if bound.height_bytes > capacity:
        return Decision(None, True)
    layout = _best_layout(buffers, bodies, bound, capacity, options)
    return Decision(
        layout if layout.height_bytes <= capacity else None,
        layout.lower_bound_bytes > capacity,
        layout.stats["nodes"],
        layout.stats["interrupted"],
    )


def _best_layout(
    buffers: Buffers,
    bodies: Bodies,
    bound: LowerBound,
    capacity: int | None,
    options: SearchOptions,
) -> Layout:
    """Return the best layout found, checked, with the best lower bound proved."""
    incumbent = Incumbent(
        np.zeros(len(bodies), dtype=np.int64),
        NO_LAYOUT_BYTES if len(bodies) else 0,
        bound.height_bytes,
        "greedy:empty",
        bound.reason,
    )
    began = time.perf_counter()
    interrupted = False
    with status_line("placing", options.progress, "buffers placed") as report:
        budget = Budget(options.node_limit, options.time_limit_seconds, report)
        try:
            _search(bodies, incumbent, budget, capacity, options)
        except KeyboardInterrupt:
            if incumbent.height_bytes == NO_LAYOUT_BYTES:
                raise
            interrupted = True
    offset = bodies.buffer_offsets(incumbent.offset)
    check_layout(buffers, offset, incumbent.height_bytes)
    return Layout(
        offset,
        incumbent.height_bytes,
        incumbent.lower_bound_bytes,
        incumbent.engine,
        pool_heights_bytes=(incumbent.height_bytes,),
        stats={
            "nodes": budget.nodes,
            "seconds": time.perf_counter() - began,
            "proof": incumbent.proof,
            "interrupted": interrupted,
        },
    )


def _search(
    bodies: Bodies,
    incumbent: Incumbent,
    budget: Budget,
    capacity: int | None,
    options: SearchOptions,
) -> None:
    """Let the engines improve the best layout until it is good enough or time is up."""
    goal = incumbent.lower_bound_bytes if capacity is None else capacity
    orders = Orders(bodies)
    may_join = options.engine in ("auto", "large") and can_join(bodies)
    if may_join and len(bodies) > LARGEST_INSTANCE:
        _try_many(bodies, orders, incumbent, budget, capacity, options.seed)
    else:
        try_orders(bodies, orders, incumbent, budget, goal)
    are_flat = bodies.are_flat
    if are_flat:
        can_prove = len(bodies) <= LARGEST_INSTANCE
    else:
        can_prove = len(bodies.size) <= disjunctive.LARGEST_INSTANCE
    if options.engine == "exact" and not can_prove:
        raise InvalidParameterError(
            f"engine 'exact' takes at most {LARGEST_INSTANCE} bodies, or "
            f"{disjunctive.LARGEST_INSTANCE} pieces where groups or windows overhang; "
            f"these are {len(bodies)} and {len(bodies.size)}: use 'large' or 'auto'",
            engine=options.engine,
        )
    if options.engine == "greedy" or incumbent.height_bytes <= goal or budget.is_over:
        return
    if may_join and len(bodies) <= LARGEST_INSTANCE:
        joined.improve(bodies, incumbent, budget, capacity, options.seed)
        if incumbent.height_bytes <= goal or budget.is_over:
            return
    if options.engine == "large" or not can_prove:
        try_jittered(bodies, orders, incumbent, budget, goal, options.seed)
        return
    if not are_flat:
        with budget.stopped():
            disjunctive.load()
        disjunctive.improve(bodies, incumbent, budget, capacity)
    elif capacity is None:
        ExactEngine(bodies, orders, options.seed).minimize(incumbent, budget)
    else:
        ExactEngine(bodies, orders, options.seed).decide(incumbent, capacity, budget)


def _try_many(
    bodies: Bodies,
    orders: Orders,
    incumbent: Incumbent,
    budget: Budget,
    capacity: int | None,
    seed: int,
) -> None:
    """Try static orders for many bodies; joins come before the slower orders."""
    goal = incumbent.lower_bound_bytes if capacity is None else capacity
    try_orders(bodies, orders, incumbent, budget, goal, slice(N_FIRST))
    is_far = capacity is not None or incumbent.height_bytes > FAR_ABOVE * goal
    gains = is_far and joined.improve(bodies, incumbent, budget, capacity, seed)
    try_orders(bodies, orders, incumbent, budget, goal, slice(N_FIRST, None))
    if gains:
        more = joined.MORE_ATTEMPTS
        joined.improve(bodies, incumbent, budget, capacity, seed, more)


def refuse_fixed_collisions(
    buffers: Buffers,
    bodies: Bodies,
    pool: Integers | None = None,
    pool_label: Label = "pool {}".format,
) -> None:
    """Refuse buffers whose fixed offsets, or those of their groups, collide.

    Parameters
    ----------
    buffers : Buffers
    bodies : Bodies
        The bodies of these buffers.
    pool : int64 array, shape (number of buffers,), optional
        The pool of each buffer that is fixed.
    pool_label : callable
        How messages call the pool with a number.

    Raises
    ------
    InvalidBufferError
    """
    fixed = np.flatnonzero((bodies.fixed_offset != FREE)[bodies.body_of])
    if not len(fixed):
        return
    offset = bodies.buffer_offsets(bodies.fixed_offset)
    # Members of a group may be fixed alone, so the rule of groups is not looked at.
    chosen = buffers.take(fixed, ignore_groups=True)
    pools = None if pool is None else pool[fixed]
    height = 2**62 if pools is None else 2**62 * (1 + int(pools.max()))
    try:
        check_layout(chosen, offset[fixed], height, pool=pools)
    except LayoutError as error:
        indexes: tuple[int, ...] = getattr(error, "buffers", ())
        collide = tuple(int(fixed[i]) for i in indexes)
        places = " and ".join(
            f"buffer {i} at [{offset[i]}, {offset[i] + buffers.size[i]}) in steps "
            f"[{buffers.lower[i]}, {buffers.upper[i]})"
            for i in collide
        )
        where = "" if pool is None else f" in {pool_label(int(pool[collide[0]]))}"
        raise InvalidBufferError(
            f"fixed offsets collide{where}: {places}; move one of them, or leave it "
            "free",
            buffers=collide,
        ) from error


def _capacity_error(
    buffers: Buffers,
    bodies: Bodies,
    bound: LowerBound,
    capacity: int,
    best: Layout | None,
) -> CapacityError:
    """Return the error for a capacity that is proved too small.

    The proof is `bound`, or the search that found `best`.
    """
    conflict, proof = conflicting_buffers(buffers, bodies, bound, capacity)
    needed_bytes = bound.height_bytes if best is None else best.lower_bound_bytes
    shown = ", ".join(str(i) for i in conflict[:12])
    more = f" and {len(conflict) - 12} more" if len(conflict) > 12 else ""
    found = (
        ""
        if best is None
        else f"; the best layout found takes {format_bytes(best.height_bytes)}"
    )
    together = (
        f"Number {shown} alone does not fit. Raise the capacity or make it smaller"
        if len(conflict) == 1
        else f"Already {len(conflict)} of them do not fit together: {shown}{more}. "
        "Raise the capacity or make one of these smaller or shorter-lived"
    )
    return CapacityError(
        f"the buffers cannot fit in {format_bytes(capacity)}: at least "
        f"{format_bytes(needed_bytes)} are needed (proof: {proof}){found}. {together}",
        capacity_bytes=capacity,
        lower_bound_bytes=needed_bytes,
        proof=proof,
        conflict=conflict,
    )


def _time_limit_error(layout: Layout, capacity: int) -> TimeLimitError:
    ended = "interrupted" if layout.stats["interrupted"] else "the limit was reached"
    return TimeLimitError(
        f"not known whether the buffers fit in {format_bytes(capacity)}: {ended} after "
        f"{layout.stats['nodes']:,} nodes with a best layout of "
        f"{format_bytes(layout.height_bytes)}; only that less than "
        f"{format_bytes(layout.lower_bound_bytes)} is impossible is proved. Give it "
        "more time, or take the layout that this error carries",
        layout=layout,
        capacity_bytes=capacity,
        lower_bound_bytes=layout.lower_bound_bytes,
    )
