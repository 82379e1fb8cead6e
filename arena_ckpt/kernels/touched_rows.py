"""Gradients of tables that hold only the rows which a batch touches, and their updates.

Each line of such a gradient stands for a row of the table, in the order in which the
ids of the batch first name it; its values are the sum for that row. Lines are found by
chains: row r is in the chain of bucket ``r % lines``. The first columns of line i are
whole numbers, exact as float32:

    FIRST   the line that begins the chain of bucket i, or -1
    ROW     the row of the table that line i stands for, or -1 where it is not used
    NEXT    the line that follows line i in its chain, or -1

The formulas of the updates are those of `updates`; `touched_adam` is PyTorch's
SparseAdam, in which epsilon is added to the root of the second moment as it is.
"""

from __future__ import annotations

import math

import numpy as np

from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.subnormals import zero_if_subnormal
from arena_ckpt.kernels.tokens import table_row
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.operations.array_types import Doubles, Matrix, Vector
from arena_ckpt.operations.sizes import TOUCHED_COLUMNS

_FIRST, _ROW, _NEXT = 0, 1, 2
_NONE = np.float32(-1.0)


@helper
def _line_of(gradient, row):
    """Return the line of a row of the table, or -1 where it is not touched.

    Numbers that make no chain lead nowhere: no line is read that there is not.
    """
    lines = gradient.shape[0]
    line = int(gradient[row % lines, _FIRST])
    for _ in range(lines):
        if line < 0 or line >= lines:
            break
        if gradient[line, _ROW] == np.float32(row):
            return line
        line = int(gradient[line, _NEXT])
    return -1


@helper
def _row_of(gradient, line, n_rows):
    """Return the row that a line stands for, or -1 where the table has no such row."""
    row = int(gradient[line, _ROW])
    return row if row < n_rows else -1


@helper
def _n_used(gradient):
    """Return the number of lines that stand for a row; they are the first ones."""
    n = 0
    while n < gradient.shape[0] and gradient[n, _ROW] >= ZERO:
        n += 1
    return n


@kernel
def touched_gradient(
    ids: Vector, dy: Matrix, n_rows: int, padding: int, beta: float, gradient: Matrix
) -> None:
    """Add row r of dy to the line of row ``ids[r]``, in order.

    `beta` 0 starts from no lines. The id `padding` is left out, -1 for none.
    """
    if beta == 0.0:
        for line in range(gradient.shape[0]):
            out = gradient[line]
            for j in range(TOUCHED_COLUMNS):
                out[j] = _NONE
            for j in range(TOUCHED_COLUMNS, out.size):
                out[j] = ZERO
    used = _n_used(gradient)
    for r in range(ids.size):
        row, source = table_row(ids[r], n_rows), dy[r]
        if row >= 0 and row != padding:
            line = _line_of(gradient, row)
            if line < 0 and used < gradient.shape[0]:
                bucket, line = row % gradient.shape[0], used
                gradient[line, _ROW] = np.float32(row)
                gradient[line, _NEXT] = gradient[bucket, _FIRST]
                gradient[bucket, _FIRST] = np.float32(line)
                used += 1
            if line >= 0:
                out = gradient[line, TOUCHED_COLUMNS:]
                for j in range(out.size):
                    out[j] += source[j]


@kernel
def touched_square_sum(gradient: Matrix, sum_so_far: Doubles) -> None:
    """``sum_so_far[0] += sum(values**2)``, in float64, line by line."""
    total = 0.0
    for line in range(_n_used(gradient)):
        values = gradient[line, TOUCHED_COLUMNS:]
        for j in range(values.size):
            v = np.float64(values[j])
            total += v * v
    sum_so_far[0] += total


@kernel
def touched_sgd(weight: Matrix, gradient: Matrix, decay: float, hyper: Doubles) -> None:
    """``w -= learning_rate * g`` in touched rows; as `updates.sgd`, bit by bit."""
    rate, scale = np.float32(hyper[0]), np.float32(hyper[1])
    decay32 = np.float32(decay)
    for line in range(_n_used(gradient)):
        values = gradient[line, TOUCHED_COLUMNS:]
        row = _row_of(gradient, line, weight.shape[0])
        if row < 0:
            continue
        w_row = weight[row]
        for j in range(w_row.size):
            w = w_row[j]
            g = values[j] * scale + decay32 * w
            w_row[j] = zero_if_subnormal(w - rate * g)


@kernel
def touched_momentum(
    weight: Matrix,
    gradient: Matrix,
    velocity: Matrix,
    decay: float,
    nesterov: int,
    hyper: Doubles,
) -> None:
    """``v = momentum * v + g; w -= learning_rate * v`` in all rows of the table.

    Rows that are not touched have g = 0 and go on with their velocity. With `nesterov`
    not 0, ``w -= learning_rate * (g + momentum * v)``. As `updates.sgd_momentum` and
    `updates.sgd_nesterov`, bit by bit.
    """
    rate, scale = np.float32(hyper[0]), np.float32(hyper[1])
    momentum, decay32 = np.float32(hyper[2]), np.float32(decay)
    for row in range(weight.shape[0]):
        line = _line_of(gradient, row)
        values = gradient[max(line, 0), TOUCHED_COLUMNS:]
        w_row, v_row = weight[row], velocity[row]
        for j in range(w_row.size):
            w = w_row[j]
            g = (values[j] if line >= 0 else ZERO) * scale + decay32 * w
            v = zero_if_subnormal(momentum * v_row[j] + g)
            v_row[j] = v
            step = g + momentum * v if nesterov != 0 else v
            w_row[j] = zero_if_subnormal(w - rate * step)


@kernel
def touched_adam(
    weight: Matrix,
    gradient: Matrix,
    first_moment: Matrix,
    second_moment: Matrix,
    hyper: Doubles,
) -> None:
    """One step of Adam in touched rows; the moments of the others stay.

    hyper as of `updates.adam`.

    References
    ----------
    PyTorch, ``torch.optim.SparseAdam``.
    """
    scale = np.float32(hyper[1])
    beta1, beta2 = np.float32(hyper[2]), np.float32(hyper[3])
    rest1, rest2 = np.float32(1.0 - hyper[2]), np.float32(1.0 - hyper[3])
    epsilon = np.float32(hyper[4])
    rate = np.float32(hyper[0] * math.sqrt(hyper[6]) / hyper[5])
    for line in range(_n_used(gradient)):
        values = gradient[line, TOUCHED_COLUMNS:]
        row = _row_of(gradient, line, weight.shape[0])
        if row < 0:
            continue
        w_row, m_row, v_row = weight[row], first_moment[row], second_moment[row]
        for j in range(w_row.size):
            g = values[j] * scale
            m = zero_if_subnormal(beta1 * m_row[j] + rest1 * g)
            v = zero_if_subnormal(beta2 * v_row[j] + rest2 * (g * g))
            m_row[j] = m
            v_row[j] = v
            w = w_row[j] - rate * m / (np.float32(math.sqrt(v)) + epsilon)
            w_row[j] = zero_if_subnormal(w)
