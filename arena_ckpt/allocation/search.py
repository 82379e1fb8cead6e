"""Branch and bound for a layout within a capacity; the search can pause and go on.

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
   may then be placed higher than the fullest section allows. (In `pruning`.)
7. Twins (same sections, same alignment) are interchangeable: of equal ones the one of
   least rank goes first; of two that lie on each other the lower has the lower rank.

Exhaustion proves that nothing fits. The rules agree: of all layouts that fit, the one
whose sorted (offset, rank) sequence comes first breaks none of them.
"""

from __future__ import annotations

import functools

import numpy as np

from arena_ckpt.allocation.bodies import two_bodies
from arena_ckpt.allocation.instance import Instance, Records, make_instance
from arena_ckpt.allocation.pruning import SLOT, bound
from arena_ckpt.kernels.hot_loops import compiled, is_plain, load_numba, routine
from arena_ckpt.operations.array_types import Integers

FITS, NOTHING_FITS, PAUSED = 1, 0, -1

_DEPTH, _RESULT, _TRAIL, _NODES = range(4)
_ENTER, _SUCCESS, _FAIL = range(3)
_BLOCKED, _IN_ONE_PART, _IN_SEVERAL_PARTS = range(3)
"""State of the unplaced bodies after one more body was placed."""
_PLACED = -1
"""Stands on the trail instead of a former floor when a body was placed."""
_NOBODY = -1
"""Stands for a body in a frame that has chosen none."""

_PLAIN_NODES = 16
"""Maximum number of nodes that plain Python looks at in one call."""

_PLAIN_SECONDS = 4e-6
"""Seconds that plain Python takes for each body of a node."""

_FRAME = np.dtype(
    [
        (name, np.int64)
        for name in (
            # A frame is a choice of the next body, or a list of parts to solve in turn.
            "is_split",
            "list_start",
            "list_length",
            "next_child",
            "chosen",
            "trail_mark",
            "part_lower",
            "part_upper",
            "path_offset",
            "path_rank",
            "offset_limit",
        )
    ],
    align=True,
)
_TRAILED = np.dtype([("body", np.int64), ("floor", np.int64)], align=True)


