"""Matrix products in one fixed order: a chain of fused multiply-adds for each element.

    c[i, j] = fma(alpha a[i, k-1], b[k-1, j], … fma(alpha a[i, 0], b[0, j], start))

`start` is ``beta * c[i, j]``, or 0 where beta is 0. The chain runs along k in order, so
the bits depend on neither tiles, vectors, threads nor the processor, and a C program
gives the same.

Stages, to be fast all the same: k is cut into pieces of `DEPTH`, between which the sums
stand in c (to store a float32 sum and load it again changes nothing); the columns into
panels of some vectors. A panel is read where it lies, or copied onto the stack if its
rows are columns in memory. Then tiles of `ROWS` rows run over it, all of whose sums
stand in registers. Lanes beyond the last column are neither read nor written.

References
----------
T. M. Low et al., "Analytical modeling is enough for high-performance BLIS", TOMS 2016
(how large a tile of registers should be).
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import overload

from arena_ckpt.kernels.compiling import helper, routine
from arena_ckpt.kernels.kernel import float_pointer, kernel, typed_intrinsic
from arena_ckpt.kernels.lanes import room_on_stack
from arena_ckpt.kernels.transposition import transpose_square
from arena_ckpt.kernels.vectors import FLOAT, I32, I64, count
from arena_ckpt.operations.array_types import Doubles, Matrix, Vector


def _is_wide() -> bool:
    """Whether the processor has vectors of 16 numbers, and 32 registers for them."""
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))


LANES = 16 if _is_wide() else 8
"""Number of sums in a vector."""

ROWS = 8 if _is_wide() else 4
"""Number of rows of a tile."""

VECTORS = 3
"""Maximum number of vectors in a row of a tile."""

PANEL = VECTORS * LANES
"""Maximum number of columns of a panel."""

DEPTH = 128
"""Maximum number of multiply-adds of an element between two looks at c."""

_VECTOR = ir.VectorType(FLOAT, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)


@typed_intrinsic
def fused(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a * b + c`` of float32 numbers, rounded once."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), codegen


# -- one tile --------------------------------------------------------------------------


def splat(builder: Any, value: Any, length: int = LANES) -> Any:
    """Emit a vector of one value."""
    kind = ir.VectorType(value.type, length)
    nothing = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, length), [0] * length)
    return builder.shuffle_vector(one, nothing, zeros)


def _intrinsic_call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    of_type = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, of_type, name)
    return builder.call(function, arguments)


def _tile_intrinsic(n_rows: int, n_vectors: int, *, is_whole: bool) -> Any:
    """Return the compiled tile of rows and vectors.

    Of its last vector only the lanes below a number are touched, unless it is whole.
    """

    @typed_intrinsic
    def compiled(typing_context: Any, arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            given = [builder.extract_value(args[0], i) for i in range(11)]
            a, b, c = (builder.inttoptr(x, FLOAT.as_pointer()) for x in given[:3])
            a_row, a_step, b_step, c_row, rows, lanes, k, fresh = given[3:]
            last_row = builder.sub(rows, ir.Constant(I64, 1))
            is_fresh = builder.icmp_signed("!=", fresh, ir.Constant(I64, 0))
            numbers = ir.Constant(ir.VectorType(I64, LANES), list(range(LANES)))
            mask = builder.icmp_signed("<", numbers, splat(builder, lanes))
            nothing = ir.Constant(_VECTOR, [0.0] * LANES)
            # LLVM has changed these names since, and still knows them.
            suffix = f"v{LANES}f32.p0v{LANES}f32"

            def is_partial(v: int) -> bool:
                return not is_whole and v == n_vectors - 1

            def place(base: Any, at: Any, v: int) -> Any:
                at = builder.add(at, ir.Constant(I64, v * LANES))
                return builder.bitcast(builder.gep(base, [at]), _VECTOR.as_pointer())

            def load(base: Any, at: Any, v: int) -> Any:
                pointer = place(base, at, v)
                if not is_partial(v):
                    return builder.load(pointer, align=4)
                name = f"llvm.masked.load.{suffix}"
                four = ir.Constant(I32, 4)
                return _intrinsic_call(
                    builder, name, _VECTOR, pointer, four, mask, nothing
                )

            def store(value: Any, base: Any, at: Any, v: int) -> None:
                pointer = place(base, at, v)
                if not is_partial(v):
                    builder.store(value, pointer, align=4)
                    return
                name = f"llvm.masked.store.{suffix}"
                four = ir.Constant(I32, 4)
                _intrinsic_call(
                    builder, name, ir.VoidType(), value, pointer, four, mask
                )

            # Missing rows are the last one once more: the same sums, stored twice.
            a_at, c_at = [], []
            for j in range(n_rows):
                row = ir.Constant(I64, j)
                is_there = builder.icmp_signed("<", row, rows)
                row = builder.select(is_there, row, last_row)
                a_at.append(builder.gep(a, [builder.mul(row, a_row)]))
                c_at.append(builder.mul(row, c_row))
            start = builder.append_basic_block("start_from_c")
            begin = builder.append_basic_block("begin")
            before = builder.block
            builder.cbranch(is_fresh, begin, start)
            builder.position_at_end(start)
            so_far = [load(c, at, v) for at in c_at for v in range(n_vectors)]
            builder.branch(begin)
            builder.position_at_end(begin)
            sums = []
            for value in so_far:
                phi = builder.phi(_VECTOR)
                phi.add_incoming(nothing, before)
                phi.add_incoming(value, start)
                sums.append(phi)

            def body(p: Any, sums: Any) -> Any:
                at = builder.mul(p, b_step)
                columns = [load(b, at, v) for v in range(n_vectors)]
                a_place = builder.mul(p, a_step)
                results = []
                for j in range(n_rows):
                    value = builder.load(builder.gep(a_at[j], [a_place]))
                    value = splat(builder, value)
                    for v in range(n_vectors):
                        results.append(
                            _intrinsic_call(
                                builder,
                                f"llvm.fma.v{LANES}f32",
                                _VECTOR,
                                value,
                                columns[v],
                                sums[j * n_vectors + v],
                            )
                        )
                return results

            sums = count(builder, k, sums, body)
            for j in range(n_rows):
                for v in range(n_vectors):
                    store(sums[j * n_vectors + v], c, c_at[j], v)
            return context.get_dummy_value()

        return types.void(arguments), codegen

    return compiled


_WHOLE = _tile_intrinsic(ROWS, 3, is_whole=True)
_THREE = _tile_intrinsic(ROWS, 3, is_whole=False)
_TWO = _tile_intrinsic(ROWS, 2, is_whole=False)
_ONE = _tile_intrinsic(ROWS, 1, is_whole=False)
_ROW_THREE = _tile_intrinsic(1, 3, is_whole=False)
_ROW_TWO = _tile_intrinsic(1, 2, is_whole=False)
_ROW_ONE = _tile_intrinsic(1, 1, is_whole=False)


@routine
def _tile(a, a_row, a_step, b, b_step, c, c_row, rows, columns, k, fresh):
    """Add k products to each element of a tile of `rows` × `columns`.

    Parameters
    ----------
    a, b, c : int
        Addresses of the first elements.
    a_row, c_row : int
        Elements from a row of the tile to the next.
    a_step, b_step : int
        Elements from a product to the next.
    rows, columns : int
        At most `ROWS` and `PANEL`.
    fresh : int
        Not 0 where sums begin at 0 instead of what c holds.
    """
    lanes = (columns - 1) % LANES + 1
    given = (a, b, c, a_row, a_step, b_step, c_row, rows, lanes, k, fresh)
    if rows == 1:
        if columns > 2 * LANES:
            _ROW_THREE(given)
        elif columns > LANES:
            _ROW_TWO(given)
        else:
            _ROW_ONE(given)
    elif columns == PANEL:
        _WHOLE(given)
    elif columns > 2 * LANES:
        _THREE(given)
    elif columns > LANES:
        _TWO(given)
    else:
        _ONE(given)


# -- products --------------------------------------------------------------------------

_panel_on_stack = room_on_stack(types.float32, FLOAT, PANEL * DEPTH)
_rows_on_stack = room_on_stack(types.float32, FLOAT, ROWS * DEPTH)


def _panel() -> Any:
    return np.empty(PANEL * DEPTH, np.float32)


@overload(_panel, inline="always")  # the frame of the caller, as in `lanes`
def _compiled_panel() -> Any:
    return lambda: carray(_panel_on_stack(), PANEL * DEPTH)


def _scaled_rows() -> Any:
    return np.empty(ROWS * DEPTH, np.float32)


@overload(_scaled_rows, inline="always")
def _compiled_scaled_rows() -> Any:
    return lambda: carray(_rows_on_stack(), ROWS * DEPTH)


@helper
def _floats(address, length):
    """View of float32 numbers at an address."""
    return carray(float_pointer(np.int64(address)), length)


@routine
def _pack(b, stride, columns, depth, panel):
    """Copy rows of memory into columns: ``panel[p, j] = b[j * stride + p]``."""
    source = _floats(b, (columns - 1) * stride + depth)
    whole, deep = columns - columns % 8, depth - depth % 8
    for j in range(0, whole, 8):
        for p in range(0, deep, 8):
            transpose_square(
                source, j * stride + p, stride, panel, p * PANEL + j, PANEL
            )
    for j in range(columns):
        for p in range(deep if j < whole else 0, depth):
            panel[p * PANEL + j] = source[j * stride + p]


@routine
def _copy_panel(b, stride, columns, depth, panel):
    """Copy columns of memory side by side: ``panel[p, j] = b[p * stride + j]``."""
    for p in range(depth):
        source, target = _floats(b + 4 * (p * stride), columns), panel[p * PANEL :]
        for j in range(columns):
            target[j] = source[j]


@routine
def _scale_rows(a, row, step, rows, depth, factor, scaled):
    """``scaled[i, p] = factor * a[i * row + p * step]``."""
    source = _floats(a, (rows - 1) * row + max(depth - 1, 0) * step + 1)
    for i in range(rows):
        for p in range(depth):
            scaled[i * DEPTH + p] = factor * source[i * row + p * step]


@routine
def _scale(c, stride, m, n, factor):
    """``c *= factor``."""
    for i in range(m):
        row = _floats(c + 4 * (i * stride), n)
        for j in range(n):
            row[j] *= factor


@routine
def chain_at(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """``c = alpha * op(a) @ op(b) + beta * c`` at addresses, with row strides."""
    panel, scaled = _panel(), _scaled_rows()
    factor, share = np.float32(alpha), np.float32(beta)
    a, b, c = np.int64(a), np.int64(b), np.int64(c)
    lda, ldb, ldc = np.int64(lda), np.int64(ldb), np.int64(ldc)
    a_row, a_step = (1, lda) if transpose_a else (lda, 1)
    if share != np.float32(0.0) and share != np.float32(1.0):
        _scale(c, ldc, m, n, share)
    # Far apart rows that are read often had better stand together.
    copies = ldb > 4 * PANEL and m > 4 * ROWS
    for p0 in range(0, max(k, 1), DEPTH):
        depth = min(DEPTH, k - p0)
        fresh = 1 if p0 == 0 and share == np.float32(0.0) else 0
        for j0 in range(0, n, PANEL):
            columns = min(PANEL, n - j0)
            columns_at, b_step = b + 4 * (p0 * ldb + j0), ldb
            if transpose_b and depth > 0:
                _pack(b + 4 * (j0 * ldb + p0), ldb, columns, depth, panel)
            elif copies:
                _copy_panel(columns_at, ldb, columns, depth, panel)
            if transpose_b or copies:
                columns_at, b_step = np.int64(panel.ctypes.data), PANEL
            for i0 in range(0, m, ROWS):
                rows = min(ROWS, m - i0)
                a_at, row, step = a + 4 * (i0 * a_row + p0 * a_step), a_row, a_step
                if factor != np.float32(1.0):
                    _scale_rows(a_at, row, step, rows, depth, factor, scaled)
                    a_at, row, step = np.int64(scaled.ctypes.data), DEPTH, 1
                c_at = c + 4 * (i0 * ldc + j0)
                _tile(
                    a_at, row, step, columns_at, b_step, c_at, ldc, rows, columns,
                    depth, fresh,
                )  # fmt: skip


@helper
def _multiply(transpose_a, transpose_b, m, n, k, alpha, a, b, beta, c):
    chain_at(
        transpose_a,
        transpose_b,
        m,
        n,
        k,
        alpha,
        a.ctypes.data,
        a.shape[1],
        b.ctypes.data,
        b.shape[1],
        beta,
        c.ctypes.data,
        c.shape[1],
    )


@kernel
def chain_matmul(a: Matrix, b: Matrix, c: Matrix) -> None:
    """``c = a @ b`` for a (m, k), b (k, n), c (m, n)."""
    _multiply(False, False, a.shape[0], b.shape[1], a.shape[1], 1.0, a, b, 0.0, c)


@kernel
def chain_transposed_a(a: Matrix, b: Matrix, beta: float, c: Matrix) -> None:
    """``c = a.T @ b + beta * c`` for a (k, m), b (k, n), c (m, n)."""
    _multiply(True, False, a.shape[1], b.shape[1], a.shape[0], 1.0, a, b, beta, c)


@kernel
def chain_transposed_b(a: Matrix, b: Matrix, c: Matrix) -> None:
    """``c = a @ b.T`` for a (m, k), b (n, k), c (m, n)."""
    _multiply(False, True, a.shape[0], b.shape[0], a.shape[1], 1.0, a, b, 0.0, c)


@kernel
def chain_transposed_b_onto(a: Matrix, b: Matrix, beta: float, c: Matrix) -> None:
    """``c = a @ b.T + beta * c`` for a (m, k), b (n, k), c (m, n)."""
    _multiply(False, True, a.shape[0], b.shape[0], a.shape[1], 1.0, a, b, beta, c)


@kernel
def chain_each(
    a: Vector,
    b: Vector,
    c: Vector,
    n: int,
    rows: int,
    inner: int,
    columns: int,
    transposed_a: int,
    transposed_b: int,
) -> None:
    """``c = a @ b`` for each of n pairs of matrices, as `blas.matmul_each`."""
    a_width = rows if transposed_a != 0 else inner
    b_width = inner if transposed_b != 0 else columns
    for i in range(n):
        chain_at(
            transposed_a != 0, transposed_b != 0, rows, columns, inner, 1.0,
            np.int64(a.ctypes.data) + 4 * (i * rows * inner), a_width,
            np.int64(b.ctypes.data) + 4 * (i * inner * columns), b_width, 0.0,
            np.int64(c.ctypes.data) + 4 * (i * rows * columns), columns,
        )  # fmt: skip


@kernel
def chain_windows(
    transpose_a: int,
    transpose_b: int,
    m: int,
    n: int,
    k: int,
    a: Vector,
    a_place: int,
    a_distance: int,
    b: Vector,
    b_place: int,
    b_distance: int,
    beta: float,
    c: Vector,
    c_place: int,
    c_distance: int,
) -> None:
    """``c = a @ b + beta * c`` (m, n) on windows: first element, distance of rows."""
    chain_at(
        transpose_a != 0, transpose_b != 0, m, n, k, 1.0,
        np.int64(a.ctypes.data) + 4 * a_place, a_distance,
        np.int64(b.ctypes.data) + 4 * b_place, b_distance, beta,
        np.int64(c.ctypes.data) + 4 * c_place, c_distance,
    )  # fmt: skip


@kernel
def chain_sgd_product(a: Matrix, b: Matrix, hyper: Doubles, weight: Matrix) -> None:
    """``w -= learning_rate * a.T @ b``, as `updates.sgd_product`."""
    rate = -hyper[0]
    _multiply(True, False, a.shape[1], b.shape[1], a.shape[0], rate, a, b, 1.0, weight)
