"""Explains why buffers do not fit, by a small set of them that does not fit either."""

from __future__ import annotations

import numpy as np

from arena_ckpt.allocation.bodies import Bodies, make_bodies
from arena_ckpt.allocation.bounds import LowerBound, lower_bound
from arena_ckpt.allocation.buffers import Buffers
from arena_ckpt.allocation.instance import Instance, make_instance
from arena_ckpt.allocation.integers import Integers
from arena_ckpt.allocation.orders import Orders
from arena_ckpt.allocation.search import NOTHING_FITS, Search

SEARCH_NODES = 4000
"""Maximum number of nodes of the search, for each set that is tried and each order."""

MOST_TRIES = 400


def conflicting_buffers(
    buffers: Buffers, bodies: Bodies, bound: LowerBound, capacity_bytes: int
) -> tuple[tuple[int, ...], str]:
    """Return buffers that do not fit in a capacity together, and the kind of proof.

    If the live bytes of one step exceed the capacity, the conflict is the fewest of its
    largest buffers that do. Otherwise buffers are left out, many at a time and then one
    by one, as long as the search still proves that the rest does not fit.
    """
    if bound.height_bytes > capacity_bytes and bound.body is not None:
        members = np.flatnonzero(bodies.body_of == bound.body)
        return tuple(members.tolist()), bound.reason
    if bound.height_bytes > capacity_bytes and bound.section is not None:
        alive = np.flatnonzero(
            (bodies.section_lower <= bound.section)
            & (bound.section < bodies.section_upper)
        )
        by_size = alive[np.argsort(-bodies.size[alive], kind="stable")]
        together = np.cumsum(bodies.size[by_size])
        n = int(np.searchsorted(together, capacity_bytes, side="right"))
        chosen = np.unique(bodies.piece_owner()[by_size[: n + 1]])
        members = np.flatnonzero(np.isin(bodies.body_of, chosen))
        return tuple(members.tolist()), bound.reason
    kept = np.arange(len(buffers))
    tries, part = 0, len(kept) // 2
    while part and tries < MOST_TRIES:
        start = 0
        while start < len(kept) and tries < MOST_TRIES:
            rest = np.delete(kept, slice(start, start + part))
            tries += 1
            if len(rest) and not _may_fit(buffers.take(rest), capacity_bytes):
                kept = rest
            else:
                start += part
        part //= 2
    return tuple(kept.tolist()), "exhausted"


def _may_fit(buffers: Buffers, capacity_bytes: int) -> bool:
    """Say whether buffers may fit: False only if it is proved that they do not."""
    bodies = make_bodies(buffers)
    if lower_bound(bodies).height_bytes > capacity_bytes:
        return False
    if not bodies.are_flat:
        return True
    instance, orders = make_instance(bodies), Orders(bodies)
    return not any(
        _proves(orders.rank(letters), instance, capacity_bytes)
        for letters in ("TWA", "ATW")
    )


def _proves(rank: Integers, instance: Instance, capacity_bytes: int) -> bool:
    search = Search(instance, rank, capacity_bytes)
    return search.run(SEARCH_NODES) == NOTHING_FITS