class Search:
    """One depth-first search for a layout below a capacity.

    Parameters
    ----------
    instance : Instance
        The n bodies to place.
    rank : int64 array, shape (n,)
        Place of each body in the order in which equally low bodies are tried.
    capacity_bytes : int
        Maximum height of the layout.

    Attributes
    ----------
    capacity_bytes : int

    Notes
    -----
    What the compiled functions work on, besides the tables of the instance:

    bodies : array of BODY, shape (n,)
        A copy of the instance's, with the floors and states of the current path.
    scalars : int64 array, shape (4,)
        Depth, result of the frame that ended last, length of the trail, nodes so far.
    frames : array of _FRAME, shape (2 n + 4,)
        The stack of frames; the root lies at 0.
    listed : array of SLOT, shape (n (n + 5) + 16,)
        The lists of unplaced bodies of all frames on the stack, one behind the other.
    lifted : array of SLOT, shape (n,)
        Scratch memory.
    trail : array of _TRAILED, shape (number of neighbours + n + 1,)
        Former floors of bodies, and which bodies were placed: what `_undo` takes back.
    crossing : int64 array, shape (n_sections + 2,)
        Number of unplaced bodies that cross each boundary between sections.
    unplaced_bytes : int64 array, shape (n_sections,)
        Bytes of the unplaced bodies in each section.
    section_bytes : int64 array, shape (n_sections,)
        Scratch memory.
    """

    def __init__(self, instance: Instance, rank: Integers, capacity_bytes: int) -> None:
        n, n_sections = len(instance.bodies), instance.n_sections
        self.capacity_bytes = capacity_bytes
        self._instance = instance
        self._bodies = bodies = instance.bodies.copy()
        bodies["rank"] = rank
        self._scalars = np.zeros(4, dtype=np.int64)
        self._frames = frames = np.zeros(2 * n + 4, dtype=_FRAME)
        # The root is a split of all bodies into parts.
        frames["is_split"][0] = 1
        frames["list_length"][0] = n
        frames["part_upper"][0] = n_sections
        self._listed = listed = np.empty(n * (n + 5) + 16, dtype=SLOT)
        listed["body"][:n] = np.lexsort((rank, bodies["floor"]))
        listed["floor"][:n] = bodies["floor"][listed["body"][:n]]
        self._lifted = np.empty(n, dtype=SLOT)
        self._trail = np.empty(len(instance.neighbours) + n + 1, dtype=_TRAILED)
        change = np.zeros(n_sections + 2, dtype=np.int64)
        lower, upper = bodies["hull_lower"], bodies["hull_upper"]
        np.add.at(change, lower + 1, 1)
        np.subtract.at(change, np.maximum(upper, lower + 1), 1)
        self._crossing = np.cumsum(change)
        self._unplaced_bytes = np.zeros(n_sections, dtype=np.int64)
        for body in bodies:
            for run in instance.runs[body["run_start"] : body["run_stop"]]:
                self._unplaced_bytes[run["lower"] : run["upper"]] += body["size"]
        self._section_bytes = np.empty(n_sections, dtype=np.int64)

    @property
    def nodes(self) -> int:
        """Number of nodes looked at so far."""
        return int(self._scalars[_NODES])

    @property
    def offset(self) -> Integers:
        """Offsets of the bodies in bytes, int64 array of shape (n,), after `FITS`."""
        offset: Integers = self._bodies["floor"].copy()
        return offset

    def load(self) -> bool:
        """Have the loop compiled, or loaded from disk, unless plain Python goes on.

        Returns
        -------
        bool
            It is compiled.
        """
        if is_plain(self._plain_seconds):
            return False
        load()
        return True

    @property
    def _plain_seconds(self) -> float:
        """About how long plain Python takes for `_PLAIN_NODES`."""
        return _PLAIN_NODES * _PLAIN_SECONDS * len(self._bodies)

    def run(self, n_nodes: int) -> int:
        """Go on for at most so many nodes.

        Plain Python takes few of them, so that compiled code can soon go on in its
        place.

        Returns
        -------
        int
            `FITS`, `NOTHING_FITS` or `PAUSED`.
        """
        run = _run.taking(self._plain_seconds)
        if run is _run.plain:
            n_nodes = min(n_nodes, _PLAIN_NODES)
        return int(
            run(
                self._bodies,
                self._instance.runs,
                self._instance.neighbours,
                self._instance.twins,
                self._scalars,
                self._frames,
                self._listed,
                self._lifted,
                self._trail,
                self._crossing,
                self._unplaced_bytes,
                self._section_bytes,
                self.capacity_bytes,
                self.nodes + n_nodes,
            )
        )


@functools.cache
def load() -> None:
    """Have the loop compiled, or loaded from disk; done once a process."""
    load_numba()
    Search(make_instance(two_bodies()), np.arange(2), 2).run(1)


@routine
def _put(
    bodies: Records,
    runs: Records,
    neighbours: Integers,
    trail: Records,
    crossing: Integers,
    unplaced_bytes: Integers,
    scalars: Integers,
    placed: int,
    capacity: int,
) -> int:
    """Place a body on its floor, and lift the floors of its unplaced neighbours.

    Returns `_BLOCKED` if a neighbour no longer fits below the capacity or at its fixed
    offset. Otherwise it returns `_IN_SEVERAL_PARTS` if some boundary inside the range
    of sections of the body is now crossed by no unplaced body, else `_IN_ONE_PART`.
    """
    body = bodies[placed]
    top = body["floor"] + body["size"]
    n_trail = scalars[_TRAIL]
    trail[n_trail]["body"], trail[n_trail]["floor"] = placed, _PLACED
    n_trail += 1
    result = _IN_ONE_PART
    for k in range(body["neighbour_start"], body["neighbour_stop"]):
        other = bodies[neighbours[k]]
        if other["floor"] < top and not other["is_placed"]:
            trail[n_trail]["body"] = neighbours[k]
            trail[n_trail]["floor"] = other["floor"]
            n_trail += 1
            floor = top
            step = other["alignment"]
            if step > 1:
                floor = (top + step - 1) // step * step
            other["floor"] = floor
            if floor + other["size"] > capacity or 0 <= other["fixed_offset"] < floor:
                result = _BLOCKED
    scalars[_TRAIL] = n_trail
    _toggle(bodies, runs, crossing, unplaced_bytes, placed)
    if result == _IN_ONE_PART:
        for s in range(body["hull_lower"] + 1, body["hull_upper"]):
            if crossing[s] == 0:
                return _IN_SEVERAL_PARTS
    return result


