"""The search among joined rectangles: far fewer bodies, and maybe no optimum.

What `join` leaves is placed by the greedy orders, then by the exact search for a part
of the time. Whatever is found is a layout of the bodies and goes into their incumbent;
nothing is proved about them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arena_ckpt.allocation import search
from arena_ckpt.allocation.bodies import Bodies
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.exact import LARGEST_INSTANCE, ExactEngine
from arena_ckpt.allocation.greedy import try_orders
from arena_ckpt.allocation.incumbent import Incumbent
from arena_ckpt.allocation.integers import Integers
from arena_ckpt.allocation.joins import join
from arena_ckpt.allocation.orders import Orders

MOST_LEFT = 0.6
"""Where more than this part of the rectangles is left, they were hardly cut from one."""

SHARE = 0.75
"""Of the time that is left, for bodies too many for a search of their own."""

SHORT_NODES = 20
"""For each rectangle left, where the bodies themselves are searched afterwards."""


def improve(
    bodies: Bodies,
    incumbent: Incumbent,
    budget: Budget,
    capacity_bytes: int | None,
    seed: int,
) -> None:
    """Join rectangles and let the engines place what is left.

    Parameters
    ----------
    bodies : Bodies
        See `can_join`.
    incumbent : Incumbent
        Of `bodies`.
    budget : Budget
    capacity_bytes : int or None
        What to stop at; None for the lower bound.
    seed : int
        Of the jitter.
    """
    joined = join(bodies, budget)
    if budget.is_over or len(joined) > MOST_LEFT * len(bodies):
        return
    best = _JoinedIncumbent(joined, incumbent)
    goal = incumbent.lower_bound_bytes if capacity_bytes is None else capacity_bytes
    orders = Orders(joined)
    try_orders(joined, orders, best, budget, goal)
    if len(joined) > LARGEST_INSTANCE or best.height_bytes <= goal or budget.is_over:
        return
    with budget.stopped():
        search.load()
    is_alone = len(bodies) > LARGEST_INSTANCE
    most_nodes = None if is_alone else SHORT_NODES * len(joined)
    with budget.part(SHARE, most_nodes):
        engine = ExactEngine(joined, orders, seed)
        if capacity_bytes is None:
            engine.minimize(best, budget)
        else:
            engine.decide(best, capacity_bytes, budget)


@dataclass(slots=True, init=False)
class _JoinedIncumbent(Incumbent):
    """The best layout of joined rectangles, which hands on what is better."""

    joined: Bodies
    whole: Incumbent

    def __init__(self, joined: Bodies, whole: Incumbent) -> None:
        Incumbent.__init__(
            self,
            np.zeros(len(joined), dtype=np.int64),
            2**62,
            whole.lower_bound_bytes,
            whole.engine,
            whole.proof,
        )
        self.joined, self.whole = joined, whole

    def offer(self, offset: Integers, height_bytes: int, engine: str) -> None:
        """Take a layout that is lower than the best."""
        Incumbent.offer(self, offset, height_bytes, engine)
        self.whole.offer(
            self.joined.buffer_offsets(offset), height_bytes, f"joined:{engine}"
        )
