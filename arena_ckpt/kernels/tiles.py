"""The innermost loop of convolutions: a small tile of sums of products, in registers.

A tile is some rows × some places, each of a vector of `WIDTH` sums. Each step of its
loop loads the vectors at one more offset of a table and multiplies them by one number
for each row:

    y[j][v] = start[j] + Σ_k w[w0 + k·w_step + j·w_row] · x[places[v] + table[k]]

Every element is one sum in the order of the table, whatever tile and lane it stands
in. So its bits do not depend on the batch, on a machine's vectors or on addresses.
Products and sums are fused where the machine can.

How many sums stand in registers is the machine's affair: 4 rows × 3 places, or, where
vectors are twice as wide and registers twice as many, 8 rows × 3 pairs of places.

LLVM does not find such a loop by itself in Numba's code, so it is written as vectors.

References
----------
T. M. Low et al., "Analytical modeling is enough for high-performance BLIS", TOMS 2016
(how large a tile of registers should be). M. Dukhan, "The indirect convolution
algorithm", 2019 (a table of offsets in place of im2col).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import overload

from arena_ckpt.kernels.compiling import routine
from arena_ckpt.kernels.kernel import typed_intrinsic
from arena_ckpt.kernels.transposition import transpose_square
from arena_ckpt.kernels.vectors import (
    FLOAT,
    I32,
    I64,
    IS_WIDE,
    WIDTH,
    broadcast,
    count,
    load_vector,
    multiply_add,
    shuffle,
    store_vector,
)
from arena_ckpt.operations.sizes import TILE_ROWS, TILE_VECTORS

BLOCK = 8
"""Maximum number of rows that are handled together: those of packed weights."""

ROWS = TILE_ROWS
"""Number of rows of the smallest tile."""

EACH = 2 if IS_WIDE else 1
"""Number of places whose sums stand in one register."""

PLACES = TILE_VECTORS * EACH
"""Number of places of the largest tile: chunks of places are multiples of it."""

_PARAMETERS = 17


def _tile_intrinsic(n_rows: int, n_registers: int, *, is_joined: bool) -> Any:
    """Return a compiled tile; arrays travel as addresses, the rest as elements.

    Of a joined one, the places of a register are neighbours in x.
    """
    lanes = EACH * WIDTH

    @typed_intrinsic
    def compiled(typing_context: Any, arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            given = [builder.extract_value(args[0], i) for i in range(_PARAMETERS)]
            kinds = (FLOAT, I64, I32, FLOAT, FLOAT, FLOAT)
            x, places, table, w, init, y = (
                builder.inttoptr(address, kind.as_pointer())
                for address, kind in zip(given[:6], kinds, strict=True)
            )
            n, x_at, y_at, w0, w_step, w_row, i0, i_row, y0, y_row, adds = given[6:]

            def row(j: int, first: Any, step: Any) -> Any:
                return builder.add(first, builder.mul(ir.Constant(I64, j), step))

            def place(first: Any, v: int) -> Any:
                at = builder.add(first, ir.Constant(I64, v))
                return builder.load(builder.gep(places, [at]))

            def load(bases: list[Any], offset: Any) -> Any:
                if is_joined:
                    return load_vector(builder, bases[0], offset, lanes)
                parts = [load_vector(builder, base, offset) for base in bases]
                return parts[0] if EACH == 1 else shuffle(
                    builder, parts[0], parts[1], list(range(lanes))
                )  # fmt: skip

            registers = [range(EACH * r, EACH * r + EACH) for r in range(n_registers)]
            x_base = [
                [builder.gep(x, [place(x_at, v)]) for v in register]
                for register in registers
            ]
            y_base = [
                [builder.gep(y, [builder.add(y0, place(y_at, v))]) for v in register]
                for register in registers
            ]
            w_base = [builder.gep(w, [row(j, w0, w_row)]) for j in range(n_rows)]
            continues = builder.icmp_signed("!=", adds, ir.Constant(I64, 0))
            start, nothing = [], ir.Constant(I64, 0)
            for j in range(n_rows):
                value = builder.load(builder.gep(init, [row(j, i0, i_row)]))
                fresh = broadcast(builder, value, lanes)
                for bases in y_base:
                    at = row(j, nothing, y_row)
                    parts = [load_vector(builder, base, at) for base in bases]
                    so_far = parts[0] if EACH == 1 else shuffle(
                        builder, parts[0], parts[1], list(range(lanes))
                    )  # fmt: skip
                    start.append(builder.select(continues, so_far, fresh))

            def body(k: Any, sums: Any) -> Any:
                offset = builder.load(builder.gep(table, [k]))
                offset = builder.sext(offset, I64)
                loaded = [load(bases, offset) for bases in x_base]
                w_at = builder.mul(k, w_step)
                results = []
                for j in range(n_rows):
                    factor = builder.load(builder.gep(w_base[j], [w_at]))
                    factor = broadcast(builder, factor, lanes)
                    for v in range(n_registers):
                        so_far = sums[j * n_registers + v]
                        product = multiply_add(builder, factor, loaded[v], so_far)
                        results.append(product)
                return results

            sums = iter(count(builder, n, start, body))
            for j in range(n_rows):
                at = row(j, nothing, y_row)
                for bases in y_base:
                    value = next(sums)
                    for half, base in enumerate(bases):
                        part = value if EACH == 1 else shuffle(
                            builder, value, value,
                            list(range(half * WIDTH, half * WIDTH + WIDTH)),
                        )  # fmt: skip
                        store_vector(builder, part, base, at)
            return context.get_dummy_value()

        return types.void(arguments), codegen

    return compiled


_smallest = _tile_intrinsic(ROWS, TILE_VECTORS, is_joined=False)
_largest = _tile_intrinsic(BLOCK if IS_WIDE else ROWS, TILE_VECTORS, is_joined=False)
_joined = _tile_intrinsic(BLOCK if IS_WIDE else ROWS, TILE_VECTORS, is_joined=True)
_narrow = _tile_intrinsic(BLOCK if IS_WIDE else ROWS, 1, is_joined=False)


@routine
def _tiles(given, places, n_places, n_rows):
    """Run the tiles of `tiles`, whose arrays are `given` as addresses."""
    x, at, table, w, init, y, n, w0, w_step, w_row, i0, i_row, y0, y_row, adds = given
    to = places.size // 2
    for row in range(0, n_rows, BLOCK if IS_WIDE else ROWS):
        i = 0
        while i < n_places:
            arguments = (
                x, at, table, w, init, y, n, i, to + i, w0 + row * w_row, w_step,
                w_row, i0 + row * i_row, i_row, y0 + row * y_row, y_row, adds,
            )  # fmt: skip
            if not IS_WIDE or n_rows < BLOCK:
                _smallest(arguments)
                i += PLACES
            elif n_places - i <= 2 * EACH:
                _narrow(arguments)
                i += EACH
            else:
                apart = abs(places[i + 1] - places[i] - WIDTH)
                apart += abs(places[i + 3] - places[i + 2] - WIDTH)
                apart += abs(places[i + 5] - places[i + 4] - WIDTH)
                if apart == 0:
                    _joined(arguments)
                else:
                    _largest(arguments)
                i += PLACES


def tiles(
    x, places, n_places, table, n, w, w0, w_step, w_row, n_rows, init, i0, i_row,
    y, y0, y_row, adds,
):  # fmt: skip
    """Compute rows of sums for some places (see the module) and write them to ``y``.

    Row j of place i goes to ``y[y0 + j * y_row + places[half + i]:][:WIDTH]``.

    Parameters
    ----------
    x, w, init, y : array of float32
    places : array of int
        In its first half, where each vector begins in x; in its second, where in y.
        Behind the last are as many more of it as make a multiple of `PLACES`.
    n_places : int
    table : array of int32
        Offsets into x.
    n : int
        How many of them to take.
    w0, w_step, w_row, i0, i_row, y0, y_row : int
        Where elements are: the first, the next of a sum, the next row.
    n_rows : int
        `ROWS` or `BLOCK`.
    adds : int
        0 starts from ``init[i0 + j * i_row]``, else from what y holds.
    """
    half = places.size // 2
    for i in range(n_places):
        at, to = places[i], y0 + places[half + i]
        for j in range(n_rows):
            result = y[to + j * y_row :][:WIDTH]
            sums = np.full(WIDTH, init[i0 + j * i_row], np.float64)
            if adds:
                sums[:] = result
            for k in range(n):
                factor = np.float64(w[w0 + k * w_step + j * w_row])
                sums += factor * x[at + table[k] :][:WIDTH]
            result[:] = sums


@overload(tiles)
def _compiled_tiles(
    x, places, n_places, table, n, w, w0, w_step, w_row, n_rows, init, i0, i_row,
    y, y0, y_row, adds,
):  # fmt: skip
    def run(
        x, places, n_places, table, n, w, w0, w_step, w_row, n_rows, init, i0, i_row,
        y, y0, y_row, adds,
    ):  # fmt: skip
        _tiles(
            (
                np.int64(x.ctypes.data),
                np.int64(places.ctypes.data),
                np.int64(table.ctypes.data),
                np.int64(w.ctypes.data),
                np.int64(init.ctypes.data),
                np.int64(y.ctypes.data),
                np.int64(n),
                np.int64(w0),
                np.int64(w_step),
                np.int64(w_row),
                np.int64(i0),
                np.int64(i_row),
                np.int64(y0),
                np.int64(y_row),
                np.int64(adds),
            ),
            places,
            np.int64(n_places),
            np.int64(n_rows),
        )

    return run


@routine
def pack(w, w0, w_row, n_rows, table, first, n, run, y):
    """Gather weights of a block: ``y[k, j] = w[w0 + table[first + k] + j * w_row]``.

    Parameters
    ----------
    w, y : array of float32
        y is (n, `BLOCK`), of which the first `n_rows` columns are written.
    w0, w_row : int
        The first element and how far that of the next row is.
    table : array of int32
    first, n : int
        Which offsets to take.
    run : int
        So many after each other, of which n is a multiple, each have the offset before
        plus 1 (run above 0) or minus 1 (below 0).
    """
    length = abs(run)
    if n_rows == BLOCK and length < WIDTH:  # LLVM unrolls a loop of known length
        for k in range(n):
            at = w0 + table[first + k]
            for j in range(BLOCK):
                y[k * BLOCK + j] = w[at + j * w_row]
        return
    if length < WIDTH or n_rows < BLOCK:
        for k in range(n):
            at = w0 + table[first + k]
            for j in range(n_rows):
                y[k * BLOCK + j] = w[at + j * w_row]
        return
    for k in range(0, n, length):
        low = k if run > 0 else k + length - 1
        at = w0 + table[first + low]
        step = BLOCK if run > 0 else -BLOCK
        for t in range(0, length, WIDTH):
            here = min(t, length - WIDTH)
            transpose_square(w, at + here, w_row, y, low * BLOCK + here * step, step)
