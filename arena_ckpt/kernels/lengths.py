"""Sequences of several lengths in one batch: rows behind the last valid step.

An array x is (n, steps, columns), and the kernels touch `width` columns of it from
`start` on. `counts` says how many steps of each sample are valid; they come first.
"""

from __future__ import annotations

import math

import numpy as np

from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.operations.array_types import Doubles, Indexes, Vector


@kernel
def count_steps(lengths: Vector, steps: int, counts: Indexes, loss: Doubles) -> None:
    """Round lengths to integers; NaN to the loss, and 1 step, where one is no such."""
    for r in range(counts.size):
        length, count = lengths[r], 0
        if length >= np.float32(1.0) and length <= np.float32(steps):
            count = int(length)
        if count < 1 or np.float32(count) != length:
            loss[0] = math.nan
            count = 1
        counts[r] = count


@kernel
def fill_masked(
    x: Vector, counts: Indexes, value: float, n: int, steps: int, columns: int,
    start: int, width: int,
) -> None:  # fmt: skip
    """Write `value` to the steps that are not valid."""
    filler = np.float32(value)
    for r in range(n):
        for t in range(counts[r], steps):
            at = (r * steps + t) * columns + start
            for j in range(width):
                x[at + j] = filler


@kernel
def reverse_valid(
    x: Vector, counts: Indexes, n: int, steps: int, columns: int, start: int, width: int
) -> None:
    """Put the valid steps of each sample in the opposite order, in place."""
    for r in range(n):
        first = r * steps * columns + start
        for t in range(counts[r] // 2):
            a = first + t * columns
            b = first + (counts[r] - 1 - t) * columns
            for j in range(width):
                value = x[a + j]
                x[a + j] = x[b + j]
                x[b + j] = value


@kernel
def take_last(
    x: Vector, counts: Indexes, y: Vector, n: int, steps: int, width: int,
    y_columns: int, y_start: int,
) -> None:  # fmt: skip
    """Copy the last valid step of each sample to a row of y; x is `width` wide."""
    for r in range(n):
        x_at = (r * steps + counts[r] - 1) * width
        y_at = r * y_columns + y_start
        for j in range(width):
            y[y_at + j] = x[x_at + j]


@kernel
def add_last(
    dy: Vector, counts: Indexes, dx: Vector, n: int, steps: int, width: int,
    y_columns: int, y_start: int,
) -> None:  # fmt: skip
    """Add a row of dy to the last valid step of each sample; dx is `width` wide."""
    for r in range(n):
        x_at = (r * steps + counts[r] - 1) * width
        y_at = r * y_columns + y_start
        for j in range(width):
            dx[x_at + j] += dy[y_at + j]


@kernel
def last_cells(
    gates: Vector, cells: Vector, counts: Indexes, y: Vector, n: int, steps: int,
    unit: int, y_columns: int, y_start: int,
) -> None:  # fmt: skip
    """Make the cell state of an lstm behind the last valid step of each sample.

    `cells` are those that each step began with, `gates` the activated ones.
    """
    for r in range(n):
        row = r * steps + counts[r] - 1
        gate, y_at = 4 * unit * row, r * y_columns + y_start
        for j in range(unit):
            kept = gates[gate + unit + j] * cells[row * unit + j]
            y[y_at + j] = kept + gates[gate + j] * gates[gate + 2 * unit + j]
