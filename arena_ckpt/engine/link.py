"""Links kernel calls: a flat table of addresses, which native code walks.

For each call the table holds the address of a compiled kernel and that of a block of
its arguments, in which regions have become addresses. Running calls is one native call
(`kernels.kernel.run_table`) and allocates nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from arena_ckpt.kernels import side_by_side
from arena_ckpt.kernels.kernel import SLOTS, Kernel, kernel_of, run_table
from arena_ckpt.kernels.pool import run_groups
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.operations.regions import Region
from arena_ckpt.operations.signatures import NUMBERS


class Memory(Protocol):
    """A memory on this machine."""

    def at(self, region: Region) -> npt.NDArray[Any]:
        """Return the array that a region stands for."""


class CallTable:
    """Kernel calls with the addresses of what they work on.

    Parameters
    ----------
    calls : sequence of KernelCall
        Arrays among their operands are kept as long as the table.
    memories : mapping from str to Arena or Part
        Where the regions lie. They must outlive the table, which holds only addresses.
    report : callable, optional
        Told how many entries are ready, and of how many: compiling takes time.
    threads : int
        Threads that run calls side by side.
    """

    def __init__(
        self,
        calls: Sequence[KernelCall],
        memories: Mapping[str, Memory],
        report: side_by_side.Report | None = None,
        *,
        threads: int = 1,
    ) -> None:
        placed = [
            [_placed(operand, memories) for operand in call.operands] for call in calls
        ]
        kernels = [kernel_of(call.kernel) for call in calls]
        entries = [
            (call.kernel, kernel.pattern(arguments))
            for call, kernel, arguments in zip(calls, kernels, placed, strict=True)
        ]
        side_by_side.make_ready(list(dict.fromkeys(entries)), report)
        self._table = np.zeros(2 * len(calls), dtype=np.int64)
        slots: list[int] = []
        address_slots: list[int] = []
        first_slots: list[int] = []
        for index, (kernel, arguments) in enumerate(zip(kernels, placed, strict=True)):
            self._table[2 * index] = kernel.entry_of(entries[index][1])
            first_slots.append(len(slots))
            address_slots += [len(slots) + slot for slot in _address_slots(kernel)]
            slots += kernel.pack(arguments)
        self._groups = np.array([call.beside for call in calls], dtype=np.int64)
        self._groups_address = self._groups.ctypes.data
        self._threads = threads if (self._groups > 1).any() else 1
        self._blocks = np.array(slots, dtype=np.int64)
        self._address_slots = np.array(address_slots, dtype=np.int64)
        first_bytes = 8 * np.array(first_slots, dtype=np.int64)
        self._table[1::2] = self._blocks.ctypes.data + first_bytes
        self._address = self._table.ctypes.data
        self._kept = [
            operand
            for call in calls
            for operand in call.operands
            if isinstance(operand, np.ndarray)
        ]

    def run(self, first: int, last: int) -> None:
        """Run the calls [first, last); with several threads, groups side by side."""
        table, n_calls = self._address + 16 * first, last - first
        if self._threads > 1:
            groups = self._groups_address + 8 * first
            run_groups(table, groups, n_calls, self._threads)
        else:
            run_table(table, n_calls)

    def beside(self, index: int) -> int:
        """Return how many calls, from this one on, may run side by side."""
        return int(self._groups[index])

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
        addresses = self._blocks[self._address_slots]
        is_moved = (addresses >= start) & (addresses < stop)
        other._blocks[self._address_slots] = addresses + by * is_moved
        other._table = self._table.copy()
        other._table[1::2] += other._blocks.ctypes.data - self._blocks.ctypes.data
        other._address = other._table.ctypes.data
        return other


def _placed(operand: Any, memories: Mapping[str, Memory]) -> Any:
    """Return the array that a region stands for; anything else is itself."""
    if isinstance(operand, Region):
        return memories[operand.memory].at(operand)
    return operand


def _address_slots(kernel: Kernel) -> Iterator[int]:
    """Yield which slots of an argument block hold addresses; sizes stand behind."""
    place = 0
    for kind in kernel.parameters:
        if kind not in NUMBERS:
            yield place
        place += SLOTS[kind]
