"""Searches the largest rectangles (the core) first and fills the others around them.

If few rectangles have nearly all of the area, greedy orders waste many bytes between
them, and a search of all rectangles spends its time on the small ones. So:

1. The `k` rectangles of the largest area, the *core*, are placed by the exact search,
   which ends as soon as they are no higher than the goal.
2. The core stays; first fit puts the others into holes, by area, height and lifetime.

Around a small core the rest does not fit, and the search of a large core does not end.
So `k` grows until the core alone is as high as the best layout. Later rounds search
longer, with cores of nearly the size that was best. A round costs up to 12 searches and
as many first fits or up to three times that.

Notes ----- The method is our own; it has no bound on its result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from arena_ckpt.allocation import first_fit
from arena_ckpt.allocation.bodies import Bodies
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.exact import LARGEST_INSTANCE, ExactEngine
from arena_ckpt.allocation.greedy import try_orders
from arena_ckpt.allocation.incumbent import Incumbent
from arena_ckpt.allocation.integers import Integers
from arena_ckpt.allocation.orders import Orders

FEW = 500
"""Maximum number of rectangles that count as few."""

NEARLY_ALL = 0.95
"""Minimum share of the area that the `FEW` largest rectangles must have; with less, too
many rectangles matter to search them."""

SMALLEST_CORE = 40
"""Number of rectangles of the first core."""

GROWTH = 1.4
"""Factor by which each later core is larger than the one before."""

SHARES = (0.04, 0.15, 0.3)
"""Maximum share of the time left that one search may take, for each round."""

NODES_OF_A_SEARCH = (50, 200, 1000)
"""Maximum number of nodes of one search for each rectangle of the core, for each
round."""

ORDERS_OF_THE_REST = ("SW", "AW", "WS")
"""Orders in which the other rectangles are placed around a core."""

CLOSE = 1.03
"""Factor above the best height: if the first order of a core ends higher than that, its
other orders are not tried."""


def improve(
    bodies: Bodies, incumbent: Incumbent, budget: Budget, goal_bytes: int, seed: int
) -> None:
    """Offer layouts of rectangles, each built around the layout of a core.

    Parameters
    ----------
    bodies : Bodies
        Rectangles.
    incumbent : Incumbent
        Best layout of `bodies`; gets better ones.
    budget : Budget
    goal_bytes : int
        The height to stop at.
    seed : int
        Seed of the jitter.
    """
    assert bodies.are_rectangles
    with budget.stopped():
        first_fit.load(bodies)
    orders = Orders(bodies)
    by_area = orders.order("AW")
    area = bodies.size[by_area].astype(np.float64) * bodies.lifetime[by_area]
    if area[:FEW].sum() < NEARLY_ALL * area.sum():
        return
    sizes, best_size = list(_core_sizes(len(bodies))), SMALLEST_CORE
    for round_, share in enumerate(SHARES):
        found: list[tuple[Integers, Integers]] = []
        if round_:
            sizes = [size for size in sizes if 0.5 < size / best_size < 2]
        for size in sizes:
            if incumbent.height_bytes <= goal_bytes or budget.is_over:
                return
            chosen = np.sort(by_area[:size])
            core = bodies.rectangles(chosen)
            best = Incumbent(
                np.zeros(size, dtype=np.int64), 2**62, goal_bytes, "greedy:empty", ""
            )
            core_orders = Orders(core)
            try_orders(core, core_orders, best, budget, goal_bytes)
            with budget.part(share, NODES_OF_A_SEARCH[round_] * size):
                engine = ExactEngine(core, core_orders, seed + round_)
                engine.minimize(best, budget)
            if best.height_bytes >= incumbent.height_bytes:
                break
            found.append((chosen, best.offset))
            if best.height_bytes <= goal_bytes and size != sizes[-1]:
                continue  # a larger core may be as low and leave less
            for members, core_offset in found[-2:]:
                before = incumbent.height_bytes
                _put_around(bodies, orders, incumbent, budget, members, core_offset)
                if incumbent.height_bytes < before:
                    best_size = len(members)
            found.clear()


def _put_around(
    bodies: Bodies,
    orders: Orders,
    incumbent: Incumbent,
    budget: Budget,
    core: Integers,
    core_offset: Integers,
) -> None:
    """Offer layouts in which rectangles are placed around those of a core."""
    is_core = np.zeros(len(bodies), dtype=bool)
    is_core[core] = True
    fixed_offset = bodies.fixed_offset.copy()
    fixed_offset[core] = core_offset
    around = dataclasses.replace(bodies, fixed_offset=fixed_offset)
    for letters in ORDERS_OF_THE_REST:
        order = orders.order(letters)
        order = np.concatenate([core, order[~is_core[order]]])
        offset = first_fit.first_fit(around, order)
        height_bytes = bodies.height_bytes(offset)
        incumbent.offer(offset, height_bytes, f"core:{letters}")
        budget.spend(len(bodies), lambda: f"{incumbent}; around a core")
        if height_bytes > CLOSE * incumbent.height_bytes:
            break


def _core_sizes(n: int) -> Iterator[int]:
    size = float(SMALLEST_CORE)
    while size < min(n, LARGEST_INSTANCE):
        yield int(size)
        size *= GROWTH
