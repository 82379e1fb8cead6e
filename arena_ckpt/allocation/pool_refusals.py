"""The errors for buffers that do not fit in pools, or are not known to.

Buffers are called impossible only if that is proved for every assignment to pools: by a
bound that holds for all of them, or by a search that left none out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from arena_ckpt.allocation.assignment import MOST_BODIES, AssignmentSearch
from arena_ckpt.allocation.bodies import Bodies, make_bodies
from arena_ckpt.allocation.bounds import LowerBound
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.buffers import Buffers
from arena_ckpt.allocation.conflict import conflicting_buffers
from arena_ckpt.allocation.layout import Layout
from arena_ckpt.common.units import format_bytes
from arena_ckpt.errors import CapacityError, TimeLimitError

CONFLICT_NODES = 5_000
"""Maximum number of nodes of the search for a smaller set of buffers that does not
fit."""

Sizes = Sequence[int | None]


def refuse_impossible(
    buffers: Buffers, bodies: Bodies, bound: LowerBound, sizes: Sizes
) -> None:
    """Refuse buffers that cannot fit in the pools, whichever buffer goes into which.

    Raises
    ------
    CapacityError
    """
    limited = [size for size in sizes if size is not None]
    if len(limited) < len(sizes) or not len(bodies):
        return
    largest = int(np.argmax(bodies.extent))
    if bodies.extent[largest] > max(limited):
        members = np.flatnonzero(bodies.body_of == largest)
        who = "buffer" if len(members) == 1 else "group of buffer"
        raise CapacityError(
            f"{who} {members[0]} takes {format_bytes(int(bodies.extent[largest]))} and "
            f"the largest pool has {format_bytes(max(limited))} (proof: largest "
            "buffer). Give a larger pool or make it smaller",
            **_facts(sizes, bound, "largest buffer", members.tolist()),
        )
    total = sum(limited)
    if bound.height_bytes > total:
        conflict, proof = conflicting_buffers(buffers, bodies, bound, total)
        raise CapacityError(
            f"the buffers cannot fit in {_pools_text(sizes)}, {format_bytes(total)} "
            f"together: at least {format_bytes(bound.height_bytes)} are needed "
            f"(proof: {proof}). {_together(conflict)}",
            **_facts(sizes, bound, proof, conflict),
        )


def nothing_fits(
    buffers: Buffers,
    bodies: Bodies,
    bound: LowerBound,
    sizes: Sizes,
    seed: int,
) -> CapacityError:
    """Return the error after a search that has ruled out every assignment to pools."""
    budget = Budget(CONFLICT_NODES, None)
    kept = list(range(len(bodies)))
    for body in range(len(bodies)):
        fewer = [other for other in kept if other != body]
        some = buffers.take(np.flatnonzero(np.isin(bodies.body_of, fewer)))
        search = AssignmentSearch(some, make_bodies(some), sizes, budget, seed)
        search.run(first_will_do=True)
        if search.is_complete and search.best is None:
            kept = fewer
        if search.interrupted:
            break
    conflict = np.flatnonzero(np.isin(bodies.body_of, kept)).tolist()
    return CapacityError(
        f"the buffers cannot fit in {_pools_text(sizes)}, whichever goes into which "
        f"(proof: exhausted). {_together(conflict)}",
        **_facts(sizes, bound, "exhausted", conflict),
    )


def not_known(layout: Layout, sizes: Sizes, n_bodies: int) -> TimeLimitError:
    """Return the error if no assignment that fits was found, although one may exist.

    Parameters
    ----------
    layout : Layout
        The best one found, too high for the last pool.
    sizes : sequence of int or None
    n_bodies : int
        Number of bodies, each of which can go into any pool.
    """
    assert layout.pool is not None
    last = len(sizes) - 1
    rest = np.flatnonzero(layout.pool == last).tolist()
    ended = "interrupted" if layout.stats["interrupted"] else "the search ended"
    if n_bodies > MOST_BODIES:
        ended += (
            f" (every choice is looked at for at most {MOST_BODIES} buffers or groups, "
            f"these are {n_bodies:,})"
        )
    return TimeLimitError(
        f"not known whether the buffers fit in {_pools_text(sizes)}: {ended} after "
        f"{layout.stats['nodes']:,} nodes. The best choice found leaves {len(rest):,} "
        f"buffers to the last pool, number {last}, which take "
        f"{format_bytes(layout.pool_heights_bytes[last])} there. Give it more time, "
        "make a pool larger, or take the layout that this error carries",
        layout=layout,
        pool=last,
        pools=tuple(sizes),
        buffers=tuple(rest),
        capacity_bytes=sizes[last],
        lower_bound_bytes=layout.lower_bound_bytes,
    )


def _facts(
    sizes: Sizes,
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


def _pools_text(sizes: Sizes) -> str:
    """Return a text that lists the sizes, for example ``"pools of 16 B and 8 B"``."""
    texts = ["any size" if size is None else format_bytes(size) for size in sizes]
    if len(texts) == 1:
        return f"a pool of {texts[0]}"
    return f"pools of {', '.join(texts[:-1])} and {texts[-1]}"


def _together(conflict: Sequence[int]) -> str:
    shown_ones = ", ".join(map(str, conflict[:12]))
    more = f" and {len(conflict) - 12} more" if len(conflict) > 12 else ""
    return (
        f"Already {len(conflict)} of them do not fit together: {shown_ones}{more}. "
        "Make a pool larger, or one of these smaller or shorter-lived"
    )
