"""Counts of NaN and infinity in what is about to be read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.engine.link import CallTable
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.operations.families import reductions


class FiniteCheck:
    """Counts NaN and infinite values in arrays of the arena.

    Parameters
    ----------
    arrays : list of float32 array
        Contiguous; looked at anew each time.
    masks : list of float32 array
        The same, but -inf does not count.
    count : int64 array, shape (1,)
        Scratch space.
    """

    def __init__(
        self,
        arrays: list[npt.NDArray[Any]],
        masks: list[npt.NDArray[Any]],
        count: npt.NDArray[np.int64],
    ) -> None:
        calls = [
            KernelCall(0, kernel, (array.reshape(-1), count))
            for kernel, some in (
                (reductions.count_nonfinite, arrays),
                (reductions.count_unusable_in_mask, masks),
            )
            for array in some
        ]
        self._count = count
        self._n_calls = len(calls)
        self._table = CallTable(calls, {})

    def __call__(self) -> int:
        """Return the number of values that are NaN or infinite."""
        total = 0
        for place in range(self._n_calls):
            self._table.run(place, place + 1)
            total += int(self._count[0])
        return total
