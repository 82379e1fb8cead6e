"""Offsets for live ranges in one block of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arena_ckpt.allocate.bounds import live_lower_bound
from arena_ckpt.allocate.greedy import best_greedy
from arena_ckpt.allocate.validate import check_layout
from arena_ckpt.units import align_up


@dataclass(frozen=True, slots=True)
class Layout:
    """An offset for every buffer.

    Attributes
    ----------
    offsets : tuple of int
        Bytes from the start of the arena, in the order of the buffers.
    height_bytes : int
        The largest end of a buffer: what the arena must hold.
    lower_bound_bytes : int
        No layout of these buffers is lower.
    engine : str
        Which search found it.
    """

    offsets: tuple[int, ...]
    height_bytes: int
    lower_bound_bytes: int
    engine: str

    @property
    def proved_optimal(self) -> bool:
        """The height is the lower bound."""
        return self.height_bytes == self.lower_bound_bytes


def allocate(
    lower: Sequence[int],
    upper: Sequence[int],
    size: Sequence[int],
    *,
    alignment: int = 1,
) -> Layout:
    """Place live ranges so that no two that overlap in time overlap in memory.

    Parameters
    ----------
    lower, upper : sequence of int
        Half-open ranges in steps.
    size : sequence of int
        Bytes; rounded up to `alignment`.
    alignment : int
        Every offset is a multiple of this many bytes.

    Returns
    -------
    Layout
        Checked by `check_layout`.

    Notes
    -----
    The best of several greedy orders and of deterministic repairs of them; see
    `arena_ckpt.allocate.greedy`.
    """
    starts = np.asarray(lower, dtype=np.int64)
    stops = np.asarray(upper, dtype=np.int64)
    sizes = np.array([align_up(s, alignment) for s in size], dtype=np.int64)
    bound = live_lower_bound(starts, stops, sizes)
    offsets, engine = best_greedy(starts, stops, sizes, bound)
    height = int((offsets + sizes).max()) if len(sizes) else 0
    check_layout(starts, stops, sizes, offsets, height, alignment)
    return Layout(tuple(int(o) for o in offsets), height, bound, engine)
