"""State that shrinks ends at 0, not among the subnormal numbers.

What is multiplied with less than 1 in each step and gets nothing added, such as a
moment below a unit that never fires, becomes smaller until it is subnormal, and there
it sticks: 0.9 times 6e-45 rounds to 6e-45 again. From then on most processors take
several times as long for whatever reads it. So a kernel that writes such state clears
what is below the least normal number. It does so by an ordinary comparison, which gives
the same bits on every machine; processors that flush results to 0 differ in which.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.compiling import helper

LEAST_NORMAL = np.float32(2.0**-126)
"""The least positive number of float32 that is not subnormal: 1.17549435e-38."""

_ZERO = np.float32(0.0)


@helper
def zero_if_subnormal(x):
    """Return x, or 0 where it is subnormal; NaN stays."""
    return _ZERO if abs(x) < LEAST_NORMAL else x
