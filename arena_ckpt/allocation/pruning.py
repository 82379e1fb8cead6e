"""Bounds on sections, which tell a node of the search that nothing below it fits.

A listed body has a *release*, below which it cannot come to lie: its floor, or more if
it was passed over. For every section and every height f, f + the bytes of the unplaced
bodies of the section with a release of at least f must fit.

Most nodes fail here, and nearly always at low offsets, where a gap can no longer be
filled. So the sums start at all unplaced bytes, and bodies are subtracted from the
lowest release upwards. The pass stops at the highest release that rose since the
previous node, because nothing got worse above it.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.allocation.instance import Records
from arena_ckpt.kernels.hot_loops import routine
from arena_ckpt.operations.array_types import Integers

SLOT = np.dtype(
    [
        ("body", np.int64),
        ("floor", np.int64),
        ("release", np.int64),
        ("support", np.int64),  # of one passed over: the neighbour of least end
    ],
    align=True,
)
"""An entry in a list of unplaced bodies."""

_FAR = 2**62


@routine
def bound(
    bodies: Records,
    runs: Records,
    neighbours: Integers,
    listed: Records,
    passed: Records,
    unplaced_bytes: Integers,
    section_bytes: Integers,
    frame: Records,
    capacity: int,
) -> int:
    """Return the offset below which the next body must be placed, or 0 if nothing fits.

    Sets the releases in the list of the frame, which ascends by (floor, rank).

    Parameters
    ----------
    bodies : array of BODY, shape (n,)
    runs : array of RUN, shape (number of runs,)
    neighbours : int64 array, shape (number of pairs,)
    listed : array of SLOT, shape (n (n + 5) + 16,)
        The lists of all frames.
    passed : array of SLOT, shape (n,)
        Scratch memory.
    unplaced_bytes : int64 array, shape (n_sections,)
        Bytes of the unplaced bodies in each section.
    section_bytes : int64 array, shape (n_sections,)
        Scratch memory.
    frame : record of a frame of the search
        The new node: its list, its range of sections and the end of its path.
    capacity : int
        Maximum height in bytes.

    Notes
    -----
    Both passes over the list stand in this one function: a second one costs 3 % of the
    nodes that the search looks at in a second.
    """
    start = frame["list_start"]
    stop = start + frame["list_length"]
    path_offset, path_rank = frame["path_offset"], frame["path_rank"]
    limit = _FAR
    # Above the highest release that rose, nothing has changed since the last node.
    highest = 0 if path_offset >= 0 else _FAR
    n_passed = 0
    for i in range(start, stop):
        slot = listed[i]
        body = bodies[slot["body"]]
        release = floor = slot["floor"]
        limit = min(limit, floor + body["size"])
        is_passed = floor < path_offset or (
            floor == path_offset and body["rank"] < path_rank
        )
        if is_passed:
            # It can only lie on a neighbour that is yet to be placed.
            if body["fixed_offset"] >= 0:
                return 0
            release = _release_beside(bodies, neighbours, body, slot, path_offset)
            if release + body["size"] > capacity:
                return 0
        if slot["release"] < release:
            highest = max(highest, release)
        slot["release"] = release
        if is_passed:
            k = n_passed
            while k > 0 and passed[k - 1]["release"] > release:
                passed[k] = passed[k - 1]
                k -= 1
            passed[k] = slot
            n_passed += 1
    fullest = 0
    for s in range(frame["part_lower"], frame["part_upper"]):
        section_bytes[s] = unplaced_bytes[s]
        fullest = max(fullest, unplaced_bytes[s])
    # Passed-over bodies come first in the list; from here on they are in `passed`.
    i, k = start + n_passed, 0
    while i < stop or k < n_passed:
        if k == n_passed or (i < stop and listed[i]["release"] <= passed[k]["release"]):
            slot = listed[i]
            i += 1
        else:
            slot = passed[k]
            k += 1
        if slot["release"] > highest:
            break
        body = bodies[slot["body"]]
        size = body["size"]
        room = capacity - slot["release"]
        for run in range(body["run_start"], body["run_stop"]):
            for s in range(runs[run]["lower"], runs[run]["upper"]):
                if section_bytes[s] > room:
                    return 0
                section_bytes[s] -= size
    # No body may be placed higher than the fullest section allows.
    return min(limit, capacity - fullest + 1)


@routine
def _release_beside(
    bodies: Records,
    neighbours: Integers,
    body: Records,
    slot: Records,
    path_offset: int,
) -> int:
    """Return the least end in bytes of the unplaced neighbours of a passed-over body.

    As long as the neighbour with the least end has not moved, it still has it: the ends
    of the others only rise.
    """
    if slot["release"] > slot["floor"]:
        least = bodies[slot["support"]]
        if not least["is_placed"]:
            end = max(least["floor"], path_offset) + least["size"]
            if end == slot["release"]:
                return int(end)
    release = _FAR
    for k in range(body["neighbour_start"], body["neighbour_stop"]):
        other = bodies[neighbours[k]]
        if not other["is_placed"]:
            end = max(other["floor"], path_offset) + other["size"]
            if end < release:
                release = end
                slot["support"] = neighbours[k]
    return release
