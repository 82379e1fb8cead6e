"""The content of each byte of an arena, as a map from ranges of bytes to labels."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

NOTHING = 0
"""Label of bytes that no step has written."""


class ByteMap:
    """Labels of the bytes [0, size).

    Parameters
    ----------
    size_bytes : int

    Notes
    -----
    The pieces are kept in order. To fill a range takes O(log n) and what it covers, and
    the shift of a list of n integers where their number changes; to look at one
    O(log n) and the pieces in it. Filling ranges that were filled before, as the
    buffers of a plan are, shifts nothing.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size = size_bytes
        self._starts = [0]
        self._labels = [NOTHING]

    def fill(self, start: int, stop: int, label: int) -> None:
        """Give a label to the bytes [start, stop)."""
        if start >= stop:
            return
        starts, labels = self._starts, self._labels
        first = bisect_left(starts, start)
        last = bisect_left(starts, stop, first)
        new_starts, new_labels = [start], [label]
        if stop < self._size and (last == len(starts) or starts[last] != stop):
            new_starts.append(stop)
            new_labels.append(labels[last - 1])
        starts[first:last] = new_starts
        labels[first:last] = new_labels

    def holds(self, start: int, stop: int, label: int) -> bool:
        """Say whether all bytes [start, stop) have a label."""
        return self.first_other(start, stop, label) is None

    def first_other(self, start: int, stop: int, label: int) -> tuple[int, int] | None:
        """Return the first byte of [start, stop) with another label, and the label."""
        if start >= stop:
            return None
        place = bisect_right(self._starts, start) - 1
        while place < len(self._starts) and self._starts[place] < stop:
            if self._labels[place] != label:
                return max(self._starts[place], start), self._labels[place]
            place += 1
        return None
