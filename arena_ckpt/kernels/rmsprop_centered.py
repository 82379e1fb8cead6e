"""Updates of centered RMSprop: gradients divided by their moving deviation.

What holds for `rmsprop` holds here. Where rounding makes the mean of squares smaller
than the square of the mean, the deviation is 0, where PyTorch has NaN.

References
----------
A. Graves, "Generating Sequences With Recurrent Neural Networks", 2013, 4.2.
"""

from __future__ import annotations

import math

import numpy as np

from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.subnormals import zero_if_subnormal
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.operations.array_types import Doubles, Vector


@kernel
def centered(
    weight: Vector,
    gradient: Vector,
    square_mean: Vector,
    gradient_mean: Vector,
    decay: float,
    hyper: Doubles,
) -> None:
    """``m = alpha * m + (1 - alpha) * g; w -= rate * g / (sqrt(s - m**2) + epsilon)``.

    s is that of `rmsprop`. hyper = [learning_rate, gradient_scale, alpha, epsilon].
    """
    rate, scale = np.float32(hyper[0]), np.float32(hyper[1])
    alpha, rest = np.float32(hyper[2]), np.float32(1.0 - hyper[2])
    epsilon, decay32 = np.float32(hyper[3]), np.float32(decay)
    for i in range(weight.size):
        w = weight[i]
        g = gradient[i] * scale + decay32 * w
        s = zero_if_subnormal(alpha * square_mean[i] + rest * (g * g))
        square_mean[i] = s
        m = zero_if_subnormal(alpha * gradient_mean[i] + rest * g)
        gradient_mean[i] = m
        variance = s - m * m
        deviation = math.sqrt(ZERO if variance < ZERO else variance)
        weight[i] = zero_if_subnormal(w - rate * g / (deviation + epsilon))


@kernel
def centered_momentum(
    weight: Vector,
    gradient: Vector,
    square_mean: Vector,
    gradient_mean: Vector,
    velocity: Vector,
    decay: float,
    hyper: Doubles,
) -> None:
    """``v = momentum * v + g / (sqrt(s - m**2) + epsilon); w -= rate * v``.

    hyper = [learning_rate, gradient_scale, alpha, epsilon, momentum].
    """
    rate, scale = np.float32(hyper[0]), np.float32(hyper[1])
    alpha, rest = np.float32(hyper[2]), np.float32(1.0 - hyper[2])
    epsilon, momentum = np.float32(hyper[3]), np.float32(hyper[4])
    decay32 = np.float32(decay)
    for i in range(weight.size):
        w = weight[i]
        g = gradient[i] * scale + decay32 * w
        s = zero_if_subnormal(alpha * square_mean[i] + rest * (g * g))
        square_mean[i] = s
        m = zero_if_subnormal(alpha * gradient_mean[i] + rest * g)
        gradient_mean[i] = m
        variance = s - m * m
        deviation = math.sqrt(ZERO if variance < ZERO else variance)
        v = zero_if_subnormal(momentum * velocity[i] + g / (deviation + epsilon))
        velocity[i] = v
        weight[i] = zero_if_subnormal(w - rate * v)
