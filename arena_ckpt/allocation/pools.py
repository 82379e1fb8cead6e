"""Allocation in several pools of memory; what does not fit in one spills to the next.

1. *Fill*: for each pool in turn all that is left is laid out. Where that does not fit,
   bodies are put in greedily, those that would end above the pool's size spill; of
   several orders the one that spills the least is kept, counted in bytes × steps. Then
   each spilled body, the heaviest first, is taken back if the search finds a layout
   with it.
2. *Assign*: of few bodies every assignment is searched for less spill, or for one of
   which the last pool can hold its part (`assignment`).
3. *Finish*: the last pool is laid out with what is left of the effort.

That the buffers cannot be placed is said only where it is proved over all assignments:
by a bound that holds for each of them, or by a search that left none out. Filling alone
proves nothing: where its last pool cannot hold the rest, another choice may.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from arena_ckpt.allocation.assignment import (
    MOST_BODIES,
    AssignmentSearch,
    spill_of,
    weights_of,
)
from arena_ckpt.allocation.bodies import Bodies, make_bodies
from arena_ckpt.allocation.bounds import LowerBound, lower_bound
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.buffers import FREE, Buffers
from arena_ckpt.allocation.first_fit import first_fit
from arena_ckpt.allocation.integers import (
    LARGEST_SUM_BYTES,
    Integers,
    is_whole,
    items_of,
    shown,
)
from arena_ckpt.allocation.layout import Layout
from arena_ckpt.allocation.orders import Orders
from arena_ckpt.allocation.pool_refusals import (
    not_known,
    nothing_fits,
    refuse_impossible,
)
from arena_ckpt.allocation.search_options import SearchOptions
from arena_ckpt.allocation.single import allocate_in_one, decide
from arena_ckpt.allocation.validate import check_layout
from arena_ckpt.common.progress import status_line
from arena_ckpt.errors import (
    InvalidBufferError,
    InvalidParameterError,
)

SPILL_ORDERS = ("AW", "SW", "WS", "TWA")
TAKE_BACK_NODES = 2000
MOST_TAKEN_BACK = 200
"""Maximum number of spilled bodies that are tried again, for each pool."""

POOL_NODES = 20_000
"""Maximum number of nodes of the search that tries to lay out all remaining buffers in
one pool."""


@dataclass(slots=True)
class _Spread:
    """The pool and the offset of each buffer while pools are filled.

    Attributes
    ----------
    pool, offset : int64 array, shape (buffers,)
        Offsets in the last pool are not set before it is laid out.
    engines : dict from int to str
        Name of the engine that laid out each pool that is not empty.
    interrupted : bool
        Whether Ctrl-C was pressed.
    """

    pool: Integers
    offset: Integers
    engines: dict[int, str]
    interrupted: bool = False

    def members(self, pool: int) -> Integers:
        """Return the indexes of the buffers in a pool."""
        return np.flatnonzero(self.pool == pool)

    def end(self, pool: int, buffers: Buffers) -> int:
        """Return the end of the highest buffer in a pool, in bytes."""
        members = self.members(pool)
        return int((self.offset[members] + buffers.size[members]).max(initial=0))

    def put(self, pool: int, members: Integers, layout: Layout) -> None:
        """Take over the layout of one pool."""
        self.pool[members], self.offset[members] = pool, layout.offset
        if len(members):
            self.engines[pool] = layout.engine


def _checked_sizes(pools: Sequence[int | None]) -> tuple[int | None, ...]:
    """Return the sizes of the pools in bytes, or refuse them."""
    sizes: tuple[Any, ...] = tuple(items_of(pools, "pools", "sizes"))
    if not sizes:
        raise InvalidParameterError("pools is empty; give a size for each pool")
    for index, size in enumerate(sizes):
        is_last = index == len(sizes) - 1
        if size is None and is_last:
            continue
        if not is_whole(size) or not 0 < size < LARGEST_SUM_BYTES:
            raise InvalidParameterError(
                f"pool {index} has the size {shown(size)}; it must be a positive "
                "integer in bytes, below 2**62, or None for the last pool, which then "
                "has no limit",
                pool=index,
            )
    return tuple(None if size is None else int(size) for size in sizes)


def allocate_in_pools(
    buffers: Buffers, pools: Sequence[int | None], options: SearchOptions
) -> Layout:
    """Place buffers in pools, the preferred one first.

    Raises
    ------
    InvalidParameterError
        Sizes that make no sense.
    InvalidBufferError
        A fixed offset: it does not say in which pool.
    CapacityError
        It is proved that no choice of pools fits.
    TimeLimitError
        It is not known whether one does.
    """
    sizes = _checked_sizes(pools)
    _refuse_fixed(buffers)
    bodies = make_bodies(buffers)
    bound = lower_bound(bodies, len(sizes))
    refuse_impossible(buffers, bodies, bound, sizes)
    began = time.perf_counter()
    spread = _fill_in_turn(buffers, sizes, options.seed)
    has_layout = _finish_briefly(buffers, spread, sizes, options)
    weights, last = weights_of(buffers), len(sizes) - 1
    spill = spill_of(weights, spread.pool.tolist(), len(sizes))
    is_least = has_layout and not any(spill)
    with status_line("placing", options.progress) as report:
        budget = Budget(options.node_limit, options.time_limit_seconds, report)
        proves = options.engine in ("auto", "exact") and not spread.interrupted
        if not is_least and proves and len(bodies) <= MOST_BODIES:
            search = AssignmentSearch(buffers, bodies, sizes, budget, options.seed)
            search.run(spill if has_layout else None)
            if search.best is not None:
                spread, has_layout = _spread_of(buffers, bodies, search), True
            spread.interrupted |= search.interrupted
            is_least = has_layout and search.is_complete
            if search.is_complete and not has_layout:
                raise nothing_fits(buffers, bodies, bound, sizes, options.seed)
    options = _what_is_left(options, budget, spread.interrupted)
    nodes, size = budget.nodes, sizes[last]
    if size is None or not has_layout:
        nodes += _lay_out_last(buffers, spread, last, size, options)
    fits = size is None or spread.end(last, buffers) <= size
    layout = _layout_of(buffers, spread, bound, sizes if fits else (*sizes[:-1], None))
    spilled = spill_of(weights, spread.pool.tolist(), len(sizes))
    layout.stats.update(
        nodes=nodes,
        seconds=time.perf_counter() - began,
        proof=bound.reason,
        interrupted=spread.interrupted,
        spilled_buffers=int((spread.pool > 0).sum()),
        spilled_byte_steps=spilled[0] if spilled else 0,
        spill_proved_least=is_least,
    )
    if not fits:
        raise not_known(layout, sizes, len(bodies))
    return layout


def _refuse_fixed(buffers: Buffers) -> None:
    """Refuse fixed offsets: they do not say in which pool a buffer lies."""
    fixed = np.flatnonzero(buffers.fixed_offset != FREE)
    if len(fixed):
        raise InvalidBufferError(
            f"buffer {fixed[0]} has the fixed offset {buffers.fixed_offset[fixed[0]]}, "
            "which does not say in which pool; with pools, leave offsets free",
            buffers=(int(fixed[0]),),
        )


def _lay_out_last(
    buffers: Buffers,
    spread: _Spread,
    last: int,
    size: int | None,
    options: SearchOptions,
) -> int:
    """Lay out the last pool, within its size if possible; return the nodes taken."""
    members, nodes = spread.members(last), 0
    rest = buffers.take(members)
    if size is not None:
        decision = decide(rest, size, options)
        nodes = decision.nodes
        spread.interrupted |= decision.interrupted
        if decision.layout is not None:
            spread.put(last, members, decision.layout)
            return nodes
        options = replace(options, engine="greedy")
    layout = allocate_in_one(rest, None, options)
    spread.put(last, members, layout)
    spread.interrupted |= layout.stats["interrupted"]
    return nodes + int(layout.stats["nodes"])


def _layout_of(
    buffers: Buffers, spread: _Spread, bound: LowerBound, sizes: Sequence[int | None]
) -> Layout:
    """Return the offsets and pools of all buffers as one checked layout."""
    heights = tuple(spread.end(pool, buffers) for pool in range(len(sizes)))
    check_layout(
        buffers, spread.offset, sum(heights), pool=spread.pool, pool_bytes=sizes
    )
    return Layout(
        spread.offset,
        sum(heights),
        bound.height_bytes,
        " | ".join(spread.engines[pool] for pool in sorted(spread.engines))
        or "greedy:empty",
        pool=spread.pool,
        pool_heights_bytes=heights,
    )


# -- filling ---------------------------------------------------------------------------


def _fill_in_turn(buffers: Buffers, sizes: Sequence[int | None], seed: int) -> _Spread:
    """Fill every pool but the last; the last gets the rest and is not laid out."""
    last = len(sizes) - 1
    spread = _Spread(
        np.full(len(buffers), last, dtype=np.int64),
        np.zeros(len(buffers), dtype=np.int64),
        {},
    )
    for index, size in enumerate(sizes[:-1]):
        assert size is not None
        rest = spread.members(last)
        chosen, offset, engine = _fill(buffers.take(rest), size, seed, spread)
        spread.pool[rest[chosen]], spread.offset[rest[chosen]] = index, offset
        if len(chosen):
            spread.engines[index] = engine
    return spread


def _fill(
    buffers: Buffers, size_bytes: int, seed: int, spread: _Spread
) -> tuple[Integers, Integers, str]:
    """Return the buffers that go into a pool, their offsets, and the engine's name."""
    everything = np.arange(len(buffers))
    decision = decide(
        buffers, size_bytes, SearchOptions(node_limit=POOL_NODES, seed=seed)
    )
    spread.interrupted |= decision.interrupted
    if decision.layout is not None:
        return everything, decision.layout.offset, decision.layout.engine
    bodies = make_bodies(buffers)
    weight = np.zeros(len(bodies))
    np.add.at(weight, bodies.body_of, np.array(weights_of(buffers), dtype=np.float64))
    orders = Orders(bodies)
    tried = [
        (first_fit(bodies, orders.order(letters), size_bytes), letters)
        for letters in SPILL_ORDERS
    ]
    placed, letters = max(tried, key=lambda t: float(weight[t[0] >= 0].sum()))
    is_in = placed >= 0
    chosen = np.flatnonzero(is_in[bodies.body_of])
    offset, engine = bodies.buffer_offsets(placed)[chosen], f"first-fit:{letters}"
    spilled = np.flatnonzero(~is_in & (bodies.extent <= size_bytes))
    briefly = SearchOptions(node_limit=TAKE_BACK_NODES, seed=seed)
    heaviest_first = spilled[np.argsort(-weight[spilled], kind="stable")]
    for body in heaviest_first[:MOST_TAKEN_BACK]:
        if spread.interrupted:
            break
        is_in[body] = True
        more = np.flatnonzero(is_in[bodies.body_of])
        decision = decide(buffers.take(more), size_bytes, briefly)
        spread.interrupted |= decision.interrupted
        if decision.layout is None:
            is_in[body] = False
        else:
            chosen, offset = more, decision.layout.offset
            engine = decision.layout.engine
    return chosen, offset, engine


