"""First fit: places bodies one after another, each at the lowest offset that is free.

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
from arena_ckpt.allocation.instance import Records
from arena_ckpt.kernels.hot_loops import compiled, is_plain, load_numba, routine
from arena_ckpt.operations.array_types import Integers

UNLIMITED = 2**62
_NONE = -1

_BODY_SECONDS, _SPAN_SECONDS = 20e-6, 5e-6
"""Seconds that plain Python takes for a body, and for each piece that may overlap it in
time."""

_BODY = np.dtype(
    [
        (name, np.int64)
        for name in (
            "alignment",
            "fixed_offset",
            "extent",
            "first_piece",
            "last_piece",
            "offset",
        )
    ],
    align=True,
)
_PIECE = np.dtype(
    [(name, np.int64) for name in ("lower", "upper", "base", "size", "bottom", "next")],
    align=True,
)
"""A piece; `next` is the next placed piece that begins in the same section."""

_ENTRY = np.dtype([("piece", np.int64), ("next", np.int64)], align=True)
"""An entry of the list at a node of the segment tree: a piece whose sections include
those of the node."""

_SPAN = np.dtype([("start", np.int64), ("stop", np.int64)], align=True)
"""Offsets strictly between `start` and `stop`, at which a body would overlap a placed
piece."""


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
    table = np.empty(len(bodies), dtype=_BODY)
    table["alignment"] = bodies.alignment
    table["fixed_offset"] = bodies.fixed_offset
    table["extent"] = bodies.extent
    table["first_piece"] = bodies.first_piece[:-1]
    table["last_piece"] = bodies.first_piece[1:]
    pieces = np.empty(len(bodies.size), dtype=_PIECE)
    pieces["lower"], pieces["upper"] = bodies.section_lower, bodies.section_upper
    pieces["base"], pieces["size"] = bodies.base, bodies.size
    n_leaves = 1 << max(bodies.n_sections - 1, 0).bit_length()
    place = _place.taking(_plain_seconds(bodies))
    place(
        np.concatenate([order[is_fixed], order[~is_fixed]]),
        table,
        pieces,
        np.empty(_most_entries(bodies, n_leaves), dtype=_ENTRY),
        np.full(2 * n_leaves, _NONE, dtype=np.int64),
        np.full(bodies.n_sections, _NONE, dtype=np.int64),
        np.empty(_most_beside(bodies), dtype=_SPAN),
        capacity_bytes,
    )
    return table["offset"].copy()


def _most_entries(bodies: Bodies, n_leaves: int) -> int:
    """Return the number of entries of all pieces together in the segment tree."""
    left, right = bodies.section_lower + n_leaves, bodies.section_upper + n_leaves
    n_entries = 0
    while (is_open := left < right).any():
        n_entries += int((left & 1)[is_open].sum() + (right & 1)[is_open].sum())
        left, right = (left + 1) >> 1, right >> 1
    return n_entries


def _most_beside(bodies: Bodies) -> int:
    """Return the maximum number of pieces that overlap those of one body in time."""
    lower, upper = bodies.section_lower, bodies.section_upper
    begun = np.searchsorted(np.sort(lower), upper, side="left")
    ended = np.searchsorted(np.sort(upper), lower, side="right")
    beside = np.zeros(len(bodies), dtype=np.int64)
    np.add.at(beside, bodies.piece_owner(), begun - ended)
    return int(beside.max(initial=0))


def _plain_seconds(bodies: Bodies) -> float:
    """Return about how long plain Python takes to place bodies."""
    return len(bodies) * (_BODY_SECONDS + _SPAN_SECONDS * _most_beside(bodies))


def load(bodies: Bodies) -> bool:
    """Have the loop compiled, or loaded from disk, unless it will run in plain Python.

    Returns
    -------
    bool
        It is compiled.
    """
    if is_plain(_plain_seconds(bodies)):
        return False
    _load()
    return True


@functools.cache
def _load() -> None:
    load_numba()
    first_fit(two_bodies(), np.arange(2))


@routine
def _sort_by_start(spans: Records) -> None:
    """Sort spans by their starts (Shell sort: NumPy's takes seconds to compile).

    The gaps are those of Tokuda, "An improved Shellsort", 1992: 1, 4, 9, 20, 46, …
    """
    factor = 1.0
    while 2.25 * factor < spans.size:
        factor = 2.25 * factor + 1
    while factor >= 1:
        gap = int(np.ceil(factor))
        for i in range(gap, spans.size):
            start, stop = spans[i]["start"], spans[i]["stop"]
            k = i
            while k >= gap and spans[k - gap]["start"] > start:
                spans[k] = spans[k - gap]
                k -= gap
            spans[k]["start"], spans[k]["stop"] = start, stop
        factor = (factor - 1) / 2.25


@routine
def _keep_off(span: Records, piece: Records, other: Records) -> None:
    """Set a span to the offsets of a body at which its piece overlaps a placed one."""
    low = other["bottom"] - piece["base"]
    span["start"], span["stop"] = low - piece["size"], low + other["size"]


@routine
def _lowest_free(
    body: Records,
    pieces: Records,
    entries: Records,
    node_head: Integers,
    start_head: Integers,
    spans: Records,
) -> int:
    """Return the lowest offset in bytes at which a body overlaps no placed piece."""
    n_spans = 0
    for p in range(body["first_piece"], body["last_piece"]):
        piece = pieces[p]
        node = piece["lower"] + node_head.size // 2
        while node >= 1:
            entry = node_head[node]
            while entry >= 0:
                _keep_off(spans[n_spans], piece, pieces[entries[entry]["piece"]])
                n_spans += 1
                entry = entries[entry]["next"]
            node >>= 1
        for section in range(piece["lower"] + 1, piece["upper"]):
            other = start_head[section]
            while other >= 0:
                _keep_off(spans[n_spans], piece, pieces[other])
                n_spans += 1
                other = pieces[other]["next"]
    near = spans[:n_spans]
    _sort_by_start(near)
    step = body["alignment"]
    position = 0
    for k in range(n_spans):
        if position <= near[k]["start"]:
            break
        if near[k]["stop"] > position:
            position = (near[k]["stop"] + step - 1) // step * step
    return position


@compiled
def _place(
    order: Integers,
    bodies: Records,
    pieces: Records,
    entries: Records,
    node_head: Integers,
    start_head: Integers,
    spans: Records,
    capacity: int,
) -> None:
    n_leaves = node_head.size // 2
    n_entries = 0
    for b in order:
        body = bodies[b]
        position = body["fixed_offset"]
        if position < 0:
            position = _lowest_free(body, pieces, entries, node_head, start_head, spans)
        if position + body["extent"] > capacity:
            body["offset"] = _NONE
            continue
        body["offset"] = position
        for p in range(body["first_piece"], body["last_piece"]):
            piece = pieces[p]
            piece["bottom"] = position + piece["base"]
            piece["next"] = start_head[piece["lower"]]
            start_head[piece["lower"]] = p
            left, right = piece["lower"] + n_leaves, piece["upper"] + n_leaves
            while left < right:
                if left & 1:
                    entries[n_entries]["piece"] = p
                    entries[n_entries]["next"] = node_head[left]
                    node_head[left] = n_entries
                    n_entries += 1
                if right & 1:
                    entries[n_entries]["piece"] = p
                    entries[n_entries]["next"] = node_head[right - 1]
                    node_head[right - 1] = n_entries
                    n_entries += 1
                left, right = (left + 1) >> 1, right >> 1
