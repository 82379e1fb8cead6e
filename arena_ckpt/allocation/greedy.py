"""Greedy layouts: the best of several static orders, and then of jittered ones.

Rectangles are placed lowest first, which is near-linear and, on training graphs, often
at the lower bound. First fit, which also fills holes, is tried for up to
`MOST_FIRST_FIT` rectangles; it is the only placement that supports gaps, fixed offsets
and groups.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from arena_ckpt.allocation import first_fit, lowest_first
from arena_ckpt.allocation.bodies import Bodies
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.incumbent import Incumbent
from arena_ckpt.allocation.integers import Integers
from arena_ckpt.allocation.orders import Orders, noise, rank_of

LOWEST_FIRST_ORDERS = ("TWA", "AW", "SW", "TAW", "WTA")
"""Static orders for the placement lowest first."""

FIRST_FIT_ORDERS = ("SW", "WS", "AW", "TWA")
"""Static orders for the placement first fit."""

MOST_FIRST_FIT = 5000
"""Maximum number of rectangles for which first fit is tried; for more it takes much
longer than lowest first."""

ALL_ORDERS = 20_000
"""Maximum number of bodies for which every static order is tried, even without time
left."""

JITTER_PARTS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Distances by which a jittered order moves a body, as shares of the number of
bodies."""


def try_orders(
    bodies: Bodies,
    orders: Orders,
    incumbent: Incumbent,
    budget: Budget,
    goal_bytes: int,
    which: slice = slice(None),
) -> None:
    """Offer the layouts of the static orders until one is no higher than the goal.

    Each order counts as one node per body. With more than `ALL_ORDERS` bodies, only the
    first order is tried if the limit is reached. `which` selects some of the orders.
    """
    chosen = list(enumerate(_static_orders(bodies)))[which]
    for tried, (name, letters) in chosen:
        is_over = tried and len(bodies) > ALL_ORDERS and budget.is_over
        if incumbent.height_bytes <= goal_bytes or is_over:
            return
        order = orders.order(letters)
        _try(bodies, name, order, f"{name}:{letters}", incumbent, budget)


def try_jittered(
    bodies: Bodies,
    orders: Orders,
    incumbent: Incumbent,
    budget: Budget,
    goal_bytes: int,
    seed: int,
) -> None:
    """Offer the layouts of jittered orders until the goal or the limit is reached."""
    names = list(_static_orders(bodies))
    attempt = 0
    while not (incumbent.height_bytes <= goal_bytes or budget.is_over):
        name, letters = names[attempt % len(names)]
        part = JITTER_PARTS[attempt // len(names) % len(JITTER_PARTS)]
        reach = 1.5 + part * len(bodies)
        moved = orders.rank(letters) + reach * noise(len(bodies), seed, attempt)
        order = np.argsort(moved, kind="stable")
        _try(bodies, name, order, f"{name}:{letters}+jitter", incumbent, budget)
        attempt += 1


def _static_orders(bodies: Bodies) -> Iterator[tuple[str, str]]:
    if bodies.are_rectangles:
        yield from (("lowest-first", letters) for letters in LOWEST_FIRST_ORDERS)
    if not bodies.are_rectangles or len(bodies) <= MOST_FIRST_FIT:
        yield from (("first-fit", letters) for letters in FIRST_FIT_ORDERS)


def _try(
    bodies: Bodies,
    placement: str,
    order: Integers,
    name: str,
    incumbent: Incumbent,
    budget: Budget,
) -> None:
    """Offer the layout that a placement makes from one order."""
    is_lowest_first = placement == "lowest-first"
    load = lowest_first.load if is_lowest_first else first_fit.load
    with budget.counting_compiled(lambda: load(bodies)):
        if is_lowest_first:
            offset = lowest_first.lowest_first(bodies, rank_of(order))
        else:
            offset = first_fit.first_fit(bodies, order)
    incumbent.offer(offset, bodies.height_bytes(offset), name)
    budget.spend(len(bodies), lambda: f"{incumbent}; trying orders")
