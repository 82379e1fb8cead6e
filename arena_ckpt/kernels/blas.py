"""Matrix products, by the BLAS library that the package depends on.

The library is loaded once and its ``cblas_sgemm`` registered with LLVM under a name
of ours, which compiled kernels refer to; so their disk cache does not depend on which
library is loaded, or where.

It computes each product in the thread that asks for it. So its results depend on no
number of threads, and run under the floating-point flags of the walk.
"""

from __future__ import annotations

import ctypes
import importlib

import llvmlite.binding
import numpy as np
from numba import types

from arena_ckpt.kernels.compiling import helper, routine
from arena_ckpt.kernels.flags import default_flags
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.operations.array_types import Matrix, Vector

ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE = 101, 111, 112

with default_flags():
    # The package loads the library when it is imported.
    scipy_openblas32 = importlib.import_module("scipy_openblas32")
    _library = ctypes.CDLL(scipy_openblas32.get_library(fullname=True))
    _library.scipy_openblas_set_num_threads(1)
llvmlite.binding.add_symbol(
    "arena_ckpt_sgemm",
    ctypes.cast(_library.scipy_cblas_sgemm, ctypes.c_void_p).value,
)
_int = types.int32
# Addresses travel as integers: the ABI passes both in the same registers.
_sgemm = types.ExternalFunction(
    "arena_ckpt_sgemm",
    types.void(
        *(_int, _int, _int, _int, _int, _int, types.float32),
        *(types.uintp, _int, types.uintp, _int, types.float32, types.uintp, _int),
    ),
)


@helper
def address_of(array, offset):
    """Address of element `offset` of a flat float32 array."""
    return array.ctypes.data + np.uint64(4 * offset)


@routine
def gemm_at(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """``c = alpha * op(a) @ op(b) + beta * c`` at addresses, with row strides."""
    _sgemm(
        ROW_MAJOR,
        TRANSPOSE if transpose_a else NO_TRANSPOSE,
        TRANSPOSE if transpose_b else NO_TRANSPOSE,
        m,
        n,
        k,
        alpha,
        a,
        lda,
        b,
        ldb,
        beta,
        c,
        ldc,
    )


@helper
def _gemm(transpose_a, transpose_b, m, n, k, a, b, beta, c):
    gemm_at(
        transpose_a,
        transpose_b,
        m,
        n,
        k,
        1.0,
        a.ctypes.data,
        a.shape[1],
        b.ctypes.data,
        b.shape[1],
        beta,
        c.ctypes.data,
        c.shape[1],
    )


@kernel
def matmul(a: Matrix, b: Matrix, c: Matrix) -> None:
    """``c = a @ b`` for a (m, k), b (k, n), c (m, n)."""
    _gemm(False, False, a.shape[0], b.shape[1], a.shape[1], a, b, 0.0, c)


@kernel
def matmul_transposed_a(a: Matrix, b: Matrix, beta: float, c: Matrix) -> None:
    """``c = a.T @ b + beta * c`` for a (k, m), b (k, n), c (m, n)."""
    _gemm(True, False, a.shape[1], b.shape[1], a.shape[0], a, b, beta, c)


@kernel
def matmul_transposed_b(a: Matrix, b: Matrix, c: Matrix) -> None:
    """``c = a @ b.T`` for a (m, k), b (n, k), c (m, n)."""
    _gemm(False, True, a.shape[0], b.shape[0], a.shape[1], a, b, 0.0, c)


@kernel
def matmul_transposed_b_onto(a: Matrix, b: Matrix, beta: float, c: Matrix) -> None:
    """``c = a @ b.T + beta * c`` for a (m, k), b (n, k), c (m, n)."""
    _gemm(False, True, a.shape[0], b.shape[0], a.shape[1], a, b, beta, c)


@kernel
def matmul_each(
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
    """``c = a @ b`` for each of n pairs of matrices, one after another in memory.

    Each a is (rows, inner), b (inner, columns), c (rows, columns); where transposed is
    not 0, a is stored as (inner, rows), b as (columns, inner).
    """
    a_width = rows if transposed_a != 0 else inner
    b_width = inner if transposed_b != 0 else columns
    for i in range(n):
        a_at = address_of(a, i * rows * inner)
        b_at = address_of(b, i * inner * columns)
        c_at = address_of(c, i * rows * columns)
        gemm_at(
            transposed_a != 0, transposed_b != 0, rows, columns, inner, 1.0,
            a_at, a_width, b_at, b_width, 0.0, c_at, columns,
        )  # fmt: skip