def _finish_briefly(
    buffers: Buffers,
    spread: _Spread,
    sizes: Sequence[int | None],
    options: SearchOptions,
) -> bool:
    """Say whether the rest fits in the last pool; lay it out if that has a size."""
    last = len(sizes) - 1
    rest, size = spread.members(last), sizes[last]
    if size is None or not len(rest):
        return True
    most = POOL_NODES if options.node_limit is None else options.node_limit
    briefly = replace(options, node_limit=min(POOL_NODES, most))
    decision = decide(buffers.take(rest), size, briefly)
    spread.interrupted |= decision.interrupted
    if decision.layout is None:
        return False
    spread.put(last, rest, decision.layout)
    return True


def _spread_of(buffers: Buffers, bodies: Bodies, search: AssignmentSearch) -> _Spread:
    """Return the best assignment of a search; a pool without limit is not laid out."""
    assert search.best is not None
    spread = _Spread(
        np.array(search.best, dtype=np.int64)[bodies.body_of],
        np.zeros(len(buffers), dtype=np.int64),
        {},
    )
    for pool, layout in enumerate(search.layouts):
        if layout is not None:
            spread.put(pool, spread.members(pool), layout)
    return spread


def _what_is_left(
    options: SearchOptions, budget: Budget, interrupted: bool
) -> SearchOptions:
    """Return options with the limit that is left; after Ctrl-C only static orders."""
    if interrupted:
        return replace(options, engine="greedy")
    if options.node_limit is not None:
        limit = options.node_limit
        return replace(options, node_limit=max(0, budget.nodes_left(limit)))
    return replace(options, time_limit_seconds=budget.seconds_left)
