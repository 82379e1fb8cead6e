"""Choices between tensors: the greater of two elements, or one by a condition.

All kernels broadcast, as those of `arithmetic`: tensors are seen as four axes of sizes
n0 to n3. Beside them stand the steps, in elements, by which an operand moves along each
axis; 0 where it is repeated, or summed. A tensor without steps has all the axes.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.vector_math import HALF, ONE, ZERO
from arena_ckpt.operations.array_types import Vector


@kernel
def extreme(
    a: Vector,
    b: Vector,
    sign: float,
    y: Vector,
    n0: int,
    n1: int,
    n2: int,
    n3: int,
    a0: int,
    a1: int,
    a2: int,
    a3: int,
    b0: int,
    b1: int,
    b2: int,
    b3: int,
) -> None:
    """``y = max(a, b)`` for sign 1, ``min(a, b)`` for -1; NaN where either is.

    y may be an operand that is not repeated.
    """
    s = np.float32(sign)
    row = 0
    for i0 in range(n0):
        for i1 in range(n1):
            for i2 in range(n2):
                a_row = a[i0 * a0 + i1 * a1 + i2 * a2 :]
                b_row = b[i0 * b0 + i1 * b1 + i2 * b2 :]
                y_row = y[row : row + n3]
                row += n3
                for j in range(n3):
                    v, w = a_row[j * a3], b_row[j * b3]
                    more = v if s * v > s * w else w
                    y_row[j] = v if v != v else more


@kernel
def select(
    condition: Vector,
    a: Vector,
    b: Vector,
    y: Vector,
    n0: int,
    n1: int,
    n2: int,
    n3: int,
    c0: int,
    c1: int,
    c2: int,
    c3: int,
    a0: int,
    a1: int,
    a2: int,
    a3: int,
    b0: int,
    b1: int,
    b2: int,
    b3: int,
) -> None:
    """``y = a`` where the condition is not 0, else b.

    y may be an operand that is not repeated.
    """
    row = 0
    for i0 in range(n0):
        for i1 in range(n1):
            for i2 in range(n2):
                c_row = condition[i0 * c0 + i1 * c1 + i2 * c2 :]
                a_row = a[i0 * a0 + i1 * a1 + i2 * a2 :]
                b_row = b[i0 * b0 + i1 * b1 + i2 * b2 :]
                y_row = y[row : row + n3]
                row += n3
                for j in range(n3):
                    v, w = a_row[j * a3], b_row[j * b3]
                    y_row[j] = v if c_row[j * c3] != ZERO else w


@helper
def _loops(n, steps):
    """Return how often each axis is kept and summed: of its two loops, one runs once.

    An axis of which the step is 0 is summed.
    """
    n0, n1, n2, n3 = n
    y0, y1, y2, y3 = steps
    kept = (
        n0 if y0 != 0 else 1,
        n1 if y1 != 0 else 1,
        n2 if y2 != 0 else 1,
        n3 if y3 != 0 else 1,
    )
    summed = (
        1 if y0 != 0 else n0,
        1 if y1 != 0 else n1,
        1 if y2 != 0 else n2,
        1 if y3 != 0 else n3,
    )
    return kept, summed


@kernel
def sum_extreme(
    dy: Vector,
    a: Vector,
    b: Vector,
    sign: float,
    da: Vector,
    n0: int,
    n1: int,
    n2: int,
    n3: int,
    y0: int,
    y1: int,
    y2: int,
    y3: int,
    a0: int,
    a1: int,
    a2: int,
    a3: int,
    b0: int,
    b1: int,
    b2: int,
    b3: int,
) -> None:
    """Sum dy where a is the extreme of a and b, half of it where both are equal.

    The sum is over the axes where the step of da, y0 to y3, is 0. If it is over none,
    da may be dy, or an operand that is not repeated.
    """
    s = np.float32(sign)
    kept, summed = _loops((n0, n1, n2, n3), (y0, y1, y2, y3))
    for i0 in range(kept[0]):
        for i1 in range(kept[1]):
            for i2 in range(kept[2]):
                for i3 in range(kept[3]):
                    total = 0.0
                    for p0 in range(i0, i0 + summed[0]):
                        for p1 in range(i1, i1 + summed[1]):
                            for p2 in range(i2, i2 + summed[2]):
                                at = ((p0 * n1 + p1) * n2 + p2) * n3
                                a_at = p0 * a0 + p1 * a1 + p2 * a2
                                b_at = p0 * b0 + p1 * b1 + p2 * b2
                                for p3 in range(i3, i3 + summed[3]):
                                    v = s * a[a_at + p3 * a3]
                                    w = s * b[b_at + p3 * b3]
                                    share = ONE if v > w else ZERO
                                    share = HALF if v == w else share
                                    total += np.float64(dy[at + p3] * share)
                    da[i0 * y0 + i1 * y1 + i2 * y2 + i3 * y3] = np.float32(total)


@kernel
def sum_selected(
    dy: Vector,
    condition: Vector,
    other: int,
    dx: Vector,
    n0: int,
    n1: int,
    n2: int,
    n3: int,
    y0: int,
    y1: int,
    y2: int,
    y3: int,
    c0: int,
    c1: int,
    c2: int,
    c3: int,
) -> None:
    """Sum dy where the condition is not 0; where it is 0, if `other` is 1.

    The sum is over the axes where the step of dx, y0 to y3, is 0. If it is over none,
    dx may be dy.
    """
    kept, summed = _loops((n0, n1, n2, n3), (y0, y1, y2, y3))
    for i0 in range(kept[0]):
        for i1 in range(kept[1]):
            for i2 in range(kept[2]):
                for i3 in range(kept[3]):
                    total = 0.0
                    for p0 in range(i0, i0 + summed[0]):
                        for p1 in range(i1, i1 + summed[1]):
                            for p2 in range(i2, i2 + summed[2]):
                                at = ((p0 * n1 + p1) * n2 + p2) * n3
                                c_at = p0 * c0 + p1 * c1 + p2 * c2
                                for p3 in range(i3, i3 + summed[3]):
                                    is_zero = condition[c_at + p3 * c3] == ZERO
                                    is_mine = is_zero == (other != 0)
                                    term = dy[at + p3] if is_mine else ZERO
                                    total += np.float64(term)
                    dx[i0 * y0 + i1 * y1 + i2 * y2 + i3 * y3] = np.float32(total)
