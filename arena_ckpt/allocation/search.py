"""Branch and bound: does it fit below a capacity? One search that can pause.

After the ideas in Moffitt, "MiniMalloc: A lightweight memory allocator for
hardware-accelerated machine learning", ASPLOS 2023:

1. Depth first. A node places an unplaced body exactly at the lowest offset that those
   placed below it allow, its *floor*. Along a path (offset, rank) never decreases:
   every layout, pushed down and sorted, is such a path.
2. A body is not placed at or above the end that another unplaced one would have on its
   floor: that one could slide in below (dominance).
3. Where no unplaced body crosses a boundary between sections, the two sides are
   independent parts; a part that fails fails the node.
4. A body with no unplaced neighbour need not be tried elsewhere.

And what prunes most of the tree, of our own:

5. A body that was *passed over* (its floor is below where the path is now) can only
   come to lie on a body that is yet to be placed: its floor rises to the least end of
   its unplaced neighbours, at once.
6. Per section the bound of the one-machine problem with release dates: for every floor
   f, f + the bytes of the unplaced bodies with a floor of at least f must fit. No body
   may then be placed higher than the fullest section allows.
7. Twins (same sections, same alignment) are interchangeable: of equal ones the one of
   least rank goes first; of two that lie on each other the lower has the lower rank.

Exhaustion proves that nothing fits. The rules agree: of all layouts that fit, the one
whose sorted (offset, rank) sequence comes first breaks none of them.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from arena_ckpt.allocation.bodies import Bodies, two_bodies
from arena_ckpt.kernels.jit import Integers, compiled

FITS, NOTHING_FITS, PAUSED = 1, 0, -1

_DEPTH, _RESULT, _TRAIL, _PLACED, _NODES = range(5)
_ENTER, _SUCCESS, _FAIL = range(3)
_FAR = 2**62


class Instance(NamedTuple):
    """Flat bodies and who is beside whom, for the compiled search.

    `first_run[b]` to ``first_run[b + 1]`` are the runs of sections of body b;
    `neighbour` and `twin` are adjacency lists of the same form.
    """

    size: Integers
    alignment: Integers
    fixed_offset: Integers
    first_run: Integers
    run_lower: Integers
    run_upper: Integers
    hull_lower: Integers
    hull_upper: Integers
    first_neighbour: Integers
    neighbour: Integers
    first_twin: Integers
    twin: Integers
    n_sections: int


class _State(NamedTuple):
    """All that a paused search needs to go on."""

    scalars: Integers
    floor: Integers
    is_placed: Integers
    n_unplaced_beside: Integers
    crossing: Integers
    # A frame is a choice of the next body, or a list of parts to solve in turn.
    is_split: Integers
    list_start: Integers
    list_length: Integers
    next_child: Integers
    trail_mark: Integers
    placed_mark: Integers
    chosen: Integers
    part_lower: Integers
    part_upper: Integers
    path_offset: Integers
    path_rank: Integers
    offset_limit: Integers
    listed: Integers
    listed_rank: Integers
    trail_body: Integers
    trail_floor: Integers
    placed: Integers
    section_sum: Integers
    by_release: Integers
    release: Integers


_FRAME_FIELDS = (
    "is_split",
    "list_start",
    "list_length",
    "next_child",
    "trail_mark",
    "placed_mark",
    "chosen",
    "part_lower",
    "part_upper",
    "path_offset",
    "path_rank",
    "offset_limit",
)


def make_instance(bodies: Bodies) -> Instance:
    """Lay out flat bodies for the search; needs memory for every pair of neighbours."""
    assert bodies.are_flat
    n = len(bodies)
    owner = bodies.piece_owner()
    beside = np.zeros((n, n), dtype=bool)
    if (np.diff(bodies.first_piece) == 1).all():
        lower, upper = bodies.section_lower, bodies.section_upper
        beside = (lower[:, None] < upper) & (lower < upper[:, None])
    else:
        for low, high, body in zip(
            bodies.section_lower, bodies.section_upper, owner, strict=True
        ):
            meets = (bodies.section_lower < high) & (low < bodies.section_upper)
            beside[body, owner[meets]] = True
    np.fill_diagonal(beside, False)
    runs: dict[tuple[int, ...], list[int]] = {}
    hull_lower, hull_upper = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for b in range(n):
        pieces = slice(bodies.first_piece[b], bodies.first_piece[b + 1])
        low, high = bodies.section_lower[pieces], bodies.section_upper[pieces]
        if len(low):
            hull_lower[b], hull_upper[b] = low[0], high[-1]
        if bodies.fixed_offset[b] < 0:
            key = (int(bodies.alignment[b]), *low.tolist(), *high.tolist())
            runs.setdefault(key, []).append(b)
    is_twin = np.zeros((n, n), dtype=bool)
    for alike in runs.values():
        is_twin[np.ix_(alike, alike)] = True
    np.fill_diagonal(is_twin, False)
    return Instance(
        bodies.extent,
        bodies.alignment,
        bodies.fixed_offset,
        bodies.first_piece,
        bodies.section_lower,
        bodies.section_upper,
        hull_lower,
        hull_upper,
        *_adjacency(beside),
        *_adjacency(is_twin),
        bodies.n_sections,
    )


def _adjacency(
    matrix: np.ndarray[tuple[int, int], np.dtype[np.bool_]],
) -> tuple[Integers, Integers]:
    first = np.zeros(len(matrix) + 1, dtype=np.int64)
    np.cumsum(matrix.sum(axis=1), out=first[1:])
    return first, np.nonzero(matrix)[1].astype(np.int64)


class Search:
    """One depth-first search for a layout below a capacity.

    Parameters
    ----------
    instance : Instance
    rank : int64 array, shape (n,)
        The order in which equally low bodies are tried.
    capacity_bytes : int

    Attributes
    ----------
    capacity_bytes : int
    """

    def __init__(self, instance: Instance, rank: Integers, capacity_bytes: int) -> None:
        self._instance = instance
        self._rank = rank
        self.capacity_bytes = capacity_bytes
        self._state = _new_state(instance, rank)

    @property
    def nodes(self) -> int:
        """Nodes looked at so far."""
        return int(self._state.scalars[_NODES])

    @property
    def offset(self) -> Integers:
        """The offsets found, after `run` returned `FITS`."""
        return self._state.floor.copy()

    def run(self, n_nodes: int) -> int:
        """Go on for some nodes; return `FITS`, `NOTHING_FITS` or `PAUSED`."""
        return int(
            _run(
                self._instance,
                self._state,
                self._rank,
                self.capacity_bytes,
                self.nodes + n_nodes,
            )
        )


@functools.cache
def load() -> None:
    """Have the kernel compiled, or loaded from disk; done once a process."""
    Search(make_instance(two_bodies()), np.arange(2), 2).run(1)


def _new_state(instance: Instance, rank: Integers) -> _State:
    n = len(instance.size)
    crossing = np.zeros(instance.n_sections + 2, dtype=np.int64)
    np.add.at(crossing, instance.hull_lower + 1, 1)
    np.subtract.at(
        crossing, np.maximum(instance.hull_upper, instance.hull_lower + 1), 1
    )
    frames = np.zeros((len(_FRAME_FIELDS), 2 * n + 4), dtype=np.int64)
    listed = np.empty((2, n * (n + 5) + 16), dtype=np.int64)
    order = np.argsort(rank)
    listed[:, :n] = order, rank[order]
    n_trail = len(instance.neighbour) + 1
    state = _State(
        scalars=np.zeros(5, dtype=np.int64),
        floor=np.maximum(instance.fixed_offset, 0),
        is_placed=np.zeros(n, dtype=np.int64),
        n_unplaced_beside=np.diff(instance.first_neighbour),
        crossing=np.cumsum(crossing),
        **dict(zip(_FRAME_FIELDS, frames, strict=True)),
        listed=listed[0],
        listed_rank=listed[1],
        trail_body=np.empty(n_trail, dtype=np.int64),
        trail_floor=np.empty(n_trail, dtype=np.int64),
        placed=np.empty(n, dtype=np.int64),
        section_sum=np.empty(instance.n_sections, dtype=np.int64),
        by_release=np.empty(n, dtype=np.int64),
        release=np.empty(n, dtype=np.int64),
    )
    # The root is a split of all bodies into parts.
    state.is_split[0] = 1
    state.list_length[0] = n
    state.part_upper[0] = instance.n_sections
    return state


@compiled
def _undo(instance: Instance, state: _State, frame: int) -> None:
    """Take back what was placed since `frame` chose its present child."""
    trail = state.scalars[_TRAIL]
    while trail > state.trail_mark[frame]:
        trail -= 1
        state.floor[state.trail_body[trail]] = state.trail_floor[trail]
    state.scalars[_TRAIL] = trail
    n_placed = state.scalars[_PLACED]
    while n_placed > state.placed_mark[frame]:
        n_placed -= 1
        body = state.placed[n_placed]
        state.is_placed[body] = 0
        for s in range(instance.hull_lower[body] + 1, instance.hull_upper[body]):
            state.crossing[s] += 1
        first = instance.first_neighbour[body]
        for k in range(first, instance.first_neighbour[body + 1]):
            state.n_unplaced_beside[instance.neighbour[k]] += 1
    state.scalars[_PLACED] = n_placed


@compiled
def _put(instance: Instance, state: _State, body: int, capacity: int) -> int:
    """Place `body` on its floor.

    Returns 0 where a neighbour then does not fit, 2 where independent parts came to
    be, else 1.
    """
    top = state.floor[body] + instance.size[body]
    state.is_placed[body] = 1
    state.placed[state.scalars[_PLACED]] = body
    state.scalars[_PLACED] += 1
    trail = state.scalars[_TRAIL]
    result = 1
    first = instance.first_neighbour[body]
    for k in range(first, instance.first_neighbour[body + 1]):
        other = instance.neighbour[k]
        state.n_unplaced_beside[other] -= 1
        if state.floor[other] < top and not state.is_placed[other]:
            state.trail_body[trail] = other
            state.trail_floor[trail] = state.floor[other]
            trail += 1
            floor = top
            step = instance.alignment[other]
            if step > 1:
                floor = (top + step - 1) // step * step
            state.floor[other] = floor
            if floor + instance.size[other] > capacity:
                result = 0
            elif 0 <= instance.fixed_offset[other] < floor:
                result = 0
    state.scalars[_TRAIL] = trail
    for s in range(instance.hull_lower[body] + 1, instance.hull_upper[body]):
        state.crossing[s] -= 1
        if state.crossing[s] == 0 and result == 1:
            result = 2
    return result


@compiled
def _is_mirrored(instance: Instance, state: _State, rank: Integers, body: int) -> bool:
    """Say whether swapping `body` with a twin gives a layout that is tried anyway."""
    for k in range(instance.first_twin[body], instance.first_twin[body + 1]):
        twin = instance.twin[k]
        if not state.is_placed[twin]:
            if instance.size[twin] == instance.size[body] and rank[twin] < rank[body]:
                return True
        elif (
            rank[body] < rank[twin]
            and state.floor[twin] + instance.size[twin] == state.floor[body]
            and instance.size[body] % instance.alignment[body] == 0
        ):
            return True
    return False


@compiled
def _bound(instance: Instance, state: _State, capacity: int, frame: int) -> bool:
    """Sort the list of a new frame and say whether all in it may still fit."""
    start, n = state.list_start[frame], state.list_length[frame]
    offset, rank = state.path_offset[frame], state.path_rank[frame]
    listed, listed_rank = state.listed, state.listed_rank
    for i in range(start + 1, start + n):
        body, its_rank = listed[i], listed_rank[i]
        floor = state.floor[body]
        k = i - 1
        while k >= start:
            before = state.floor[listed[k]]
            if before < floor or (before == floor and listed_rank[k] < its_rank):
                break
            listed[k + 1], listed_rank[k + 1] = listed[k], listed_rank[k]
            k -= 1
        listed[k + 1], listed_rank[k + 1] = body, its_rank
    limit = _FAR
    for i in range(n):
        body = listed[start + i]
        release = state.floor[body]
        limit = min(limit, release + instance.size[body])
        if release < offset or (release == offset and listed_rank[start + i] < rank):
            # Passed over: it can only lie on a neighbour that is yet to be placed.
            if instance.fixed_offset[body] >= 0:
                return False
            release = _FAR
            first = instance.first_neighbour[body]
            for k in range(first, instance.first_neighbour[body + 1]):
                other = instance.neighbour[k]
                if not state.is_placed[other]:
                    end = max(state.floor[other], offset) + instance.size[other]
                    release = min(release, end)
            if release + instance.size[body] > capacity:
                return False
        k = i - 1
        while k >= 0 and state.release[k] > release:
            state.release[k + 1] = state.release[k]
            state.by_release[k + 1] = state.by_release[k]
            k -= 1
        state.release[k + 1] = release
        state.by_release[k + 1] = body
    section_sum = state.section_sum
    for s in range(state.part_lower[frame], state.part_upper[frame]):
        section_sum[s] = 0
    fullest = 0
    for i in range(n - 1, -1, -1):
        body = state.by_release[i]
        size = instance.size[body]
        most = 0
        for run in range(instance.first_run[body], instance.first_run[body + 1]):
            for s in range(instance.run_lower[run], instance.run_upper[run]):
                section_sum[s] += size
                most = max(most, section_sum[s])
        if state.release[i] + most > capacity:
            return False
        fullest = max(fullest, most)
    state.offset_limit[frame] = min(limit, capacity - fullest + 1)
    return True


@compiled
def _run(
    instance: Instance, state: _State, rank: Integers, capacity: int, n_nodes: int
) -> int:
    scalars = state.scalars
    depth, result, nodes = scalars[_DEPTH], scalars[_RESULT], scalars[_NODES]
    outcome = PAUSED
    while nodes < n_nodes:
        start, length = state.list_start[depth], state.list_length[depth]
        is_split = state.is_split[depth]
        if is_split:
            s, last = state.next_child[depth], state.part_upper[depth]
            if result == _FAIL or s >= last:
                if depth == 0:
                    outcome = NOTHING_FITS if result == _FAIL else FITS
                    break
                if result != _FAIL:
                    result = _SUCCESS
                depth -= 1
                continue
            e = s + 1
            while e < last and state.crossing[e] > 0:
                e += 1
            state.next_child[depth] = e
        else:
            if result == _SUCCESS:
                depth -= 1
                continue
            body = state.chosen[depth]
            if body >= 0:
                _undo(instance, state, depth)
                state.chosen[depth] = -1
                if state.n_unplaced_beside[body] == 0:
                    state.next_child[depth] = length
            child = start + state.next_child[depth]
            offset = _FAR
            if state.next_child[depth] < length:
                body = state.listed[child]
                offset = state.floor[body]
            if offset >= state.offset_limit[depth]:
                depth -= 1
                result = _FAIL
                continue
            state.next_child[depth] += 1
            if (
                offset < state.path_offset[depth]
                or (
                    offset == state.path_offset[depth]
                    and state.listed_rank[child] < state.path_rank[depth]
                )
                or _is_mirrored(instance, state, rank, body)
            ):
                continue
            state.chosen[depth] = body
            state.trail_mark[depth] = scalars[_TRAIL]
            state.placed_mark[depth] = scalars[_PLACED]
            nodes += 1
            put = _put(instance, state, body, capacity)
            if put == 0:
                result = _FAIL
                continue
            s, e = state.part_lower[depth], state.part_upper[depth]
        # The list of the new frame: who is unplaced in its sections.
        new = depth + 1
        new_start = start + length
        n = 0
        for i in range(start, start + length):
            other = state.listed[i]
            if state.is_placed[other] or (
                is_split
                and (instance.hull_lower[other] < s or instance.hull_upper[other] > e)
            ):
                continue
            state.listed[new_start + n] = other
            state.listed_rank[new_start + n] = state.listed_rank[i]
            n += 1
        if n == 0:
            if not is_split:
                depth -= 1
            result = _SUCCESS
            continue
        state.list_start[new], state.list_length[new] = new_start, n
        state.part_lower[new], state.part_upper[new] = s, e
        state.chosen[new] = -1
        result = _ENTER
        if not is_split and put == 2:
            state.is_split[new] = 1
            state.next_child[new] = s
            depth = new
            continue
        state.is_split[new] = 0
        state.next_child[new] = 0
        state.path_offset[new] = -1 if is_split else offset
        state.path_rank[new] = -1 if is_split else state.listed_rank[child]
        if _bound(instance, state, capacity, new):
            depth = new
        else:
            result = _FAIL
    scalars[_DEPTH], scalars[_RESULT], scalars[_NODES] = depth, result, nodes
    return outcome
