"""Normalization of groups of channels of one sample.

x is (samples, channels, size); statistics have an element for each group of each
sample, whose channels lie one after another. The formulas are those of `normalization`;
avg runs over one group, and sums over the elements of one channel of all samples.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import LANES, clear, double_lanes, folded
from arena_ckpt.operations.array_types import Vector


@kernel
def group_norm_forward(
    x: Vector, gamma: Vector, beta: Vector, mean: Vector, inverse: Vector, y: Vector,
    size: int,
) -> None:  # fmt: skip
    """Normalize each channel with the statistics of its group; y may be x."""
    channels = gamma.size
    per_group = x.size // (mean.size * size)
    for row in range(x.size // size):
        c, group = row % channels, row // per_group
        middle, slope, shift = mean[group], inverse[group] * gamma[c], beta[c]
        at = row * size
        for j in range(size):
            y[at + j] = (x[at + j] - middle) * slope + shift


@kernel
def group_norm_gradient(
    x: Vector, dy: Vector, mean: Vector, inverse: Vector, beta: float,
    d_gamma: Vector, d_beta: Vector, size: int,
) -> None:  # fmt: skip
    """Gradients of gamma and beta; `beta` 0 writes, 1 adds."""
    products, sums = double_lanes(), double_lanes()
    channels = d_gamma.size
    per_group = x.size // (mean.size * size)
    for c in range(channels):
        clear(products)
        clear(sums)
        for row in range(c, x.size // size, channels):
            middle, slope = mean[row // per_group], inverse[row // per_group]
            for start in range(row * size, (row + 1) * size, LANES):
                x_part = x[start : min(start + LANES, (row + 1) * size)]
                dy_part = dy[start : min(start + LANES, (row + 1) * size)]
                for j in range(x_part.size):
                    x_hat = (x_part[j] - middle) * slope
                    products[j] += np.float64(dy_part[j] * x_hat)
                    sums[j] += np.float64(dy_part[j])
        product, plain = folded(products), folded(sums)
        if beta != 0.0:
            product += np.float64(d_gamma[c])
            plain += np.float64(d_beta[c])
        d_gamma[c] = np.float32(product)
        d_beta[c] = np.float32(plain)


@kernel
def group_norm_derivative(
    x: Vector, gamma: Vector, dy: Vector, mean: Vector, inverse: Vector, dx: Vector,
    size: int,
) -> None:  # fmt: skip
    """Write the derivative through the statistics of the groups; dx may be dy."""
    products, sums = double_lanes(), double_lanes()
    channels = gamma.size
    per_group = x.size // (mean.size * size)
    n = np.float64(per_group * size)
    for group in range(mean.size):
        middle, slope = mean[group], inverse[group]
        clear(products)
        clear(sums)
        for row in range(group * per_group, (group + 1) * per_group):
            factor = gamma[row % channels]
            for start in range(row * size, (row + 1) * size, LANES):
                x_part = x[start : min(start + LANES, (row + 1) * size)]
                dy_part = dy[start : min(start + LANES, (row + 1) * size)]
                for j in range(x_part.size):
                    g = factor * dy_part[j]
                    products[j] += np.float64(g * ((x_part[j] - middle) * slope))
                    sums[j] += np.float64(g)
        tilt = np.float32(folded(products) / n)
        average = np.float32(folded(sums) / n)
        for row in range(group * per_group, (group + 1) * per_group):
            factor = gamma[row % channels]
            at = row * size
            for j in range(size):
                g = factor * dy[at + j] - average
                dx[at + j] = slope * (g - (x[at + j] - middle) * slope * tilt)
