"""The kinds of arrays that kernels take, as types: contiguous NumPy arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
"""float32, one dimension."""

Matrix = npt.NDArray[np.float32]
"""float32, rows × columns."""

Doubles = npt.NDArray[np.float64]
"""float64, one dimension."""

Integers = npt.NDArray[np.int64]
"""int64, one dimension."""

Indexes = npt.NDArray[np.int32]
"""int32, one dimension."""
