"""Gradients as users get them: of the shape of the weight."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from arena_ckpt.operations.sizes import TOUCHED_COLUMNS

FloatArray = npt.NDArray[np.float32]

_ROW = 1
"""Column that says which row of the table a line stands for, -1 for none."""


def whole_gradient(made: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return a copy of a gradient; one of touched rows gets zeros in all others."""
    if made.shape == shape:
        return made.copy()
    whole = np.zeros(shape, np.float32)
    used = made[:, _ROW] >= 0
    whole[made[used, _ROW].astype(np.int64)] = made[used, TOUCHED_COLUMNS:]
    return whole
