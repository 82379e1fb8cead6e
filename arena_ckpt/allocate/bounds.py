"""What no layout can go below."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def live_bytes(
    lower: npt.NDArray[np.int64],
    upper: npt.NDArray[np.int64],
    size: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Return the bytes alive at every step.

    Parameters
    ----------
    lower, upper : int64 array, shape (n,)
        Half-open live ranges in steps, not negative.
    size : int64 array, shape (n,)
        Bytes.

    Returns
    -------
    int64 array, shape (last step + 1,)
    """
    if not len(size):
        return np.zeros(1, dtype=np.int64)
    change = np.zeros(int(upper.max()) + 1, dtype=np.int64)
    np.add.at(change, lower, size)
    np.subtract.at(change, upper, size)
    return np.cumsum(change)[: max(1, len(change) - 1)]


def live_lower_bound(
    lower: npt.NDArray[np.int64],
    upper: npt.NDArray[np.int64],
    size: npt.NDArray[np.int64],
) -> int:
    """Return the most bytes alive at once: no layout of these buffers is lower."""
    return int(live_bytes(lower, upper, size).max())
