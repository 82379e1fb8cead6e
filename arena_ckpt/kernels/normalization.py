"""Layer, root-mean-square and batch normalization.

    x̂ = (x - mean) * inverse     y = gamma * x̂ + beta     inverse = 1 / sqrt(var + eps)
    g = gamma * dy               dx = inverse * (g - avg(g) - x̂ * avg(g * x̂))
    d_gamma = sum(dy * x̂)        d_beta = sum(dy)

avg runs over what was normalized together: a row (layer), or a channel of all samples
(batch). The variance is biased; the moving one can be unbiased. *rms* leaves out mean,
beta and avg(g).

Values far from 0 lose their variance in sums of squares, and their deviations in a mean
that is rounded. So the variance is that of differences: to a mean that is nearly right
and then corrected by what they leave over (layer; the corrected two-pass algorithm), or
to a first value of the channel (batch). Sums over rows run in float32 lanes, sums over
samples in float64.

References
----------
Ioffe and Szegedy, "Batch Normalization", 2015. Ba et al., "Layer Normalization", 2016.
Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019. Chan, Golub and
LeVeque, "Algorithms for computing the sample variance", 1983.
"""

from __future__ import annotations

import math

import numpy as np

from arena_ckpt.kernels.compiling import routine
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import (
    LANES,
    clear,
    double_lanes,
    float_lanes,
    folded,
    inner_product,
)
from arena_ckpt.kernels.subnormals import zero_if_subnormal
from arena_ckpt.kernels.vector_math import ONE, ZERO
from arena_ckpt.operations.array_types import Matrix, Vector

# -- sums over one row ----------------------------------------------------------------


# An inner loop of `LANES` without `part.size` would be unrolled into scalar code.


@routine
def _sum(row):
    lanes = float_lanes()
    clear(lanes)
    for start in range(0, row.size, LANES):
        part = row[start : start + LANES]
        for j in range(part.size):
            lanes[j] += part[j]
    return folded(lanes)


@routine
def _sums_of_deviations(row, middle):
    """Return ``sum(row - middle)`` and ``sum((row - middle)**2)``."""
    sums, squares = float_lanes(), float_lanes()
    clear(sums)
    clear(squares)
    for start in range(0, row.size, LANES):
        part = row[start : start + LANES]
        for j in range(part.size):
            deviation = part[j] - middle
            sums[j] += deviation
            squares[j] += deviation * deviation
    return folded(sums), folded(squares)


@routine
def _sum_of_squares(row):
    lanes = float_lanes()
    clear(lanes)
    for start in range(0, row.size, LANES):
        part = row[start : start + LANES]
        for j in range(part.size):
            lanes[j] += part[j] * part[j]
    return folded(lanes)


@routine
def _sum_of_deviations(x, mean, gamma, dy):
    """Return ``sum(gamma * dy * (x - mean))``."""
    lanes = float_lanes()
    clear(lanes)
    for start in range(0, x.size, LANES):
        stop = start + LANES
        x_part, g_part, dy_part = x[start:stop], gamma[start:stop], dy[start:stop]
        for j in range(x_part.size):
            lanes[j] += g_part[j] * dy_part[j] * (x_part[j] - mean)
    return folded(lanes)


@routine
def _inverse(variance, epsilon):
    return np.float32(1.0 / math.sqrt(np.float64(variance) + epsilon))


@routine
def _store(lanes, beta, out):
    """``out = lanes + beta * out``, beta 0 or 1; at 0, out is only written."""
    for j in range(out.size):
        before = 0.0 if beta == 0.0 else np.float64(out[j])
        out[j] = np.float32(before + lanes[j])


# -- layer normalization over the last axes -------------------------------------------


