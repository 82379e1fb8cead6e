"""Lowest first: places the rectangle that can lie lowest, in near-linear time.

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
from arena_ckpt.allocation.instance import Records
from arena_ckpt.kernels.hot_loops import compiled, is_plain, load_numba, routine
from arena_ckpt.operations.array_types import Integers

BLOCK = 256
_LARGEST = 2**31 - 1
_NONE = -1
_LARGEST_HEIGHT = 2**62

_PLAIN_SECONDS = 60e-6
"""Seconds that plain Python takes for a rectangle."""

_PLACE = np.dtype(
    [
        (name, np.int64)
        for name in ("lower", "upper", "size", "alignment", "leaf", "offset")
    ],
    align=True,
)
_PLATEAU = np.dtype(
    [(name, np.int64) for name in ("height", "stop", "before")], align=True
)
"""A plateau, at the index of its first section; one without a height is none."""

_ENTRY = np.dtype([("height", np.int64), ("start", np.int64)], align=True)
"""An entry of the heap of plateaus; the plateau may be gone, or higher by now."""


def lowest_first(bodies: Bodies, rank: Integers) -> Integers:
    """Place rectangles on the lowest plateau first; `rank` decides between equals.

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
    n, n_sections = len(bodies), bodies.n_sections
    offset = np.zeros(n, dtype=np.int64)
    if not n:
        return offset
    # Places: the rectangles in the order of their first sections.
    at_place = np.argsort(bodies.section_lower, kind="stable")
    places = np.empty(n, dtype=_PLACE)
    places["lower"] = bodies.section_lower[at_place]
    places["upper"] = place_upper = bodies.section_upper[at_place]
    places["size"] = bodies.size[at_place]
    places["alignment"] = bodies.alignment[at_place]
    place_rank = rank[at_place]
    by_upper = np.lexsort((place_upper, np.arange(n) // BLOCK))
    places["leaf"][by_upper] = BLOCK + np.arange(n) % BLOCK
    block_upper, block_least = _blocks(place_upper[by_upper], place_rank[by_upper])
    plateaus = np.zeros(n_sections + 1, dtype=_PLATEAU)
    plateaus["height"][1:] = _NONE
    plateaus[0] = 0, n_sections, _NONE
    heap = np.empty(4 * n + 16, dtype=_ENTRY)
    heap[0] = 0, 0
    place = _place.taking(_PLAIN_SECONDS * n)
    place(
        places,
        place_rank,
        place_upper,
        np.argsort(place_rank),
        np.searchsorted(places["lower"], np.arange(n_sections + 1)),
        block_upper,
        block_least,
        plateaus,
        heap,
        1,
        n_sections,
    )
    offset[at_place] = places["offset"]
    return offset


def _blocks(upper: Integers, rank: Integers) -> tuple[Integers, Integers]:
    """Return the last sections of all blocks, and their trees of least ranks.

    Node i of a tree has the children 2i and 2i + 1; its leaves begin at `BLOCK`.
    """
    n_blocks = -(-len(rank) // BLOCK)
    block_upper = np.full(n_blocks * BLOCK, _LARGEST, dtype=np.int64)
    block_upper[: len(upper)] = upper
    leaves = np.full(n_blocks * BLOCK, _LARGEST, dtype=np.int64)
    leaves[: len(rank)] = rank
    trees = np.full((n_blocks, 2 * BLOCK), _LARGEST, dtype=np.int64)
    trees[:, BLOCK:] = leaves.reshape(n_blocks, BLOCK)
    width = BLOCK
    while width > 1:
        children = trees[:, width : 2 * width]
        width //= 2
        trees[:, width : 2 * width] = np.minimum(children[:, ::2], children[:, 1::2])
    return block_upper, trees.reshape(-1)


def load(bodies: Bodies) -> bool:
    """Have the loop compiled, or loaded from disk, unless it will run in plain Python.

    Returns
    -------
    bool
        It is compiled.
    """
    if is_plain(_PLAIN_SECONDS * len(bodies)):
        return False
    _load()
    return True


@functools.cache
def _load() -> None:
    load_numba()
    lowest_first(two_bodies(), np.arange(2))


@routine
def _push(heap: Records, n: int, height: int, start: int) -> int:
    """Add a plateau to the heap; return the new length of the heap."""
    i = n
    while i > 0:
        parent = heap[(i - 1) >> 1]
        if _is_sorted(parent, height, start):
            break
        heap[i] = parent
        i = (i - 1) >> 1
    heap[i]["height"], heap[i]["start"] = height, start
    return n + 1


@routine
def _pop(heap: Records, n: int) -> int:
    """Remove the first entry of the heap; return the new length of the heap."""
    n -= 1
    height, start = heap[n]["height"], heap[n]["start"]
    i, child = 0, 1
    while child < n:
        if child + 1 < n:
            right = heap[child + 1]
            if _is_sorted(right, heap[child]["height"], heap[child]["start"]):
                child += 1
        if not _is_sorted(heap[child], height, start):
            break
        heap[i] = heap[child]
        i, child = child, 2 * child + 1
    heap[i]["height"], heap[i]["start"] = height, start
    return n


@routine
def _is_sorted(entry: Records, height: int, start: int) -> bool:
    """Say whether an entry of the heap may stand above a plateau."""
    if entry["height"] != height:
        return bool(entry["height"] < height)
    return bool(entry["start"] <= start)


@routine
def _least_rank(
    first: int,
    last: int,
    stop: int,
    place_rank: Integers,
    place_upper: Integers,
    block_upper: Integers,
    block_least: Integers,
) -> int:
    """Return the least rank among places [first, last) whose sections end by `stop`."""
    least = _LARGEST
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


@routine
def _drop_rank(block_least: Integers, tree: int, leaf: int) -> None:
    """Take a leaf out of the tree of least ranks that begins at `tree`."""
    block_least[tree + leaf] = _LARGEST
    node = leaf >> 1
    while node >= 1:
        block_least[tree + node] = min(
            block_least[tree + 2 * node], block_least[tree + 2 * node + 1]
        )
        node >>= 1


@compiled
def _place(
    places: Records,
    place_rank: Integers,
    place_upper: Integers,
    place_of_rank: Integers,
    first_place: Integers,
    block_upper: Integers,
    block_least: Integers,
    plateaus: Records,
    heap: Records,
    n_heap: int,
    n_sections: int,
) -> None:
    """Give every rectangle its offset, always on the lowest plateau.

    Parameters
    ----------
    places : array of _PLACE, shape (n,)
        The rectangles in the order of their first sections; gets the offsets.
    place_rank, place_upper : int64 array, shape (n,)
        Rank and end of the sections of each; a placed one has the rank `_LARGEST`.
    place_of_rank : int64 array, shape (n,)
        Index in `places` by rank.
    first_place : int64 array, shape (n_sections + 1,)
        Index in `places` of the first rectangle that begins in a section or later.
    block_upper, block_least : int64 array, shapes (b BLOCK,) and (2 b BLOCK,)
        What `_blocks` returns for b blocks.
    plateaus : array of _PLATEAU, shape (n_sections + 1,)
    heap : array of _ENTRY, shape (4 n + 16,)
        The plateaus, the lowest first.
    n_heap : int
        Number of entries in the heap.
    n_sections : int
    """
    unplaced = places.size
    while unplaced:
        height, x = heap[0]["height"], heap[0]["start"]
        n_heap = _pop(heap, n_heap)
        plateau = plateaus[x]
        if plateau["height"] != height:
            continue
        y = plateau["stop"]
        least = _least_rank(
            first_place[x],
            first_place[y],
            y,
            place_rank,
            place_upper,
            block_upper,
            block_least,
        )
        if least == _LARGEST:
            x = _rise(plateaus, x, n_sections)
            n_heap = _push(heap, n_heap, plateaus[x]["height"], x)
            continue
        unplaced -= 1
        index = place_of_rank[least]
        place_rank[index] = _LARGEST
        place = places[index]
        _drop_rank(block_least, 2 * (index // BLOCK * BLOCK), place["leaf"])
        step = place["alignment"]
        place["offset"] = (height + step - 1) // step * step
        top = place["offset"] + place["size"]
        s, e = place["lower"], place["upper"]
        if e < y:  # what is left of the plateau behind the rectangle
            _set(plateaus, e, height, y, s, n_sections)
            n_heap = _push(heap, n_heap, height, e)
        before = plateau["before"]
        if s > x:  # and before it
            plateau["stop"] = s
            before = x
            n_heap = _push(heap, n_heap, height, x)
        if e < n_sections and plateaus[e]["height"] == top:
            plateaus[e]["height"] = _NONE
            e = plateaus[e]["stop"]
        if before >= 0 and plateaus[before]["height"] == top:
            plateaus[s]["height"] = _NONE
            s = before
            before = plateaus[s]["before"]
        _set(plateaus, s, top, e, before, n_sections)
        n_heap = _push(heap, n_heap, top, s)


@routine
def _set(
    plateaus: Records, start: int, height: int, stop: int, before: int, n_sections: int
) -> None:
    """Make sections [start, stop) a plateau that follows the one at `before`."""
    plateau = plateaus[start]
    plateau["height"], plateau["stop"], plateau["before"] = height, stop, before
    if stop < n_sections:
        plateaus[stop]["before"] = start


@routine
def _rise(plateaus: Records, start: int, n_sections: int) -> int:
    """Raise a plateau to its lower neighbour; return the first section of both.

    Of neighbours that are equally high it joins both.
    """
    plateau = plateaus[start]
    before, stop = plateau["before"], plateau["stop"]
    left = plateaus[before]["height"] if before >= 0 else _LARGEST_HEIGHT
    right = plateaus[stop]["height"] if stop < n_sections else _LARGEST_HEIGHT
    height = min(left, right)
    if right == height:
        plateaus[stop]["height"] = _NONE
        stop = plateaus[stop]["stop"]
    if left == height:
        plateau["height"] = _NONE
        start = before
        before = plateaus[start]["before"]
    _set(plateaus, start, height, stop, before, n_sections)
    return start
