"""Innermost loops of pooling: windows of 2 × 2 side by side, in vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import overload

from arena_ckpt.kernels.kernel import typed_intrinsic
from arena_ckpt.kernels.vectors import (
    FLOAT,
    I64,
    VECTOR,
    WIDTH,
    addresses_as,
    load_vector,
    shuffle,
    store_vector,
)

_BYTE = ir.IntType(8)
_PLACES = ir.VectorType(_BYTE, WIDTH)
_EVEN, _ODD = list(range(0, 2 * WIDTH, 2)), list(range(1, 2 * WIDTH, 2))


def _byte_places(place: int) -> Any:
    return ir.Constant(_PLACES, [place] * WIDTH)


@typed_intrinsic
def _max_of_squares(typing_context: Any, arguments: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        *given, start = (builder.extract_value(args[0], i) for i in range(5))
        *rows, best, place = addresses_as(builder, given, *[FLOAT] * 3, _BYTE)

        def greater(a: Any, b: Any) -> Any:
            """Return the greater of two (value, place), as PyTorch orders them."""
            more = builder.fcmp_ordered(">", b[0], a[0])
            more = builder.or_(more, builder.fcmp_unordered("uno", b[0], b[0]))
            return tuple(builder.select(more, j, i) for i, j in zip(a, b, strict=True))

        found = []
        for i, row in enumerate(rows):
            at = builder.mul(start, ir.Constant(I64, 2))
            low = load_vector(builder, row, at)
            high = load_vector(builder, row, builder.add(at, ir.Constant(I64, WIDTH)))
            even = shuffle(builder, low, high, _EVEN), _byte_places(2 * i)
            odd = shuffle(builder, low, high, _ODD), _byte_places(2 * i + 1)
            found.append(greater(even, odd))
        value, where = greater(*found)
        store_vector(builder, value, best, start)
        to = builder.bitcast(builder.gep(place, [start]), _PLACES.as_pointer())
        builder.store(where, to, align=1)
        return context.get_dummy_value()

    return types.void(arguments), codegen


def max_of_squares(above, below, start, best, place):
    """Find the greatest of `WIDTH` windows of 2 × 2 from window `start` on, and where.

    Of equal ones the first counts; NaN is greater than everything.
    """
    for i in range(start, start + WIDTH):
        four = (*above[2 * i : 2 * i + 2], *below[2 * i : 2 * i + 2])
        best[i], place[i] = four[0], 0
        for at, value in enumerate(four):
            if value > best[i] or value != value:
                best[i], place[i] = value, at


@overload(max_of_squares)
def _compiled_max_of_squares(above, below, start, best, place):
    def run(above, below, start, best, place):
        _max_of_squares(
            (
                np.int64(above.ctypes.data),
                np.int64(below.ctypes.data),
                np.int64(best.ctypes.data),
                np.int64(place.ctypes.data),
                np.int64(start),
            )
        )

    return run


@typed_intrinsic
def _spread_squares(typing_context: Any, arguments: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        *given, start = (builder.extract_value(args[0], i) for i in range(5))
        dy, place, *rows = addresses_as(builder, given, FLOAT, _BYTE, *[FLOAT] * 2)
        value = load_vector(builder, dy, start)
        at = builder.bitcast(builder.gep(place, [start]), _PLACES.as_pointer())
        where = builder.load(at, align=1)
        nothing = ir.Constant(VECTOR, [0.0] * WIDTH)
        low = [i // 2 + i % 2 * WIDTH for i in range(WIDTH)]
        high = [i + WIDTH // 2 for i in low]
        for i, row in enumerate(rows):
            even, odd = (
                builder.select(
                    builder.icmp_unsigned("==", where, _byte_places(2 * i + j)),
                    *(value, nothing),
                )
                for j in (0, 1)
            )
            to = builder.mul(start, ir.Constant(I64, 2))
            store_vector(builder, shuffle(builder, even, odd, low), row, to)
            to = builder.add(to, ir.Constant(I64, WIDTH))
            store_vector(builder, shuffle(builder, even, odd, high), row, to)
        return context.get_dummy_value()

    return types.void(arguments), codegen


def spread_squares(dy, place, start, above, below):
    """Write `WIDTH` windows of 2 × 2: the derivative where place says, else 0."""
    for i in range(start, start + WIDTH):
        four = np.zeros(4, np.float32)
        four[place[i]] = dy[i]
        above[2 * i : 2 * i + 2] = four[:2]
        below[2 * i : 2 * i + 2] = four[2:]


@overload(spread_squares)
def _compiled_spread_squares(dy, place, start, above, below):
    def run(dy, place, start, above, below):
        _spread_squares(
            (
                np.int64(dy.ctypes.data),
                np.int64(place.ctypes.data),
                np.int64(above.ctypes.data),
                np.int64(below.ctypes.data),
                np.int64(start),
            )
        )

    return run
