"""Greedy placement: buffers one after another, each at the lowest offset that is free.

Buffers that live all the time stand in a column at the bottom: wherever they stood, the
memory above and below them could be joined, so nothing is lost. For the others
several static orders are tried, then repairs of the best: the buffer that reaches the
top moves a few places ahead in the order, and everything is placed again. A repair is
kept when the height does not grow, so the search walks along plateaus. Last come the
static orders with their places jittered, little, more, and much by turns. All is
deterministic, and it stops at the lower bound.

Bound: none better than the trivial one; on training graphs of chains the first orders
usually reach the lower bound. Each placement costs O(n²) for n buffers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from arena_ckpt.kernels.jit import Integers, compiled

REPAIRS = 400
JITTERS = 10_000
"""Tried at most; fewer for many buffers."""

PLACEMENT_WORK = 20_000_000
"""Pairs of buffers looked at by all repairs together, and again by all jitters."""


def best_greedy(
    lower: npt.NDArray[np.int64],
    upper: npt.NDArray[np.int64],
    size: npt.NDArray[np.int64],
    bound_bytes: int,
) -> tuple[npt.NDArray[np.int64], str]:
    """Place buffers by the best order found.

    Parameters
    ----------
    lower, upper : int64 array, shape (n,)
        Half-open live ranges in steps.
    size : int64 array, shape (n,)
        Bytes.
    bound_bytes : int
        A height at which to stop.

    Returns
    -------
    offsets : int64 array, shape (n,)
    engine : str
        ``"greedy:"`` and the order that won.
    """
    n = len(size)
    if n == 0:
        return np.zeros(0, dtype=np.int64), "greedy:empty"
    offsets = np.zeros(n, dtype=np.int64)
    always = (lower == lower.min()) & (upper == upper.max())
    column = np.cumsum(size[always])
    offsets[always] = column - size[always]
    column_bytes = int(column[-1]) if len(column) else 0
    rest = np.flatnonzero(~always)
    if not len(rest):
        return offsets, "greedy:column"
    placed, name = _search(
        lower[rest], upper[rest], size[rest], bound_bytes - column_bytes
    )
    offsets[rest] = column_bytes + placed
    return offsets, f"greedy:{name}"


def _search(
    lower: npt.NDArray[np.int64],
    upper: npt.NDArray[np.int64],
    size: npt.NDArray[np.int64],
    bound_bytes: int,
) -> tuple[npt.NDArray[np.int64], str]:
    """Return the offsets of the best order tried, and which it was."""
    n = len(size)
    orders = _static_orders(lower, upper, size)
    best: tuple[int, str, npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
    for name, order in orders:
        offsets = np.zeros(n, dtype=np.int64)
        height = int(place_in_order(order, lower, upper, size, offsets))
        if best is None or height < best[0]:
            best = (height, name, order, offsets)
        if height <= bound_bytes:
            break
    assert best is not None
    height, name, order, offsets = best
    most = PLACEMENT_WORK // (n * n) + 1
    for attempt in range(min(REPAIRS, most)):
        if height <= bound_bytes:
            break
        repaired = _repair(order, offsets, size, attempt)
        tried = np.zeros(n, dtype=np.int64)
        tried_height = int(place_in_order(repaired, lower, upper, size, tried))
        if tried_height <= height:
            if tried_height < height:
                name = name.split("+")[0] + "+repair"
            height, order, offsets = tried_height, repaired, tried
    for attempt in range(min(JITTERS, most)):
        if height <= bound_bytes:
            break
        tried = np.zeros(n, dtype=np.int64)
        base_name, base = orders[attempt % len(orders)]
        jittered = _jitter(base, attempt)
        tried_height = int(place_in_order(jittered, lower, upper, size, tried))
        if tried_height < height:
            name, height, offsets = f"{base_name}+jitter", tried_height, tried
    return offsets, name


def _static_orders(
    lower: npt.NDArray[np.int64],
    upper: npt.NDArray[np.int64],
    size: npt.NDArray[np.int64],
) -> list[tuple[str, npt.NDArray[np.int64]]]:
    """Orders in which to place; ties are broken by the buffer's index."""
    lifetime = upper - lower
    index = np.arange(len(size))
    return [
        ("size", np.lexsort((index, -lifetime, -size))),
        ("lifetime", np.lexsort((index, -size, -lifetime))),
        ("area", np.lexsort((index, -lifetime.astype(np.float64) * size))),
        ("start", np.lexsort((index, -size, lower))),
        ("stop", np.lexsort((index, -size, -upper))),
    ]


def _repair(
    order: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    size: npt.NDArray[np.int64],
    attempt: int,
) -> npt.NDArray[np.int64]:
    """Return `order` with a highest buffer moved ahead, how far by turns."""
    tops = (offsets + size)[order]
    highest = np.flatnonzero(tops == tops.max())
    place = int(highest[attempt % len(highest)])
    ahead = int(place * (attempt * 7 % 16) / 16)
    moved = order[place]
    without = np.delete(order, place)
    return np.insert(without, ahead, moved)


def _jitter(order: npt.NDArray[np.int64], attempt: int) -> npt.NDArray[np.int64]:
    """Return `order` with every place moved back at random, by at most 2 to all.

    The noise is that of SplitMix64 (Steele et al., OOPSLA 2014): the same with every
    NumPy.
    """
    n = len(order)
    key = np.arange(n, dtype=np.uint64) + np.uint64(attempt * n + 1)
    key *= np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    noise = (key ^ (key >> np.uint64(31))) >> np.uint64(44)  # 20 bits
    reach = (2, 6, 20, n)[attempt // 5 % 4]
    places = (np.arange(n) << 20) + noise.astype(np.int64) * reach
    return order[np.argsort(places, kind="stable")]


@compiled
def place_in_order(
    order: Integers, lower: Integers, upper: Integers, size: Integers, offset: Integers
) -> int:
    """Place buffers in `order`, writing their offsets; return the height in bytes."""
    n = order.size
    by_offset = np.empty(n, np.int64)  # those placed, in ascending order of offset
    height = 0
    for placed in range(n):
        buffer = order[placed]
        position = 0
        for k in range(placed):
            other = by_offset[k]
            if lower[other] < upper[buffer] and lower[buffer] < upper[other]:
                if position + size[buffer] <= offset[other]:
                    break
                position = max(position, offset[other] + size[other])
        offset[buffer] = position
        height = max(height, position + size[buffer])
        k = placed
        while k > 0 and offset[by_offset[k - 1]] > position:
            by_offset[k] = by_offset[k - 1]
            k -= 1
        by_offset[k] = buffer
    return height
