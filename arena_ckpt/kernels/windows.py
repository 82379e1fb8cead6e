"""Matrix products on parts of matrices: some of the columns, some of the rows."""

from __future__ import annotations

from typing import Any

from arena_ckpt.kernels.blas import address_of, gemm_at
from arena_ckpt.kernels.chains import chain_at
from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.operations.array_types import Vector


def _windows_by(multiply_at: Any) -> Any:
    """Return a product of windows that is computed by `gemm_at` or `chain_at`."""

    @helper
    def multiply(transpose_a, transpose_b, sizes, a, b, beta, c):
        """``c = a @ b + beta * c`` on windows into flat arrays.

        `sizes` is (m, n, k) of the product; each operand is a tuple (array, place of
        its first element, distance of its rows). Places count float32 elements.
        """
        m, n, k = sizes
        a_array, a_place, a_distance = a
        b_array, b_place, b_distance = b
        c_array, c_place, c_distance = c
        multiply_at(
            transpose_a,
            transpose_b,
            m,
            n,
            k,
            1.0,
            address_of(a_array, a_place),
            a_distance,
            address_of(b_array, b_place),
            b_distance,
            beta,
            address_of(c_array, c_place),
            c_distance,
        )

    return multiply


multiply_windows = _windows_by(gemm_at)
multiply_windows_in_chains = _windows_by(chain_at)
"""The same in portable arithmetic."""


@kernel
def matmul_windows(
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
    multiply_windows(
        transpose_a,
        transpose_b,
        (m, n, k),
        (a, a_place, a_distance),
        (b, b_place, b_distance),
        beta,
        (c, c_place, c_distance),
    )
