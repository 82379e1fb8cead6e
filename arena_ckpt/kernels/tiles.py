"""The innermost loop of convolutions: a small tile of sums of products, in registers.

A tile is `ROWS` × `VECTORS` vectors of `WIDTH` sums. Each step of its loop loads the
vectors at one more offset of a table and multiplies them by one number for each row:

    y[j][v] = start[j] + Σ_k w[w0 + k·w_step + j·w_row] · x[x_v + table[k]]

Every element is one sum in the order of the table, whatever tile and lane it stands
in. So its bits do not depend on the batch, on a machine's vectors or on addresses.
Products and sums are fused where the machine can.

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

from arena_ckpt.kernels.kernel import typed_intrinsic
from arena_ckpt.kernels.vectors import (
    FLOAT,
    I32,
    I64,
    WIDTH,
    broadcast,
    count,
    load_vector,
    multiply_add,
    store_vector,
)
from arena_ckpt.operations.sizes import TILE_ROWS, TILE_VECTORS

ROWS, VECTORS = TILE_ROWS, TILE_VECTORS
TILE = VECTORS * WIDTH


def _tile_intrinsic(rows: int, vectors: int) -> Any:
    """Return the compiled tile; arrays travel as addresses, the rest as elements."""
    n_parameters = 13 + 2 * vectors

    @typed_intrinsic
    def compiled(typing_context: Any, arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            given = [builder.extract_value(args[0], i) for i in range(n_parameters)]
            kinds = (FLOAT, I32, FLOAT, FLOAT, FLOAT)
            x, table, w, init, y = (
                builder.inttoptr(address, kind.as_pointer())
                for address, kind in zip(given[:5], kinds, strict=True)
            )
            n, w0, w_step, w_row, i0, i_row, y_row, adds = given[5:13]
            x_at, y_at = given[13 : 13 + vectors], given[13 + vectors :]

            def row(j: int, first: Any, step: Any) -> Any:
                return builder.add(first, builder.mul(ir.Constant(I64, j), step))

            x_base = [builder.gep(x, [at]) for at in x_at]
            w_base = [builder.gep(w, [row(j, w0, w_row)]) for j in range(rows)]
            continues = builder.icmp_signed("!=", adds, ir.Constant(I64, 0))
            start = []
            for j in range(rows):
                value = builder.load(builder.gep(init, [row(j, i0, i_row)]))
                fresh = broadcast(builder, value)
                for at in y_at:
                    so_far = load_vector(builder, y, row(j, at, y_row))
                    start.append(builder.select(continues, so_far, fresh))

            def body(k: Any, sums: Any) -> Any:
                offset = builder.load(builder.gep(table, [k]))
                offset = builder.sext(offset, I64)
                loaded = [load_vector(builder, base, offset) for base in x_base]
                w_at = builder.mul(k, w_step)
                results = []
                for j in range(rows):
                    factor = builder.load(builder.gep(w_base[j], [w_at]))
                    factor = broadcast(builder, factor)
                    for v in range(vectors):
                        so_far = sums[j * vectors + v]
                        product = multiply_add(builder, factor, loaded[v], so_far)
                        results.append(product)
                return results

            sums = count(builder, n, start, body)
            for j in range(rows):
                for v in range(vectors):
                    at = row(j, y_at[v], y_row)
                    store_vector(builder, sums[j * vectors + v], y, at)
            return context.get_dummy_value()

        return types.void(arguments), codegen

    return compiled


_tile = _tile_intrinsic(ROWS, VECTORS)


def tile(
    x, x_at, table, n, w, w0, w_step, w_row, init, i0, i_row, y, y_at, y_row, adds
):
    """Compute one tile (see the module) and write its vectors to ``y``.

    Parameters
    ----------
    x, w, init, y : array of float32
    x_at, y_at : tuple of int
        Where each vector begins in x and in y.
    table : array of int32
        Offsets into x.
    n : int
        How many of them to take.
    w0, w_step, w_row, i0, i_row, y_row : int
        Where elements are: the first, the next of a sum, the next row.
    adds : int
        0 starts from ``init[i0 + j * i_row]``, else from what y holds.
    """
    for j in range(ROWS):
        for at, to in zip(x_at, y_at, strict=True):
            result = y[to + j * y_row :][:WIDTH]
            sums = np.full(WIDTH, init[i0 + j * i_row], np.float64)
            if adds:
                sums[:] = result
            for k in range(n):
                factor = np.float64(w[w0 + k * w_step + j * w_row])
                sums += factor * x[at + table[k] :][:WIDTH]
            result[:] = sums


@overload(tile)
def _compiled_tile(
    x, x_at, table, n, w, w0, w_step, w_row, init, i0, i_row, y, y_at, y_row, adds
):
    def run(
        x, x_at, table, n, w, w0, w_step, w_row, init, i0, i_row, y, y_at, y_row, adds
    ):
        _tile(
            (
                np.int64(x.ctypes.data),
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
                np.int64(y_row),
                np.int64(adds),
                np.int64(x_at[0]),
                np.int64(x_at[1]),
                np.int64(x_at[2]),
                np.int64(y_at[0]),
                np.int64(y_at[1]),
                np.int64(y_at[2]),
            )
        )

    return run


@typed_intrinsic
def _pack(
    typing_context: Any, w: Any, w0: Any, w_row: Any, table: Any, n: Any, y: Any
) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w, table, y = (
            builder.inttoptr(args[i], kind.as_pointer())
            for i, kind in ((0, FLOAT), (3, I32), (5, FLOAT))
        )
        _, w0, w_row, _, n, _ = args

        def body(k: Any, values: Any) -> Any:
            offset = builder.sext(builder.load(builder.gep(table, [k])), I64)
            at = builder.add(w0, offset)
            to = builder.mul(k, ir.Constant(I64, ROWS))
            for _ in range(ROWS):
                value = builder.load(builder.gep(w, [at]))
                builder.store(value, builder.gep(y, [to]))
                at = builder.add(at, w_row)
                to = builder.add(to, ir.Constant(I64, 1))
            return []

        count(builder, n, [], body)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen


def pack(w, w0, w_row, table, n, y):
    """Gather the weights of a tile: ``y[k, j] = w[w0 + table[k] + j * w_row]``.

    Parameters
    ----------
    w, y : array of float32
    w0, w_row : int
        The first element and how far that of the next row is.
    table : array of int32
        `n` offsets into w.
    """
    for k in range(n):
        for j in range(ROWS):
            y[k * ROWS + j] = w[w0 + table[k] + j * w_row]


@overload(pack)
def _compiled_pack(w, w0, w_row, table, n, y):
    def run(w, w0, w_row, table, n, y):
        addresses = np.int64(w.ctypes.data), np.int64(table.ctypes.data)
        _pack(addresses[0], w0, w_row, addresses[1], n, np.int64(y.ctypes.data))

    return run