@kernel
def layer_norm_forward(
    x: Matrix,
    gamma: Vector,
    beta: Vector,
    epsilon: float,
    mean: Vector,
    inverse: Vector,
    y: Matrix,
) -> None:
    """Normalize each row; mean and inverse have an element for each; y may be x."""
    n = np.float32(x.shape[1])
    for r in range(x.shape[0]):
        middle = _sum(x[r]) / n
        left, squares = _sums_of_deviations(x[r], middle)
        rest = left / n  # what the rounded mean lacks
        slope = _inverse(squares / n - rest * rest, epsilon)
        mean[r] = middle + rest
        inverse[r] = slope
        for j in range(x.shape[1]):
            y[r, j] = ((x[r, j] - middle) - rest) * slope * gamma[j] + beta[j]


@kernel
def layer_norm_gradient(
    x: Matrix,
    dy: Matrix,
    mean: Vector,
    inverse: Vector,
    beta: float,
    d_gamma: Vector,
    d_beta: Vector,
) -> None:
    """Gradients of gamma and beta; `beta` 0 writes, 1 adds."""
    products, sums = double_lanes(), double_lanes()
    for start in range(0, x.shape[1], LANES):
        stop = min(start + LANES, x.shape[1])
        clear(products)
        clear(sums)
        for r in range(x.shape[0]):
            x_part, dy_part = x[r][start:stop], dy[r][start:stop]
            middle, slope = mean[r], inverse[r]
            for j in range(x_part.size):
                products[j] += np.float64(dy_part[j] * ((x_part[j] - middle) * slope))
                sums[j] += np.float64(dy_part[j])
        _store(products, beta, d_gamma[start:stop])
        _store(sums, beta, d_beta[start:stop])


@kernel
def layer_norm_derivative(
    x: Matrix, gamma: Vector, dy: Matrix, mean: Vector, inverse: Vector, dx: Matrix
) -> None:
    """Write the derivative of the input; dx may be dy."""
    n = np.float32(x.shape[1])
    for r in range(x.shape[0]):
        middle, slope = mean[r], inverse[r]
        average = inner_product(gamma, dy[r]) / n
        tilt = _sum_of_deviations(x[r], middle, gamma, dy[r]) / n
        tilt = tilt * slope * slope
        for j in range(x.shape[1]):
            g = gamma[j] * dy[r, j] - average
            dx[r, j] = slope * (g - (x[r, j] - middle) * tilt)


# -- layer normalization over any axes ------------------------------------------------
# The tensor is (a, p, b, q), normalized over p and q; statistics are (a, b).


