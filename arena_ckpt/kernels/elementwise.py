"""Copies, sums and fills: one pass over memory each."""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.operations.array_types import Doubles, Integers, Matrix, Vector

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@kernel
def add_bias(x: Matrix, bias: Vector, y: Matrix) -> None:
    """``y = x + bias``, bias (columns,); y may be x."""
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            y[r, c] = x[r, c] + bias[c]


@kernel
def copy(x: Vector, y: Vector) -> None:
    """``y = x``."""
    for i in range(y.size):
        y[i] = x[i]


@kernel
def add_to(x: Vector, y: Vector) -> None:
    """``y += x``."""
    for i in range(y.size):
        y[i] += x[i]


@kernel
def add(a: Vector, b: Vector, y: Vector) -> None:
    """``y = a + b``; y may be a or b."""
    for i in range(y.size):
        y[i] = a[i] + b[i]


@kernel
def fill(value: float, y: Vector) -> None:
    """``y = value``, rounded to float32."""
    rounded = np.float32(value)
    for i in range(y.size):
        y[i] = rounded


@kernel
def fill_doubles(value: float, y: Doubles) -> None:
    """``y = value``."""
    for i in range(y.size):
        y[i] = value


@kernel
def count_up(counter: Doubles) -> None:
    """``counter[0] += 1``."""
    counter[0] += 1.0


@kernel
def one_hot(labels: Integers, y: Matrix) -> None:
    """``y[r, c] = 1 if labels[r] == c else 0``; a label of no column gives zeros."""
    for r in range(y.shape[0]):
        for c in range(y.shape[1]):
            y[r, c] = _ZERO
        if 0 <= labels[r] < y.shape[1]:
            y[r, labels[r]] = _ONE
