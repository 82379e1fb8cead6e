"""Checks a layout; shares no code with the engines that make layouts.

The rules about one buffer or its group are compared in NumPy. For overlaps, in stages:

1. Every buffer falls into *pieces*, maximal ranges of steps in which it takes the same
   bytes: all of them outside its gaps, the window inside a gap with one.
2. The pieces are numbered by pool and offset.
3. A sweep over time, in which ends come before starts of the same step, keeps the
   numbers of the live pieces in a binary tree. As long as those are disjoint, a new one
   can only overlap the live ones next to it, which the tree finds in O(log n).

So the check takes O(n log n) for n buffers and gaps, however many live at once. It ends
at the first conflict and does not look for more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from arena_ckpt.allocation.buffers import FREE, Buffers
from arena_ckpt.allocation.integers import IntegerLike, Label
from arena_ckpt.errors import LayoutError
from arena_ckpt.kernels.hot_loops import compiled, routine
from arena_ckpt.operations.array_types import Integers

LARGEST = 2**63 - 1

_PLAIN_SECONDS = 7e-6
"""Seconds that plain Python takes for a piece."""


def check_layout(
    buffers: Buffers,
    offset: IntegerLike,
    height_bytes: int,
    *,
    pool: IntegerLike | None = None,
    pool_bytes: Sequence[int | None] | None = None,
    allowed_pools: Sequence[Collection[int] | None] | None = None,
    label: Label = "buffer {}".format,
) -> None:
    """Raise `LayoutError` if a layout breaks a rule.

    Parameters
    ----------
    buffers : Buffers
        What is placed.
    offset : sequence of int, length n
        Bytes from the start of the arena or, with pools, of the buffer's pool.
    height_bytes : int
        The arena; with pools, what they take together.
    pool : sequence of int, optional
        For each buffer the index of its pool; without, all are in one.
    pool_bytes : sequence of int or None, optional
        For each pool its size, None where it has no limit of its own. Without, none
        has one, and there may be any number of pools.
    allowed_pools : sequence of (collection of int or None), optional
        For each buffer the pools that it may lie in; None allows all.
    label : callable
        How messages call the buffer with an index.

    Raises
    ------
    LayoutError
        Its `buffers` are the indexes of those that break the rule, its `rule` is

        ``"count"``
            There is not one integer offset, one pool, and one choice of allowed pools
            for each buffer.
        ``"pool"``
            A buffer's pool does not exist, or the buffer ends above it.
        ``"allowed"``
            A buffer lies in a pool that it may not lie in.
        ``"height"``
            A buffer begins below 0 or ends above the height, or the pools, each up to
            its highest buffer, add up to more than the height.
        ``"alignment"``
            An offset is no multiple of the buffer's alignment.
        ``"fixed"``
            A buffer is not at its fixed offset, which counts from the start of its
            pool.
        ``"group"``
            A member of a group does not begin where the one before it ends, rounded up
            to its own alignment, in the same pool.
        ``"overlap"``
            Two buffers take the same bytes at the same step.
        ``"gap"``
            They do, and one of them lives during a gap of the other: it outlives the
            gap, or takes bytes of its window.

        The rules are checked in this order; of overlaps, the earliest is named, first
        the buffer that was there, then the one that comes.

    Notes
    -----
    O(n log n) for n buffers and gaps.
    """
    assert pool is not None or pool_bytes is None, "sizes of pools, but no pools"
    assert pool is not None or allowed_pools is None, "allowed pools, but no pools"
    n = len(buffers)
    offsets = _integers(offset, "offset", "count", n, label)
    pools = None if pool is None else _integers(pool, "pool", "pool", n, label)
    layout = _Layout(buffers, offsets, int(height_bytes), pools, pool_bytes, label)
    _check_bounds(layout)
    if pools is not None and allowed_pools is not None:
        _check_allowed(layout, pools, allowed_pools)
    _check_alignment(layout)
    _check_fixed(layout)
    _check_groups(layout)
    _check_overlaps(layout)


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    buffers: Buffers
    offset: Integers
    height_bytes: int
    pool: Integers | None
    pool_bytes: Sequence[int | None] | None
    label: Label

    def refuse(self, rule: str, indexes: tuple[int, ...], problem: str) -> NoReturn:
        _refuse(rule, indexes, f"{self.label(indexes[0])} {problem}")

    def bytes_of(self, index: int) -> str:
        offset = int(self.offset[index])
        end = offset + int(self.buffers.size[index])
        where = "" if self.pool is None else f" of pool {self.pool[index]}"
        return f"bytes [{offset}, {end}){where}"


def _refuse(rule: str, indexes: tuple[int, ...], problem: str) -> NoReturn:
    raise LayoutError(
        f"layout breaks the rule of {rule}: {problem}", rule=rule, buffers=indexes
    )


def _integers(
    values: IntegerLike, name: str, rule: str, n: int, label: Label
) -> Integers:
    """Return `values` as int64, or raise the error of `rule`."""
    if len(values) != n:
        _refuse(
            "count",
            (),
            f"there are {n} buffers, and {len(values)} values of {name} for them",
        )
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind == "i":
        return values.astype(np.int64, copy=False)
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            _refuse(
                rule,
                (index,),
                f"{label(index)} has the {name} {value!r}, which is no integer",
            )
        if not -LARGEST <= value <= LARGEST:
            _refuse(
                "height" if name == "offset" else rule,
                (index,),
                f"{label(index)} has the {name} {value}, which is not within ±2**63",
            )
    return np.array(values, dtype=np.int64)


# -- rules about one buffer, or a group ------------------------------------------------


def _first(broken: npt.NDArray[np.bool_]) -> int | None:
    return int(np.argmax(broken)) if broken.any() else None


def _check_bounds(layout: _Layout) -> None:
    """Check the rules on pools and height; after that all ends fit in int64."""
    if layout.pool is not None:
        _check_pools(layout, layout.pool)
    index = _first(layout.offset < 0)
    if index is not None:
        layout.refuse(
            "height", (index,), f"takes {layout.bytes_of(index)}, which begin below 0"
        )
    index = _first(layout.offset > _clipped(layout.height_bytes) - layout.buffers.size)
    if index is not None:
        layout.refuse(
            "height",
            (index,),
            f"takes {layout.bytes_of(index)} of an arena of {layout.height_bytes}",
        )
    if layout.pool is not None:
        _check_sum_of_pools(layout, layout.pool)


def _clipped(n_bytes: int) -> int:
    """Return an int64 that compares with every end as `n_bytes` does."""
    return min(max(n_bytes, -1), LARGEST)


def _check_pools(layout: _Layout, pool: Integers) -> None:
    n_pools = LARGEST if layout.pool_bytes is None else len(layout.pool_bytes)
    index = _first((pool < 0) | (pool >= n_pools))
    if index is not None:
        count = "" if layout.pool_bytes is None else f" of {n_pools}"
        layout.refuse("pool", (index,), f"is in pool {pool[index]}{count}")
    if layout.pool_bytes is None:
        return
    limits = [LARGEST if b is None else _clipped(int(b)) for b in layout.pool_bytes]
    limit = np.array(limits, dtype=np.int64)[pool]
    is_above = layout.offset > limit - layout.buffers.size
    index = _first(is_above & (limit < LARGEST))
    if index is not None:
        layout.refuse(
            "pool", (index,), f"takes {layout.bytes_of(index)}, of {limit[index]} bytes"
        )


def _check_allowed(
    layout: _Layout,
    pool: Integers,
    allowed_pools: Sequence[Collection[int] | None],
) -> None:
    if len(allowed_pools) != len(pool):
        _refuse(
            "count",
            (),
            f"there are {len(pool)} buffers, and {len(allowed_pools)} choices of "
            "allowed pools for them",
        )
    for index, allowed in enumerate(allowed_pools):
        if allowed is not None and pool[index] not in allowed:
            listed = " or ".join(map(str, sorted(allowed))) or "no pool"
            layout.refuse(
                "allowed",
                (index,),
                f"is in pool {pool[index]}, and may lie only in {listed}",
            )


def _check_sum_of_pools(layout: _Layout, pool: Integers) -> None:
    end = layout.offset + layout.buffers.size
    order = np.lexsort((end, pool))
    is_highest = np.append(pool[order][1:] != pool[order][:-1], True)[: len(order)]
    highest = order[is_highest].tolist()
    total = sum(int(end[index]) for index in highest)
    if total > layout.height_bytes:
        names = ", ".join(f"{layout.label(i)} of pool {pool[i]}" for i in highest[:8])
        more = f" and {len(highest) - 8} more" if len(highest) > 8 else ""
        _refuse(
            "height",
            tuple(highest),
            f"the pools end with {names}{more}, at {total} bytes together, above the "
            f"height of {layout.height_bytes}",
        )


def _check_alignment(layout: _Layout) -> None:
    alignment = layout.buffers.alignment
    index = _first(layout.offset % alignment != 0)
    if index is not None:
        layout.refuse(
            "alignment",
            (index,),
            f"starts at {layout.offset[index]}, no multiple of {alignment[index]}",
        )


def _check_fixed(layout: _Layout) -> None:
    fixed = layout.buffers.fixed_offset
    index = _first((fixed != FREE) & (fixed != layout.offset))
    if index is not None:
        layout.refuse(
            "fixed",
            (index,),
            f"starts at {layout.offset[index]}, not at its fixed offset {fixed[index]}",
        )


def _check_groups(layout: _Layout) -> None:
    """Check that each member of a group lies right behind the one before it."""
    buffers, offset = layout.buffers, layout.offset
    members = np.flatnonzero(buffers.group != FREE)
    members = members[np.argsort(buffers.group[members], kind="stable")]
    before, after = members[:-1], members[1:]
    together = buffers.group[before] == buffers.group[after]
    before, after = before[together], after[together]
    end = offset[before] + buffers.size[before]
    padding = -end % buffers.alignment[after]
    broken = offset[after] - end != padding
    if layout.pool is not None:
        broken |= layout.pool[before] != layout.pool[after]
    index = _first(broken)
    if index is None:
        return
    first, second = int(before[index]), int(after[index])
    layout.refuse(
        "group",
        (first, second),
        f"takes {layout.bytes_of(first)}, and {layout.label(second)}, next in its "
        f"group, {layout.bytes_of(second)}; it must start at "
        f"{int(end[index]) + int(padding[index])}",
    )


# -- overlaps --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """Pieces: `owner` takes the bytes [low, high) in the steps [lower, upper)."""

    owner: Integers
    lower: Integers
    upper: Integers
    low: Integers
    high: Integers

    def __getitem__(self, chosen: npt.NDArray[Any]) -> _Pieces:
        return _Pieces(
            self.owner[chosen],
            self.lower[chosen],
            self.upper[chosen],
            self.low[chosen],
            self.high[chosen],
        )


def _check_overlaps(layout: _Layout) -> None:
    pieces = _pieces(layout.buffers, layout.offset)
    if layout.pool is None:
        pieces = pieces[np.argsort(pieces.low, kind="stable")]
        pool = np.zeros(len(pieces.owner), dtype=np.int64)
    else:
        pieces = pieces[np.lexsort((pieces.low, layout.pool[pieces.owner]))]
        pool = layout.pool[pieces.owner]
    first_conflict = _first_conflict.taking(_PLAIN_SECONDS * len(pieces.owner))
    there, comes = first_conflict(
        np.argsort(pieces.lower, kind="stable"),
        np.argsort(pieces.upper, kind="stable"),
        pieces.lower,
        pieces.upper,
        pieces.low,
        pieces.high,
        pool,
        np.zeros(1 << len(pieces.owner).bit_length() + 1, dtype=np.uint8),
    )
    if there == comes:
        return
    first, second = int(pieces.owner[there]), int(pieces.owner[comes])
    rule, misused = "overlap", ""
    for owner, guest in ((first, second), (second, first)):
        gap = _gap_lived_in(layout.buffers, owner, guest)
        if gap is not None:
            rule = "gap"
            misused = f"; {layout.label(guest)} lives in {gap} of {layout.label(owner)}"
            break
    layout.refuse(
        rule,
        (first, second),
        f"{_taken(pieces, there)} and {layout.label(second)} "
        f"{_taken(pieces, comes)}"
        + ("" if layout.pool is None else f", both in pool {layout.pool[first]}")
        + misused,
    )


def _pieces(buffers: Buffers, offset: Integers) -> _Pieces:
    """Cut every buffer into pieces where its gaps begin and end."""
    index = np.arange(len(buffers))
    owner = np.insert(index, buffers.gap_owner, buffers.gap_owner)
    full = _Pieces(
        owner,
        np.insert(buffers.lower, buffers.gap_owner + 1, buffers.gap_upper),
        np.insert(buffers.upper, buffers.gap_owner, buffers.gap_lower),
        offset[owner],
        offset[owner] + buffers.size[owner],
    )
    full = full[full.lower < full.upper]
    windows = _Pieces(
        buffers.gap_owner,
        buffers.gap_lower,
        buffers.gap_upper,
        offset[buffers.gap_owner] + buffers.window_lower,
        offset[buffers.gap_owner] + buffers.window_upper,
    )
    windows = windows[windows.low < windows.high]
    return _Pieces(
        np.concatenate((full.owner, windows.owner)),
        np.concatenate((full.lower, windows.lower)),
        np.concatenate((full.upper, windows.upper)),
        np.concatenate((full.low, windows.low)),
        np.concatenate((full.high, windows.high)),
    )


def _taken(pieces: _Pieces, piece: int) -> str:
    return (
        f"takes bytes [{pieces.low[piece]}, {pieces.high[piece]}) in steps "
        f"[{pieces.lower[piece]}, {pieces.upper[piece]})"
    )


def _gap_lived_in(buffers: Buffers, owner: int, guest: int) -> str | None:
    """Describe the first gap of `owner` that overlaps the live range of `guest`."""
    for lower, upper, *window in buffers.gaps_of(owner):
        if lower < buffers.upper[guest] and buffers.lower[guest] < upper:
            but = f" without its bytes [{window[0]}, {window[1]})" if window else ""
            return f"the gap [{lower}, {upper}){but}"
    return None


@compiled
def _first_conflict(
    by_lower: Integers,
    by_upper: Integers,
    lower: Integers,
    upper: Integers,
    low: Integers,
    high: Integers,
    pool: Integers,
    alive: npt.NDArray[np.uint8],
) -> tuple[int, int]:
    """Return the first two pieces that overlap, or (-1, -1).

    The first of the two is already alive when the second begins.

    Parameters
    ----------
    by_lower, by_upper : int64 array, shape (n,)
        The pieces in the order in which they start and end.
    lower, upper : int64 array, shape (n,)
        Half-open, in steps.
    low, high, pool : int64 array, shape (n,)
        Half-open, in bytes; ascending by pool, then by `low`.
    alive : uint8 array of zeros
        A tree: its size is a power of two, at least twice n.

    Notes
    -----
    Node i of the tree has the children 2i and 2i + 1, its leaves are the pieces; a node
    is 1 if a piece below it is alive.
    """
    n_leaves = alive.size // 2
    n_ended = 0
    for piece in by_lower:
        while upper[by_upper[n_ended]] <= lower[piece]:
            _remove(alive, by_upper[n_ended] + n_leaves)
            n_ended += 1
        leaf = piece + n_leaves
        below = _live_before(alive, leaf, n_leaves) - n_leaves
        if below >= 0 and pool[below] == pool[piece] and high[below] > low[piece]:
            return below, piece
        above = _live_after(alive, leaf, n_leaves) - n_leaves
        if above >= 0 and pool[above] == pool[piece] and low[above] < high[piece]:
            return above, piece
        _add(alive, leaf)
    return -1, -1


@routine
def _add(alive: npt.NDArray[np.uint8], node: int) -> None:
    while node and not alive[node]:
        alive[node] = 1
        node >>= 1


@routine
def _remove(alive: npt.NDArray[np.uint8], node: int) -> None:
    alive[node] = 0
    while node > 1 and not alive[node ^ 1]:
        node >>= 1
        alive[node] = 0


@routine
def _live_before(alive: npt.NDArray[np.uint8], node: int, n_leaves: int) -> int:
    """Return the nearest live leaf to the left, or 0."""
    while node & 1 == 0 or not alive[node - 1]:
        node >>= 1
        if node <= 1:
            return 0
    node -= 1
    while node < n_leaves:
        node = 2 * node + 1 if alive[2 * node + 1] else 2 * node
    return node


@routine
def _live_after(alive: npt.NDArray[np.uint8], node: int, n_leaves: int) -> int:
    """Return the nearest live leaf to the right, or 0."""
    while node & 1 or not alive[node + 1]:
        node >>= 1
        if node <= 1:
            return 0
    node += 1
    while node < n_leaves:
        node = 2 * node if alive[2 * node] else 2 * node + 1
    return node
