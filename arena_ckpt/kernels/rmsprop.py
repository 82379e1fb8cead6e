"""Updates of RMSprop: gradients divided by the root of a moving mean of their squares.

What holds for `updates` holds here: the gradient is only read, `hyper` is float64, and
weights and states that are written are normal numbers or 0. The formulas are PyTorch's.

References
----------
G. Hinton, "Neural Networks for Machine Learning", lecture 6e, 2012.
"""

from __future__ import annotations

import math

import numpy as np

from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.subnormals import zero_if_subnormal
from arena_ckpt.operations.array_types import Doubles, Vector


@kernel
def rmsprop(
    weight: Vector,
    gradient: Vector,
    square_mean: Vector,
    decay: float,
    hyper: Doubles,
) -> None:
    """``s = alpha * s + (1 - alpha) * g**2; w -= rate * g / (sqrt(s) + epsilon)``.

    hyper = [learning_rate, gradient_scale, alpha, epsilon].
    """
    rate, scale = np.float32(hyper[0]), np.float32(hyper[1])
    alpha, rest = np.float32(hyper[2]), np.float32(1.0 - hyper[2])
    epsilon, decay32 = np.float32(hyper[3]), np.float32(decay)
    for i in range(weight.size):
        w = weight[i]
        g = gradient[i] * scale + decay32 * w
        s = zero_if_subnormal(alpha * square_mean[i] + rest * (g * g))
        square_mean[i] = s
        weight[i] = zero_if_subnormal(w - rate * g / (math.sqrt(s) + epsilon))


@kernel
def rmsprop_momentum(
    weight: Vector,
    gradient: Vector,
    square_mean: Vector,
    velocity: Vector,
    decay: float,
    hyper: Doubles,
) -> None:
    """``v = momentum * v + g / (sqrt(s) + epsilon); w -= rate * v``.

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
        step = g / (math.sqrt(s) + epsilon)
        v = zero_if_subnormal(momentum * velocity[i] + step)
        velocity[i] = v
        weight[i] = zero_if_subnormal(w - rate * v)
