"""Losses of values that grow slower than a square, and their derivatives.

Each ``*_loss`` adds its sum times ``scale[0]`` to ``loss[0]``, in float64.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import LANES, clear, double_lanes, total
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.operations.array_types import Doubles, Vector


@kernel
def mae_loss(prediction: Vector, label: Vector, scale: Doubles, loss: Doubles) -> None:
    """``loss[0] += scale[0] * sum(abs(prediction - label))``."""
    lanes = double_lanes()
    clear(lanes)
    for start in range(0, prediction.size, LANES):
        p_part = prediction[start : start + LANES]
        t_part = label[start : start + LANES]
        for j in range(p_part.size):
            lanes[j] += abs(np.float64(p_part[j]) - np.float64(t_part[j]))
    loss[0] += scale[0] * total(lanes, prediction.size)


@kernel
def mae_derivative(
    prediction: Vector, label: Vector, scale: Doubles, dx: Vector
) -> None:
    """``dx = scale[0] * sign(prediction - label)``, 0 where they are equal.

    dx may be prediction.
    """
    factor = np.float32(scale[0])
    for i in range(dx.size):
        difference = prediction[i] - label[i]
        if difference > ZERO:
            dx[i] = factor
        elif difference < ZERO:
            dx[i] = -factor
        else:
            dx[i] = difference - difference  # 0, or NaN


@kernel
def huber_loss(
    prediction: Vector, label: Vector, delta: float, scale: Doubles, loss: Doubles
) -> None:
    """Half of the squared difference up to `delta`, from there on its tangent.

    ``loss[0] += scale[0] * sum(inner * (distance - inner / 2))`` with ``distance =
    abs(prediction - label)`` and ``inner = min(distance, delta)``.

    References
    ----------
    P. J. Huber, "Robust Estimation of a Location Parameter", 1964.
    """
    lanes = double_lanes()
    clear(lanes)
    limit = np.float64(np.float32(delta))
    for start in range(0, prediction.size, LANES):
        p_part = prediction[start : start + LANES]
        t_part = label[start : start + LANES]
        for j in range(p_part.size):
            distance = abs(np.float64(p_part[j]) - np.float64(t_part[j]))
            inner = distance if distance < limit else limit
            lanes[j] += inner * (distance - 0.5 * inner)
    loss[0] += scale[0] * total(lanes, prediction.size)


@kernel
def huber_derivative(
    prediction: Vector, label: Vector, delta: float, scale: Doubles, dx: Vector
) -> None:
    """``dx = scale[0] * clip(prediction - label, -delta, delta)``.

    dx may be prediction.
    """
    factor, limit = np.float32(scale[0]), np.float32(delta)
    for i in range(dx.size):
        difference = prediction[i] - label[i]
        above = -limit if difference < -limit else difference
        dx[i] = factor * (limit if above > limit else above)
