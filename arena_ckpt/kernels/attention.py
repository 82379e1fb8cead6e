"""Scaled dot-product attention between projected tokens.

Layout: query ``q`` (samples, t, heads * dk), ``k`` (samples, s, heads * dk), ``v``
(samples, s, heads * dv), result ``out`` (samples, t, heads * dv). For each sample and
head, with the scores z = q kᵀ / sqrt(dk) + mask and the probabilities p of each row:

    out = p v     dv = pᵀ d_out     dp = d_out vᵀ     dz = p (dp - rowsum(p * dp))
    dq = dz k / sqrt(dk)            dk = dzᵀ q / sqrt(dk)

Both directions work on tiles of `rows` queries (`attention_tiles`); a causal mask skips
what lies beyond a tile. Products are by BLAS, in portable arithmetic by `chains`.

*tiled* goes through the keys in tiles of `columns` with a running maximum and sum, and
leaves only the logarithm of the row sums (``lse``); backward makes each tile of
probabilities again from it. *plain* leaves the probabilities, with tiles as wide as
all keys. Backward computes dq, dk and dv of a head in a small workspace and puts them
where q, k and v of the head were, so they need no memory of their own.

A row that the mask forbids altogether gives 0 and no derivatives, as in PyTorch.

rowsum(p * dp) is rowsum(d_out * out) too, which needs no row in one piece, but differs
by rounding. Where one probability is 1 the row's own sum makes dz exactly 0; the other
leaves a rounding error of dp in it, which keys of 1e6 make larger than any derivative.
So it is taken only where a row stands in several tiles and no probability in it is 1.

References
----------
Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018.
Dao, "FlashAttention-2", 2023, algorithms 1 and 2.
"""

from __future__ import annotations

import functools
from types import FunctionType
from typing import NamedTuple

import numpy as np

from arena_ckpt.kernels.attention_tiles import (
    Matrix,
    Sizes,
    Tile,
    copy_row,
    drop_row,
    dropout_of,
    exponentials,
    largest,
    masked_row,
    n_visible,
    of_head,
    product,
    row_number,
    row_of,
    row_probabilities,
    scale_row,
    score_scale,
    scores_of,
    softmax_slopes,
    zero,
)
from arena_ckpt.kernels.blas import address_of
from arena_ckpt.kernels.compiling import helper, routine
from arena_ckpt.kernels.elementary import log
from arena_ckpt.kernels.kernel import Kernel, kernel
from arena_ckpt.kernels.lanes import inner_product
from arena_ckpt.kernels.random_bits import keep, row_key
from arena_ckpt.kernels.vector_math import ONE, ZERO, exp
from arena_ckpt.operations.array_types import Doubles, Vector
from arena_ckpt.operations.portable import PORTABLE

IS_PORTABLE = 0
"""Not 0 in the twins of the kernels: see `variant`."""

_LEAST = np.float32(-3.4028234663852886e38)
_MOST = np.float32(3.4028234663852886e38)


# -- forward --------------------------------------------------------------------------


@routine
def _add_values(p, v, out, sizes, tile):
    """``out += p v``, or ``out = p v`` of the first keys.

    p (rows, columns), v (samples, s, heads * dv), out (samples, t, heads * dv)
    """
    heads, dv = sizes.heads, sizes.dv
    left = Matrix(address_of(p, 0), sizes.columns)
    values = of_head(v, tile.n * sizes.s + tile.j0, tile.h, heads, dv)
    to = of_head(out, tile.n * sizes.t + tile.i0, tile.h, heads, dv)
    n_rows, n_keys = tile.i1 - tile.i0, tile.j1 - tile.j0
    beta = 1.0 if tile.j0 > 0 else 0.0
    product(sizes, False, False, n_rows, dv, n_keys, 1.0, left, values, beta, to)


@routine
def _scale_output(out, tile, i, factor, sizes):
    """Multiply what query `i` has in out (samples, t, heads * dv)."""
    at = ((tile.n * sizes.t + i) * sizes.heads + tile.h) * sizes.dv
    scale_row(out[at : at + sizes.dv], factor)


