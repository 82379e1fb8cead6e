"""The innermost loop of convolutions: a small tile of sums of products, in registers.

A tile is `ROWS` × `VECTORS` vectors of `WIDTH` sums. Each step of its loop takes a
pair of offsets from a table, loads the vectors at one offset and multiplies them by
the numbers at the other:

    y[j][v] = init[j] + Σ_k w[w0 + table[2k+1] + j·w_stride] · x[x_v + table[2k]]

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

import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

ROWS, VECTORS, WIDTH = 4, 3, 8
TILE = VECTORS * WIDTH

_FLOAT, _I64 = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, WIDTH)
_I32 = ir.IntType(32)


def _fuses() -> bool:
    """Whether one instruction multiplies and adds; else LLVM would call a function."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return True
    return bool(llvmlite.binding.get_host_cpu_features().get("fma", False))


_FUSES = _fuses()


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    if _FUSES:
        fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(_VECTOR, [_VECTOR] * 3),
            f"llvm.fma.v{WIDTH}f32",
        )
        return builder.call(fma, [a, b, c])
    return builder.fadd(builder.fmul(a, b), c)


def _broadcast(builder: Any, value: Any) -> Any:
    one = builder.insert_element(
        ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(_I32, 0)
    )
    zeros = ir.Constant(ir.VectorType(_I32, WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), zeros)


def _at(builder: Any, base: Any, elems: Any) -> Any:
    return builder.gep(base, [elems])


def _load_vector(builder: Any, base: Any, elems: Any) -> Any:
    pointer = builder.bitcast(_at(builder, base, elems), _VECTOR.as_pointer())
    return builder.load(pointer, align=4)


def _store_vector(builder: Any, value: Any, base: Any, elems: Any) -> None:
    pointer = builder.bitcast(_at(builder, base, elems), _VECTOR.as_pointer())
    builder.store(value, pointer, align=4)


def _count(builder: Any, n: Any, start: list[Any], body: Callable[..., Any]) -> Any:
    """Emit ``for k in range(n): values = body(k, values)``; return the last values."""
    before = builder.block
    head = builder.append_basic_block("tile_head")
    inside = builder.append_basic_block("tile_body")
    after = builder.append_basic_block("tile_after")
    builder.branch(head)
    builder.position_at_end(head)
    k = builder.phi(_I64)
    values = [builder.phi(value.type) for value in start]
    k.add_incoming(ir.Constant(_I64, 0), before)
    for phi, value in zip(values, start, strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", k, n), inside, after)
    builder.position_at_end(inside)
    results = body(k, values)
    k.add_incoming(builder.add(k, ir.Constant(_I64, 1)), builder.block)
    for phi, value in zip(values, results, strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return values


def _tile_intrinsic(rows: int, vectors: int) -> Any:
    """The compiled tile; arrays travel as addresses, all else counts elements."""
    typed_intrinsic: Any = intrinsic  # typed in some Numba releases, not in others
    n_parameters = 12 + 2 * vectors

    @typed_intrinsic
    def tile(typing_context: Any, arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            given = [builder.extract_value(args[0], i) for i in range(n_parameters)]
            x, table, w, init, y = (
                builder.inttoptr(a, t.as_pointer())
                for a, t in zip(
                    given[:5], (_FLOAT, _I32, _FLOAT, _FLOAT, _FLOAT), strict=True
                )
            )
            first, n, w0, w_stride, i0, i_stride, y_stride = given[5:12]
            x_at, y_at = given[12 : 12 + vectors], given[12 + vectors :]

            def times(j: int, stride: Any) -> Any:
                return builder.mul(ir.Constant(_I64, j), stride)

            x_base = [_at(builder, x, at) for at in x_at]
            w_base = [
                _at(builder, w, builder.add(w0, times(j, w_stride)))
                for j in range(rows)
            ]
            start = []
            for j in range(rows):
                at = builder.add(i0, times(j, i_stride))
                value = _broadcast(builder, builder.load(_at(builder, init, at)))
                start += [value] * vectors
            table = _at(builder, table, builder.shl(first, ir.Constant(_I64, 1)))

            def body(k: Any, values: Any) -> Any:
                pair = builder.shl(k, ir.Constant(_I64, 1))
                x_off, w_off = (
                    builder.sext(
                        builder.load(
                            _at(
                                builder,
                                table,
                                builder.add(pair, ir.Constant(_I64, which)),
                            )
                        ),
                        _I64,
                    )
                    for which in range(2)
                )
                loaded = [_load_vector(builder, base, x_off) for base in x_base]
                results = []
                for j in range(rows):
                    factor = _broadcast(
                        builder, builder.load(_at(builder, w_base[j], w_off))
                    )
                    for v in range(vectors):
                        results.append(
                            _multiply_add(
                                builder, factor, loaded[v], values[j * vectors + v]
                            )
                        )
                return results

            sums = _count(builder, n, start, body)
            for j in range(rows):
                for v in range(vectors):
                    at = builder.add(y_at[v], times(j, y_stride))
                    _store_vector(builder, sums[j * vectors + v], y, at)
            return context.get_dummy_value()

        return types.void(arguments), codegen

    return tile


_tile = _tile_intrinsic(ROWS, VECTORS)


def tile(
    x, x_at, table, first, n, w, w0, w_stride, init, i0, i_stride, y, y_at, y_stride
):
    """Compute one tile (see the module) and write its vectors to ``y``.

    Parameters
    ----------
    x, w, init, y : array of float32
    x_at, y_at : tuple of int
        Where each vector begins in x and in y.
    table : array of int32
        Pairs of offsets into x and w.
    first, n : int
        The pairs to take.
    w0, w_stride, i0, i_stride, y_stride : int
        The first element and the distance of rows.
    """
    for j in range(ROWS):
        for at, to in zip(x_at, y_at, strict=True):
            sums = np.full(WIDTH, init[i0 + j * i_stride], np.float64)
            for k in range(first, first + n):
                begin = at + table[2 * k]
                factor = np.float64(w[w0 + table[2 * k + 1] + j * w_stride])
                sums += factor * x[begin : begin + WIDTH]
            begin = to + j * y_stride
            y[begin : begin + WIDTH] = sums


@overload(tile)
def _compiled_tile(
    x, x_at, table, first, n, w, w0, w_stride, init, i0, i_stride, y, y_at, y_stride
) -> Any:
    def run(
        x, x_at, table, first, n, w, w0, w_stride, init, i0, i_stride, y, y_at, y_stride
    ):
        _tile(
            (
                np.int64(x.ctypes.data),
                np.int64(table.ctypes.data),
                np.int64(w.ctypes.data),
                np.int64(init.ctypes.data),
                np.int64(y.ctypes.data),
                np.int64(first),
                np.int64(n),
                np.int64(w0),
                np.int64(w_stride),
                np.int64(i0),
                np.int64(i_stride),
                np.int64(y_stride),
                np.int64(x_at[0]),
                np.int64(x_at[1]),
                np.int64(x_at[2]),
                np.int64(y_at[0]),
                np.int64(y_at[1]),
                np.int64(y_at[2]),
            )
        )

    return run
