"""Splits matrix products, always alike, so that threads decide no bit of them.

A BLAS library may round the parts of a product otherwise than the whole. So a product
is split by its sizes alone, into the same parts for any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from arena_ckpt.lowering.call_parts import cuts, values_of
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.operations.families import blas, chains, windows
from arena_ckpt.operations.kernel_names import KernelName

PRODUCT_FLOPS = 1 << 23
"""Multiplications and additions of a matrix product that is split in two."""

LONG_PRODUCT = 2048
"""Rows or columns of a matrix product that is split in four."""

PRODUCT_UNIT = 32
"""Rows or columns that parts of products begin at multiples of."""

PRODUCTS: dict[KernelName, tuple[int, int]] = {
    blas.matmul: (0, 0),
    blas.matmul_transposed_a: (1, 0),
    blas.matmul_transposed_b: (0, 1),
    blas.matmul_transposed_b_onto: (0, 1),
    chains.chain_matmul: (0, 0),
    chains.chain_transposed_a: (1, 0),
    chains.chain_transposed_b: (0, 1),
    chains.chain_transposed_b_onto: (0, 1),
}
"""Whether the first factor is transposed, and the second."""


def product_parts(call: KernelCall) -> Iterator[KernelCall]:
    """Yield the products that make some of the rows, or of the columns, of a product.

    These are windows of the matrices. The larger of the two axes is cut: less has to be
    read several times.
    """
    values = values_of(call)
    a, b, c = (values[name] for name in ("a", "b", "c"))
    of_a, of_b = PRODUCTS[call.kernel]
    rows, columns = c.shape
    inner = a.shape[0] if of_a else a.shape[1]
    longest = max(rows, columns)
    n_parts = 4 if longest >= LONG_PRODUCT else 2
    if 2 * rows * columns * inner < PRODUCT_FLOPS or longest < n_parts * PRODUCT_UNIT:
        return
    is_blas = call.kernel.family == blas.name
    kernel = windows.matmul_windows if is_blas else chains.chain_windows
    flat = [matrix.reshape(-1) for matrix in (a, b, c)]
    cuts_rows = rows >= columns
    for start, stop in cuts(longest, n_parts, PRODUCT_UNIT):
        m, n = (stop - start, columns) if cuts_rows else (rows, stop - start)
        row, column = (start, 0) if cuts_rows else (0, start)
        places = (
            row if of_a else row * a.shape[1],
            column * b.shape[1] if of_b else column,
            row * columns + column,
        )
        yield replace(
            call,
            kernel=kernel,
            operands=(
                *(of_a, of_b, m, n, inner),
                *(flat[0], places[0], a.shape[1]),
                *(flat[1], places[1], b.shape[1]),
                values.get("beta", 0.0),
                *(flat[2], places[2], columns),
            ),
        )
