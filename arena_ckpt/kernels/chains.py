"""Matrix products in one fixed order: a chain of fused multiply-adds for each element.

    c[i, j] = fma(alpha a[i, k-1], b[k-1, j], … fma(alpha a[i, 0], b[0, j], start))

`start` is ``beta * c[i, j]``, or 0 where beta is 0. The chain runs along k in order, so
the bits depend on neither tiles, vectors, threads nor the processor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types

from arena_ckpt.kernels.compiling import routine
from arena_ckpt.kernels.kernel import float_pointer, typed_intrinsic


@typed_intrinsic
def fused(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a * b + c`` of float32 numbers, rounded once."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), codegen


@routine
def chain_at(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """``c = alpha * op(a) @ op(b) + beta * c`` at addresses, with row strides."""
    factor, share = np.float32(alpha), np.float32(beta)
    for i in range(m):
        for j in range(n):
            at = i * ldc + j
            out = carray(float_pointer(np.int64(c)), at + 1)
            total = np.float32(0.0) if share == 0 else share * out[at]
            for p in range(k):
                a_at = p * lda + i if transpose_a else i * lda + p
                b_at = j * ldb + p if transpose_b else p * ldb + j
                x = carray(float_pointer(np.int64(a)), a_at + 1)[a_at]
                y = carray(float_pointer(np.int64(b)), b_at + 1)[b_at]
                total = fused(factor * x, y, total)
            out[at] = total
