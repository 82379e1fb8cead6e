"""Squares of numbers transposed in registers, which LLVM does not find in loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from arena_ckpt.kernels.kernel import typed_intrinsic
from arena_ckpt.kernels.vectors import FLOAT, WIDTH, load_vector, shuffle, store_vector


def _square_intrinsic(*, adds: bool) -> Any:
    """Return what transposes a square, and writes it or adds it to what is there."""

    @typed_intrinsic
    def compiled(
        typing_context: Any, x: Any, at: Any, step: Any, y: Any, to: Any, y_step: Any
    ) -> Any:
        return types.void(*[types.int64] * 6), _square_code(adds)

    return compiled


def _square_code(adds: bool) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, y = (builder.inttoptr(args[i], FLOAT.as_pointer()) for i in (0, 3))
        at, step, to, y_step = args[1], args[2], args[4], args[5]
        rows = []
        for _ in range(WIDTH):
            rows.append(load_vector(builder, x, at))
            at = builder.add(at, step)
        # Three rounds of exchanging halves: of 2, of 4 and of 8 elements.
        for half in (1, 2, 4):
            mixed = list(rows)
            for i in range(WIDTH):
                if i & half:
                    continue
                low, high = rows[i], rows[i + half]
                places = range(WIDTH)
                mixed[i] = shuffle(
                    builder,
                    low,
                    high,
                    [p if not p & half else p - half + WIDTH for p in places],
                )
                mixed[i + half] = shuffle(
                    builder,
                    low,
                    high,
                    [p + half if not p & half else p + WIDTH for p in places],
                )
            rows = mixed
        for row in rows:
            if adds:
                row = builder.fadd(load_vector(builder, y, to), row)
            store_vector(builder, row, y, to)
            to = builder.add(to, y_step)
        return context.get_dummy_value()

    return codegen


_transpose_square = _square_intrinsic(adds=False)
_add_square = _square_intrinsic(adds=True)


def transpose_square(x, at, step, y, to, y_step):
    """Write the columns of a `WIDTH` × `WIDTH` square of x as rows of y.

    Parameters
    ----------
    x, y : array of float32
    at, step : int
        Where the first row begins in x, and how far the next one is.
    to, y_step : int
        Where the first column goes in y, and how far the next one is.
    """
    for i in range(WIDTH):
        for j in range(WIDTH):
            y[to + j * y_step + i] = x[at + i * step + j]


@overload(transpose_square)
def _compiled_transpose_square(x, at, step, y, to, y_step):
    def run(x, at, step, y, to, y_step):
        addresses = np.int64(x.ctypes.data), np.int64(y.ctypes.data)
        _transpose_square(addresses[0], at, step, addresses[1], to, y_step)

    return run


def add_square(x, at, step, y, to, y_step):
    """Add the columns of a square of x to rows of y, as `transpose_square` writes."""
    for i in range(WIDTH):
        for j in range(WIDTH):
            y[to + j * y_step + i] += x[at + i * step + j]


@overload(add_square)
def _compiled_add_square(x, at, step, y, to, y_step):
    def run(x, at, step, y, to, y_step):
        addresses = np.int64(x.ctypes.data), np.int64(y.ctypes.data)
        _add_square(addresses[0], at, step, addresses[1], to, y_step)

    return run
