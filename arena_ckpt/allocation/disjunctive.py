"""Exact search for bodies with overhangs, of windows in gaps or of unequal groups.

Such a body may lie partly below and partly above another, so there is no order from
the bottom up. Each pair of pieces that meet in time has the choice which lies below.
The search starts with no choice made and every body as low as the choices so far let it
be; the first pair that then overlaps in memory is decided both ways. Exhaustion proves
that nothing fits. Meant for some dozens of bodies.

The model is that of job shops, "disjunctive" since Balas, "Machine sequencing via
disjunctive graphs", 1969.
"""

from __future__ import annotations

import functools

import numpy as np

from arena_ckpt.allocation.bodies import Bodies, two_bodies
from arena_ckpt.allocation.bounds import height_unit
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.incumbent import Incumbent
from arena_ckpt.allocation.search import FITS, NOTHING_FITS, PAUSED
from arena_ckpt.kernels.hot_loops import compiled, routine
from arena_ckpt.operations.array_types import Integers

LARGEST_INSTANCE = 400
"""Maximum number of pieces; with more there are too many choices to search."""

FIRST_TURN_NODES = 5000


def improve(
    bodies: Bodies, incumbent: Incumbent, budget: Budget, capacity_bytes: int | None
) -> None:
    """Search for lower and lower layouts, or for one within a capacity.

    Until the incumbent is optimal, the capacity is decided, or time is up.
    """
    unit = height_unit(bodies)
    limit = FIRST_TURN_NODES
    while not (incumbent.is_optimal or budget.is_over):
        target = (incumbent.height_bytes - 1) // unit * unit
        if capacity_bytes is not None:
            target = min(target, capacity_bytes)
        outcome = decide(bodies, incumbent, target, budget, limit)
        if outcome == PAUSED:
            limit *= 4
        elif capacity_bytes is not None:
            return


def decide(
    bodies: Bodies,
    incumbent: Incumbent,
    capacity_bytes: int,
    budget: Budget,
    n_nodes: int,
) -> int:
    """Search for a layout within a capacity; return the outcome.

    The outcome is `FITS`, `NOTHING_FITS` or `PAUSED`.
    """
    pairs = _pairs(bodies)
    offset = np.maximum(bodies.fixed_offset, 0)
    outcome, nodes = _search(
        *pairs,
        bodies.alignment,
        bodies.fixed_offset,
        bodies.extent,
        capacity_bytes,
        budget.nodes_left(n_nodes),
        offset,
    )
    budget.spend(
        int(nodes),
        lambda: f"{incumbent}; trying {capacity_bytes:,} B",
    )
    if outcome == FITS:
        incumbent.offer(offset, bodies.height_bytes(offset), "exact:disjunctive")
    elif outcome == NOTHING_FITS:
        incumbent.rule_out(capacity_bytes, height_unit(bodies))
    return int(outcome)


@functools.cache
def load() -> None:
    """Have the loop compiled, or loaded from disk; done once a process."""
    bodies = two_bodies()
    _search(
        *_pairs(bodies),
        bodies.alignment,
        bodies.fixed_offset,
        bodies.extent,
        2,
        1,
        np.zeros(2, dtype=np.int64),
    )


def _pairs(bodies: Bodies) -> tuple[Integers, Integers, Integers, Integers]:
    """Return the bodies and two distances of each pair of pieces that meet in time.

    With the first below, the second body's offset is at least the first's plus the
    first distance; with the second below it is the other way round.
    """
    owner = bodies.piece_owner()
    lower, upper = bodies.section_lower, bodies.section_upper
    meets = (lower[:, None] < upper) & (lower < upper[:, None])
    p, q = np.nonzero(np.triu(meets, 1) & (owner[:, None] != owner))
    base, size = bodies.base, bodies.size
    return (
        owner[p],
        owner[q],
        base[p] + size[p] - base[q],
        base[q] + size[q] - base[p],
    )


@routine
def _overlapping_pair(
    first: Integers,
    second: Integers,
    second_above: Integers,
    first_above: Integers,
    offset: Integers,
) -> int:
    """Return the first pair of pieces that overlap in memory, or -1 if none do."""
    for k in range(first.size):
        distance = offset[second[k]] - offset[first[k]]
        if -first_above[k] < distance < second_above[k]:
            return k
    return -1


@routine
def _lift(
    first: Integers,
    second: Integers,
    second_above: Integers,
    first_above: Integers,
    alignment: Integers,
    fixed_offset: Integers,
    extent: Integers,
    chosen: Integers,
    choice: Integers,
    capacity: int,
    offset: Integers,
) -> bool:
    """Lift bodies until every choice holds; return False if one is then too high.

    The offsets become the least ones with which the choices of the pairs `chosen`
    hold.
    """
    moved = True
    while moved:
        moved = False
        for k in chosen:
            if choice[k] == 1:
                low, high, distance = first[k], second[k], second_above[k]
            else:
                low, high, distance = second[k], first[k], first_above[k]
            least = offset[low] + distance
            if offset[high] < least:
                step = alignment[high]
                offset[high] = (least + step - 1) // step * step
                moved = True
                if (
                    offset[high] + extent[high] > capacity
                    or 0 <= fixed_offset[high] < offset[high]
                ):
                    return False
    return True


@compiled
def _search(
    first: Integers,
    second: Integers,
    second_above: Integers,
    first_above: Integers,
    alignment: Integers,
    fixed_offset: Integers,
    extent: Integers,
    capacity: int,
    n_nodes: int,
    offset: Integers,
) -> tuple[int, int]:
    """Search for a layout of n bodies that fits; write its offsets.

    Parameters
    ----------
    first, second, second_above, first_above : int64 array, shape (n_pairs,)
        What `_pairs` returns.
    alignment, fixed_offset, extent : int64 array, shape (n,)
        Bytes, see `Bodies`.
    capacity : int
        Maximum height of the layout in bytes.
    n_nodes : int
        Maximum number of nodes.
    offset : int64 array, shape (n,)
        The lowest offsets of the bodies in bytes; becomes those of the layout.

    Returns
    -------
    outcome, nodes : int
        `FITS`, `NOTHING_FITS` or `PAUSED`, and the number of nodes looked at.
    """
    n, n_pairs = extent.size, first.size
    for b in range(n):
        if offset[b] + extent[b] > capacity:
            return NOTHING_FITS, 0
    chosen = np.empty(n_pairs, np.int64)  # the pairs decided, in order
    choice = np.zeros(n_pairs, np.int64)  # 1: second above first, 2: first above second
    before = np.empty((n_pairs + 1, n), np.int64)
    depth = nodes = 0
    while True:
        pair = _overlapping_pair(first, second, second_above, first_above, offset)
        if pair < 0:
            return FITS, nodes
        chosen[depth] = pair
        before[depth] = offset
        depth += 1
        while True:
            # Take the next choice of the last pair; go back where there is none.
            pair = chosen[depth - 1]
            choice[pair] += 1
            offset[:] = before[depth - 1]
            if choice[pair] > 2:
                choice[pair] = 0
                depth -= 1
                if depth == 0:
                    return NOTHING_FITS, nodes
                continue
            nodes += 1
            if nodes > n_nodes:
                return PAUSED, nodes
            if _lift(
                first,
                second,
                second_above,
                first_above,
                alignment,
                fixed_offset,
                extent,
                chosen[:depth],
                choice,
                capacity,
                offset,
            ):
                break
