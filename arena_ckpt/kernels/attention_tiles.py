"""Loops over a row of scores and products over a tile of them, for `attention`.

A tile is the scores of some queries and keys of one head, (rows, columns) in memory; a
row is what one query has in it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from arena_ckpt.kernels.blas import address_of, gemm_at
from arena_ckpt.kernels.chains import chain_at
from arena_ckpt.kernels.compiling import helper, routine
from arena_ckpt.kernels.lanes import LANES, clear, float_lanes, folded
from arena_ckpt.kernels.random_bits import drop_threshold, keep, row_key, sample_key
from arena_ckpt.kernels.vector_math import ZERO, exp

# -- loops over one row ---------------------------------------------------------------


@routine
def largest(row, so_far):
    """Return the greatest of `so_far` and the elements that are not NaN."""
    lanes = float_lanes()
    for j in range(LANES):
        lanes[j] = so_far
    for start in range(0, row.size, LANES):
        part = row[start : start + LANES]
        for j in range(part.size):
            most = part[j] if part[j] > lanes[j] else lanes[j]
            lanes[j] = most + ZERO  # else a slow masked store
    for j in range(16):
        lanes[j] = lanes[j + 16] if lanes[j + 16] > lanes[j] else lanes[j]
    for j in range(8):
        lanes[j] = lanes[j + 8] if lanes[j + 8] > lanes[j] else lanes[j]
    most = lanes[0]
    for j in range(1, 8):
        most = lanes[j] if lanes[j] > most else most
    return most


@routine
def exponentials(row, most):
    """``row = exp(row - most)``; return its sum."""
    lanes = float_lanes()
    clear(lanes)
    for start in range(0, row.size, LANES):
        part = row[start : start + LANES]
        for j in range(part.size):
            e = exp(part[j] - most)
            part[j] = e
            lanes[j] += e
    return folded(lanes)


@routine
def scale_row(row, factor):
    """``row *= factor``."""
    for j in range(row.size):
        row[j] *= factor


@routine
def zero(row):
    """``row = 0``."""
    for j in range(row.size):
        row[j] = ZERO


@routine
def add_row(row, other):
    """``row += other``."""
    for j in range(row.size):
        row[j] += other[j]


@routine
def row_probabilities(row, most, log_sum):
    """``row = exp(row - most - log_sum)``."""
    for j in range(row.size):
        row[j] = exp((row[j] - most) - log_sum)


@routine
def softmax_slopes(p, dp, delta):
    """``dp = p * (dp - delta)``."""
    for j in range(p.size):
        dp[j] = p[j] * (dp[j] - delta)


@routine
def copy_row(source, target):
    """``target = source``, which may be longer."""
    for j in range(target.size):
        target[j] = source[j]


# -- tiles ----------------------------------------------------------------------------


class Sizes(NamedTuple):
    """Sizes of the arrays of one attention, and of its tiles."""

    heads: int
    t: int  # queries
    s: int  # keys
    dk: int  # elements of a query or key of one head
    dv: int  # elements of a value of one head
    mask_heads: int  # 0: there is no mask
    causal: int  # not 0: query i sees keys 0 ... i
    rows: int  # queries of a tile
    columns: int  # keys of a tile
    is_portable: int  # not 0: products by `chain_at`


class Tile(NamedTuple):
    """Queries `i0` up to `i1` and keys `j0` up to `j1` of head `h` of sample `n`."""

    n: int
    h: int
    i0: int
    i1: int
    j0: int
    j1: int


class Dropout(NamedTuple):
    """What is dropped of a sample, in the terms of `random_bits.keep`."""

    key: int  # of the sample
    threshold: int  # 0: nothing is dropped
    scale: float


class Matrix(NamedTuple):
    """Rows of float32 numbers somewhere in memory."""

    address: int  # of the first element
    stride: int  # elements from one row to the next


@routine
def dropout_of(key, rate, control, n):
    """Return what is dropped of sample `n`; `control` as in `tiled_forward`."""
    sample = sample_key(key, int(control[0]), int(control[1]) + n)
    return Dropout(sample, drop_threshold(rate), np.float32(1.0 / (1.0 - rate)))


@routine
def of_head(array, row, h, heads, width):
    """Return the columns of head `h`, from a row on, in (any, heads * width)."""
    return Matrix(address_of(array, (row * heads + h) * width), heads * width)


@routine
def product(sizes, transpose_a, transpose_b, m, n, k, alpha, a, b, beta, c):
    """``c = alpha * op(a) @ op(b) + beta * c`` for op(a) (m, k), op(b) (k, n)."""
    if sizes.is_portable:
        chain_at(
            transpose_a, transpose_b, m, n, k, alpha, a.address, a.stride,
            b.address, b.stride, beta, c.address, c.stride,
        )  # fmt: skip
    else:
        gemm_at(
            transpose_a, transpose_b, m, n, k, alpha, a.address, a.stride,
            b.address, b.stride, beta, c.address, c.stride,
        )  # fmt: skip


@routine
def score_scale(sizes):
    """Return ``1 / sqrt(dk)``."""
    return np.float32(1.0 / math.sqrt(sizes.dk))


@routine
def row_number(tile, i, sizes):
    """Return which row query `i` is in an array (samples, heads, t, any)."""
    return (tile.n * sizes.heads + tile.h) * sizes.t + i


@helper
def row_of(array, tile, i, sizes):
    """Return what query `i` has in an array (rows, columns) of a tile."""
    at = (i - tile.i0) * sizes.columns
    return array[at : at + tile.j1 - tile.j0]


@helper
def n_visible(tile, i, sizes):
    """Return how many keys of a tile query `i` may see: the first ones."""
    width = tile.j1 - tile.j0
    return max(0, min(width, i + 1 - tile.j0)) if sizes.causal else width


@routine
def scores_of(q, k, scores, sizes, tile):
    """``scores = q kᵀ / sqrt(dk)``.

    q (samples, t, heads * dk), k (samples, s, heads * dk), scores (rows, columns)
    """
    heads, dk = sizes.heads, sizes.dk
    queries = of_head(q, tile.n * sizes.t + tile.i0, tile.h, heads, dk)
    keys = of_head(k, tile.n * sizes.s + tile.j0, tile.h, heads, dk)
    n_rows, n_keys = tile.i1 - tile.i0, tile.j1 - tile.j0
    to = Matrix(address_of(scores, 0), sizes.columns)
    scale = score_scale(sizes)
    product(sizes, False, True, n_rows, n_keys, dk, scale, queries, keys, 0.0, to)


@helper
def masked_row(scores, mask, tile, i, sizes):
    """Return the scores of the keys that query `i` may see, the others being 0.

    scores (rows, columns), mask (samples, mask_heads, t, s)
    """
    row, visible = row_of(scores, tile, i, sizes), n_visible(tile, i, sizes)
    zero(row[visible:])
    row = row[:visible]
    if sizes.mask_heads:
        head = tile.n * sizes.mask_heads + (tile.h if sizes.mask_heads > 1 else 0)
        at = (head * sizes.t + i) * sizes.s + tile.j0
        add_row(row, mask[at : at + visible])
    return row


@routine
def drop_row(row, dropout, tile, i, sizes):
    """Apply dropout to the first probabilities of query `i` in a tile."""
    key = row_key(dropout.key, tile.h * sizes.t + i)
    for j in range(row.size):
        row[j] *= keep(key, tile.j0 + j, dropout.threshold, dropout.scale)
