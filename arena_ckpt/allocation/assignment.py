"""Search for the assignment of bodies to pools that spills the least weight.

The search is depth first. It starts with the bodies that may lie in one pool only, goes
on with the heaviest, and tries the allowed pools for each body in their order, the
preferred one first.

- *Bounds*: the bytes alive in a section of a pool stay within its size. A body for
  which no allowed pool up to number j has the bytes left spills beyond j; what spills
  so at least must be less than what the best assignment spills.
- *Packing*: where every body has a pool, each pool is laid out by the engines. From
  bodies that are proved not to fit together one after the other is left out as long
  as that stays proved; what is left is a *cut*, and no assignment with all of a cut in
  one pool is looked at again.
- *Twins*: of bodies alike but for their weight the heavier takes the earlier pool.

A weight is what it costs if a body lies one pool further down: bytes × steps, if the
user gives no others. Weights are integers, so that sums are exact.

Exponential in the number of bodies. Cuts are those of logic-based Benders
decomposition.

References
----------
J. N. Hooker, G. Ottosson, "Logic-based Benders decomposition", Mathematical
Programming 96 (2003).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from arena_ckpt.allocation import disjunctive, search
from arena_ckpt.allocation.bodies import Bodies, section_needs
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.buffers import Buffers
from arena_ckpt.allocation.integers import LARGEST_SUM_BYTES
from arena_ckpt.allocation.layout import Layout
from arena_ckpt.allocation.pool_rules import Pools, Spill
from arena_ckpt.allocation.search_options import SearchOptions
from arena_ckpt.allocation.single import Decision, decide

MOST_BODIES = 40
"""Maximum number of bodies whose assignments are searched."""

PACKING_NODES = 20_000
"""Maximum number of nodes of the search for the layout of one pool."""


class AssignmentSearch:
    """Searches the assignments of a set of bodies to pools.

    Parameters
    ----------
    buffers : Buffers
    bodies : Bodies
        The bodies of these buffers, at most `MOST_BODIES`.
    pools : Pools
    budget : Budget
        Limit of the search.
    seed : int
        Seed of the jitter in orders.

    Attributes
    ----------
    best : tuple of int, or None
        The pool of each body in the best assignment found.
    spill : Spill or None
        What `best` spills; before there is one, what an assignment must spill less.
    layouts : list of Layout or None
        Layouts of its pools; None for a pool without a limit.
    is_complete : bool
        Whether no assignment was left out. If so, none spills less than `spill`, and
        if `spill` is None there is none at all.
    interrupted : bool
        Whether Ctrl-C ended the search.
    """

    def __init__(
        self,
        buffers: Buffers,
        bodies: Bodies,
        pools: Pools,
        budget: Budget,
        seed: int,
    ) -> None:
        assert len(bodies) <= MOST_BODIES
        self.best: tuple[int, ...] | None = None
        self.spill: Spill | None = None
        self.layouts: list[Layout | None] = []
        self.is_complete = True
        self.interrupted = False
        self._buffers, self._bodies = buffers, bodies
        self._sizes = [LARGEST_SUM_BYTES if s is None else s for s in pools.sizes]
        self._has_limit = [size is not None for size in pools.sizes]
        self._allowed = pools.allowed_of(bodies)
        self._budget, self._seed = budget, seed
        self._weights = pools.weights_of(bodies)
        self._cost_of, self._is_weighed = pools.cost_of, pools.are_weighed
        self._needs = section_needs(bodies)
        is_free = self._allowed.sum(axis=1) > 1
        self._order = sorted(
            range(len(bodies)), key=lambda b: (is_free[b], -self._weights[b], b)
        )
        self._twin = _twins(bodies, self._allowed, self._order)
        self._pool_of = [0] * len(bodies)
        self._masks = [0] * len(pools)
        self._used = np.zeros((len(pools), bodies.n_sections), dtype=np.int64)
        self._spilled = [0] * (len(pools) - 1)
        self._cuts: list[list[int]] = [[] for _ in self._sizes]
        self._decisions: dict[tuple[int, int], Decision] = {}

    def run(self, below: Spill | None = None, *, first_will_do: bool = False) -> None:
        """Look for the assignment that spills least.

        Parameters
        ----------
        below : Spill or None
            Only what spills less is looked for.
        first_will_do : bool
            End with the first assignment.
        """
        self.spill = below
        with self._budget.stopped():
            (search if self._bodies.are_flat else disjunctive).load()
        try:
            self._visit(0, first_will_do)
        except KeyboardInterrupt:
            self.interrupted = True
        if self.interrupted:
            self.is_complete = False

    def _visit(self, depth: int, first_will_do: bool) -> None:
        """Try every pool for the body at a depth of the order."""
        if depth == len(self._order):
            self._close()
            return
        body, twin = self._order[depth], self._twin[depth]
        bit = 1 << body
        for pool in range(0 if twin is None else self._pool_of[twin], len(self._sizes)):
            if self._must_end(first_will_do) or self._holds_cut():
                return
            if not self._has_room(pool, [body])[0] or self._is_cut(
                pool, self._masks[pool] | bit
            ):
                continue
            self._budget.spend(1, self._progress)
            self._put(body, pool, 1)
            self._masks[pool] |= bit
            self._pool_of[body] = pool
            if self._may_improve(depth + 1):
                self._visit(depth + 1, first_will_do)
            self._masks[pool] &= ~bit
            self._put(body, pool, -1)

    def _must_end(self, first_will_do: bool) -> bool:
        if first_will_do and self.best is not None:
            return True
        if self._budget.is_over:
            self.is_complete = False
        return self.interrupted or self._budget.is_over

    def _put(self, body: int, pool: int, sign: int) -> None:
        """Count a body as in a pool (`sign` 1), or no longer (-1)."""
        self._used[pool] += sign * self._needs[body]
        for beyond in range(pool):
            self._spilled[beyond] += sign * self._weights[body]

    def _has_room(self, pool: int, bodies: list[int]) -> npt.NDArray[np.bool_]:
        """Say for each body whether it may lie in a pool that has the bytes for it."""
        size = self._sizes[pool]
        live = self._used[pool] + self._needs[bodies]
        fits: npt.NDArray[np.bool_] = (live <= size).all(axis=1)
        fits &= self._bodies.extent[bodies] <= size
        return fits & self._allowed[bodies, pool]

    def _may_improve(self, depth: int) -> bool:
        """Say whether the bodies from a depth on can spill less than the best."""
        left = self._order[depth:]
        earliest = np.full(len(left), len(self._sizes))
        for pool in reversed(range(len(self._sizes))):
            earliest[self._has_room(pool, left)] = pool
        spilled = list(self._spilled)
        for body, pool in zip(left, earliest.tolist(), strict=True):
            if pool == len(self._sizes):
                return False
            for beyond in range(pool):
                spilled[beyond] += self._weights[body]
        return self.spill is None or tuple(spilled) < self.spill

    def _close(self) -> None:
        """Lay out every pool of an assignment; keep it, or learn why it fails."""
        layouts: list[Layout | None] = []
        for pool, mask in enumerate(self._masks):
            if not self._has_limit[pool]:
                layouts.append(None)
                continue
            decision = self._decide(mask, self._sizes[pool])
            if decision.layout is None:
                self._learn(mask, pool, decision)
                return
            layouts.append(decision.layout)
        self.best = tuple(self._pool_of)
        self.spill, self.layouts = tuple(self._spilled), layouts

    # -- packing -----------------------------------------------------------------------

    def _decide(self, mask: int, size: int) -> Decision:
        """Return whether a set of bodies fits in a size, as far as is known."""
        key = mask, size
        if key not in self._decisions:
            limit = max(0, self._budget.nodes_left(PACKING_NODES))
            options = SearchOptions(node_limit=limit, seed=self._seed, progress=False)
            decision = decide(self._members(mask), size, options)
            self._budget.spend(decision.nodes, self._progress)
            self.interrupted |= decision.interrupted
            self._decisions[key] = decision
        return self._decisions[key]

    def _members(self, mask: int) -> Buffers:
        chosen = [bool(mask >> body & 1) for body in range(len(self._bodies))]
        return self._buffers.take(
            np.flatnonzero(np.array(chosen, dtype=bool)[self._bodies.body_of])
        )

    def _learn(self, mask: int, pool: int, decision: Decision) -> None:
        """Record a set of bodies that has no layout in a pool as a cut."""
        size = self._sizes[pool]
        if not decision.is_impossible:  # it may have one: this is no proof
            self.is_complete = False
            self._cuts[pool].append(mask)
            return
        for body in reversed(self._order):
            less = mask & ~(1 << body)
            if less == mask or self.interrupted or self._budget.is_over:
                continue
            if self._decide(less, size).is_impossible:
                mask = less
        for other, other_size in enumerate(self._sizes):
            if other_size <= size:
                self._cuts[other].append(mask)

    def _is_cut(self, pool: int, mask: int) -> bool:
        return any(cut & mask == cut for cut in self._cuts[pool])

    def _holds_cut(self) -> bool:
        """Say whether all bodies of a known cut are assigned to its pool."""
        return any(self._is_cut(pool, mask) for pool, mask in enumerate(self._masks))

    def _progress(self) -> str:
        unit = "of weight" if self._is_weighed else "B × steps"
        found = "none yet"
        if self.spill is not None:
            found = f"{self._cost_of(sum(self.spill[:1])):,} {unit}"
        return f"pools, {self._budget.nodes:,} nodes, least spill {found}"


def _twins(
    bodies: Bodies, allowed: npt.NDArray[np.bool_], order: list[int]
) -> list[int | None]:
    """Return for each place in an order an earlier body that differs only in weight."""
    seen: dict[tuple[object, ...], int] = {}
    twins: list[int | None] = []
    for body in order:
        pieces = slice(bodies.first_piece[body], bodies.first_piece[body + 1])
        footprint = (
            int(bodies.extent[body]),
            int(bodies.alignment[body]),
            int(bodies.fixed_offset[body]),
            allowed[body].tobytes(),
            *(
                column[pieces].tobytes()
                for column in (
                    *(bodies.section_lower, bodies.section_upper),
                    *(bodies.base, bodies.size),
                )
            ),
        )
        twins.append(seen.get(footprint))
        seen[footprint] = body
    return twins
