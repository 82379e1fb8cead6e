"""Static orders in which bodies are placed; each compares up to three of five measures.

======  ==========================================================
letter  measure, the largest first
======  ==========================================================
W       lifetime in steps (the width in a picture)
A       area: lifetime × bytes
T       total: the most bytes taken in any section the body spans
S       size in bytes
E       earliness: minus the first section it spans
======  ==========================================================

``"TWA"`` orders by total, among equals by lifetime, then by area, then by index.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from arena_ckpt.allocation.bodies import Bodies, section_bytes
from arena_ckpt.allocation.integers import Integers

Measure = npt.NDArray[np.int64] | npt.NDArray[np.float64]


class Orders:
    """The orders of a set of bodies, each computed at its first use."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._measures: dict[str, Measure] = {}

    def order(self, letters: str) -> Integers:
        """Return the bodies in the order that `letters` names."""
        index = np.arange(len(self._bodies))
        keys = [-self._measure(letter) for letter in reversed(letters)]
        return np.lexsort((index, *keys)).astype(np.int64)

    def rank(self, letters: str) -> Integers:
        """Return the place of each body in the order that `letters` names."""
        return rank_of(self.order(letters))

    def _measure(self, letter: str) -> Measure:
        if letter not in self._measures:
            self._measures[letter] = self._compute(letter)
        return self._measures[letter]

    def _compute(self, letter: str) -> Measure:
        bodies = self._bodies
        if letter == "W":
            return bodies.lifetime
        if letter == "S":
            return bodies.extent
        if letter == "E":
            earliest = np.full(len(bodies), -bodies.n_sections, dtype=np.int64)
            np.maximum.at(earliest, bodies.piece_owner(), -bodies.section_lower)
            return earliest
        if letter == "A":
            return bodies.lifetime.astype(np.float64) * bodies.extent
        total = np.zeros(len(bodies), dtype=np.int64)
        highest = range_maximum(
            section_bytes(bodies), bodies.section_lower, bodies.section_upper
        )
        np.maximum.at(total, bodies.piece_owner(), highest)
        return total


def rank_of(order: Integers) -> Integers:
    """Return the place of each element in a permutation."""
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank


def range_maximum(values: Integers, lower: Integers, upper: Integers) -> Integers:
    """Return the maximum of ``values[lower[i]:upper[i]]`` for each i; none is empty.

    A table of maxima over runs of 1, 2, 4, … values answers each with two look-ups.
    """
    result = np.empty(len(lower), dtype=np.int64)
    level = np.frexp((upper - lower).astype(np.float64))[1] - 1
    table = values
    for power in range(int(level.max(initial=0)) + 1):
        of_level = level == power
        last = upper[of_level] - (1 << power)
        result[of_level] = np.maximum(table[lower[of_level]], table[last])
        reach = 1 << power
        table = np.maximum(table[:-reach], table[reach:])
    return result


def noise(
    n: int, seed: int, stream: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return n pseudorandom numbers in [0, 1), the same with every version of NumPy.

    References
    ----------
    SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014.
    """
    key = np.arange(1, n + 1, dtype=np.uint64) + np.uint64(
        (seed * 0x2545F4914F6CDD1D + stream * 0x632BE59BD9B4E019) % 2**64
    )
    key *= np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((key ^ (key >> np.uint64(31))) >> np.uint64(11)) / 2.0**53
