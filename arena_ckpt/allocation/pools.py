"""Several pools of memory, the preferred first: what does not fit spills to the next.

For each pool in turn all that is left is laid out. Where that does not fit, bodies are
put in greedily, those that would end above the pool's size spill; of several orders the
one that spills the least is kept, counted in bytes × steps. Then each spilled body, the
largest first, is taken back if the search finds a layout with it. No proof is tried for
which bodies spill; that the last pool cannot hold the rest is proved or not known, as
for a single arena.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from arena_ckpt.allocation.bodies import make_bodies
from arena_ckpt.allocation.bounds import lower_bound
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
from arena_ckpt.allocation.options import SearchOptions
from arena_ckpt.allocation.orders import Orders
from arena_ckpt.allocation.single import allocate_in_one, find_layout
from arena_ckpt.allocation.validate import check_layout
from arena_ckpt.errors import (
    CapacityError,
    InvalidBufferError,
    InvalidParameterError,
    TimeLimitError,
)

SPILL_ORDERS = ("AW", "SW", "WS", "TWA")
TAKE_BACK_NODES = 2000
MOST_TAKEN_BACK = 200
"""Spilled bodies that are tried again, at most, for each pool."""

POOL_NODES = 20_000
"""How long to look for a layout of all that is left in a pool that could hold it."""


def _checked_sizes(pools: Sequence[int | None]) -> tuple[int | None, ...]:
    """Return the sizes of pools, or say what is wrong with them."""
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
    """Place buffers in pools; see the module.

    Raises
    ------
    InvalidParameterError
        Sizes that make no sense.
    InvalidBufferError
        A fixed offset: it does not say in which pool.
    CapacityError, TimeLimitError
        What is left for the last pool cannot fit, or is not known to.
    """
    sizes = _checked_sizes(pools)
    fixed = np.flatnonzero(buffers.fixed_offset != FREE)
    if len(fixed):
        raise InvalidBufferError(
            f"buffer {fixed[0]} has the fixed offset {buffers.fixed_offset[fixed[0]]}, "
            "which does not say in which pool; with pools, leave offsets free",
            buffers=(int(fixed[0]),),
        )
    offset = np.zeros(len(buffers), dtype=np.int64)
    pool = np.zeros(len(buffers), dtype=np.int64)
    heights: list[int] = []
    engines: list[str] = []
    seconds = 0.0
    rest = np.arange(len(buffers))
    for index, size in enumerate(sizes[:-1]):
        assert size is not None
        began = time.perf_counter()
        chosen, its_offset, its_engine = _fill(buffers.take(rest), size, options.seed)
        seconds += time.perf_counter() - began
        inside = rest[chosen]
        offset[inside], pool[inside] = its_offset, index
        heights.append(int((its_offset + buffers.size[inside]).max(initial=0)))
        if len(inside):
            engines.append(its_engine)
        rest = np.delete(rest, chosen)
    last = len(sizes) - 1
    try:
        layout = allocate_in_one(buffers.take(rest), sizes[last], options)
    except (CapacityError, TimeLimitError) as error:
        facts = dict(vars(error))
        facts["pool"] = last
        facts["buffers"] = tuple(rest.tolist())
        if "conflict" in facts:
            facts["conflict"] = tuple(int(rest[i]) for i in facts["conflict"])
        raise type(error)(
            f"{len(rest)} buffers are left for the last pool, number {last} (the "
            f"error's `buffers` lists them; numbers here are places in it): {error}",
            **facts,
        ) from error
    offset[rest], pool[rest] = layout.offset, last
    heights.append(layout.height_bytes)
    if len(rest):
        engines.append(layout.engine)
    check_layout(buffers, offset, sum(heights), pool=pool, pool_bytes=sizes)
    bound = lower_bound(make_bodies(buffers))
    spilled = pool > 0
    lifetime = buffers.upper - buffers.lower
    return Layout(
        offset,
        sum(heights),
        bound.height_bytes,
        " | ".join(engines) or "greedy:empty",
        pool=pool,
        pool_heights_bytes=tuple(heights),
        stats={
            "nodes": layout.stats["nodes"],
            "seconds": seconds + layout.stats["seconds"],
            "proof": bound.reason,
            "interrupted": layout.stats["interrupted"],
            "spilled_buffers": int(spilled.sum()),
            "spilled_byte_steps": int((buffers.size * lifetime)[spilled].sum()),
        },
    )


def _fill(
    buffers: Buffers, size_bytes: int, seed: int
) -> tuple[Integers, Integers, str]:
    """Return the buffers that go into a pool, their offsets, and what found them."""
    everything = np.arange(len(buffers))
    layout = find_layout(
        buffers, size_bytes, SearchOptions(node_limit=POOL_NODES, seed=seed)
    )
    if layout is not None:
        return everything, layout.offset, layout.engine
    bodies = make_bodies(buffers)
    weight = bodies.lifetime.astype(np.float64) * bodies.extent
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
        is_in[body] = True
        more = np.flatnonzero(is_in[bodies.body_of])
        layout = find_layout(buffers.take(more), size_bytes, briefly)
        if layout is None:
            is_in[body] = False
        else:
            chosen, offset, engine = more, layout.offset, layout.engine
    return chosen, offset, engine