@routine
def _toggle(
    bodies: Records,
    runs: Records,
    crossing: Integers,
    unplaced_bytes: Integers,
    toggled: int,
) -> None:
    """Mark a body as placed, or as unplaced again if it was placed."""
    body = bodies[toggled]
    sign = 1 - 2 * body["is_placed"]
    body["is_placed"] += sign
    size = sign * body["size"]
    for run in range(body["run_start"], body["run_stop"]):
        for s in range(runs[run]["lower"], runs[run]["upper"]):
            unplaced_bytes[s] -= size
    for s in range(body["hull_lower"] + 1, body["hull_upper"]):
        crossing[s] -= sign


@routine
def _undo(
    bodies: Records,
    runs: Records,
    trail: Records,
    crossing: Integers,
    unplaced_bytes: Integers,
    scalars: Integers,
    mark: int,
) -> None:
    """Undo all placements since the trail was as long as `mark`."""
    for k in range(scalars[_TRAIL] - 1, mark - 1, -1):
        body, floor = trail[k]["body"], trail[k]["floor"]
        if floor == _PLACED:
            _toggle(bodies, runs, crossing, unplaced_bytes, body)
        else:
            bodies[body]["floor"] = floor
    scalars[_TRAIL] = mark


@routine
def _stands_alone(bodies: Records, neighbours: Integers, alone: int) -> bool:
    """Say whether all the neighbours of a body are placed."""
    body = bodies[alone]
    for k in range(body["neighbour_start"], body["neighbour_stop"]):
        if not bodies[neighbours[k]]["is_placed"]:
            return False
    return True


@routine
def _is_mirrored(bodies: Records, twins: Integers, chosen: int) -> bool:
    """Say whether swapping a body with a twin gives a layout that is tried anyway."""
    body = bodies[chosen]
    for k in range(body["twin_start"], body["twin_stop"]):
        twin = bodies[twins[k]]
        if not twin["is_placed"]:
            if twin["size"] == body["size"] and twin["rank"] < body["rank"]:
                return True
        elif (
            body["rank"] < twin["rank"]
            and twin["floor"] + twin["size"] == body["floor"]
            and body["size"] % body["alignment"] == 0
        ):
            return True
    return False


@routine
def _list_unplaced(
    bodies: Records, listed: Records, lifted: Records, start: int, stop: int
) -> int:
    """List the unplaced bodies of the list [start, stop) behind it; return how many.

    The lists ascend by (floor, rank). Of the longer one the floors of some rose; these
    are sorted apart and merged with the others.
    """
    n = n_lifted = 0
    for i in range(start, stop):
        slot = listed[i]
        body = bodies[slot["body"]]
        if body["is_placed"]:
            continue
        floor = body["floor"]
        if floor == slot["floor"]:
            listed[stop + n] = slot
            n += 1
            continue
        k = n_lifted
        while k > 0 and _is_before(bodies, floor, body["rank"], lifted[k - 1]):
            lifted[k] = lifted[k - 1]
            k -= 1
        lifted[k] = slot
        lifted[k]["floor"] = floor
        n_lifted += 1
    low, high = n - 1, n_lifted - 1
    end = stop + n + n_lifted - 1
    while high >= 0:
        slot = lifted[high]
        rank = bodies[slot["body"]]["rank"]
        if low >= 0 and _is_before(bodies, slot["floor"], rank, listed[stop + low]):
            listed[end] = listed[stop + low]
            low -= 1
        else:
            listed[end] = slot
            high -= 1
        end -= 1
    return n + n_lifted


@routine
def _is_before(bodies: Records, floor: int, rank: int, slot: Records) -> bool:
    """Say whether (floor, rank) comes before a body of a list."""
    if floor != slot["floor"]:
        return bool(floor < slot["floor"])
    return bool(rank < bodies[slot["body"]]["rank"])


@routine
def _choose(bodies: Records, twins: Integers, listed: Records, frame: Records) -> int:
    """Return the next body that a frame is to place on its floor, or `_NOBODY`.

    The choice lies below the offset limit of the frame, not before its path, and is
    not the mirror image of another. The frame's next child is the one after it.
    """
    stop = frame["list_start"] + frame["list_length"]
    path_offset, path_rank = frame["path_offset"], frame["path_rank"]
    for child in range(frame["next_child"], stop):
        offset, body = listed[child]["floor"], listed[child]["body"]
        if offset >= frame["offset_limit"]:
            break
        rank = bodies[body]["rank"]
        if offset < path_offset or (offset == path_offset and rank < path_rank):
            continue
        if not _is_mirrored(bodies, twins, body):
            frame["next_child"] = child + 1
            return int(body)
    return _NOBODY


