"""A flat table of kernel calls, which native code walks.

Running calls is one native call (`kernels.kernel.run_table`) and allocates nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from arena_ckpt.kernels.kernel import run_table
from arena_ckpt.layers.base import Call

Report = Callable[[int, int], None]
"""Told how many kernel calls are bound, of how many: compiling takes time."""


class CallTable:
    """Kernel calls with the addresses of what they work on.

    Parameters
    ----------
    calls : sequence of Call
        Their arrays must outlive the table, which holds only addresses.
    report : callable, optional
        Told about progress.
    """

    def __init__(self, calls: Sequence[Call], report: Report | None = None) -> None:
        packed = [call.kernel.pack(call.arguments) for call in calls]
        self._blocks = np.array(
            [slot for slots in packed for slot in slots], dtype=np.int64
        )
        self._table = np.zeros(2 * len(calls), dtype=np.int64)
        addresses: list[int] = []
        place = 0
        for index, (call, slots) in enumerate(zip(calls, packed, strict=True)):
            self._table[2 * index] = call.kernel.entry(call.arguments)
            self._table[2 * index + 1] = self._blocks.ctypes.data + 8 * place
            addresses += [place + slot for slot in _slots_of_addresses(call)]
            place += len(slots)
            if report:
                report(index + 1, len(calls))
        self._addresses = np.array(addresses, dtype=np.int64)
        self._address = self._table.ctypes.data

    def run(self, first: int, last: int) -> None:
        """Run the calls [first, last)."""
        run_table(self._address + 16 * first, last - first)

    def moved(self, start: int, stop: int, by: int) -> CallTable:
        """Return the same calls, on other memory.

        Parameters
        ----------
        start, stop : int
            The addresses [start, stop) of arrays that lie elsewhere there.
        by : int
            How many bytes further.
        """
        other = copy.copy(self)
        other._blocks = self._blocks.copy()
        addresses = self._blocks[self._addresses]
        is_moved = (addresses >= start) & (addresses < stop)
        other._blocks[self._addresses] = addresses + by * is_moved
        other._table = self._table.copy()
        other._table[1::2] += other._blocks.ctypes.data - self._blocks.ctypes.data
        other._address = other._table.ctypes.data
        return other


def _slots_of_addresses(call: Call) -> Iterator[int]:
    """Yield which slots of an argument block hold addresses; sizes stand behind."""
    place = 0
    for value in call.arguments:
        is_array = isinstance(value, np.ndarray)
        if is_array:
            yield place
        place += 1 + (value.ndim if is_array else 0)
