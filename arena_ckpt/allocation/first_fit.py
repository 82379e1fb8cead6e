"""First fit: bodies one after another, each at the lowest offset that is free.

Any body can be placed: gaps, groups, fixed offsets. The overlap graph is never stored:
the placed pieces that overlap a new one in time are those that cover its first section,
kept in a segment tree over sections, and those that begin in a later section of it.
Placing a body costs O(log s + k log k) for s sections and k placed pieces beside it.
"""

from __future__ import annotations

import functools

import numpy as np

from arena_ckpt.allocation.bodies import Bodies, two_bodies
from arena_ckpt.allocation.buffers import FREE
from arena_ckpt.kernels.jit import Integers, compiled

UNLIMITED = 2**62


def first_fit(
    bodies: Bodies, order: Integers, capacity_bytes: int = UNLIMITED
) -> Integers:
    """Place `bodies` in `order`, the fixed ones before all others.

    Returns
    -------
    int64 array, shape (n,)
        An offset for each body, -1 where that would end above the capacity.
    """
    is_fixed = bodies.fixed_offset[order] != FREE
    offset = np.zeros(len(bodies), dtype=np.int64)
    _place(
        np.concatenate([order[is_fixed], order[~is_fixed]]),
        bodies.alignment,
        bodies.fixed_offset,
        bodies.extent,
        bodies.first_piece,
        bodies.section_lower,
        bodies.section_upper,
        bodies.base,
        bodies.size,
        bodies.n_sections,
        capacity_bytes,
        offset,
    )
    return offset


@functools.cache
def load() -> None:
    """Have the kernel compiled, or loaded from disk; done once a process."""
    first_fit(two_bodies(), np.arange(2))


@compiled
def _doubled(array: Integers) -> Integers:
    """Return a copy with as much room again behind it."""
    larger = np.empty(2 * array.size, np.int64)
    for i in range(array.size):
        larger[i] = array[i]
    return larger


@compiled
def _sort_by_start(starts: Integers, stops: Integers, n: int) -> None:
    """Sort pairs by their first number (Shell sort: NumPy's takes seconds to compile).

    The gaps are those of Ciura, "Best increments for the average case of Shellsort",
    2001, continued by a factor of 9/4.
    """
    for gap in (45831, 20369, 9053, 4023, 1788, 795, 353, 157, 57, 23, 10, 4, 1):
        for i in range(gap, n):
            start, stop = starts[i], stops[i]
            k = i
            while k >= gap and starts[k - gap] > start:
                starts[k], stops[k] = starts[k - gap], stops[k - gap]
                k -= gap
            starts[k], stops[k] = start, stop


@compiled
def _place(
    order: Integers,
    alignment: Integers,
    fixed_offset: Integers,
    extent: Integers,
    first_piece: Integers,
    section_lower: Integers,
    section_upper: Integers,
    base: Integers,
    size: Integers,
    n_sections: int,
    capacity: int,
    offset: Integers,
) -> None:
    n_leaves = 1
    while n_leaves < n_sections:
        n_leaves *= 2
    # Linked lists: in each tree node the pieces whose run it is a part of, and for each
    # section the pieces that begin there.
    n_entries = 0
    for piece in range(size.size):
        left, right = section_lower[piece] + n_leaves, section_upper[piece] + n_leaves
        while left < right:
            n_entries += (left & 1) + (right & 1)
            left, right = (left + 1) >> 1, right >> 1
    entry_piece = np.empty(n_entries, np.int64)
    entry_next = np.empty(n_entries, np.int64)
    node_head = np.full(2 * n_leaves, -1, np.int64)
    start_next = np.empty(size.size, np.int64)
    start_head = np.full(n_sections, -1, np.int64)
    n_entries = 0
    bottom = np.empty(size.size, np.int64)
    beside = np.empty(256, np.int64)  # placed pieces that overlap in time
    starts = np.empty(256, np.int64)
    stops = np.empty(256, np.int64)
    for body in order:
        first, last = first_piece[body], first_piece[body + 1]
        position = fixed_offset[body]
        if position < 0:
            # Offsets of the body between a start and a stop would hit a placed piece.
            n_taken = 0
            for piece in range(first, last):
                n_beside = 0
                node = section_lower[piece] + n_leaves
                while node >= 1:
                    entry = node_head[node]
                    while entry >= 0:
                        if n_beside == beside.size:
                            beside = _doubled(beside)
                        beside[n_beside] = entry_piece[entry]
                        n_beside += 1
                        entry = entry_next[entry]
                    node >>= 1
                for section in range(section_lower[piece] + 1, section_upper[piece]):
                    other = start_head[section]
                    while other >= 0:
                        if n_beside == beside.size:
                            beside = _doubled(beside)
                        beside[n_beside] = other
                        n_beside += 1
                        other = start_next[other]
                while n_taken + n_beside > starts.size:
                    starts, stops = _doubled(starts), _doubled(stops)
                for k in range(n_beside):
                    low = bottom[beside[k]] - base[piece]
                    starts[n_taken] = low - size[piece]
                    stops[n_taken] = low + size[beside[k]]
                    n_taken += 1
            _sort_by_start(starts, stops, n_taken)
            step = alignment[body]
            position = 0
            for k in range(n_taken):
                if position <= starts[k]:
                    break
                if stops[k] > position:
                    position = (stops[k] + step - 1) // step * step
        if position + extent[body] > capacity:
            offset[body] = -1
            continue
        offset[body] = position
        for piece in range(first, last):
            bottom[piece] = position + base[piece]
            start_next[piece] = start_head[section_lower[piece]]
            start_head[section_lower[piece]] = piece
            left = section_lower[piece] + n_leaves
            right = section_upper[piece] + n_leaves
            while left < right:
                if left & 1:
                    entry_piece[n_entries] = piece
                    entry_next[n_entries] = node_head[left]
                    node_head[left] = n_entries
                    n_entries += 1
                if right & 1:
                    entry_piece[n_entries] = piece
                    entry_next[n_entries] = node_head[right - 1]
                    node_head[right - 1] = n_entries
                    n_entries += 1
                left, right = (left + 1) >> 1, right >> 1