@routine
def _list_part(
    bodies: Records, crossing: Integers, listed: Records, split: Records
) -> int:
    """List the bodies of the next independent part of a split behind the split's list.

    Returns how many there are; the split's next child becomes the end of the part.
    """
    start = split["list_start"]
    stop = start + split["list_length"]
    lower = split["next_child"]
    upper = lower + 1
    while upper < split["part_upper"] and crossing[upper] > 0:
        upper += 1
    split["next_child"] = upper
    n = 0
    for i in range(start, stop):
        body = bodies[listed[i]["body"]]
        if lower <= body["hull_lower"] and body["hull_upper"] <= upper:
            listed[stop + n] = listed[i]
            n += 1
    return n


@compiled
def _run(
    bodies: Records,
    runs: Records,
    neighbours: Integers,
    twins: Integers,
    scalars: Integers,
    frames: Records,
    listed: Records,
    lifted: Records,
    trail: Records,
    crossing: Integers,
    unplaced_bytes: Integers,
    section_bytes: Integers,
    capacity: int,
    n_nodes: int,
) -> int:
    """Go on with the depth-first search until it ends or has looked at enough nodes.

    The arrays are those that `Search` describes. The search pauses after `n_nodes`
    nodes, those of earlier calls included. Returns `FITS`, `NOTHING_FITS` or `PAUSED`.
    """
    depth, result, nodes = scalars[_DEPTH], scalars[_RESULT], scalars[_NODES]
    outcome = PAUSED
    while nodes < n_nodes:
        frame, new = frames[depth], frames[depth + 1]
        stop = frame["list_start"] + frame["list_length"]
        lower, upper = frame["part_lower"], frame["part_upper"]
        if frame["is_split"]:
            lower = frame["next_child"]
            if result == _FAIL or lower >= upper:
                if depth == 0:
                    outcome = NOTHING_FITS if result == _FAIL else FITS
                    break
                result = _FAIL if result == _FAIL else _SUCCESS
                depth -= 1
                continue
            n = _list_part(bodies, crossing, listed, frame)
            upper = frame["next_child"]
            placing = _IN_ONE_PART
            offset = rank = -1
        else:
            if result == _SUCCESS:
                depth -= 1
                continue
            if frame["chosen"] != _NOBODY:
                # All below the choice failed: take it back.
                mark = frame["trail_mark"]
                _undo(bodies, runs, trail, crossing, unplaced_bytes, scalars, mark)
                if _stands_alone(bodies, neighbours, frame["chosen"]):
                    frame["next_child"] = stop
            chosen = _choose(bodies, twins, listed, frame)
            if chosen == _NOBODY:
                depth -= 1
                result = _FAIL
                continue
            offset, rank = bodies[chosen]["floor"], bodies[chosen]["rank"]
            frame["chosen"] = chosen
            frame["trail_mark"] = scalars[_TRAIL]
            nodes += 1
            placing = _put(
                bodies,
                runs,
                neighbours,
                trail,
                crossing,
                unplaced_bytes,
                scalars,
                chosen,
                capacity,
            )
            if placing == _BLOCKED:
                result = _FAIL
                continue
            n = _list_unplaced(bodies, listed, lifted, frame["list_start"], stop)
        if n == 0:
            if not frame["is_split"]:
                depth -= 1
            result = _SUCCESS
            continue
        new["list_start"], new["list_length"] = stop, n
        new["part_lower"], new["part_upper"] = lower, upper
        new["chosen"] = _NOBODY
        new["is_split"] = placing == _IN_SEVERAL_PARTS
        new["next_child"] = lower if placing == _IN_SEVERAL_PARTS else stop
        new["path_offset"], new["path_rank"] = offset, rank
        result = _ENTER
        if placing == _IN_SEVERAL_PARTS:
            depth += 1
            continue
        limit = bound(
            bodies,
            runs,
            neighbours,
            listed,
            lifted,
            unplaced_bytes,
            section_bytes,
            new,
            capacity,
        )
        new["offset_limit"] = limit
        if limit > 0:
            depth += 1
        else:
            result = _FAIL
    scalars[_DEPTH], scalars[_RESULT], scalars[_NODES] = depth, result, nodes
    return outcome
