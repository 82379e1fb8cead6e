"""The exact engine: proves that layouts are optimal, or improves them until stopped.

*Decide*: several searches for one capacity, each in an order of its own, take turns of
growing length. Between the turns, short searches start anew in jittered orders. Run
times are heavy-tailed: where one order takes forever, another can be quick. The first
search to end decides, with a layout or with the proof that there is none.

*Minimize*: decide for capacities between the best proved lower bound and the best
layout, again and again with growing limits, until both meet.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.allocation.bodies import Bodies
from arena_ckpt.allocation.bounds import height_unit
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.incumbent import Incumbent
from arena_ckpt.allocation.instance import Instance, make_instance
from arena_ckpt.allocation.orders import Orders, noise, rank_of
from arena_ckpt.allocation.search import (
    FITS,
    NOTHING_FITS,
    PAUSED,
    Search,
)

LARGEST_INSTANCE = 2000
"""Maximum number of bodies; the search keeps a list of them for every depth."""

SEARCH_ORDERS = (
    ("TWA", 1.0),
    ("ATW", 1.0),
    ("WTA", 1.0),
    ("ETA", 0.5),
    ("EWA", 0.25),
    ("SWA", 0.25),
)
"""Orders of the searches, and the share of a turn that each gets; the last three
succeed soon or never."""

JITTER_ORDERS = ("TWA", "TWA", "WTA")
"""Orders that dives jitter, one after the other."""

JITTER_REACHES = (2.5, 1.5, 2.0, 4.0)
"""Largest distances by which dives move a place, one after the other."""

FIRST_TURN_NODES = 1000
"""Maximum number of nodes of an order in the first turn."""

TURN_GROWTH = 4
"""Factor by which each turn is longer than the one before."""

TIGHTER_TURNS = 2
"""Maximum number of turns for the lower bound, which can be easier to decide."""

LONGEST_TURN_NODES = 16_000
"""Maximum number of nodes of an order in any turn."""

DIVES_PER_TURN = 6
"""Number of dives after each turn."""

DIVE_NODES = 4
"""Maximum number of nodes of a dive for each body; most dives that succeed hardly ever
go back."""

DIVE_DEPTHS = (1.0, 0.85, 0.7)
"""Capacities that dives aim at, from the lower bound (0) to just below the best layout
(1)."""


class ExactEngine:
    """Runs exact searches over one set of flat bodies.

    Parameters
    ----------
    bodies : Bodies
        Flat bodies, at most `LARGEST_INSTANCE`.
    orders : Orders
    seed : int
        Seed of the jitter.
    """

    def __init__(self, bodies: Bodies, orders: Orders, seed: int) -> None:
        assert len(bodies) <= LARGEST_INSTANCE
        self._bodies = bodies
        self._orders = orders
        self._seed = seed
        self._instance: Instance = make_instance(bodies)
        self._unit = height_unit(bodies)
        spans = int((bodies.section_upper - bodies.section_lower).sum())
        # The clock is read after so many nodes, which take some hundredths of a second.
        self._chunk_nodes = max(16, 8_000_000 // (spans + 16 * len(bodies) + 1))
        self._n_jitters = 0

    def decide(self, incumbent: Incumbent, capacity_bytes: int, budget: Budget) -> int:
        """Search for a layout within a capacity; return the outcome.

        The outcome is `FITS`, `NOTHING_FITS` or `PAUSED`.

        What is found or proved goes into `incumbent`. A tighter capacity can be far
        easier, so the lower bound is tried first for some turns.
        """
        decision = _Decision(self, capacity_bytes)
        tighter = _Decision(self, incumbent.lower_bound_bytes)
        tighter_turns = TIGHTER_TURNS if tighter.capacity_bytes < capacity_bytes else 0
        while True:
            outcome = decision.turn(incumbent, budget)
            if outcome != PAUSED or budget.is_over:
                return outcome
            if tighter_turns:
                tighter_turns -= 1
                tighter.turn(incumbent, budget)
                if incumbent.height_bytes <= capacity_bytes:
                    return FITS
            for _ in range(DIVES_PER_TURN):
                outcome = self.dive(capacity_bytes, incumbent, budget)
                if outcome != PAUSED or budget.is_over:
                    return outcome

    def minimize(self, incumbent: Incumbent, budget: Budget) -> None:
        """Improve the layout and the lower bound until they meet or time is up.

        A third of the nodes goes to the lower bound itself, the rest to short dives
        somewhere between it and the best layout.
        """
        unit = self._unit
        incumbent.lower_bound_bytes = -(-incumbent.lower_bound_bytes // unit) * unit
        at_bound = _Decision(self, incumbent.lower_bound_bytes)
        n_dives = 0
        while not (incumbent.is_optimal or budget.is_over):
            before = budget.nodes
            outcome = at_bound.turn(incumbent, budget)
            if outcome == NOTHING_FITS:
                at_bound = _Decision(self, incumbent.lower_bound_bytes)
            until = budget.nodes + 2 * (budget.nodes - before)
            while budget.nodes < until and not (incumbent.is_optimal or budget.is_over):
                low = incumbent.lower_bound_bytes
                steps = (incumbent.height_bytes - 1 - low) // unit
                depth = DIVE_DEPTHS[n_dives % len(DIVE_DEPTHS)]
                target = low + int(steps * depth) * unit
                self.dive(target, incumbent, budget)
                n_dives += 1

    def run(
        self,
        search: Search,
        name: str,
        n_nodes: int,
        incumbent: Incumbent,
        budget: Budget,
    ) -> int:
        """Let a search go on for some nodes; record what it found."""
        end = search.nodes + n_nodes
        outcome = PAUSED
        while outcome == PAUSED and search.nodes < end and not budget.is_over:
            before = search.nodes
            nodes = budget.nodes_left(min(self._chunk_nodes, end - before))
            with budget.counting_compiled(search.load):
                outcome = search.run(nodes)
            budget.spend(
                search.nodes - before,
                lambda: (
                    f"{incumbent}; trying {search.capacity_bytes:,} B, "
                    f"{budget.nodes:,} nodes"
                ),
            )
        if outcome == FITS:
            offset = search.offset
            height = self._bodies.height_bytes(offset)
            incumbent.offer(offset, height, f"exact:{name}")
        elif outcome == NOTHING_FITS:
            incumbent.rule_out(search.capacity_bytes, self._unit)
        return outcome

    def search(self, letters: str, capacity_bytes: int) -> Search:
        """Return a new search in one of the static orders."""
        return Search(self._instance, self._orders.rank(letters), capacity_bytes)

    def dive(self, capacity_bytes: int, incumbent: Incumbent, budget: Budget) -> int:
        """Run a short search in an order whose places are moved at random."""
        k = self._n_jitters
        self._n_jitters += 1
        letters = JITTER_ORDERS[k % len(JITTER_ORDERS)]
        reach = JITTER_REACHES[k // len(JITTER_ORDERS) % len(JITTER_REACHES)]
        n = len(self._bodies)
        moved = self._orders.rank(letters) + reach * noise(n, self._seed, k)
        rank = rank_of(np.argsort(moved, kind="stable"))
        search = Search(self._instance, rank, capacity_bytes)
        return self.run(search, f"{letters}+jitter", DIVE_NODES * n, incumbent, budget)


class _Decision:
    """The searches for one capacity, which take turns."""

    def __init__(self, engine: ExactEngine, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self._engine = engine
        self._turn_nodes = FIRST_TURN_NODES
        self._searches: dict[str, Search] = {}

    def turn(self, incumbent: Incumbent, budget: Budget) -> int:
        """Let every order go on for some nodes, more of them than in the last turn."""
        engine, capacity = self._engine, self.capacity_bytes
        for letters, share in SEARCH_ORDERS:
            if letters not in self._searches:
                self._searches[letters] = engine.search(letters, capacity)
            nodes = int(self._turn_nodes * share)
            outcome = engine.run(
                self._searches[letters], letters, nodes, incumbent, budget
            )
            if outcome != PAUSED or budget.is_over:
                return outcome
        self._turn_nodes = min(LONGEST_TURN_NODES, self._turn_nodes * TURN_GROWTH)
        return PAUSED
