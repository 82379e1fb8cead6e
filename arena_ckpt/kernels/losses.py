"""Losses and their derivatives.

Each ``*_loss`` adds its sum times ``scale[0]`` to ``loss[0]``, in float64.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.elementary import log
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import (
    LANES,
    clear,
    double_lanes,
    float_lanes,
    most_of,
    total,
)
from arena_ckpt.kernels.vector_math import ONE, ZERO, exp, log1p, log_double
from arena_ckpt.operations.array_types import Doubles, Matrix, Vector


@helper
def _sum(row, lanes):
    clear(lanes)
    for start in range(0, row.size, LANES):
        part = row[start : start + LANES]
        for j in range(part.size):
            lanes[j] += np.float64(part[j])
    return total(lanes, row.size)


@kernel
def mse_loss(prediction: Vector, label: Vector, scale: Doubles, loss: Doubles) -> None:
    """``loss[0] += scale[0] * sum((prediction - label)**2)``."""
    lanes = double_lanes()
    clear(lanes)
    for start in range(0, prediction.size, LANES):
        p_part = prediction[start : start + LANES]
        t_part = label[start : start + LANES]
        for j in range(p_part.size):
            v = np.float64(p_part[j]) - np.float64(t_part[j])
            lanes[j] += v * v
    loss[0] += scale[0] * total(lanes, prediction.size)


@kernel
def mse_derivative(
    prediction: Vector, label: Vector, scale: Doubles, dx: Vector
) -> None:
    """``dx = 2 * scale[0] * (prediction - label)``; dx may be prediction."""
    factor = np.float32(2.0 * scale[0])
    for i in range(dx.size):
        dx[i] = factor * (prediction[i] - label[i])


@kernel
def cross_softmax_loss(
    logits: Matrix, label: Matrix, probabilities: Matrix, scale: Doubles, loss: Doubles
) -> None:
    """Cross entropy of softmax(logits), rows; keeps the probabilities.

    ``loss[0] += scale[0] * sum(label * (logsumexp(row) - logits))``; probabilities may
    be logits.
    """
    lanes = double_lanes()
    n = logits.shape[1]
    total_loss = 0.0
    for r in range(logits.shape[0] if n > 0 else 0):
        x_row, label_row = logits[r], label[r]
        most = most_of(x_row, lanes)
        # The loss is read off before the probabilities may overwrite the logits.
        clear(lanes)
        for start in range(0, n, LANES):
            x_part = x_row[start : start + LANES]
            t_part = label_row[start : start + LANES]
            for j in range(x_part.size):
                below = np.float64(most) - np.float64(x_part[j])
                lanes[j] += np.float64(t_part[j]) * below
        total_loss += total(lanes, n)

        for c in range(n):
            probabilities[r, c] = exp(logits[r, c] - most)
        exponentials = _sum(probabilities[r], lanes)
        total_loss += _sum(label_row, lanes) * log(exponentials)
        inverse = np.float32(1.0 / exponentials)
        for c in range(n):
            probabilities[r, c] *= inverse
    loss[0] += scale[0] * total_loss


@kernel
def cross_softmax_derivative(
    probabilities: Matrix, label: Matrix, scale: Doubles, dx: Matrix
) -> None:
    """``dx = scale[0] * (probabilities * sum(label row) - label)``.

    dx may be probabilities.
    """
    lanes = double_lanes()
    factor = np.float32(scale[0])
    for r in range(label.shape[0]):
        labels = np.float32(_sum(label[r], lanes))
        for c in range(label.shape[1]):
            dx[r, c] = factor * (probabilities[r, c] * labels - label[r, c])


@kernel
def cross_sigmoid_loss(
    logits: Vector,
    label: Vector,
    probabilities: Vector,
    scale: Doubles,
    loss: Doubles,
) -> None:
    """Binary cross entropy of sigmoid(logits), elementwise; keeps the probabilities.

    ``loss[0] += scale[0] * sum(log(1 + exp(logits)) - label * logits)``; probabilities
    may be logits.
    """
    lanes = double_lanes()
    clear(lanes)
    for start in range(0, logits.size, LANES):
        x_part = logits[start : start + LANES]
        t_part = label[start : start + LANES]
        for j in range(x_part.size):
            x = x_part[j]
            positive = ZERO if x < ZERO else x
            term = positive - x * t_part[j] + log1p(exp(-abs(x)))
            lanes[j] += np.float64(term)
    for i in range(logits.size):
        probabilities[i] = ONE / (ONE + exp(-logits[i]))
    loss[0] += scale[0] * total(lanes, logits.size)


@kernel
def cross_sigmoid_derivative(
    probabilities: Vector, label: Vector, scale: Doubles, dx: Vector
) -> None:
    """``dx = scale[0] * (probabilities - label)``; dx may be probabilities."""
    factor = np.float32(scale[0])
    for i in range(dx.size):
        dx[i] = factor * (probabilities[i] - label[i])


@kernel
def kld_loss(q: Vector, p: Vector, scale: Doubles, loss: Doubles) -> None:
    """``loss[0] += scale[0] * sum(p * log(p / q))``; where p is 0, so is the term.

    Where p is above 0 and q is 0, the sum is infinite; where q is below, NaN.
    """
    lanes = double_lanes()
    clear(lanes)
    for start in range(0, p.size, LANES):
        p_part = p[start : start + LANES]
        q_part = q[start : start + LANES]
        for j in range(p_part.size):
            truth, guess = np.float64(p_part[j]), np.float64(q_part[j])
            is_impossible = guess == 0.0 and truth > 0.0
            ratio = 1.0 if truth == 0.0 or is_impossible else truth / guess
            term = truth * log_double(ratio)
            lanes[j] += np.inf if is_impossible else term
    loss[0] += scale[0] * total(lanes, p.size)


@kernel
def kld_derivative(q: Vector, p: Vector, scale: Doubles, dq: Vector) -> None:
    """``dq = -scale[0] * p / q``, 0 where p is; dq may be q."""
    factor = np.float32(-scale[0])
    for i in range(dq.size):
        dq[i] = factor * (ZERO if p[i] == ZERO else p[i] / q[i])


@helper
def _column(label, n):
    """Return the class number that `label` is, or -1 if it is none of n classes."""
    return np.int64(label) if ZERO <= label < np.float32(n) else -1


@kernel
def class_softmax_loss(
    logits: Matrix,
    label: Vector,
    ignored: float,
    probabilities: Matrix,
    scale: Doubles,
    loss: Doubles,
) -> None:
    """Cross entropy of softmax(logits) with one class number a row.

    ``loss[0] += scale[0] * sum(logsumexp(row) - row[label])`` over the rows whose label
    is not `ignored`; keeps the probabilities of all rows, which may be logits.
    """
    lanes, most_so_far = double_lanes(), float_lanes()
    skipped = np.float32(ignored)
    n = logits.shape[1]
    total_loss = 0.0
    for r in range(logits.shape[0] if n > 0 else 0):
        x_row, p_row = logits[r], probabilities[r]
        most = most_of(x_row, most_so_far)
        column = -1 if label[r] == skipped else _column(label[r], n)
        chosen = x_row[max(column, 0)]
        for c in range(n):
            p_row[c] = exp(x_row[c] - most)
        sum_of_row = _sum(p_row, lanes)
        if column >= 0:
            total_loss += np.float64(most) - np.float64(chosen) + log(sum_of_row)
        inverse = np.float32(1.0 / sum_of_row)
        for c in range(n):
            p_row[c] *= inverse
    loss[0] += scale[0] * total_loss


@kernel
def class_softmax_derivative(
    probabilities: Matrix, label: Vector, ignored: float, scale: Doubles, dx: Matrix
) -> None:
    """``dx = scale[0] * (probabilities - one_hot(label))``, 0 in rows to be ignored.

    dx may be probabilities.
    """
    factor, skipped = np.float32(scale[0]), np.float32(ignored)
    n = dx.shape[1]
    for r in range(dx.shape[0]):
        column = -1 if label[r] == skipped else _column(label[r], n)
        p_row, dx_row = probabilities[r], dx[r]
        if column < 0:
            for c in range(n):
                dx_row[c] = ZERO
        else:
            for c in range(n):
                dx_row[c] = factor * p_row[c]
            dx_row[column] -= factor
