"""Cross entropies with a weight for each class, along any axis.

Arrays are ``(outer, classes, inner)``: the classes of a picture are its channels, with
all pixels as `inner`; those of a row are its columns, with an `inner` of 1.

The target of a class is ``weight[c] * (keep * label + even)`` with a label that is 1
for the class of a class number; of label smoothing `keep` is ``1 - smoothing`` and
`even` ``smoothing / classes``. Each ``*_loss`` adds its sum times ``scale[0]`` to
``loss[0]``, in float64.

References
----------
C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016:
label smoothing.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.elementary import log
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import LANES, clear, double_lanes, float_lanes, total
from arena_ckpt.kernels.vector_math import ONE, ZERO, exp, log1p
from arena_ckpt.operations.array_types import Doubles, Vector


@helper
def _greatest(logits, first, width, classes, inner, most):
    """Write the greatest logit of each of `width` columns to `most`."""
    x = logits[first : first + width]
    for j in range(width):
        most[j] = x[j]
    for c in range(1, classes):
        at = first + c * inner
        x = logits[at : at + width]
        for j in range(width):
            most[j] = x[j] if x[j] > most[j] else most[j]


@helper
def _exponentials(logits, first, width, classes, inner, most, sums, probabilities):
    """Write ``exp(logits - most)`` to `probabilities`, and their sums to `sums`."""
    clear(sums)
    for c in range(classes):
        at = first + c * inner
        x, p = logits[at : at + width], probabilities[at : at + width]
        for j in range(width):
            p[j] = exp(x[j] - most[j])
            sums[j] += np.float64(p[j])


@helper
def _normalize(probabilities, first, width, classes, inner, sums):
    """Divide probabilities by the sums of their columns."""
    for c in range(classes):
        at = first + c * inner
        p = probabilities[at : at + width]
        for j in range(width):
            p[j] *= np.float32(1.0 / sums[j])


@helper
def _targets(label, has_numbers, ignored, c, classes, weight, keep, even, targets):
    """Write the targets of class `c` for the labels of some columns to `targets`."""
    if has_numbers:
        this, n = np.float32(c), np.float32(classes)
        for j in range(label.size):
            given = label[j]
            share = (keep if given == this else ZERO) + even
            counts = given != ignored and ZERO <= given and given < n
            targets[j] = weight * share if counts else ZERO
    else:
        for j in range(label.size):
            targets[j] = weight * (keep * label[j] + even)


@kernel
def class_probabilities(
    logits: Vector, probabilities: Vector, classes: int, inner: int
) -> None:
    """Softmax over the classes, with the bits of `weighted_softmax_loss`.

    probabilities may be logits.
    """
    most, sums = float_lanes(), double_lanes()
    for outer in range(logits.size // (classes * inner)):
        for start in range(0, inner, LANES):
            width = min(LANES, inner - start)
            first = outer * classes * inner + start
            _greatest(logits, first, width, classes, inner, most)
            _exponentials(
                logits, first, width, classes, inner, most, sums, probabilities
            )
            _normalize(probabilities, first, width, classes, inner, sums)


@kernel
def weighted_softmax_loss(
    logits: Vector,
    label: Vector,
    has_numbers: int,
    ignored: float,
    weight: Vector,
    keep: float,
    even: float,
    probabilities: Vector,
    scale: Doubles,
    loss: Doubles,
    classes: int,
    inner: int,
) -> None:
    """Cross entropy of the softmax over the classes; keeps the probabilities.

    ``loss[0] += scale[0] * sum(target * (logsumexp - logits))``. With `has_numbers` the
    label is (outer, inner), a class number each, and those that are `ignored` do not
    count. probabilities may be logits.
    """
    most, sums = float_lanes(), double_lanes()
    terms, shares, targets = double_lanes(), double_lanes(), float_lanes()
    kept, spread, skipped = np.float32(keep), np.float32(even), np.float32(ignored)
    total_loss = 0.0
    for outer in range(logits.size // (classes * inner)):
        for start in range(0, inner, LANES):
            width = min(LANES, inner - start)
            first = outer * classes * inner + start
            _greatest(logits, first, width, classes, inner, most)
            clear(terms)
            clear(shares)
            # The loss is read off before probabilities may overwrite the logits.
            for c in range(classes):
                at = first + c * inner
                of_label = outer * inner + start if has_numbers else at
                _targets(
                    label[of_label : of_label + width],
                    has_numbers,
                    skipped,
                    c,
                    classes,
                    weight[c],
                    kept,
                    spread,
                    targets,
                )
                x = logits[at : at + width]
                for j in range(width):
                    target = np.float64(targets[j])
                    shares[j] += target
                    below = np.float64(most[j]) - np.float64(x[j])
                    terms[j] += target * below
            _exponentials(
                logits, first, width, classes, inner, most, sums, probabilities
            )
            for j in range(width):
                if shares[j] != 0.0:
                    total_loss += terms[j] + shares[j] * log(sums[j])
            _normalize(probabilities, first, width, classes, inner, sums)
    loss[0] += scale[0] * total_loss


@kernel
def weighted_softmax_derivative(
    probabilities: Vector,
    label: Vector,
    has_numbers: int,
    ignored: float,
    weight: Vector,
    keep: float,
    even: float,
    scale: Doubles,
    dx: Vector,
    classes: int,
    inner: int,
) -> None:
    """``dx = scale[0] * (probabilities * sum(targets) - target)``.

    dx may be probabilities.
    """
    shares, targets = double_lanes(), float_lanes()
    kept, spread, skipped = np.float32(keep), np.float32(even), np.float32(ignored)
    factor = np.float32(scale[0])
    for outer in range(dx.size // (classes * inner)):
        for start in range(0, inner, LANES):
            width = min(LANES, inner - start)
            first = outer * classes * inner + start
            clear(shares)
            for c in range(classes):
                of_label = first + c * inner
                if has_numbers:
                    of_label = outer * inner + start
                _targets(
                    label[of_label : of_label + width],
                    has_numbers,
                    skipped,
                    c,
                    classes,
                    weight[c],
                    kept,
                    spread,
                    targets,
                )
                for j in range(width):
                    shares[j] += np.float64(targets[j])
            for c in range(classes):
                at = first + c * inner
                of_label = outer * inner + start if has_numbers else at
                _targets(
                    label[of_label : of_label + width],
                    has_numbers,
                    skipped,
                    c,
                    classes,
                    weight[c],
                    kept,
                    spread,
                    targets,
                )
                p, d = probabilities[at : at + width], dx[at : at + width]
                for j in range(width):
                    share = np.float32(shares[j])
                    d[j] = factor * (p[j] * share - targets[j])


@kernel
def weighted_sigmoid_loss(
    logits: Vector,
    label: Vector,
    weight: Vector,
    probabilities: Vector,
    scale: Doubles,
    loss: Doubles,
    inner: int,
) -> None:
    """Binary cross entropy of sigmoid(logits) with a weight for what is positive.

    ``loss[0] += scale[0] * sum((1 - t) * x + (1 + (w - 1) * t) * log(1 + exp(-x)))``
    for logits x, labels t and the weight w of the class. There are as many classes as
    weights. probabilities may be logits.
    """
    lanes = double_lanes()
    clear(lanes)
    for row in range(logits.size // inner):
        above = weight[row % weight.size] - ONE
        for start in range(0, inner, LANES):
            at, width = row * inner + start, min(LANES, inner - start)
            x_part, t_part = logits[at : at + width], label[at : at + width]
            p_part = probabilities[at : at + width]
            for j in range(width):
                x, t = x_part[j], t_part[j]
                negative = ZERO if x > ZERO else -x
                rest = negative + log1p(exp(-abs(x)))
                term = (ONE - t) * x + (ONE + above * t) * rest
                lanes[j] += np.float64(term)
                p_part[j] = ONE / (ONE + exp(-x))
    loss[0] += scale[0] * total(lanes, LANES)


@kernel
def weighted_sigmoid_derivative(
    probabilities: Vector,
    label: Vector,
    weight: Vector,
    scale: Doubles,
    dx: Vector,
    inner: int,
) -> None:
    """``dx = scale[0] * (p * (1 - t + w * t) - w * t)``; dx may be probabilities."""
    factor = np.float32(scale[0])
    for row in range(dx.size // inner):
        of_class = weight[row % weight.size]
        start, stop = row * inner, (row + 1) * inner
        p_part, t_part, d_part = (
            probabilities[start:stop],
            label[start:stop],
            dx[start:stop],
        )
        for j in range(inner):
            p, t = p_part[j], t_part[j]
            weighted = of_class * t
            d_part[j] = factor * (p * (ONE - t + weighted) - weighted)