@kernel
def strided_norm_forward(
    x: Vector,
    gamma: Vector,
    beta: Vector,
    epsilon: float,
    mean: Vector,
    inverse: Vector,
    y: Vector,
    n_p: int,
    n_b: int,
    n_q: int,
) -> None:
    """Normalize over p and q; y may be x."""
    n = n_p * n_q
    for a in range(mean.size // n_b):
        for b in range(n_b):
            total = 0.0
            for p in range(n_p):
                at = ((a * n_p + p) * n_b + b) * n_q
                for q in range(n_q):
                    total += np.float64(x[at + q])
            middle = total / n
            total = 0.0
            for p in range(n_p):
                at = ((a * n_p + p) * n_b + b) * n_q
                for q in range(n_q):
                    deviation = np.float64(x[at + q]) - middle
                    total += deviation * deviation
            slope = _inverse(total / n, epsilon)
            mean[a * n_b + b] = np.float32(middle)
            inverse[a * n_b + b] = slope
            for p in range(n_p):
                at = ((a * n_p + p) * n_b + b) * n_q
                for q in range(n_q):
                    x_hat = np.float32(np.float64(x[at + q]) - middle) * slope
                    y[at + q] = x_hat * gamma[p * n_q + q] + beta[p * n_q + q]


@kernel
def strided_norm_gradient(
    x: Vector,
    dy: Vector,
    mean: Vector,
    inverse: Vector,
    beta: float,
    d_gamma: Vector,
    d_beta: Vector,
    n_p: int,
    n_b: int,
    n_q: int,
) -> None:
    """Gradients of gamma and beta, both (p, q); `beta` 0 writes, 1 adds."""
    for p in range(n_p):
        for q in range(n_q):
            products = sums = 0.0
            for a in range(mean.size // n_b):
                for b in range(n_b):
                    at = ((a * n_p + p) * n_b + b) * n_q + q
                    x_hat = (x[at] - mean[a * n_b + b]) * inverse[a * n_b + b]
                    products += np.float64(dy[at] * x_hat)
                    sums += np.float64(dy[at])
            if beta != 0.0:
                products += np.float64(d_gamma[p * n_q + q])
                sums += np.float64(d_beta[p * n_q + q])
            d_gamma[p * n_q + q] = np.float32(products)
            d_beta[p * n_q + q] = np.float32(sums)


@kernel
def strided_norm_derivative(
    x: Vector,
    gamma: Vector,
    dy: Vector,
    mean: Vector,
    inverse: Vector,
    dx: Vector,
    n_p: int,
    n_b: int,
    n_q: int,
) -> None:
    """Write the derivative of the input; dx may be dy."""
    n = n_p * n_q
    for a in range(mean.size // n_b):
        for b in range(n_b):
            middle, slope = mean[a * n_b + b], inverse[a * n_b + b]
            average = tilt = 0.0
            for p in range(n_p):
                at = ((a * n_p + p) * n_b + b) * n_q
                for q in range(n_q):
                    g = gamma[p * n_q + q] * dy[at + q]
                    average += np.float64(g)
                    tilt += np.float64(g * ((x[at + q] - middle) * slope))
            average32, tilt32 = np.float32(average / n), np.float32(tilt / n)
            for p in range(n_p):
                at = ((a * n_p + p) * n_b + b) * n_q
                for q in range(n_q):
                    g = gamma[p * n_q + q] * dy[at + q]
                    x_hat = (x[at + q] - middle) * slope
                    dx[at + q] = slope * (g - average32 - x_hat * tilt32)


# -- root mean square -----------------------------------------------------------------


@kernel
def rms_norm_forward(
    x: Matrix, gamma: Vector, epsilon: float, inverse: Vector, y: Matrix
) -> None:
    """Divide each row by its root mean square; y may be x."""
    n = np.float32(x.shape[1])
    for r in range(x.shape[0]):
        slope = _inverse(_sum_of_squares(x[r]) / n, epsilon)
        inverse[r] = slope
        for j in range(x.shape[1]):
            y[r, j] = x[r, j] * slope * gamma[j]


@kernel
def rms_norm_gradient(
    x: Matrix, dy: Matrix, inverse: Vector, beta: float, d_gamma: Vector
) -> None:
    """Gradient of gamma; `beta` 0 writes, 1 adds."""
    products = double_lanes()
    for start in range(0, x.shape[1], LANES):
        stop = min(start + LANES, x.shape[1])
        clear(products)
        for r in range(x.shape[0]):
            x_part, dy_part = x[r][start:stop], dy[r][start:stop]
            slope = inverse[r]
            for j in range(x_part.size):
                products[j] += np.float64(dy_part[j] * (x_part[j] * slope))
        _store(products, beta, d_gamma[start:stop])


@kernel
def rms_norm_derivative(
    x: Matrix, gamma: Vector, dy: Matrix, inverse: Vector, dx: Matrix
) -> None:
    """Write the derivative of the input; dx may be dy."""
    n = np.float32(x.shape[1])
    for r in range(x.shape[0]):
        slope = inverse[r]
        tilt = _sum_of_deviations(x[r], ZERO, gamma, dy[r]) / n
        tilt = tilt * slope * slope
        for j in range(x.shape[1]):
            dx[r, j] = slope * (gamma[j] * dy[r, j] - x[r, j] * tilt)


# -- batch normalization --------------------------------------------------------------
# The tensor is (samples, channels, size). With size 1, channels are the columns of a
# matrix and the loops run over blocks of columns; else over the rows of one channel.


@kernel
def batch_norm_statistics(
    x: Vector,
    epsilon: float,
    mean: Vector,
    inverse: Vector,
    size: int,
    begin: int,
    end: int,
) -> None:
    """Mean and inverse deviation of the channels [begin, end), by a pass in float64.

    Sums are of differences to the channel's first value: the variance of values far
    from 0 would be lost in the sum of their squares.
    """
    sums, squares, firsts = double_lanes(), double_lanes(), double_lanes()
    channels = mean.size
    n_samples = x.size // (channels * size)
    width = LANES if size == 1 else 1
    for c0 in range(begin, end, width):
        c1 = min(c0 + width, end)
        clear(sums)
        clear(squares)
        for j in range(c1 - c0 if n_samples > 0 else 0):
            firsts[j] = np.float64(x[(c0 + j) * size])
        middle = firsts[0]
        for n in range(n_samples):
            first, stop = (n * channels + c0) * size, (n * channels + c1) * size
            if size == 1:
                part = x[first:stop]
                for j in range(part.size):
                    value = np.float64(part[j]) - firsts[j]
                    sums[j] += value
                    squares[j] += value * value
                continue
            for start in range(first, stop, LANES):
                part = x[start : min(start + LANES, stop)]
                for j in range(part.size):
                    value = np.float64(part[j]) - middle
                    sums[j] += value
                    squares[j] += value * value
        if size > 1:
            sums[0] = folded(sums)
            squares[0] = folded(squares)
        for c in range(c0, c1):
            middle = sums[c - c0] / (n_samples * size)
            variance = squares[c - c0] / (n_samples * size) - middle * middle
            variance = 0.0 if variance < 0.0 else variance
            mean[c] = np.float32(firsts[c - c0] + middle)
            inverse[c] = _inverse(variance, epsilon)


@kernel
def moving_statistics(
    moving_mean: Vector,
    moving_variance: Vector,
    epsilon: float,
    mean: Vector,
    inverse: Vector,
) -> None:
    """Take the moving statistics as those of the batch."""
    for c in range(mean.size):
        mean[c] = moving_mean[c]
        inverse[c] = _inverse(moving_variance[c], epsilon)


@kernel
def move_statistics(
    mean: Vector,
    inverse: Vector,
    epsilon: float,
    momentum: float,
    correction: float,
    moving_mean: Vector,
    moving_variance: Vector,
) -> None:
    """Let the moving statistics keep a share `momentum`; the rest is the batch's.

    The variance of the batch is taken `correction` times: n / (n - 1) for the unbiased.
    It is taken back from the inverse deviation, so it is right to 2⁻²² of itself and
    epsilon; what is less than that part of epsilon is rounding, and the variance 0.
    Statistics of a channel that is always 0 end at 0; see `subnormals`.
    """
    for c in range(mean.size):
        slope = np.float64(inverse[c])
        given = 1.0 / (slope * slope) - epsilon
        variance = correction * given if given >= epsilon * 2.0**-22 else 0.0
        moved = momentum * np.float64(moving_mean[c])
        moved += (1.0 - momentum) * np.float64(mean[c])
        moving_mean[c] = zero_if_subnormal(np.float32(moved))
        moved = momentum * np.float64(moving_variance[c]) + (1.0 - momentum) * variance
        moving_variance[c] = zero_if_subnormal(np.float32(moved))


@kernel
def batch_norm_forward(
    x: Vector,
    gamma: Vector,
    beta: Vector,
    mean: Vector,
    inverse: Vector,
    y: Vector,
    size: int,
) -> None:
    """Normalize each channel with the given statistics; y may be x."""
    channels = mean.size
    for row in range(x.size // (channels * size) if size == 1 else 0):
        at = row * channels
        for c in range(channels):
            y[at + c] = (x[at + c] - mean[c]) * (inverse[c] * gamma[c]) + beta[c]
    for row in range(x.size // size if size > 1 else 0):
        c = row % channels
        middle, slope, shift = mean[c], inverse[c] * gamma[c], beta[c]
        at = row * size
        for j in range(size):
            y[at + j] = (x[at + j] - middle) * slope + shift


@kernel
def batch_norm_sums(
    x: Vector,
    dy: Vector,
    mean: Vector,
    inverse: Vector,
    sums: Vector,
    size: int,
    begin: int,
    end: int,
) -> None:
    """``sums[:c] = sum(dy * x̂)`` and ``sums[c:] = sum(dy)`` for c channels.

    Only those of the channels [begin, end) are written.
    """
    products, plain = double_lanes(), double_lanes()
    channels = mean.size
    width = LANES if size == 1 else 1
    for c0 in range(begin, end, width):
        c1 = min(c0 + width, end)
        clear(products)
        clear(plain)
        for n in range(x.size // (channels * size)):
            first, stop = (n * channels + c0) * size, (n * channels + c1) * size
            if size == 1:
                x_part, dy_part, middles = x[first:stop], dy[first:stop], mean[c0:c1]
                for j in range(x_part.size):
                    deviation = x_part[j] - middles[j]
                    products[j] += np.float64(dy_part[j] * deviation)
                    plain[j] += np.float64(dy_part[j])
            else:
                middle = mean[c0]
                for start in range(first, stop, LANES):
                    x_part = x[start : min(start + LANES, stop)]
                    dy_part = dy[start : min(start + LANES, stop)]
                    for j in range(x_part.size):
                        deviation = x_part[j] - middle
                        products[j] += np.float64(dy_part[j] * deviation)
                        plain[j] += np.float64(dy_part[j])
        if size > 1:
            products[0] = folded(products)
            plain[0] = folded(plain)
        for c in range(c0, c1):
            sums[c] = np.float32(products[c - c0] * np.float64(inverse[c]))
            sums[channels + c] = np.float32(plain[c - c0])


@kernel
def batch_norm_gradient(
    sums: Vector, beta: float, d_gamma: Vector, d_beta: Vector
) -> None:
    """Copy `sums` to the gradients (`beta` 0), or add them (1)."""
    channels = d_gamma.size
    for c in range(channels):
        d_gamma[c] = sums[c] + (ZERO if beta == 0.0 else d_gamma[c])
        d_beta[c] = sums[channels + c] + (ZERO if beta == 0.0 else d_beta[c])


@kernel
def batch_norm_derivative(
    x: Vector,
    gamma: Vector,
    dy: Vector,
    mean: Vector,
    inverse: Vector,
    sums: Vector,
    dx: Vector,
    size: int,
    count: int,
) -> None:
    """Write the derivative through the statistics of `count` values; dx may be dy.

    These are of the whole batch, of which x may be a part.
    """
    channels = mean.size
    share = ONE / np.float32(count)
    for row in range(x.size // channels if size == 1 else 0):
        at = row * channels
        for c in range(channels):
            tilt = sums[c] * share * inverse[c]
            average = sums[channels + c] * share
            g = dy[at + c] - average - (x[at + c] - mean[c]) * tilt
            dx[at + c] = gamma[c] * inverse[c] * g
    for row in range(x.size // size if size > 1 else 0):
        c = row % channels
        middle, slope = mean[c], gamma[c] * inverse[c]
        tilt, average = sums[c] * share * inverse[c], sums[channels + c] * share
        at = row * size
        for j in range(size):
            g = dy[at + j] - average - (x[at + j] - middle) * tilt
            dx[at + j] = slope * g


@kernel
def scale_channels(
    gamma: Vector, dy: Vector, inverse: Vector, dx: Vector, size: int
) -> None:
    """Write the derivative where the statistics are constant; dx may be dy."""
    channels = gamma.size
    for row in range(dy.size // channels if size == 1 else 0):
        at = row * channels
        for c in range(channels):
            dx[at + c] = gamma[c] * inverse[c] * dy[at + c]
    for row in range(dy.size // size if size > 1 else 0):
        slope = gamma[row % channels] * inverse[row % channels]
        at = row * size
        for j in range(size):
            dx[at + j] = slope * dy[at + j]
