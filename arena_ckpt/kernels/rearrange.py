"""Copies that put elements elsewhere: parts of tensors, and axes in another order."""

from __future__ import annotations

from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.transposition import transpose_square
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.operations.array_types import Vector

_TILE = 16  # one cache line


@kernel
def copy_rows(
    x: Vector,
    y: Vector,
    n0: int,
    n1: int,
    n2: int,
    width: int,
    x_from: int,
    x0: int,
    x1: int,
    x2: int,
    y_from: int,
    y0: int,
    y1: int,
    y2: int,
) -> None:
    """Copy n0 × n1 × n2 rows of `width` elements, which both begin as steps say.

    Row (i, j, k) of x begins at x_from + i x0 + j x1 + k x2, that of y likewise.
    """
    for i in range(n0):
        for j in range(n1):
            x_at = x_from + i * x0 + j * x1
            y_at = y_from + i * y0 + j * y1
            if width == 1:
                for k in range(n2):
                    y[y_at + k * y2] = x[x_at + k * x2]
            else:
                for k in range(n2):
                    x_row = x[x_at + k * x2 : x_at + k * x2 + width]
                    y_row = y[y_at + k * y2 : y_at + k * y2 + width]
                    for c in range(width):
                        y_row[c] = x_row[c]


@kernel
def place_rows(
    x: Vector, y: Vector, rows: int, width: int, start: int, y_width: int
) -> None:
    """Copy rows of `width` to `start` in rows of `y_width`, with 0 around them."""
    for r in range(rows):
        x_row = x[r * width : (r + 1) * width]
        y_row = y[r * y_width : (r + 1) * y_width]
        for c in range(start):
            y_row[c] = ZERO
        inner = y_row[start : start + width]
        for c in range(width):
            inner[c] = x_row[c]
        for c in range(start + width, y_width):
            y_row[c] = ZERO


@kernel
def transpose(
    x: Vector,
    y: Vector,
    n0: int,
    n1: int,
    rows: int,
    columns: int,
    x0: int,
    x1: int,
    x_row: int,
    y0: int,
    y1: int,
    y_column: int,
) -> None:
    """Transpose n0 × n1 matrices of rows × columns.

    Element (r, c) of matrix (i, j) is that of x at i x0 + j x1 + r x_row + c, and that
    of y at i y0 + j y1 + c y_column + r.
    """
    whole_rows, whole_columns = rows - rows % 8, columns - columns % 8
    for m in range(n0 * n1):
        i, j = m // n1, m % n1
        x_at, y_at = i * x0 + j * x1, i * y0 + j * y1
        for r in range(0, whole_rows, _TILE):
            for c in range(0, whole_columns, _TILE):
                for v in range(c, min(c + _TILE, whole_columns), 8):
                    for u in range(r, min(r + _TILE, whole_rows), 8):
                        source = x_at + u * x_row + v
                        target = y_at + v * y_column + u
                        transpose_square(x, source, x_row, y, target, y_column)
        for v in range(columns):
            done = whole_rows if v < whole_columns else 0
            for u in range(done, rows):
                y[y_at + v * y_column + u] = x[x_at + u * x_row + v]
