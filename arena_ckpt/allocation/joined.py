"""Searches layouts of joined rectangles: far fewer bodies, but the optimum may be lost.

The joined rectangles are placed by the greedy orders, then by the exact search for a
while, and around cores if they are many (see `cored`). Every layout found is also one
of the original bodies and is offered to their incumbent; nothing is proved about these.

Bodies few enough for an exact search of their own get one attempt, before it. Of more
bodies several may be made, each of which trusts other matches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arena_ckpt.allocation import cored
from arena_ckpt.allocation.bodies import Bodies
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.exact import LARGEST_INSTANCE, ExactEngine
from arena_ckpt.allocation.greedy import try_orders
from arena_ckpt.allocation.incumbent import Incumbent
from arena_ckpt.allocation.integers import Integers
from arena_ckpt.allocation.joins import join
from arena_ckpt.allocation.orders import Orders

MOST_BODIES = 50_000
"""Maximum number of bodies to join; each takes about 40 µs, and the clock is not read
for the first tenth of them."""

MOST_LEFT = 0.5
"""Maximum share of the bodies that may be left after joining; with more, they were
hardly cut from one rectangle."""

SHARE = 0.5
"""Maximum share of the time left that joining, and then a search, may take."""

SHARE_OF_AN_ATTEMPT = 0.1
"""Maximum share of the time left that one attempt among many bodies may take."""

NODES_BEFORE_EXACT = 20
"""Maximum number of nodes for each joined rectangle, if the bodies themselves are
searched later."""

NODES_OF_AN_ATTEMPT = 200
"""Maximum number of nodes for each joined rectangle, if the bodies are too many to
search."""

FIRST_ATTEMPT = range(1)
"""The attempt that trusts every match as estimated."""

MORE_ATTEMPTS = range(1, 8)
"""Attempts that trust matches at random."""


def improve(
    bodies: Bodies,
    incumbent: Incumbent,
    budget: Budget,
    capacity_bytes: int | None,
    seed: int,
    attempts: range = FIRST_ATTEMPT,
) -> bool:
    """Join rectangles and let the engines place the joined ones.

    Parameters
    ----------
    bodies : Bodies
        See `can_join`.
    incumbent : Incumbent
        Best layout of `bodies`; gets better ones.
    budget : Budget
    capacity_bytes : int or None
        Height at which to stop; None stops at the lower bound.
    seed : int
        Seed of the jitter.
    attempts : range

    Returns
    -------
    bool
        Whether a better layout was found.
    """
    before = incumbent.height_bytes
    if len(bodies) > MOST_BODIES:
        return False
    goal = incumbent.lower_bound_bytes if capacity_bytes is None else capacity_bytes
    is_before_exact = len(bodies) <= LARGEST_INSTANCE
    for attempt in attempts:
        if incumbent.height_bytes <= goal or budget.is_over:
            break
        with budget.part(SHARE):
            joined = join(bodies, budget, seed, attempt)
        if len(joined) > MOST_LEFT * len(bodies):
            break
        if budget.is_over and len(joined) > LARGEST_INSTANCE:
            break
        best = _JoinedIncumbent(joined, incumbent)
        orders = Orders(joined)
        try_orders(joined, orders, best, budget, goal)
        if incumbent.height_bytes <= goal:
            break
        if len(joined) <= LARGEST_INSTANCE:
            nodes = NODES_BEFORE_EXACT if is_before_exact else NODES_OF_AN_ATTEMPT
            share = SHARE if is_before_exact else SHARE_OF_AN_ATTEMPT
            with budget.part(share, nodes * len(joined)):
                engine = ExactEngine(joined, orders, seed)
                if capacity_bytes is None:
                    engine.minimize(best, budget)
                elif not budget.is_over:
                    engine.decide(best, capacity_bytes, budget)
        if not is_before_exact:
            cored.improve(joined, best, budget, goal, seed)
    return incumbent.height_bytes < before


@dataclass(slots=True, init=False)
class _JoinedIncumbent(Incumbent):
    """The best layout of joined rectangles; hands improvements to the bodies'."""

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
        """Keep a layout if it is lower than the best one."""
        Incumbent.offer(self, offset, height_bytes, engine)
        if height_bytes < self.whole.height_bytes:
            whole_offset = self.joined.buffer_offsets(offset)
            self.whole.offer(whole_offset, height_bytes, f"joined:{engine}")
