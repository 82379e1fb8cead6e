"""Checks a layout, sharing no code with what made it.

A sweep over time keeps the live buffers sorted by offset. As long as they are disjoint,
a new one can only overlap its two neighbours, so the whole check is O(n log n).
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from arena_ckpt.errors import LayoutError

IntArray = Sequence[int] | npt.NDArray[np.int64]


def check_layout(
    lower: IntArray,
    upper: IntArray,
    size: IntArray,
    offset: IntArray,
    height_bytes: int,
    alignment: int = 1,
) -> None:
    """Refuse a layout that breaks a rule.

    Parameters
    ----------
    lower, upper : sequence of int
        Half-open live ranges in steps.
    size, offset : sequence of int
        Bytes.
    height_bytes : int
        The arena.
    alignment : int
        What every offset must be a multiple of.

    Raises
    ------
    LayoutError
        Its `rule` is ``"range"``, ``"bounds"``, ``"alignment"`` or ``"overlap"``, its
        `buffers` are the indexes of those that break it.
    """
    n = len(size)
    for i in range(n):
        if not 0 <= lower[i] < upper[i]:
            raise _error("range", (i,), f"lives in [{lower[i]}, {upper[i]})")
        if offset[i] < 0 or offset[i] + size[i] > height_bytes:
            raise _error(
                "bounds",
                (i,),
                f"takes bytes [{offset[i]}, {offset[i] + size[i]}) of an arena of "
                f"{height_bytes}",
            )
        if offset[i] % alignment:
            raise _error(
                "alignment", (i,), f"starts at {offset[i]}, no multiple of {alignment}"
            )
    # At equal times ends (0) come before starts (1): ranges are half-open. An empty
    # buffer overlaps nothing, and would hide a neighbour.
    events = sorted(
        [(int(upper[i]), 0, i) for i in range(n) if size[i]]
        + [(int(lower[i]), 1, i) for i in range(n) if size[i]]
    )
    live: list[tuple[int, int]] = []
    for _, is_start, i in events:
        key = (int(offset[i]), i)
        if not is_start:
            live.pop(bisect.bisect_left(live, key))
            continue
        place = bisect.bisect_left(live, key)
        for neighbour in live[max(0, place - 1) : place + 1]:
            j = neighbour[1]
            if offset[j] < offset[i] + size[i] and offset[i] < offset[j] + size[j]:
                raise _error(
                    "overlap",
                    (j, i),
                    f"takes bytes [{offset[j]}, {offset[j] + size[j]}) in steps "
                    f"[{lower[j]}, {upper[j]}) and buffer {i} takes [{offset[i]}, "
                    f"{offset[i] + size[i]}) in [{lower[i]}, {upper[i]})",
                )
        live.insert(place, key)


def _error(rule: str, buffers: tuple[int, ...], message: str) -> LayoutError:
    return LayoutError(
        f"layout breaks the rule of {rule}: buffer {buffers[0]} {message}; this is a "
        "defect of the allocator, please report it",
        rule=rule,
        buffers=buffers,
    )
