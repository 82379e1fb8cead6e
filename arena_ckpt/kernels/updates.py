"""Optimizer updates: one pass over weights, gradients and state.

`decay` is L2 weight decay, added to the gradient: ``g = gradient * gradient_scale +
decay * w``. `hyper` holds what changes from step to step, in float64; what a loop needs
of it is computed in float64 and rounded to float32 once. The gradient is only read.

The formulas, and where epsilon stands, are PyTorch's (torch.optim, 2.x).

Weights and states that an update writes are normal numbers or 0; see `subnormals`. The
product that plain SGD adds to a weight in one go shrinks nothing and leaves it as it
comes.
"""

from __future__ import annotations

import math

import numpy as np

from arena_ckpt.kernels.blas import gemm_at
from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.subnormals import zero_if_subnormal
from arena_ckpt.operations.array_types import Doubles, Matrix, Vector


@kernel
def sgd(weight: Vector, gradient: Vector, decay: float, hyper: Doubles) -> None:
    """``w -= learning_rate * g``; hyper = [learning_rate, gradient_scale]."""
    rate, scale = np.float32(hyper[0]), np.float32(hyper[1])
    decay32 = np.float32(decay)
    for i in range(weight.size):
        w = weight[i]
        g = gradient[i] * scale + decay32 * w
        weight[i] = zero_if_subnormal(w - rate * g)


@kernel
def sgd_product(a: Matrix, b: Matrix, hyper: Doubles, weight: Matrix) -> None:
    """``w -= learning_rate * a.T @ b`` for a (k, m), b (k, n), w (m, n).

    hyper = [learning_rate, gradient_scale]; the scale is 1, as nothing is clipped.
    """
    gemm_at(
        True,
        False,
        a.shape[1],
        b.shape[1],
        a.shape[0],
        -hyper[0],
        a.ctypes.data,
        a.shape[1],
        b.ctypes.data,
        b.shape[1],
        1.0,
        weight.ctypes.data,
        weight.shape[1],
    )


@kernel
def sgd_momentum(
    weight: Vector, gradient: Vector, velocity: Vector, decay: float, hyper: Doubles
) -> None:
    """``v = momentum * v + g; w -= learning_rate * v``.

    hyper = [learning_rate, gradient_scale, momentum].
    """
    rate, scale = np.float32(hyper[0]), np.float32(hyper[1])
    momentum, decay32 = np.float32(hyper[2]), np.float32(decay)
    for i in range(weight.size):
        w = weight[i]
        g = gradient[i] * scale + decay32 * w
        v = zero_if_subnormal(momentum * velocity[i] + g)
        velocity[i] = v
        weight[i] = zero_if_subnormal(w - rate * v)


@kernel
def sgd_nesterov(
    weight: Vector, gradient: Vector, velocity: Vector, decay: float, hyper: Doubles
) -> None:
    """``v = momentum * v + g; w -= learning_rate * (g + momentum * v)``.

    hyper = [learning_rate, gradient_scale, momentum].
    """
    rate, scale = np.float32(hyper[0]), np.float32(hyper[1])
    momentum, decay32 = np.float32(hyper[2]), np.float32(decay)
    for i in range(weight.size):
        w = weight[i]
        g = gradient[i] * scale + decay32 * w
        v = zero_if_subnormal(momentum * velocity[i] + g)
        velocity[i] = v
        weight[i] = zero_if_subnormal(w - rate * (g + momentum * v))


@helper
def _adam(weight, gradient, first, second, decay, hyper, shrink):
    scale, decay32 = np.float32(hyper[1]), np.float32(decay)
    beta1, beta2 = np.float32(hyper[2]), np.float32(hyper[3])
    rest1, rest2 = np.float32(1.0 - hyper[2]), np.float32(1.0 - hyper[3])
    epsilon = np.float32(hyper[4])
    rate = np.float32(hyper[0] / hyper[5])
    root = np.float32(1.0 / math.sqrt(hyper[6]))
    for i in range(weight.size):
        w = weight[i] * shrink
        g = gradient[i] * scale + decay32 * w
        m = zero_if_subnormal(beta1 * first[i] + rest1 * g)
        v = zero_if_subnormal(beta2 * second[i] + rest2 * (g * g))
        first[i] = m
        second[i] = v
        w = w - rate * m / (math.sqrt(v) * root + epsilon)
        weight[i] = zero_if_subnormal(w)


@kernel
def adam(
    weight: Vector,
    gradient: Vector,
    first_moment: Vector,
    second_moment: Vector,
    decay: float,
    hyper: Doubles,
) -> None:
    """One step of Adam.

    hyper = [learning_rate, gradient_scale, beta1, beta2, epsilon, bias_correction1,
    bias_correction2], where bias_correctionK = 1 - betaK**t.

    References
    ----------
    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015.
    """
    one = np.float32(1.0)
    _adam(weight, gradient, first_moment, second_moment, decay, hyper, one)


@kernel
def adamw(
    weight: Vector,
    gradient: Vector,
    first_moment: Vector,
    second_moment: Vector,
    decay: float,
    hyper: Doubles,
) -> None:
    """One step of Adam after ``w *= 1 - learning_rate * weight_decay``.

    hyper = [learning_rate, gradient_scale, beta1, beta2, epsilon, bias_correction1,
    bias_correction2, weight_decay].

    References
    ----------
    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
    """
    shrink = np.float32(1.0 - hyper[0] * hyper[7])
    _adam(weight, gradient, first_moment, second_moment, decay, hyper, shrink)