@routine
def _running_softmax(scores, mask, out, lse, sums, dropout, sizes, tile):
    """Turn scores into exponentials, beyond the greatest score of the keys so far.

    What earlier keys put into `sums` and `out` is brought to that greatest score.

    scores (rows, columns), mask (samples, mask_heads, t, s), sums (rows,)
    out (samples, t, heads * dv), lse (samples, heads, t, 2): only the greatest so far
    """
    is_first = tile.j0 == 0
    for i in range(tile.i0, tile.i1):
        row = masked_row(scores, mask, tile, i, sizes)
        number = 2 * row_number(tile, i, sizes)
        before = _LEAST if is_first else lse[number]
        most = np.float32(largest(row, before))
        total = np.float32(exponentials(row, most))
        if not is_first and most > before:
            shrink = np.float32(exp(before - most))
            total += shrink * sums[i - tile.i0]
            _scale_output(out, tile, i, shrink, sizes)
        elif not is_first:
            total += sums[i - tile.i0]
        lse[number] = most
        sums[i - tile.i0] = total
        if dropout.threshold > 0:
            drop_row(row, dropout, tile, i, sizes)


@routine
def _end_softmax(out, lse, sums, sizes, tile):
    """Divide `out` by the sums and put their logarithms into `lse`, after all keys.

    out (samples, t, heads * dv), lse (samples, heads, t, 2), sums (rows,)
    """
    for i in range(tile.i0, tile.i1):
        total = sums[i - tile.i0]
        number = 2 * row_number(tile, i, sizes)
        # A forbidden row: any numbers that make exp(-inf - lse) = 0.
        lse[number + 1] = ZERO
        if total == ZERO:
            lse[number] = _MOST
        else:
            lse[number + 1] = np.float32(log(np.float64(total)))
        inverse = ZERO if total == ZERO else ONE / total
        _scale_output(out, tile, i, inverse, sizes)


