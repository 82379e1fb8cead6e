"""How much the labels of a batch count in a mean that is weighted by classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_ADDED_AT_ONCE = 1024
"""Number of samples whose labels are added up together."""


def weight_of_labels(
    labels: npt.NDArray[Any],
    weights: Sequence[float],
    shape: tuple[int, int, int],
    axis: int,
    ignored: int | None,
) -> float:
    """Return the sum of the weights that labels have, added one after the other.

    A program in C adds in the same order, so that both give the same bits.

    Parameters
    ----------
    labels : int64 array (n,), or float32 array (n, rows) or (n, elements)
        Class numbers of samples, or of rows where labels can be ignored; else values of
        the shape of the output, of which each counts as much as it is.
    weights : sequence of float
        The weight of each class.
    shape : tuple of int
        Shape of one sample of the output.
    axis : int
        Where the classes are: 1 (channel), 2 (height) or 3 (width).
    ignored : int or None
        Label of rows that do not count; None where rows have no labels of their own.
    """
    table, total = np.array(weights, np.float64), 0.0
    along = table.reshape([-1 if axis == place else 1 for place in (1, 2, 3)])
    for start in range(0, len(labels), _ADDED_AT_ONCE):
        part = labels[start : start + _ADDED_AT_ONCE]
        if labels.ndim == 1 or ignored is not None:
            numbers = part if ignored is None else part[part != ignored]
            terms = table[numbers.reshape(-1).astype(np.int64)]
        else:
            terms = (part.reshape(-1, *shape).astype(np.float64) * along).reshape(-1)
        # A plain sum would add pairs first.
        total = float(np.add.accumulate(np.append(total, terms))[-1])
    return total
