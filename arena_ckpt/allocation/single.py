"""One arena: greedy orders first, which are never given up; then the search.

While there is time, the exact search where there are few enough bodies, else jittered
orders.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from arena_ckpt.allocation import disjunctive
from arena_ckpt.allocation.bodies import Bodies, make_bodies
from arena_ckpt.allocation.bounds import lower_bound
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.buffers import FREE, Buffers
from arena_ckpt.allocation.conflict import conflicting_buffers
from arena_ckpt.allocation.exact import LARGEST_INSTANCE, ExactEngine
from arena_ckpt.allocation.greedy import try_jittered, try_orders
from arena_ckpt.allocation.incumbent import Incumbent
from arena_ckpt.allocation.layout import Layout
from arena_ckpt.allocation.orders import Orders
from arena_ckpt.allocation.validate import check_layout
from arena_ckpt.errors import (
    CapacityError,
    InvalidBufferError,
    InvalidParameterError,
    LayoutError,
    TimeLimitError,
)
from arena_ckpt.progress import status_line
from arena_ckpt.units import format_bytes

ENGINES = ("auto", "greedy", "exact", "large")


def allocate_in_one(
    buffers: Buffers,
    *,
    capacity: int | None = None,
    time_limit_seconds: float = 1.0,
    node_limit: int | None = None,
    engine: str = "auto",
    seed: int = 0,
    progress: bool | None = None,
) -> Layout:
    """Do what `allocate` does, for checked buffers and without pools."""
    _check_options(capacity, time_limit_seconds, node_limit, engine, seed)
    _refuse_fixed_collisions(buffers)
    bodies = make_bodies(buffers)
    bound = lower_bound(bodies)
    if capacity is not None and bound.height_bytes > capacity:
        raise _capacity_error(buffers, bodies, capacity, bound.height_bytes, None)
    incumbent = Incumbent(
        np.zeros(len(bodies), dtype=np.int64),
        0 if not len(bodies) else 2**62,
        bound.height_bytes,
        "greedy:empty",
        bound.reason,
    )
    began = time.perf_counter()
    interrupted = False
    with status_line("placing", progress) as report:
        budget = Budget(node_limit, time_limit_seconds, report)
        try:
            _search(bodies, incumbent, budget, capacity, engine, seed)
        except KeyboardInterrupt:
            if incumbent.height_bytes == 2**62:
                raise
            interrupted = True
    if capacity is not None and incumbent.lower_bound_bytes > capacity:
        raise _capacity_error(
            buffers, bodies, capacity, incumbent.lower_bound_bytes, incumbent
        )
    offset = bodies.buffer_offsets(incumbent.offset)
    check_layout(buffers, offset, incumbent.height_bytes)
    layout = Layout(
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
    if capacity is not None and layout.height_bytes > capacity:
        raise _time_limit_error(layout, capacity, budget)
    return layout


def _search(
    bodies: Bodies,
    incumbent: Incumbent,
    budget: Budget,
    capacity: int | None,
    engine: str,
    seed: int,
) -> None:
    """Let the engines improve the incumbent until it is good enough or time is up."""
    goal = incumbent.lower_bound_bytes if capacity is None else capacity
    orders = Orders(bodies)
    try_orders(bodies, orders, incumbent, budget, goal)
    few = len(bodies.size) <= disjunctive.LARGEST_INSTANCE
    can_prove = len(bodies) <= LARGEST_INSTANCE if bodies.are_flat else few
    if engine == "exact" and not can_prove:
        raise InvalidParameterError(
            f"engine 'exact' takes at most {LARGEST_INSTANCE} bodies, or "
            f"{disjunctive.LARGEST_INSTANCE} pieces where groups or windows overhang; "
            f"these are {len(bodies)} and {len(bodies.size)}: use 'large' or 'auto'",
            engine=engine,
        )
    if engine == "greedy" or incumbent.height_bytes <= goal or budget.is_over:
        return
    if engine == "large" or not can_prove:
        try_jittered(bodies, orders, incumbent, budget, goal, seed)
    elif not bodies.are_flat:
        disjunctive.improve(bodies, incumbent, budget, capacity)
    elif capacity is None:
        ExactEngine(bodies, orders, seed).minimize(incumbent, budget)
    else:
        ExactEngine(bodies, orders, seed).decide(incumbent, capacity, budget)


def _check_options(
    capacity: int | None,
    time_limit_seconds: float,
    node_limit: int | None,
    engine: str,
    seed: int,
) -> None:
    whole: dict[str, Any] = {
        "capacity": capacity,
        "node_limit": node_limit,
        "seed": seed,
    }
    for name, value in whole.items():
        if value is None and name != "seed":
            continue
        is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not is_whole or value < 0:
            raise InvalidParameterError(
                f"{name} is {value!r}; it must be an integer, at least 0", name=name
            )
    if (
        isinstance(time_limit_seconds, bool)
        or not isinstance(time_limit_seconds, int | float)
        or not time_limit_seconds >= 0
    ):
        raise InvalidParameterError(
            f"time_limit_seconds is {time_limit_seconds!r}; it must be a number of "
            "seconds, at least 0",
            name="time_limit_seconds",
        )
    if engine not in ENGINES:
        raise InvalidParameterError(
            f"there is no engine {engine!r}; engines are {', '.join(ENGINES)}",
            engine=engine,
        )


def _refuse_fixed_collisions(buffers: Buffers) -> None:
    fixed = np.flatnonzero(buffers.fixed_offset != FREE)
    if not len(fixed):
        return
    # Members of a group may be fixed alone, so the rule of groups is not looked at.
    chosen = buffers.take(fixed, ignore_groups=True)
    try:
        check_layout(chosen, chosen.fixed_offset, 2**62)
    except LayoutError as error:
        indexes: tuple[int, ...] = getattr(error, "buffers", ())
        collide = tuple(int(fixed[i]) for i in indexes)
        places = " and ".join(
            f"buffer {i} at [{buffers.fixed_offset[i]}, "
            f"{buffers.fixed_offset[i] + buffers.size[i]}) in steps "
            f"[{buffers.lower[i]}, {buffers.upper[i]})"
            for i in collide
        )
        raise InvalidBufferError(
            f"fixed offsets collide: {places}; move one of them, or leave it free",
            buffers=collide,
        ) from error


def _capacity_error(
    buffers: Buffers,
    bodies: Bodies,
    capacity: int,
    bound_bytes: int,
    incumbent: Incumbent | None,
) -> CapacityError:
    conflict, proof = conflicting_buffers(buffers, bodies, capacity)
    shown = ", ".join(str(i) for i in conflict[:12])
    more = f" and {len(conflict) - 12} more" if len(conflict) > 12 else ""
    best = (
        ""
        if incumbent is None
        else f"; the best layout found takes {format_bytes(incumbent.height_bytes)}"
    )
    return CapacityError(
        f"the buffers cannot fit in {format_bytes(capacity)}: at least "
        f"{format_bytes(bound_bytes)} are needed (proof: {proof}){best}. Already "
        f"{len(conflict)} of them do not fit together: {shown}{more}. Raise the "
        "capacity or make one of these smaller or shorter-lived",
        capacity_bytes=capacity,
        lower_bound_bytes=bound_bytes,
        proof=proof,
        conflict=conflict,
    )


def _time_limit_error(layout: Layout, capacity: int, budget: Budget) -> TimeLimitError:
    ended = "interrupted" if layout.stats["interrupted"] else "the limit was reached"
    return TimeLimitError(
        f"not known whether the buffers fit in {format_bytes(capacity)}: {ended} after "
        f"{budget.nodes:,} nodes with a best layout of "
        f"{format_bytes(layout.height_bytes)}; only that less than "
        f"{format_bytes(layout.lower_bound_bytes)} is impossible is proved. Give it "
        "more time, or take the layout that this error carries",
        layout=layout,
        capacity_bytes=capacity,
        lower_bound_bytes=layout.lower_bound_bytes,
    )
