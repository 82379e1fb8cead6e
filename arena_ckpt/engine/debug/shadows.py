"""Copies of an arena in which all is foreign but what a step may read.

A shadow is as large as the arena and filled with a pattern. A step runs there on the
same offsets, with its operands copied in; whatever else it reads is the pattern. Work
is proportional to the operands of a step, not to the arena.

The two patterns differ at every word of 4 and of 8 bytes, most of them in sign, so that
a comparison turns out otherwise; in places one of them is NaN, which also shows behind
a factor of 0, or is 0. Where integers stand, which may be offsets, they are 0 and 1, so
that most of what reads them survives to be named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.units import ALIGNMENT_BYTES
from arena_ckpt.engine.arena import CANARY_BYTES, Arena, check_fits
from arena_ckpt.engine.debug.culprits import Extent, parts_outside
from arena_ckpt.engine.link import CallTable

Words = npt.NDArray[np.uint32]
WORD_BYTES = 4
"""Number of bytes of a word: no operand has smaller elements."""

MARGIN_BYTES = 64 * ALIGNMENT_BYTES
"""What a shadow is longer at either end: there is foreign memory too."""

_BLOCK_ROWS = 4096
"""Number of rows of a pattern that are copied at once."""

_PATTERNS: tuple[tuple[tuple[float, ...], int], ...] = (
    ((1234567, -2345678, np.nan, 3456789, 0, -8765432, 1543210, 6654321), 0),
    ((-7654321, 5432109, 3345678, -4567890, 6112345, 9912345, 0, -5567890), 1),
)
"""Of each shadow: eight words as float32, and what integers hold."""

N_SHADOWS = len(_PATTERNS)


def make_shadows(arena: Arena) -> tuple[Shadow, Shadow]:
    """Return two shadows of an arena, with other patterns.

    Raises
    ------
    ArenaTooLargeError
        They do not fit in the memory that is free.
    """
    check_fits(
        N_SHADOWS * len(arena.span),
        f"debug mode, which looks for foreign reads in {N_SHADOWS} more arenas,",
    )
    first, second = (Shadow(arena, *pattern) for pattern in _PATTERNS)
    return first, second


class Shadow:
    """An arena of foreign bytes, for one step at a time.

    Parameters
    ----------
    arena : Arena
        What it is the shadow of.
    words : sequence of float
        Eight of them make the pattern.
    integer : int
        What elements of integer operands hold.

    """

    def __init__(self, arena: Arena, words: tuple[float, ...], integer: int) -> None:
        pattern = np.array(words, np.float32).view(np.uint32)
        self._pattern: Words = np.tile(pattern, (_BLOCK_ROWS, 1))
        self._integer = integer
        size_bytes = -(-len(arena.span) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        self._memory = Arena(size_bytes + 2 * MARGIN_BYTES)
        self._rows: Words = self._memory.bytes.view(np.uint32).reshape(-1, len(words))
        self.reset()
        start = arena.span.ctypes.data
        # With the canary before it, and one byte of what is left behind it.
        self._from = start - CANARY_BYTES, start + len(arena.span) + 1
        self._by = self._rows.ctypes.data + MARGIN_BYTES - start

    def moved(self, table: CallTable) -> CallTable:
        """Return the same calls on this shadow."""
        return table.moved(*self._from, self._by)

    def view(
        self, offset_bytes: int, shape: tuple[int, ...], dtype: str
    ) -> npt.NDArray[Any]:
        """Return a view at an offset of the arena."""
        return self._memory.view(MARGIN_BYTES + offset_bytes, shape, dtype)

    def rows(self, extent: Extent) -> Words:
        """Return the rows of the pattern that bytes touch, for `clear`."""
        row_bytes = WORD_BYTES * self._rows.shape[1]
        first = (MARGIN_BYTES + extent[0]) // row_bytes
        return self._rows[first : -(-(MARGIN_BYTES + extent[1]) // row_bytes)]

    def clear(self, rows: Words) -> None:
        """Let rows hold the pattern again."""
        for start in range(0, len(rows), _BLOCK_ROWS):
            part = rows[start : start + _BLOCK_ROWS]
            np.copyto(part, self._pattern[: len(part)])

    def first_written(self, whole: Extent, given: Sequence[Extent]) -> int | None:
        """Return the first byte that does not hold the pattern; None if all do.

        Parameters
        ----------
        whole : Extent
        given : sequence of Extent
            Where something else was copied to; not looked at.
        """
        pattern = self._pattern.reshape(-1)
        length = len(pattern) - self._rows.shape[1]
        for start, stop in parts_outside(whole, given):
            words = self.view(start, ((stop - start) // WORD_BYTES,), "uint32")
            phase = start // WORD_BYTES % self._rows.shape[1]
            for first in range(0, len(words), length):
                part = words[first : first + length]
                changed = np.flatnonzero(part != pattern[phase : phase + len(part)])
                if len(changed):
                    return start + WORD_BYTES * (first + int(changed[0]))
        return None

    def reset(self) -> None:
        """Let all of it hold the pattern again."""
        self.clear(self._rows)

    def fill_integers(self, array: npt.NDArray[Any]) -> None:
        """Fill an array of integers."""
        array.fill(self._integer)