@kernel
def tiled_forward(
    q: Vector,
    k: Vector,
    v: Vector,
    mask: Vector,
    out: Vector,
    lse: Vector,
    tile: Vector,
    control: Doubles,
    key: int,
    rate: float,
    heads: int,
    t: int,
    s: int,
    dk: int,
    dv: int,
    mask_heads: int,
    causal: int,
    rows: int,
    columns: int,
) -> None:
    """Attention with a running maximum and sum.

    Parameters
    ----------
    q, k, v, out
        As in the module's header.
    mask : (samples, mask_heads, t, s)
        Added to the scores; not read where `mask_heads`, 1 or `heads`, is 0.
    lse : (samples, heads, t, 2)
        Of the scores of each row the maximum, and the logarithm of the sum of
        exponentials beyond it. Their sum would lose the second where a whole row is
        masked by large numbers.
    tile : (rows * columns + rows,)
        Workspace.
    control, key, rate
        Of dropout: iteration and first sample, key of the layer, probability.
    """
    sizes = Sizes(heads, t, s, dk, dv, mask_heads, causal, rows, columns, IS_PORTABLE)
    scores, sums = tile[: rows * columns], tile[rows * columns : rows * (columns + 1)]
    for n in range(lse.size // (2 * heads * t)):
        dropout = dropout_of(key, rate, control, n)
        for h in range(heads):
            for i0 in range(0, t, rows):
                i1 = min(t, i0 + rows)
                stop = min(s, i1) if causal else s
                for j0 in range(0, stop, columns):
                    part = Tile(n, h, i0, i1, j0, min(stop, j0 + columns))
                    scores_of(q, k, scores, sizes, part)
                    _running_softmax(scores, mask, out, lse, sums, dropout, sizes, part)
                    _add_values(scores, v, out, sizes, part)
                _end_softmax(out, lse, sums, sizes, Tile(n, h, i0, i1, 0, stop))


@routine
def _softmax(scores, mask, sizes, tile):
    """Turn scores (rows, s) into probabilities; mask (samples, mask_heads, t, s)."""
    for i in range(tile.i0, tile.i1):
        row = masked_row(scores, mask, tile, i, sizes)
        most = np.float32(largest(row, _LEAST))
        total = np.float32(exponentials(row, most))
        scale_row(row, ZERO if total == ZERO else ONE / total)
        at = (i - tile.i0) * sizes.s
        zero(scores[at + tile.j1 : at + sizes.s])


@routine
def _put_kept(p, kept, dropout, sizes, tile):
    """Put what dropout keeps of the probabilities p (rows, s) into kept (rows, s)."""
    for i in range(tile.i0, tile.i1):
        source, target = row_of(p, tile, i, sizes), row_of(kept, tile, i, sizes)
        key = row_key(dropout.key, tile.h * sizes.t + i)
        for j in range(target.size):
            target[j] = source[j] * keep(key, j, dropout.threshold, dropout.scale)


@kernel
def plain_forward(
    q: Vector,
    k: Vector,
    v: Vector,
    mask: Vector,
    out: Vector,
    probabilities: Vector,
    tile: Vector,
    control: Doubles,
    key: int,
    rate: float,
    heads: int,
    t: int,
    s: int,
    dk: int,
    dv: int,
    mask_heads: int,
    causal: int,
    rows: int,
) -> None:
    """Attention that leaves its probabilities (samples, heads, t, s), before dropout.

    `tile` (rows * s) is used with dropout only; the rest as in `tiled_forward`.
    """
    sizes = Sizes(heads, t, s, dk, dv, mask_heads, causal, rows, s, IS_PORTABLE)
    for n in range(probabilities.size // (heads * t * s)):
        dropout = dropout_of(key, rate, control, n)
        for h in range(heads):
            for i0 in range(0, t, rows):
                i1 = min(t, i0 + rows)
                part = Tile(n, h, i0, i1, 0, min(s, i1) if causal else s)
                p = probabilities[row_number(part, i0, sizes) * s :]
                scores_of(q, k, p, sizes, part)
                _softmax(p, mask, sizes, part)
                if dropout.threshold > 0:
                    _put_kept(p, tile, dropout, sizes, part)
                    p = tile
                _add_values(p, v, out, sizes, part)


# -- backward -------------------------------------------------------------------------


@routine
def _workspace(work, sizes):
    """Divide the workspace of backward.

    Returns
    -------
    d_out : (t, heads * dv)
        Of one sample.
    d_k : (s, dk)
        Of one head, as are those that follow.
    d_v : (s, dv)
    d_q : (rows, dk)
        Of a tile, as are those that follow.
    delta : (rows,)
    slopes, p : (rows, columns)
        `p` is empty in `plain_backward`.
    """
    dk, dv, rows = sizes.dk, sizes.dv, sizes.rows
    d_out, work = _cut(work, sizes.t * sizes.heads * dv)
    d_k, work = _cut(work, sizes.s * dk)
    d_v, work = _cut(work, sizes.s * dv)
    d_q, work = _cut(work, rows * dk)
    delta, work = _cut(work, rows)
    slopes, p = _cut(work, rows * sizes.columns)
    return d_out, d_k, d_v, d_q, delta, slopes, p


@routine
def _cut(work, n_elems):
    return work[:n_elems], work[n_elems:]


@routine
def _output_sums(d_out, out, delta, sizes, tile):
    """``delta = rowsum(d_out * out)``.

    d_out (t, heads * dv), out (samples, t, heads * dv), delta (rows,)
    """
    first = tile.n * sizes.t * sizes.heads * sizes.dv
    for i in range(tile.i0, tile.i1):
        at = (i * sizes.heads + tile.h) * sizes.dv
        row = out[first + at : first + at + sizes.dv]
        delta[i - tile.i0] = inner_product(d_out[at : at + sizes.dv], row)


@routine
def _probabilities_again(q, k, mask, lse, p, sizes, tile):
    """Compute the probabilities of a tile again, as `tiled_forward` left them in `lse`.

    q (samples, t, heads * dk), k (samples, s, heads * dk), p (rows, columns)
    mask (samples, mask_heads, t, s), lse (samples, heads, t, 2)
    """
    scores_of(q, k, p, sizes, tile)
    for i in range(tile.i0, tile.i1):
        number = 2 * row_number(tile, i, sizes)
        row = masked_row(p, mask, tile, i, sizes)
        row_probabilities(row, lse[number], lse[number + 1])


@routine
def _probability_slopes(d_out, v, slopes, sizes, tile):
    """``slopes = d_out vᵀ``, the derivatives of what dropout keeps.

    d_out (t, heads * dv), v (samples, s, heads * dv), slopes (rows, columns)
    """
    heads, dv = sizes.heads, sizes.dv
    d_rows = of_head(d_out, tile.i0, tile.h, heads, dv)
    values = of_head(v, tile.n * sizes.s + tile.j0, tile.h, heads, dv)
    n_rows, n_keys = tile.i1 - tile.i0, tile.j1 - tile.j0
    to = Matrix(address_of(slopes, 0), sizes.columns)
    product(sizes, False, True, n_rows, n_keys, dv, 1.0, d_rows, values, 0.0, to)


@routine
def _score_slopes(p, slopes, delta, lse, is_whole, dropout, sizes, tile):
    """Turn the derivatives of probabilities into those of scores, and drop from `p`.

    p, slopes (rows, columns); of rows that are not whole in this tile
    delta (rows,): rowsum(d_out * out), lse (samples, heads, t, 2)
    """
    drops = dropout.threshold > 0
    for i in range(tile.i0, tile.i1):
        visible = n_visible(tile, i, sizes)
        dp = row_of(slopes, tile, i, sizes)
        zero(dp[visible:])
        dp, p_row = dp[:visible], row_of(p, tile, i, sizes)[:visible]
        if drops:
            drop_row(dp, dropout, tile, i, sizes)
        takes_own_sum = is_whole
        if not is_whole and lse[2 * row_number(tile, i, sizes) + 1] == ZERO:
            takes_own_sum = largest(p_row, ZERO) == ONE
        if takes_own_sum:
            softmax_slopes(p_row, dp, inner_product(p_row, dp))
        else:
            softmax_slopes(p_row, dp, delta[i - tile.i0])
        if drops:
            drop_row(p_row, dropout, tile, i, sizes)


@routine
def _add_products(q, k, d_out, p, slopes, d_q, d_k, d_v, sizes, tile):
    """``d_v += pᵀ d_out``, ``d_k += slopesᵀ q / sqrt(dk)``, ``d_q`` from k likewise.

    q (samples, t, heads * dk), k (samples, s, heads * dk), d_out (t, heads * dv)
    p, slopes (rows, columns), d_q (rows, dk), d_k (s, dk), d_v (s, dv)
    """
    heads, dk, dv = sizes.heads, sizes.dk, sizes.dv
    n_rows, n_keys, j0 = tile.i1 - tile.i0, tile.j1 - tile.j0, tile.j0
    d_rows = of_head(d_out, tile.i0, tile.h, heads, dv)
    left = Matrix(address_of(p, 0), sizes.columns)
    to = Matrix(address_of(d_v, j0 * dv), dv)
    product(sizes, True, False, n_keys, dv, n_rows, 1.0, left, d_rows, 1.0, to)
    scale, left = score_scale(sizes), Matrix(address_of(slopes, 0), sizes.columns)
    queries = of_head(q, tile.n * sizes.t + tile.i0, tile.h, heads, dk)
    to = Matrix(address_of(d_k, j0 * dk), dk)
    product(sizes, True, False, n_keys, dk, n_rows, scale, left, queries, 1.0, to)
    keys = of_head(k, tile.n * sizes.s + j0, tile.h, heads, dk)
    beta = 1.0 if j0 > 0 else 0.0
    to = Matrix(address_of(d_q, 0), dk)
    product(sizes, False, False, n_rows, dk, n_keys, scale, left, keys, beta, to)


@routine
def _put_rows(source, target, row, n_rows, h, heads, width):
    """Copy (n_rows, width) to head `h` in an array (any, heads * width), from `row`."""
    for i in range(n_rows):
        at = ((row + i) * heads + h) * width
        copy_row(source[i * width :], target[at : at + width])


@helper
def _backward(is_plain, saved, d_output, weight, work, draw, sizes):
    """Put the derivatives of q, k and v where these were.

    Parameters
    ----------
    is_plain : bool
        The probabilities were saved.
    saved : tuple
        q, k, v, mask, out, and the probabilities or lse, as the forward left them.
    d_output, weight, work
        As in `tiled_backward`.
    draw : tuple
        control, key, rate, as in `tiled_forward`.
    sizes : Sizes
    """
    q, k, v, mask, out, softmax = saved
    control, key, rate = draw
    heads, t, s, dk, dv = sizes.heads, sizes.t, sizes.s, sizes.dk, sizes.dv
    width, units = heads * dv, weight.size // (heads * dv)
    d_out, d_k, d_v, d_q, delta, slopes, p = _workspace(work, sizes)
    for n in range(out.size // (t * width)):
        dropout = dropout_of(key, rate, control, n)
        d_rows = Matrix(address_of(d_output, n * t * units), units)
        right = Matrix(address_of(weight, 0), units)
        to = Matrix(address_of(d_out, 0), width)
        product(sizes, False, True, t, width, units, 1.0, d_rows, right, 0.0, to)
        for h in range(heads):
            zero(d_k)
            zero(d_v)
            for i0 in range(0, t, sizes.rows):
                i1 = min(t, i0 + sizes.rows)
                stop = min(s, i1) if sizes.causal else s
                is_whole = stop <= sizes.columns
                if not is_whole:
                    _output_sums(d_out, out, delta, sizes, Tile(n, h, i0, i1, 0, stop))
                for j0 in range(0, stop, sizes.columns):
                    tile = Tile(n, h, i0, i1, j0, min(stop, j0 + sizes.columns))
                    if is_plain:
                        p = softmax[row_number(tile, i0, sizes) * s :]
                    else:
                        _probabilities_again(q, k, mask, softmax, p, sizes, tile)
                    _probability_slopes(d_out, v, slopes, sizes, tile)
                    _score_slopes(
                        p, slopes, delta, softmax, is_whole, dropout, sizes, tile
                    )
                    _add_products(q, k, d_out, p, slopes, d_q, d_k, d_v, sizes, tile)
                _put_rows(d_q, q, n * t + i0, i1 - i0, h, heads, dk)
            _put_rows(d_k, k, n * s, s, h, heads, dk)
            _put_rows(d_v, v, n * s, s, h, heads, dv)


@kernel
def tiled_backward(
    q: Vector,
    k: Vector,
    v: Vector,
    mask: Vector,
    out: Vector,
    lse: Vector,
    d_output: Vector,
    weight: Vector,
    work: Vector,
    control: Doubles,
    key: int,
    rate: float,
    heads: int,
    t: int,
    s: int,
    dk: int,
    dv: int,
    mask_heads: int,
    causal: int,
    rows: int,
    columns: int,
) -> None:
    """Put the derivatives of q, k and v where these were, after `tiled_forward`.

    Parameters
    ----------
    d_output : (samples, t, units)
        Derivative of ``out @ weight``.
    weight : (heads * dv, units)
    work : (`attention_work_elems`,)
        Workspace.
    """
    sizes = Sizes(heads, t, s, dk, dv, mask_heads, causal, rows, columns, IS_PORTABLE)
    saved = (q, k, v, mask, out, lse)
    _backward(False, saved, d_output, weight, work, (control, key, rate), sizes)


@kernel
def plain_backward(
    q: Vector,
    k: Vector,
    v: Vector,
    out: Vector,
    probabilities: Vector,
    d_output: Vector,
    weight: Vector,
    work: Vector,
    control: Doubles,
    key: int,
    rate: float,
    heads: int,
    t: int,
    s: int,
    dk: int,
    dv: int,
    causal: int,
    rows: int,
) -> None:
    """Do the same after `plain_forward`; uses up the probabilities.

    Of `out` only the length is read: each row stands in one tile.
    """
    sizes = Sizes(heads, t, s, dk, dv, 0, causal, rows, s, IS_PORTABLE)
    saved = (q, k, v, out, out, probabilities)
    _backward(True, saved, d_output, weight, work, (control, key, rate), sizes)


# -- portable arithmetic --------------------------------------------------------------


class AttentionKernels(NamedTuple):
    """The kernels of attention in one arithmetic."""

    tiled_forward: Kernel
    plain_forward: Kernel
    tiled_backward: Kernel
    plain_backward: Kernel


@functools.cache
def variant(arithmetic: str) -> AttentionKernels:
    """Return the kernels in portable arithmetic, for `kernel.kernel_of`."""
    assert arithmetic == PORTABLE
    usual = tiled_forward, plain_forward, tiled_backward, plain_backward
    return AttentionKernels(*(_portable(made) for made in usual))


def _portable(made: Kernel) -> Kernel:
    """Return a kernel of the same source, which reads 1 where `IS_PORTABLE` is 0."""
    python = made._python
    name = f"{python.__name__}_{PORTABLE}"
    names = {**python.__globals__, "IS_PORTABLE": 1}
    twin = FunctionType(python.__code__, names, name)
    twin.__doc__, twin.__annotations__ = python.__doc__, python.__annotations__
    return kernel(twin)
