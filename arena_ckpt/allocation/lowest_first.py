"""Lowest first: always the rectangle that can lie lowest, in near-linear time.

A *plateau* is a longest run of sections whose tops are at one height. Of the plateaus
the lowest is taken; among the unplaced rectangles that live within its run the one of
least rank is put on it. Where there is none, the plateau rises to its lower neighbour:
nothing could be put there any more, so those bytes are lost.

"Least rank among those within a run" is answered by blocks of `BLOCK` rectangles in the
order of their first sections, each sorted by last section under a tree of minima. So
nothing is ever looked at again because a neighbour moved, and the overlap graph, with
its hundreds of millions of edges, never exists. Each of n placements costs
O(log n + BLOCK + (rectangles that begin in the run) / BLOCK · log BLOCK).

The idea of the lowest plateau is the skyline of strip packing (Burke, Kendall and
Whitwell, "A new placement heuristic for the orthogonal stock-cutting problem", 2004);
here the places along the run are given.
"""

from __future__ import annotations

import functools

import numpy as np

from arena_ckpt.allocation.bodies import Bodies, two_bodies
from arena_ckpt.kernels.jit import Integers, compiled

BLOCK = 256
_NONE = 2**31 - 1


def lowest_first(bodies: Bodies, rank: Integers) -> Integers:
    """Place rectangles, lowest plateau first, ties by `rank`.

    Parameters
    ----------
    bodies : Bodies
        Rectangles: one piece each, none fixed.
    rank : int64 array, shape (n,)
        A permutation.

    Returns
    -------
    int64 array, shape (n,)
        An offset for each body.
    """
    assert bodies.are_rectangles
    offset = np.zeros(len(bodies), dtype=np.int64)
    if len(bodies):
        lower, upper = bodies.section_lower, bodies.section_upper
        # Places: the rectangles in the order of their first sections.
        at_place = np.argsort(lower, kind="stable")
        first_place = np.searchsorted(lower[at_place], np.arange(bodies.n_sections + 1))
        by_upper = np.lexsort((upper[at_place], np.arange(len(bodies)) // BLOCK))
        _place(
            at_place,
            first_place,
            by_upper,
            rank,
            bodies.section_lower,
            bodies.section_upper,
            bodies.size,
            bodies.alignment,
            bodies.n_sections,
            offset,
        )
    return offset


@functools.cache
def load() -> None:
    """Have the kernel compiled, or loaded from disk; done once a process."""
    lowest_first(two_bodies(), np.arange(2))


@compiled
def _push(height: Integers, start: Integers, n: int, h: int, s: int) -> int:
    """Add a plateau to the heap of (height, first section); return the new length."""
    i = n
    while i > 0:
        parent = (i - 1) >> 1
        if height[parent] < h or (height[parent] == h and start[parent] <= s):
            break
        height[i], start[i] = height[parent], start[parent]
        i = parent
    height[i], start[i] = h, s
    return n + 1


@compiled
def _pop(height: Integers, start: Integers, n: int) -> int:
    """Remove the first of the heap; return the new length."""
    n -= 1
    h, s = height[n], start[n]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and (
            height[child + 1] < height[child]
            or (height[child + 1] == height[child] and start[child + 1] < start[child])
        ):
            child += 1
        if height[child] > h or (height[child] == h and start[child] >= s):
            break
        height[i], start[i] = height[child], start[child]
        i = child
    height[i], start[i] = h, s
    return n


@compiled
def _least_rank(
    first: int,
    last: int,
    stop: int,
    place_rank: Integers,
    place_upper: Integers,
    block_upper: Integers,
    block_least: Integers,
) -> int:
    """Return the least rank at places [first, last) that ends by section `stop`."""
    least = _NONE
    place = first
    while place < last:
        if place % BLOCK or place + BLOCK > last:
            end = min(last, (place // BLOCK + 1) * BLOCK)
            for p in range(place, end):
                if place_upper[p] <= stop and place_rank[p] < least:
                    least = place_rank[p]
            place = end
            continue
        tree = 2 * place
        if block_least[tree + 1] < least and block_upper[place] <= stop:
            n_ending, beyond = 1, BLOCK
            while n_ending < beyond:
                middle = (n_ending + beyond) >> 1
                if block_upper[place + middle] <= stop:
                    n_ending = middle + 1
                else:
                    beyond = middle
            left, right = BLOCK, BLOCK + n_ending
            while left < right:
                if left & 1:
                    least = min(least, block_least[tree + left])
                if right & 1:
                    least = min(least, block_least[tree + right - 1])
                left, right = (left + 1) >> 1, right >> 1
        place += BLOCK
    return least


@compiled
def _place(
    at_place: Integers,
    first_place: Integers,
    by_upper: Integers,
    rank: Integers,
    lower: Integers,
    upper: Integers,
    size: Integers,
    alignment: Integers,
    n_sections: int,
    offset: Integers,
) -> None:
    n = size.size
    place_rank = rank[at_place]
    place_upper = upper[at_place]
    place_of_rank = np.empty(n, np.int64)
    n_blocks = (n + BLOCK - 1) // BLOCK
    block_upper = np.full(n_blocks * BLOCK, _NONE, np.int64)
    block_least = np.full(2 * n_blocks * BLOCK, _NONE, np.int64)
    leaf = np.empty(n, np.int64)
    for k in range(n):
        place = by_upper[k]
        place_of_rank[place_rank[place]] = place
        block_upper[k] = place_upper[place]
        leaf[place] = BLOCK + k % BLOCK
        block_least[k // BLOCK * 2 * BLOCK + leaf[place]] = place_rank[place]
    for tree in range(0, 2 * n_blocks * BLOCK, 2 * BLOCK):
        for node in range(BLOCK - 1, 0, -1):
            block_least[tree + node] = min(
                block_least[tree + 2 * node], block_least[tree + 2 * node + 1]
            )
    # Plateaus, named by their first section; a height of -1 says there is none.
    plateau = np.full(n_sections + 1, -1, np.int64)
    stop_of = np.zeros(n_sections + 1, np.int64)
    before = np.zeros(n_sections + 1, np.int64)
    heap_height = np.empty(4 * n + 16, np.int64)
    heap_start = np.empty(4 * n + 16, np.int64)
    plateau[0], stop_of[0], before[0] = 0, n_sections, -1
    n_heap = _push(heap_height, heap_start, 0, 0, 0)
    unplaced = n
    while unplaced:
        h, x = heap_height[0], heap_start[0]
        n_heap = _pop(heap_height, heap_start, n_heap)
        if plateau[x] != h:
            continue
        y = stop_of[x]
        least = _least_rank(
            first_place[x],
            first_place[y],
            y,
            place_rank,
            place_upper,
            block_upper,
            block_least,
        )
        if least == _NONE:
            left = before[x]
            left_height = plateau[left] if left >= 0 else np.int64(-1)
            right_height = plateau[y] if y < n_sections else np.int64(-1)
            if right_height < 0 or 0 <= left_height <= right_height:
                plateau[x] = -1
                x, h = left, left_height
                stop_of[x] = y
            if right_height >= 0 and (left_height < 0 or right_height <= left_height):
                h = right_height
                plateau[x], plateau[y] = h, -1
                stop_of[x] = stop_of[y]
            if stop_of[x] < n_sections:
                before[stop_of[x]] = x
            n_heap = _push(heap_height, heap_start, n_heap, h, x)
            continue
        place = place_of_rank[least]
        b = at_place[place]
        unplaced -= 1
        place_rank[place] = _NONE
        tree = 2 * (place // BLOCK * BLOCK)
        node = leaf[place]
        block_least[tree + node] = _NONE
        node >>= 1
        while node >= 1:
            block_least[tree + node] = min(
                block_least[tree + 2 * node], block_least[tree + 2 * node + 1]
            )
            node >>= 1
        offset[b] = (h + alignment[b] - 1) // alignment[b] * alignment[b]
        top = offset[b] + size[b]
        s, e = lower[b], upper[b]
        if e < y:  # what is left of the plateau behind the rectangle
            plateau[e], stop_of[e], before[e] = h, y, s
            n_heap = _push(heap_height, heap_start, n_heap, h, e)
            if y < n_sections:
                before[y] = e
        if s > x:  # and before it
            stop_of[x], before[s] = s, x
            n_heap = _push(heap_height, heap_start, n_heap, h, x)
        plateau[s], stop_of[s] = top, e
        if e < n_sections:
            before[e] = s
            if plateau[e] == top:
                plateau[e] = -1
                stop_of[s] = stop_of[e]
                if stop_of[s] < n_sections:
                    before[stop_of[s]] = s
        left = before[s]
        if left >= 0 and plateau[left] == top:
            plateau[s] = -1
            stop_of[left] = stop_of[s]
            if stop_of[left] < n_sections:
                before[stop_of[left]] = left
            s = left
        n_heap = _push(heap_height, heap_start, n_heap, top, s)
