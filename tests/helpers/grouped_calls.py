"""Tables of kernel calls in groups, which say how often each call ran."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.kernels import elementwise
from arena_ckpt.kernels.pool import run_groups

N_ELEMS = 64


class Counted:
    """A table of calls that each add one to numbers of their own."""

    def __init__(self, n_calls: int) -> None:
        self._ones = np.ones(N_ELEMS, np.float32)
        self.counts = np.zeros((n_calls, N_ELEMS), np.float32)
        calls = [(self._ones, row) for row in self.counts]
        entry = elementwise.add_to.entry(calls[0])
        self._blocks = [np.array(elementwise.add_to.pack(call)) for call in calls]
        self._table = np.array([[entry, b.ctypes.data] for b in self._blocks])

    def run(
        self, groups: npt.NDArray[Any], threads: int, first: int = 0, n: int = -1
    ) -> None:
        n = len(self.counts) if n < 0 else n
        at = self._table.ctypes.data + 16 * first
        run_groups(at, groups.ctypes.data + 8 * first, n, threads)


def grouped(*sizes: int) -> npt.NDArray[Any]:
    """Return what a table says whose calls are groups of these sizes."""
    return np.array([part for size in sizes for part in [size] + [1] * (size - 1)])
