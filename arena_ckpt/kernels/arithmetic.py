"""Arithmetic between tensors and of their elements, sums over axes, and broadcasting.

Kernels that broadcast or sum see tensors as four axes of sizes n0 to n3, the batch and
axes of size 1 folded away where that can be. Beside them stand the steps, in elements,
by which an operand moves along each axis; 0 where it has size 1 and is repeated, or
summed. A tensor without steps has all the axes, contiguous.

Stages of the file: one pass over whole tensors, powers, broadcasting, sums.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.kernel import Kernel, kernel
from arena_ckpt.kernels.lanes import LANES, WIDE, total, wide_lanes
from arena_ckpt.kernels.vector_math import ONE, TWO, ZERO, exp_double, log_double
from arena_ckpt.operations.array_types import Vector

# -- one pass over whole tensors -------------------------------------------------------


@kernel
def subtract(a: Vector, b: Vector, y: Vector) -> None:
    """``y = a - b``; y may be a or b."""
    for i in range(y.size):
        y[i] = a[i] - b[i]


@kernel
def multiply(a: Vector, b: Vector, y: Vector) -> None:
    """``y = a * b``; y may be a or b."""
    for i in range(y.size):
        y[i] = a[i] * b[i]


@kernel
def multiply_derivatives(
    a: Vector, b: Vector, dy: Vector, da: Vector, db: Vector
) -> None:
    """``da = dy * b``, ``db = dy * a``; da and db may be two of a, b and dy."""
    for i in range(dy.size):
        d, x, z = dy[i], a[i], b[i]
        da[i] = d * z
        db[i] = d * x


@kernel
def divide(a: Vector, b: Vector, y: Vector) -> None:
    """``y = a / b``; y may be a or b."""
    for i in range(y.size):
        y[i] = a[i] / b[i]


@kernel
def divide_derivatives(
    b: Vector, y: Vector, dy: Vector, da: Vector, db: Vector
) -> None:
    """``da = dy / b``, ``db = -dy / b * y``; da and db may be two of b, y and dy."""
    for i in range(dy.size):
        q, z = dy[i] / b[i], y[i]
        da[i] = q
        db[i] = -q * z


@kernel
def divisor_derivative(b: Vector, y: Vector, dy: Vector, db: Vector) -> None:
    """``db = -dy / b * y``; db may be b, y or dy."""
    for i in range(dy.size):
        db[i] = -(dy[i] / b[i]) * y[i]


@kernel
def negative(x: Vector, y: Vector) -> None:
    """``y = -x``; y may be x."""
    for i in range(y.size):
        y[i] = -x[i]


@kernel
def square_root(x: Vector, y: Vector) -> None:
    """``y = sqrt(x)``, NaN of what is below 0; y may be x."""
    for i in range(y.size):
        y[i] = math.sqrt(x[i])


@kernel
def square_root_derivative(y: Vector, dy: Vector, dx: Vector) -> None:
    """``dx = dy / (2 y)``; dx may be y or dy."""
    for i in range(dx.size):
        dx[i] = dy[i] / (TWO * y[i])


# -- powers ----------------------------------------------------------------------------


_INFINITY = np.float32(np.inf)


@helper
def _power(x, exponent, of_zero, of_infinity, of_minus_one):
    """``x**exponent``, in float64 where 0 < abs(x) < inf."""
    size = abs(x)
    z = exponent * log_double(np.float64(size))
    z = -300.0 if z < -300.0 else z  # 0 or inf as float32
    z = 300.0 if z > 300.0 else z
    y = np.float32(exp_double(z))
    y = of_zero if size == ZERO else y
    y = of_infinity if size == _INFINITY else y
    return y * (of_minus_one if x < ZERO else ONE)


@helper
def _limits(exponent):
    """Powers of 0, inf and -1; that of -1 is NaN where the exponent is not whole."""
    of_zero = _INFINITY if exponent < 0.0 else ZERO
    of_infinity = ZERO if exponent < 0.0 else _INFINITY
    if exponent == 0.0:
        of_zero, of_infinity = ONE, ONE
    of_minus_one = np.float32(math.nan)
    if math.floor(exponent) == exponent:
        is_odd = math.floor(exponent * 0.5) != exponent * 0.5
        of_minus_one = -ONE if is_odd else ONE
    return of_zero, of_infinity, of_minus_one


@kernel
def power(x: Vector, exponent: float, y: Vector) -> None:
    """``y = x**exponent``; NaN of x < 0 unless the exponent is whole; y may be x.

    -0 counts as 0.
    """
    if exponent == 0.0:
        for i in range(y.size):
            y[i] = ONE
    elif exponent == 2.0:
        for i in range(y.size):
            y[i] = x[i] * x[i]
    elif exponent == 3.0:
        for i in range(y.size):
            y[i] = x[i] * x[i] * x[i]
    elif exponent == 0.5:
        for i in range(y.size):
            y[i] = math.sqrt(x[i])
    elif exponent == -0.5:
        for i in range(y.size):
            y[i] = ONE / np.float32(math.sqrt(x[i]))
    elif exponent == -1.0:
        for i in range(y.size):
            y[i] = ONE / x[i]
    else:
        of_zero, of_infinity, of_minus_one = _limits(exponent)
        for i in range(y.size):
            y[i] = _power(x[i], exponent, of_zero, of_infinity, of_minus_one)


@kernel
def power_derivative(x: Vector, exponent: float, dy: Vector, dx: Vector) -> None:
    """``dx = dy * exponent * x**(exponent - 1)``, 0 if that of 0; dx may be x or dy."""
    factor = np.float32(exponent)
    if exponent == 0.0:
        for i in range(dx.size):
            dx[i] = ZERO
    elif exponent == 2.0:
        for i in range(dx.size):
            dx[i] = dy[i] * (factor * x[i])
    elif exponent == 3.0:
        for i in range(dx.size):
            dx[i] = dy[i] * (factor * (x[i] * x[i]))
    elif exponent == 0.5:
        for i in range(dx.size):
            dx[i] = dy[i] * (factor / np.float32(math.sqrt(x[i])))
    elif exponent == -0.5:
        for i in range(dx.size):
            dx[i] = dy[i] * (factor / (x[i] * np.float32(math.sqrt(x[i]))))
    elif exponent == -1.0:
        for i in range(dx.size):
            dx[i] = dy[i] * (factor / (x[i] * x[i]))
    else:
        less = exponent - 1.0
        of_zero, of_infinity, of_minus_one = _limits(less)
        for i in range(dx.size):
            p = _power(x[i], less, of_zero, of_infinity, of_minus_one)
            dx[i] = dy[i] * (factor * p)


# -- broadcasting ----------------------------------------------------------------------

_BROADCAST = '''
def broadcast_{name}(
    a: Vector, b: Vector, y: Vector, n0: int, n1: int, n2: int, n3: int,
    a0: int, a1: int, a2: int, a3: int, b0: int, b1: int, b2: int, b3: int,
) -> None:
    """``y = a {sign} b`` over four axes; y may be an operand that is not repeated."""
    row = 0
    for i0 in range(n0):
        for i1 in range(n1):
            for i2 in range(n2):
                a_row = a[i0 * a0 + i1 * a1 + i2 * a2 :]
                b_row = b[i0 * b0 + i1 * b1 + i2 * b2 :]
                y_row = y[row : row + n3]
                row += n3
                if a3 == b3:
                    for j in range(n3):
                        y_row[j] = a_row[j] {sign} b_row[j]
                elif a3 == 1:
                    z = b_row[0]
                    for j in range(n3):
                        y_row[j] = a_row[j] {sign} z
                else:
                    x = a_row[0]
                    for j in range(n3):
                        y_row[j] = x {sign} b_row[j]
'''


def _made(name: str, source: str) -> Kernel:
    # Compiled under this file's name: that is where Numba keeps and stamps its cache.
    made: dict[str, Any] = {}
    exec(compile(source, __file__, "exec"), globals(), made)
    return kernel(made[name])


broadcast_add, broadcast_subtract, broadcast_multiply, broadcast_divide = (
    _made(f"broadcast_{name}", _BROADCAST.format(name=name, sign=sign))
    for name, sign in (
        ("add", "+"),
        ("subtract", "-"),
        ("multiply", "*"),
        ("divide", "/"),
    )
)


@kernel
def repeat(
    x: Vector,
    factor: float,
    y: Vector,
    n0: int,
    n1: int,
    n2: int,
    n3: int,
    x0: int,
    x1: int,
    x2: int,
    x3: int,
) -> None:
    """``y = factor * x``, repeated along the axes where the step of x is 0."""
    times = np.float32(factor)
    row = 0
    for i0 in range(n0):
        for i1 in range(n1):
            for i2 in range(n2):
                x_row = x[i0 * x0 + i1 * x1 + i2 * x2 :]
                y_row = y[row : row + n3]
                row += n3
                if x3 == 1:
                    for j in range(n3):
                        y_row[j] = times * x_row[j]
                else:
                    value = times * x_row[0]
                    for j in range(n3):
                        y_row[j] = value


# -- sums ------------------------------------------------------------------------------

_PLAIN, _PRODUCT, _QUOTIENT = 0, 1, 2


@helper
def _term(x, z, mode):
    if mode == _PRODUCT:
        return np.float64(x * z)
    if mode == _QUOTIENT:
        return np.float64(x / z)
    return np.float64(x)


@helper
def _add_rows(mode, x, x_step, z, z_step, z_inner, rows, width, lanes):
    """Add the terms of each of `rows` rows of `width` to the lanes."""
    for r in range(rows):
        x_part = x[r * x_step : r * x_step + width]
        if z_inner != 0:
            z_part = z[r * z_step : r * z_step + width]
            for j in range(width):
                lanes[j] += _term(x_part[j], z_part[j], mode)
        else:
            value = z[r * z_step]
            for j in range(width):
                lanes[j] += _term(x_part[j], value, mode)


@helper
def _sum(mode, x, z, factor, y, n, y_steps, z_steps):
    """``y = factor * sum(term(x, z))`` over the axes where the step of y is 0.

    Of x, all axes are there; of z, all that are summed. The mode is a constant for
    LLVM, so that only its term is left. Sums run in float64 and are rounded once.
    """
    lanes = wide_lanes()
    n0, n1, n2, n3 = n
    y0, y1, y2, y3 = y_steps
    z0, z1, z2, z3 = z_steps
    x0, x1, x2 = n1 * n2 * n3, n2 * n3, n3
    # An axis is either kept or summed: of its two loops, one runs once.
    k0, s0 = (n0, 1) if y0 != 0 else (1, n0)
    k1, s1 = (n1, 1) if y1 != 0 else (1, n1)
    k2, s2 = (n2, 1) if y2 != 0 else (1, n2)
    for k in range(k0 * k1 * k2):
        i0, i1, i2 = k // (k2 * k1), k // k2 % k1, k % k2
        x_from = i0 * x0 + i1 * x1 + i2 * x2
        y_from = i0 * y0 + i1 * y1 + i2 * y2
        z_from = i0 * z0 + i1 * z1 + i2 * z2
        block = WIDE if y3 != 0 else LANES
        for start in range(0, n3, block):
            width = min(block, n3 - start)
            if y3 != 0 or start == 0:
                for j in range(block):
                    lanes[j] = 0.0
            for j0 in range(s0):
                for j1 in range(s1):
                    x_rows = x[x_from + j0 * x0 + j1 * x1 + start :]
                    z_rows = z[z_from + j0 * z0 + j1 * z1 + start * z3 :]
                    _add_rows(mode, x_rows, x2, z_rows, z2, z3, s2, width, lanes)
            if y3 != 0:  # kept: many sums side by side
                y_part = y[y_from + start : y_from + start + width]
                for j in range(width):
                    y_part[j] = np.float32(factor * lanes[j])
        if y3 == 0:
            y[y_from] = np.float32(factor * total(lanes, n3))


@kernel
def sum_plain(
    x: Vector,
    factor: float,
    y: Vector,
    n0: int,
    n1: int,
    n2: int,
    n3: int,
    y0: int,
    y1: int,
    y2: int,
    y3: int,
) -> None:
    """``y = factor * sum(x)`` over the axes where the step of y is 0."""
    n, y_steps = (n0, n1, n2, n3), (y0, y1, y2, y3)
    x_steps = (n1 * n2 * n3, n2 * n3, n3, 1)
    _sum(_PLAIN, x, x, factor, y, n, y_steps, x_steps)


@kernel
def sum_products(
    x: Vector,
    z: Vector,
    factor: float,
    y: Vector,
    n0: int,
    n1: int,
    n2: int,
    n3: int,
    y0: int,
    y1: int,
    y2: int,
    y3: int,
    z0: int,
    z1: int,
    z2: int,
    z3: int,
) -> None:
    """``y = factor * sum(x * z)`` over the axes where the step of y is 0."""
    n, y_steps, z_steps = (n0, n1, n2, n3), (y0, y1, y2, y3), (z0, z1, z2, z3)
    _sum(_PRODUCT, x, z, factor, y, n, y_steps, z_steps)


@kernel
def sum_quotients(
    x: Vector,
    z: Vector,
    factor: float,
    y: Vector,
    n0: int,
    n1: int,
    n2: int,
    n3: int,
    y0: int,
    y1: int,
    y2: int,
    y3: int,
    z0: int,
    z1: int,
    z2: int,
    z3: int,
) -> None:
    """``y = factor * sum(x / z)`` over the axes where the step of y is 0."""
    n, y_steps, z_steps = (n0, n1, n2, n3), (y0, y1, y2, y3), (z0, z1, z2, z3)
    _sum(_QUOTIENT, x, z, factor, y, n, y_steps, z_steps)
