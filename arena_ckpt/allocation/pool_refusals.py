"""The errors for buffers that do not fit in pools, or are not known to.

Buffers are called impossible only if that is proved for every assignment to the pools
that are allowed for them: by a bound that holds for all of them, or by a search that
left none out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.allocation.assignment import MOST_BODIES, AssignmentSearch
from arena_ckpt.allocation.bodies import (
    Bodies,
    make_bodies,
    section_bytes,
    section_needs,
)
from arena_ckpt.allocation.bounds import LowerBound, lower_bound
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.buffers import FREE, Buffers, make_buffers
from arena_ckpt.allocation.conflict import conflicting_buffers
from arena_ckpt.allocation.layout import Layout
from arena_ckpt.allocation.pool_rules import Pools
from arena_ckpt.allocation.search_options import SearchOptions
from arena_ckpt.allocation.single import decide
from arena_ckpt.common.units import format_bytes
from arena_ckpt.errors import CapacityError, TimeLimitError

CONFLICT_NODES = 5_000
"""Maximum number of nodes of the search for a smaller set of buffers that does not
fit."""

PINNED_NODES = 20_000
"""Maximum number of nodes of the search that tries to lay out all buffers that may lie
in one pool only."""

CROWD_NODES = 10_000
"""Maximum number of nodes of the search for an assignment of the bodies of one step."""

MOST_SETS = 64
"""Maximum number of sets of pools whose live bytes are compared with their sizes."""

NO_LIMIT = 2**63 - 1
"""Stands for the size of a pool without a limit."""

Choices = npt.NDArray[np.bool_]
"""Whether each body may lie in each pool, shape (bodies, pools)."""


def refuse_impossible(
    buffers: Buffers, bodies: Bodies, bound: LowerBound, pools: Pools
) -> None:
    """Refuse buffers that cannot fit in the pools, whichever buffer goes into which.

    Raises
    ------
    CapacityError
    """
    if not len(bodies):
        return
    allowed = pools.allowed_of(bodies)
    _refuse_too_large(bodies, bound, pools, allowed)
    _refuse_too_high(bodies, bound, pools, allowed)
    for chosen in _sets_of_pools(allowed):
        _refuse_too_many(buffers, bodies, pools, allowed, chosen)


def _refuse_too_large(
    bodies: Bodies, bound: LowerBound, pools: Pools, allowed: Choices
) -> None:
    """Refuse a body that is larger than every pool that it may lie in."""
    sizes = [NO_LIMIT if size is None else size for size in pools.sizes]
    largest_pool = np.where(allowed, sizes, 0).max(axis=1)
    above = np.where(bodies.extent > largest_pool, bodies.extent, 0)
    body = int(np.argmax(above))
    if not above[body]:
        return
    members = np.flatnonzero(bodies.body_of == body).tolist()
    where, another = "the largest pool has", ""
    if not allowed[body].all():
        listed = " or ".join(map(pools.label, np.flatnonzero(allowed[body]).tolist()))
        where, another = (
            f"may lie only in {listed}, which has",
            ", allow it another one",
        )
        if allowed[body].sum() > 1:
            where = f"may lie only in {listed}, the largest of which has"
    raise CapacityError(
        f"{_who(members)} takes {format_bytes(int(above[body]))} and {where} "
        f"{format_bytes(int(largest_pool[body]))} (proof: largest buffer). Give "
        f"a larger pool{another} or make it smaller",
        **_facts(pools.sizes, bound, "largest buffer", members),
    )


def _refuse_too_high(
    bodies: Bodies, bound: LowerBound, pools: Pools, allowed: Choices
) -> None:
    """Refuse a body whose fixed offset puts its end above its pool."""
    for body in np.flatnonzero(bodies.fixed_offset != FREE).tolist():
        pool = int(np.argmax(allowed[body]))
        size, start = pools.sizes[pool], int(bodies.fixed_offset[body])
        end = start + int(bodies.extent[body])
        if size is not None and end > size:
            members = np.flatnonzero(bodies.body_of == body).tolist()
            raise CapacityError(
                f"{_who(members)} is fixed at [{start}, {end}) of "
                f"{pools.label(pool)}, which has {format_bytes(size)} (proof: fixed "
                "offset). Give a larger pool, or move or free it",
                **_facts(pools.sizes, bound, "fixed offset", members),
            )


def _sets_of_pools(allowed: Choices) -> list[list[int]]:
    """Return the sets of pools that some bodies may not leave, small ones first.

    These are the choices of bodies, and unions of them up to `MOST_SETS`.
    """
    rows = np.unique(allowed, axis=0)
    known = sorted(
        {frozenset(np.flatnonzero(row).tolist()) for row in rows}, key=sorted
    )
    for choice in list(known):
        for other in list(known):
            if len(known) < MOST_SETS and choice | other not in known:
                known.append(choice | other)
    return sorted((sorted(pools) for pools in known), key=lambda s: (len(s), s))


def _refuse_too_many(
    buffers: Buffers,
    bodies: Bodies,
    pools: Pools,
    allowed: Choices,
    chosen: list[int],
) -> None:
    """Refuse bodies that may lie in some of the pools only, if they cannot all fit."""
    sizes = [pools.sizes[pool] for pool in chosen]
    if None in sizes:
        return
    total = sum(size or 0 for size in sizes)
    is_inside = allowed.sum(axis=1) == allowed[:, chosen].sum(axis=1)
    members = np.flatnonzero(is_inside[bodies.body_of])
    some = buffers.take(members)
    its_bodies = make_bodies(some)
    bound = lower_bound(its_bodies, len(sizes))
    if bound.height_bytes <= total:
        return
    found, proof = conflicting_buffers(some, its_bodies, bound, total)
    conflict = members[list(found)].tolist()
    together = f", {format_bytes(total)} together"
    if len(sizes) == 1 and len(pools) > 1:
        together = ""
    raise CapacityError(
        f"{_whose(is_inside)} cannot fit in {_pools_text(pools, chosen)}{together}: "
        f"at least {format_bytes(bound.height_bytes)} are needed (proof: {proof}). "
        f"{_together(conflict, pools)}",
        **_facts(sizes, bound, proof, conflict),
    )


def refuse_pinned(
    buffers: Buffers, bodies: Bodies, pools: Pools, budget: Budget, seed: int
) -> None:
    """Refuse buffers of which a search proves that their only pool cannot hold them.

    Raises
    ------
    CapacityError
    """
    allowed = pools.allowed_of(bodies)
    for pool, size in enumerate(pools.sizes):
        is_inside = allowed[:, pool] & (allowed.sum(axis=1) == 1)
        members = np.flatnonzero(is_inside[bodies.body_of])
        if size is None or not len(members):
            continue
        some = buffers.take(members)
        most = max(0, budget.nodes_left(PINNED_NODES))
        options = SearchOptions(node_limit=most, seed=seed, progress=False)
        decision = decide(some, size, options)
        budget.spend(decision.nodes, lambda: "what may lie in one pool only")
        if decision.is_impossible:
            its_bodies = make_bodies(some)
            its_bound = lower_bound(its_bodies)
            found, proof = conflicting_buffers(some, its_bodies, its_bound, size)
            conflict = members[list(found)].tolist()
            raise CapacityError(
                f"{_whose(is_inside)} cannot fit in {_pools_text(pools, [pool])} "
                f"(proof: {proof}). {_together(conflict, pools)}",
                **_facts([size], its_bound, proof, conflict),
            )


def refuse_crowded(bodies: Bodies, pools: Pools, budget: Budget, seed: int) -> None:
    """Refuse bodies of which a search proves that the largest of one step do not fit.

    Of the section with the most live bytes up to `MOST_BODIES` bodies are looked at as
    if they lived in that alone, so it is no matter how long they live.

    Raises
    ------
    CapacityError
    """
    live = section_bytes(bodies)
    if not len(live):
        return
    taken = section_needs(bodies)[:, int(np.argmax(live))]
    largest = np.argsort(-taken, kind="stable")[:MOST_BODIES]
    largest = np.sort(largest[taken[largest] > 0])
    n = len(largest)
    # Pieces above the bottom of their body start at no multiple of its alignment.
    alignment = bodies.alignment[largest] if bodies.are_flat else 1
    at_once = make_buffers([0] * n, [1] * n, taken[largest], alignment=alignment)
    its_bodies = make_bodies(at_once)
    its_pools = replace(
        pools,
        allowed=pools.allowed_of(bodies)[largest],
        weights=tuple(taken[largest].tolist()),
    )
    its_budget = Budget(max(0, budget.nodes_left(CROWD_NODES)), None)
    search = AssignmentSearch(at_once, its_bodies, its_pools, its_budget, seed)
    search.run(first_will_do=True)
    budget.spend(its_budget.nodes, lambda: "what lives in the fullest step")
    if search.best is None and search.is_complete:
        kept = _smaller_conflict(at_once, its_bodies, its_pools, seed)
        conflict = np.flatnonzero(np.isin(bodies.body_of, largest[kept])).tolist()
        bound = lower_bound(its_bodies, len(pools))
        raise _exhausted(pools, bound, conflict)


def nothing_fits(
    buffers: Buffers,
    bodies: Bodies,
    bound: LowerBound,
    pools: Pools,
    seed: int,
) -> CapacityError:
    """Return the error after a search that has ruled out every assignment to pools."""
    kept = _smaller_conflict(buffers, bodies, pools, seed)
    conflict = np.flatnonzero(np.isin(bodies.body_of, kept)).tolist()
    return _exhausted(pools, bound, conflict)


def _smaller_conflict(
    buffers: Buffers, bodies: Bodies, pools: Pools, seed: int
) -> list[int]:
    """Return some of the bodies for which no assignment to pools fits either."""
    budget = Budget(CONFLICT_NODES, None)
    kept = list(range(len(bodies)))
    for body in range(len(bodies)):
        fewer = [other for other in kept if other != body]
        members = np.flatnonzero(np.isin(bodies.body_of, fewer))
        some = buffers.take(members)
        search = AssignmentSearch(
            some, make_bodies(some), pools.take(members), budget, seed
        )
        search.run(first_will_do=True)
        if search.is_complete and search.best is None:
            kept = fewer
        if search.interrupted:
            break
    return kept


def _exhausted(
    pools: Pools, bound: LowerBound, conflict: Sequence[int]
) -> CapacityError:
    which = "whichever goes into which"
    if not pools.are_open:
        which = "whichever of its allowed pools each goes into"
    return CapacityError(
        f"the buffers cannot fit in {_pools_text(pools)}, {which} (proof: exhausted). "
        f"{_together(conflict, pools)}",
        **_facts(pools.sizes, bound, "exhausted", conflict),
    )


def not_known(
    layout: Layout, pools: Pools, too_high: int, n_bodies: int
) -> TimeLimitError:
    """Return the error if no assignment that fits was found, although one may exist.

    Parameters
    ----------
    layout : Layout
        The best one found.
    pools : Pools
    too_high : int
        The first pool that the layout is too high for.
    n_bodies : int
        Number of bodies.
    """
    assert layout.pool is not None
    there = np.flatnonzero(layout.pool == too_high).tolist()
    is_last = too_high == len(pools) - 1
    where = f"the last pool, number {too_high}" if is_last else pools.label(too_high)
    ended = "interrupted" if layout.stats["interrupted"] else "the search ended"
    if n_bodies > MOST_BODIES:
        ended += (
            f" (every choice is looked at for at most {MOST_BODIES} buffers or groups, "
            f"these are {n_bodies:,})"
        )
    return TimeLimitError(
        f"not known whether the buffers fit in {_pools_text(pools)}: {ended} after "
        f"{layout.stats['nodes']:,} nodes. The best choice found leaves {len(there):,} "
        f"buffers to {where}, which take "
        f"{format_bytes(layout.pool_heights_bytes[too_high])} there. Give it more "
        "time, make a pool larger, or take the layout that this error carries",
        layout=layout,
        pool=too_high,
        pools=pools.sizes,
        buffers=tuple(there),
        capacity_bytes=pools.sizes[too_high],
        lower_bound_bytes=layout.lower_bound_bytes,
    )


def _facts(
    sizes: Sequence[int | None],
    bound: LowerBound,
    proof: str,
    conflict: Sequence[int],
) -> dict[str, Any]:
    return {
        "pools": tuple(sizes),
        "capacity_bytes": sum(size or 0 for size in sizes),
        "lower_bound_bytes": bound.height_bytes,
        "proof": proof,
        "conflict": tuple(conflict),
    }


def _who(members: Sequence[int]) -> str:
    return f"{'buffer' if len(members) == 1 else 'group of buffer'} {members[0]}"


def _pools_text(pools: Pools, chosen: Sequence[int] | None = None) -> str:
    """Return a text that lists the sizes, for example ``"pools of 16 B and 8 B"``.

    Some of the pools, and pools with names, are listed as ``"pool 'a' of 16 B"``.
    """
    some = range(len(pools)) if chosen is None else chosen
    if pools.names or len(some) < len(pools):
        texts = [pools.label_with_size(pool) for pool in some]
        return texts[0] if len(texts) == 1 else _and(texts)
    texts = ["any size" if size is None else format_bytes(size) for size in pools.sizes]
    return f"a pool of {texts[0]}" if len(texts) == 1 else f"pools of {_and(texts)}"


def _and(texts: list[str]) -> str:
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def _whose(is_inside: npt.NDArray[np.bool_]) -> str:
    """Return how messages call bodies that may not leave a set of pools."""
    return "the buffers" + ("" if is_inside.all() else " that may lie nowhere else")


def _together(conflict: Sequence[int], pools: Pools) -> str:
    shown_ones = ", ".join(map(str, conflict[:12]))
    more = f" and {len(conflict) - 12} more" if len(conflict) > 12 else ""
    allow = "" if pools.are_open else ", or allow one of them another pool"
    return (
        f"Already {len(conflict)} of them do not fit together: {shown_ones}{more}. "
        f"Make a pool larger, or one of these smaller or shorter-lived{allow}"
    )
