"""Chooses the bodies for one pool by prices of its bytes, before they are laid out.

The bodies of most weight are sought whose live bytes stay within the pool's size in
every section: a knapsack for each section, where a body needs room in several.

1. *Prices*: Lagrangian relaxation. A byte of a section has a price; a body is worth its
   weight less what its bytes cost. Prices rise in sections where the worthy bodies need
   more than there is, and fall where they need less (subgradient steps of Polyak's
   length). Bodies of the most weight for their price come first into the pool.
2. *Exchanges*: a body makes way for others that weigh more together.
3. *Search*: the weight of every choice is the bound that the prices prove less what it
   loses, body by body: the worth of those that it decides against their prices. Depth
   first, the surest bodies first, choices are searched that lose less than the best.

All sums of floats are rounded once or taken in order, so that the choice is the same on
every machine.

References
----------
M. L. Fisher, "The Lagrangian relaxation method for solving integer programming
problems", Management Science 27 (1981).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.allocation.bodies import Bodies, running_total, section_needs
from arena_ckpt.allocation.integers import Integers

MOST_CELLS = 4_000_000
"""Maximum number of bodies times sections that are looked at."""

PRICE_STEPS = 200
"""Number of steps that change the prices."""

STEPS_PER_CHOICE = 4
"""Number of steps after which bodies are chosen by the prices."""

PATIENCE = 10
"""Number of steps without a better bound after which steps become half as long."""

ROUNDS = 5
"""Maximum number of times that all bodies are looked at for exchanges."""

MOST_COMPARED = 500_000_000
"""Maximum number of comparisons of a body's bytes in a section for exchanges; they take
about a second."""

SEARCH_NODES = 5_000
"""Maximum number of nodes of the search."""

Flags = npt.NDArray[np.bool_]
Reals = npt.NDArray[np.float64]
_Chosen = tuple[Any, ...]
"""Chosen bodies: none, or those chosen before and one more."""


def choose(
    bodies: Bodies, weights: list[int], size_bytes: int, must: Flags
) -> Flags | None:
    """Choose bodies of much weight whose live bytes stay within a size.

    Parameters
    ----------
    bodies : Bodies
    weights : list of int
        Of each body, not negative.
    size_bytes : int
    must : bool array, shape (bodies,)
        Bodies that are chosen in any case.

    Returns
    -------
    bool array, shape (bodies,), or None
        None where there are too many bodies to look at, or those that must be chosen
        take too much.

    Notes
    -----
    O(n t) for n bodies and t sections, with large factors: some hundred steps of
    prices, some dozen choices and up to `MOST_COMPARED` comparisons.
    """
    total = sum(weights)
    if len(bodies) * bodies.n_sections > MOST_CELLS or not total:
        return None
    knapsack = _Knapsack(bodies, weights, size_bytes, must)
    if (knapsack.free < 0).any():
        return None
    knapsack.solve()
    return knapsack.best


class _Knapsack:
    """Chooses bodies for the sections of a pool.

    Attributes
    ----------
    free : int64 array, shape (sections,)
        Bytes that are left beside the bodies that must be chosen.
    best : bool array, shape (bodies,)
        The best choice so far.
    """

    def __init__(
        self, bodies: Bodies, weights: list[int], size_bytes: int, must: Flags
    ) -> None:
        total = sum(weights)
        self._bodies, self._size = bodies, size_bytes
        self._owner = bodies.piece_owner()
        self._needs = section_needs(bodies)
        self._share = np.array([weight / total for weight in weights])
        self._weights = weights
        self._must = must
        self.free = size_bytes - self._needs[must].sum(axis=0)
        self._may = ~must & (self._needs <= self.free).all(axis=1)
        self.best = must.copy()
        self._order = np.flatnonzero(self._may)
        # What is best for the bound: the prices, and each body's worth at them.
        self._prices = np.zeros(bodies.n_sections)
        self._bound = math.inf

    def solve(self) -> None:
        """Look for the best choice."""
        self._find_prices()
        self._exchange()
        self._search()

    def _weight(self, chosen: Flags) -> int:
        return sum(self._weights[body] for body in np.flatnonzero(chosen).tolist())

    # -- prices ------------------------------------------------------------------------

    def _find_prices(self) -> None:
        """Change the prices step by step; keep the best bound and the best choice."""
        live = self._used(self._may)
        is_full = live > self.free
        if not is_full.any():
            self.best = self._must | self._may
            return
        peak = int((live - self.free)[is_full].max())
        prices = np.where(is_full, 1.0 / int(is_full.sum()) / (self._size + peak), 0.0)
        self._prices, stretch, n_idle, most = prices, 1.0, 0, 0.0
        for step in range(PRICE_STEPS):
            worth = self._worth(prices)
            bound = self._bound_of(prices, worth)
            if bound < self._bound:
                self._bound, self._prices, n_idle = bound, prices, 0
            else:
                n_idle += 1
                if n_idle == PATIENCE:
                    stretch, n_idle, prices = stretch / 2, 0, self._prices
                    continue
            if step % STEPS_PER_CHOICE == 0:
                self._choose_in_order(worth)
                most = self._share_of(self.best & ~self._must)
            slope = (self.free - self._used(self._may & (worth > 0))) / self._size
            slope[(prices <= 0) & (slope > 0)] = 0.0
            length = math.fsum((slope * slope).tolist())
            if not length or bound <= most:
                return
            move = stretch * (bound - most) / length / self._size
            prices = np.maximum(0.0, prices - move * slope)

    def _used(self, chosen: Flags) -> Integers:
        """Return the bytes that some bodies take in each section."""
        bodies = self._bodies
        taken = np.where(chosen[self._owner], bodies.size, 0)
        return running_total(
            bodies.section_lower, bodies.section_upper, taken, bodies.n_sections
        )

    def _worth(self, prices: Reals) -> Reals:
        """Return the weight of each body less what its bytes cost."""
        return self._share - self._cost(prices)

    def _cost(self, prices: Reals) -> Reals:
        bodies = self._bodies
        until = np.concatenate(([0.0], np.cumsum(prices)))
        pieces = until[bodies.section_upper] - until[bodies.section_lower]
        cost = np.zeros(len(bodies))
        np.add.at(cost, self._owner, pieces * bodies.size)
        return cost

    def _bound_of(self, prices: Reals, worth: Reals) -> float:
        """Return the most weight that any choice can have, as the prices prove."""
        worthy = np.where(self._may, np.maximum(worth, 0.0), 0.0)
        return math.fsum([*(prices * self.free).tolist(), *worthy.tolist()])

    def _share_of(self, chosen: Flags) -> float:
        return math.fsum(self._share[chosen].tolist())

    def _choose_in_order(self, worth: Reals) -> None:
        """Choose bodies in the order of their weight for their price, as they fit.

        What costs nothing comes first, the worthiest of it before the others.
        """
        cost = self._share - worth
        is_free = cost <= 0
        with np.errstate(over="ignore"):
            value = self._share / np.where(is_free, 1.0, cost)
        value[is_free] = math.inf
        order = np.lexsort((-worth, -value))
        chosen, free = self._must.copy(), self.free.copy()
        for body in order[self._may[order]].tolist():
            if (self._needs[body] <= free).all():
                chosen[body] = True
                free -= self._needs[body]
        if self._weight(chosen) > self._weight(self.best):
            self.best, self._order = chosen, order[self._may[order]]

    # -- exchanges ---------------------------------------------------------------------

    def _exchange(self) -> None:
        """Leave out single bodies as long as others that fit then weigh more."""
        chosen = self.best
        free = self.free - self._used(chosen & ~self._must)
        n_left = MOST_COMPARED // max(1, self._needs.size)
        for _ in range(ROUNDS):
            is_better = False
            for body in self._order[::-1].tolist():
                if not chosen[body]:
                    continue
                n_left -= 1
                if n_left < 0:
                    return
                room = free + self._needs[body]
                others, left = self._fill_up(~chosen, room)
                if sum(self._weights[b] for b in others) > self._weights[body]:
                    chosen[body], chosen[others] = False, True
                    free, is_better = left, True
            if not is_better:
                return

    def _fill_up(self, candidates: Flags, free: Integers) -> tuple[list[int], Integers]:
        """Return bodies that fit in free bytes, and what they leave free."""
        order = self._order[candidates[self._order]]
        order = order[(self._needs[order] <= free).all(axis=1)]
        if not len(order):
            return [], free
        others, left = [], free
        for body in order.tolist():
            if (self._needs[body] <= left).all():
                others.append(body)
                left = left - self._needs[body]
        heaviest = max(order.tolist(), key=lambda b: self._weights[b])
        if self._weights[heaviest] > sum(self._weights[b] for b in others):
            return [heaviest], free - self._needs[heaviest]
        return others, left

    # -- search ------------------------------------------------------------------------

    def _search(self) -> None:
        """Search the choices that lose less of the bound than the best one."""
        if self._bound == math.inf:
            return
        worth = self._worth(self._prices)
        most = self._bound - self._share_of(self.best & ~self._must)
        is_sure = np.abs(worth) >= most
        sure = self._may & is_sure & (worth > 0)
        free = self.free - self._used(sure)
        if (free < 0).any():  # by rounding
            return
        open_ones = np.flatnonzero(self._may & ~is_sure)
        open_ones = open_ones[np.argsort(-np.abs(worth[open_ones]), kind="stable")]
        found = _least_loss(
            self._needs[open_ones], worth[open_ones], self._prices, free, most
        )
        if found is not None:
            chosen = self._must | sure
            chosen[open_ones[found]] = True
            if self._weight(chosen) > self._weight(self.best):
                self.best = chosen


def _least_loss(
    needs: Integers, worth: Reals, prices: Reals, free: Integers, most: float
) -> list[int] | None:
    """Return the bodies of the choice that loses least against the bound of prices.

    Parameters
    ----------
    needs : int64 array, shape (bodies, sections)
        Bytes; the bodies are decided in this order.
    worth : float64 array, shape (bodies,)
        A body that is left out though it is worth something, or chosen though it is
        worth less than nothing, loses as much.
    prices : float64 array, shape (sections,)
        Bytes that stay free lose their price.
    free : int64 array, shape (sections,)
    most : float
        Only choices that lose less are looked for.

    Returns
    -------
    list of int, or None
        The best of the choices that were looked at; None where none loses less.
    """
    # Bytes that the bodies from each place on take in all.
    rest = np.zeros((len(worth) + 1, len(free)), dtype=np.int64)
    rest[:-1] = needs[::-1].cumsum(axis=0)[::-1]
    found: _Chosen | None = None
    stack: list[tuple[int, float, Integers, _Chosen]] = [(0, 0.0, free, ())]
    for _ in range(SEARCH_NODES):
        if not stack:
            break
        place, loss, left, chosen = stack.pop()
        unused = np.maximum(left - rest[place], 0)
        lost = loss + math.fsum((prices * unused).tolist())
        if lost >= most:
            continue
        if place == len(worth):
            most, found = lost, chosen
            continue
        is_worthy = bool(worth[place] > 0)
        for takes in (not is_worthy, is_worthy):  # what is put last is looked at first
            its_loss = loss if takes == is_worthy else loss + abs(float(worth[place]))
            if not takes:
                stack.append((place + 1, its_loss, left, chosen))
            elif (needs[place] <= left).all():
                room = left - needs[place]
                stack.append((place + 1, its_loss, room, (chosen, place)))
    if found is None:
        return None
    bodies = []
    while found:
        found, body = found
        bodies.append(body)
    return bodies
