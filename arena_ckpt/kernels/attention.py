"""Scaled dot-product attention between projected tokens.

Layout: query ``q`` (samples, t, heads * dk), ``k`` (samples, s, heads * dk), ``v``
(samples, s, heads * dv), result ``out`` (samples, t, heads * dv). For each sample and
head, with the scores z = q kᵀ / sqrt(dk) + mask and the probabilities p of each row:

    out = p v     dv = pᵀ d_out     dp = d_out vᵀ     dz = p (dp - rowsum(p * dp))
    dq = dz k / sqrt(dk)            dk = dzᵀ q / sqrt(dk)

Stages of the file: loops over one row, the forwards, the backwards. Both work on tiles
of `rows` queries, products by BLAS; a causal mask skips what lies beyond a tile.

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

import math

import numpy as np

from arena_ckpt.kernels.blas import address_of, gemm_at
from arena_ckpt.kernels.compiling import helper, routine
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import LANES, clear, float_lanes, folded, inner_product
from arena_ckpt.kernels.random_bits import drop_threshold, keep, row_key, sample_key
from arena_ckpt.kernels.vector_math import ONE, ZERO, exp
from arena_ckpt.operations.arrays import Doubles, Vector

_LEAST = np.float32(-3.4028234663852886e38)
_MOST = np.float32(3.4028234663852886e38)


# -- loops over one row ---------------------------------------------------------------


@routine
def _largest(row, so_far):
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
def _exponentials(row, most):
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
def _scale_row(row, factor):
    for j in range(row.size):
        row[j] *= factor


@routine
def _zero(row):
    for j in range(row.size):
        row[j] = ZERO


@routine
def _add_row(row, other):
    for j in range(row.size):
        row[j] += other[j]


@routine
def _drop_row(row, key, first, threshold, scale):
    for j in range(row.size):
        row[j] *= keep(key, first + j, threshold, scale)


@routine
def _score_slopes(p, dp, delta):
    """``dp = p * (dp - delta)``."""
    for j in range(p.size):
        dp[j] = p[j] * (dp[j] - delta)


@routine
def _visible(causal, i, first, width):
    """How many of the keys from `first` on query `i` may see, at most `width`."""
    return max(0, min(width, i + 1 - first)) if causal else width


# -- forward --------------------------------------------------------------------------


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
    q_stride, v_stride = heads * dk, heads * dv
    threshold = drop_threshold(rate)
    kept_scale = np.float32(1.0 / (1.0 - rate))
    scale = np.float32(1.0 / math.sqrt(dk))
    sums = tile[rows * columns : rows * columns + rows]
    for n in range(lse.size // (2 * heads * t)):
        sample = sample_key(key, int(control[0]), int(control[1]) + n)
        for h in range(heads):
            for i0 in range(0, t, rows):
                i1 = min(t, i0 + rows)
                stop = min(s, i1) if causal else s
                for j0 in range(0, stop, columns):
                    width = min(stop, j0 + columns) - j0
                    gemm_at(
                        False,
                        True,
                        i1 - i0,
                        width,
                        dk,
                        scale,
                        address_of(q, (n * t + i0) * q_stride + h * dk),
                        q_stride,
                        address_of(k, (n * s + j0) * q_stride + h * dk),
                        q_stride,
                        0.0,
                        address_of(tile, 0),
                        columns,
                    )
                    for i in range(i0, i1):
                        row = tile[(i - i0) * columns : (i - i0) * columns + width]
                        visible = _visible(causal, i, j0, width)
                        _zero(row[visible:])
                        row = row[:visible]
                        if mask_heads:
                            at = n * mask_heads + (h if mask_heads > 1 else 0)
                            at = (at * t + i) * s + j0
                            _add_row(row, mask[at : at + visible])
                        number = 2 * ((n * heads + h) * t + i)
                        before = lse[number] if j0 > 0 else _LEAST
                        most = np.float32(_largest(row, before))
                        total = np.float32(_exponentials(row, most))
                        if j0 > 0 and most > before:
                            shrink = np.float32(exp(before - most))
                            total += shrink * sums[i - i0]
                            at = (n * t + i) * v_stride + h * dv
                            _scale_row(out[at : at + dv], shrink)
                        elif j0 > 0:
                            total += sums[i - i0]
                        lse[number] = most
                        sums[i - i0] = total
                        if threshold > 0:
                            row_bits = row_key(sample, h * t + i)
                            _drop_row(row, row_bits, j0, threshold, kept_scale)
                    gemm_at(
                        False,
                        False,
                        i1 - i0,
                        dv,
                        width,
                        1.0,
                        address_of(tile, 0),
                        columns,
                        address_of(v, (n * s + j0) * v_stride + h * dv),
                        v_stride,
                        1.0 if j0 > 0 else 0.0,
                        address_of(out, (n * t + i0) * v_stride + h * dv),
                        v_stride,
                    )
                for i in range(i0, i1):
                    total = sums[i - i0]
                    number = 2 * ((n * heads + h) * t + i)
                    # A forbidden row: any numbers that make exp(-inf - lse) = 0.
                    lse[number + 1] = ZERO
                    if total == ZERO:
                        lse[number] = _MOST
                    else:
                        lse[number + 1] = np.float32(math.log(total))
                    at = (n * t + i) * v_stride + h * dv
                    inverse = ZERO if total == ZERO else ONE / total
                    _scale_row(out[at : at + dv], inverse)


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
    q_stride, v_stride = heads * dk, heads * dv
    threshold = drop_threshold(rate)
    kept_scale = np.float32(1.0 / (1.0 - rate))
    scale = np.float32(1.0 / math.sqrt(dk))
    for n in range(probabilities.size // (heads * t * s)):
        sample = sample_key(key, int(control[0]), int(control[1]) + n)
        for h in range(heads):
            for i0 in range(0, t, rows):
                i1 = min(t, i0 + rows)
                stop = min(s, i1) if causal else s
                panel = ((n * heads + h) * t + i0) * s
                gemm_at(
                    False,
                    True,
                    i1 - i0,
                    stop,
                    dk,
                    scale,
                    address_of(q, (n * t + i0) * q_stride + h * dk),
                    q_stride,
                    address_of(k, n * s * q_stride + h * dk),
                    q_stride,
                    0.0,
                    address_of(probabilities, panel),
                    s,
                )
                for i in range(i0, i1):
                    at = panel + (i - i0) * s
                    visible = _visible(causal, i, 0, stop)
                    _zero(probabilities[at + visible : at + s])
                    row = probabilities[at : at + visible]
                    if mask_heads:
                        first = n * mask_heads + (h if mask_heads > 1 else 0)
                        first = (first * t + i) * s
                        _add_row(row, mask[first : first + visible])
                    most = np.float32(_largest(row, _LEAST))
                    total = np.float32(_exponentials(row, most))
                    _scale_row(row, ZERO if total == ZERO else ONE / total)
                    if threshold > 0:
                        dropped = tile[(i - i0) * s : (i - i0) * s + stop]
                        row = probabilities[at : at + stop]
                        row_bits = row_key(sample, h * t + i)
                        for j in range(stop):
                            dropped[j] = row[j] * keep(
                                row_bits, j, threshold, kept_scale
                            )
                left = address_of(probabilities, panel)
                if threshold > 0:
                    left = address_of(tile, 0)
                gemm_at(
                    False,
                    False,
                    i1 - i0,
                    dv,
                    stop,
                    1.0,
                    left,
                    s,
                    address_of(v, n * s * v_stride + h * dv),
                    v_stride,
                    0.0,
                    address_of(out, (n * t + i0) * v_stride + h * dv),
                    v_stride,
                )


# -- backward -------------------------------------------------------------------------


@helper
def _backward(
    is_plain,
    q,
    k,
    v,
    mask,
    out,
    saved,
    d_output,
    weight,
    work,
    control,
    key,
    rate,
    heads,
    t,
    s,
    dk,
    dv,
    mask_heads,
    causal,
    rows,
    columns,
):
    q_stride, v_stride = heads * dk, heads * dv
    threshold = drop_threshold(rate)
    kept_scale = np.float32(1.0 / (1.0 - rate))
    scale = np.float32(1.0 / math.sqrt(dk))
    units = weight.size // v_stride
    d_out = work[: t * v_stride]
    work = work[t * v_stride :]
    d_k, d_v = work[: s * dk], work[s * dk : s * (dk + dv)]
    work = work[s * (dk + dv) :]
    d_q, delta = work[: rows * dk], work[rows * dk : rows * (dk + 1)]
    work = work[rows * (dk + 1) :]
    slopes = work[: rows * columns]
    tile = work[rows * columns :]
    for n in range(out.size // (t * v_stride)):
        sample = sample_key(key, int(control[0]), int(control[1]) + n)
        gemm_at(
            False,
            True,
            t,
            v_stride,
            units,
            1.0,
            address_of(d_output, n * t * units),
            units,
            address_of(weight, 0),
            units,
            0.0,
            address_of(d_out, 0),
            v_stride,
        )
        for h in range(heads):
            _zero(d_k)
            _zero(d_v)
            for i0 in range(0, t, rows):
                i1 = min(t, i0 + rows)
                stop = min(s, i1) if causal else s
                is_whole = stop <= columns
                for i in range(i0, i0 if is_whole else i1):
                    at = i * v_stride + h * dv
                    row = out[n * t * v_stride + at : n * t * v_stride + at + dv]
                    delta[i - i0] = inner_product(d_out[at : at + dv], row)
                for j0 in range(0, stop, columns):
                    width = min(stop, j0 + columns) - j0
                    keys = address_of(k, (n * s + j0) * q_stride + h * dk)
                    values = address_of(v, (n * s + j0) * v_stride + h * dv)
                    queries = address_of(q, (n * t + i0) * q_stride + h * dk)
                    d_rows = address_of(d_out, i0 * v_stride + h * dv)
                    first = ((n * heads + h) * t + i0) * s
                    if is_plain:
                        tile = saved[first : first + rows * s]
                    else:
                        gemm_at(
                            False,
                            True,
                            i1 - i0,
                            width,
                            dk,
                            scale,
                            queries,
                            q_stride,
                            keys,
                            q_stride,
                            0.0,
                            address_of(tile, 0),
                            columns,
                        )
                    gemm_at(
                        False,
                        True,
                        i1 - i0,
                        width,
                        dv,
                        1.0,
                        d_rows,
                        v_stride,
                        values,
                        v_stride,
                        0.0,
                        address_of(slopes, 0),
                        columns,
                    )
                    for i in range(i0, i1):
                        at = (i - i0) * columns
                        p, dp = tile[at : at + width], slopes[at : at + width]
                        visible = _visible(causal, i, j0, width)
                        _zero(dp[visible:])
                        if not is_plain:
                            _zero(p[visible:])
                        p, dp = p[:visible], dp[:visible]
                        takes_own_sum = is_whole
                        if not is_plain:
                            if mask_heads:
                                at = n * mask_heads + (h if mask_heads > 1 else 0)
                                at = (at * t + i) * s + j0
                                _add_row(p, mask[at : at + visible])
                            number = 2 * ((n * heads + h) * t + i)
                            most, log_sum = saved[number], saved[number + 1]
                            for j in range(visible):
                                p[j] = exp((p[j] - most) - log_sum)
                            if log_sum == ZERO and _largest(p, ZERO) == ONE:
                                takes_own_sum = True
                        row_bits = row_key(sample, h * t + i)
                        if threshold > 0:
                            _drop_row(dp, row_bits, j0, threshold, kept_scale)
                        if takes_own_sum:
                            _score_slopes(p, dp, inner_product(p, dp))
                        else:
                            _score_slopes(p, dp, delta[i - i0])
                        if threshold > 0:
                            _drop_row(p, row_bits, j0, threshold, kept_scale)
                    gemm_at(
                        True,
                        False,
                        width,
                        dv,
                        i1 - i0,
                        1.0,
                        address_of(tile, 0),
                        columns,
                        d_rows,
                        v_stride,
                        1.0,
                        address_of(d_v, j0 * dv),
                        dv,
                    )
                    gemm_at(
                        True,
                        False,
                        width,
                        dk,
                        i1 - i0,
                        scale,
                        address_of(slopes, 0),
                        columns,
                        queries,
                        q_stride,
                        1.0,
                        address_of(d_k, j0 * dk),
                        dk,
                    )
                    gemm_at(
                        False,
                        False,
                        i1 - i0,
                        dk,
                        width,
                        scale,
                        address_of(slopes, 0),
                        columns,
                        keys,
                        q_stride,
                        1.0 if j0 > 0 else 0.0,
                        address_of(d_q, 0),
                        dk,
                    )
                for i in range(i0, i1):
                    at = (n * t + i) * q_stride + h * dk
                    target, source = q[at : at + dk], d_q[(i - i0) * dk :]
                    for j in range(dk):
                        target[j] = source[j]
            for i in range(s):
                at = (n * s + i) * q_stride + h * dk
                target, source = k[at : at + dk], d_k[i * dk :]
                for j in range(dk):
                    target[j] = source[j]
                at = (n * s + i) * v_stride + h * dv
                target, source = v[at : at + dv], d_v[i * dv :]
                for j in range(dv):
                    target[j] = source[j]


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
    work : (`n_work_elems`,)
        Workspace.
    """
    _backward(
        False,
        q,
        k,
        v,
        mask,
        out,
        lse,
        d_output,
        weight,
        work,
        control,
        key,
        rate,
        heads,
        t,
        s,
        dk,
        dv,
        mask_heads,
        causal,
        rows,
        columns,
    )


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
    """Do the same after `plain_forward`; uses up the probabilities."""
    _backward(
        True,
        q,
        k,
        v,
        out,
        out,
        probabilities,
        d_output,
        weight,
        work,
        control,
        key,
        rate,
        heads,
        t,
        s,
        dk,
        dv,
        0,
        causal,
        rows,
        s,
    )
