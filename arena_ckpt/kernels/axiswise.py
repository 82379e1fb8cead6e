"""Kernels along one axis: softmax, extremes, products, norms, running sums, gathering.

A tensor is seen as (outer, length, inner), where `length` is the size of the axis. What
has one number for each line along the axis has the shape (outer, inner). Sums run in
float64 and are rounded once, but those of softmax.
"""

from __future__ import annotations

import math

import numpy as np

from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import LANES, float_lanes
from arena_ckpt.kernels.vector_math import ONE, ZERO, exp
from arena_ckpt.operations.array_types import Doubles, Vector

_NAN = np.float32(math.nan)

# -- softmax ---------------------------------------------------------------------------


@kernel
def axis_softmax_forward(
    x: Vector, y: Vector, outer: int, length: int, inner: int
) -> None:
    """``y = exp(x) / sum(exp(x))`` along the axis; y may be x."""
    most, sums = float_lanes(), float_lanes()
    for o in range(outer):
        for start in range(0, inner, LANES):
            width = min(LANES, inner - start)
            at = o * length * inner + start
            for j in range(width):
                most[j] = x[at + j]
                sums[j] = ZERO
            for t in range(1, length):
                row = at + t * inner
                for j in range(width):
                    v = x[row + j]
                    most[j] = (v if v > most[j] else most[j]) + ZERO
            for t in range(length):
                row = at + t * inner
                for j in range(width):
                    v = exp(x[row + j] - most[j])
                    y[row + j] = v
                    sums[j] += v
            for j in range(width):
                sums[j] = ONE / sums[j]
            for t in range(length):
                row = at + t * inner
                for j in range(width):
                    y[row + j] *= sums[j]


@kernel
def axis_softmax_backward(
    y: Vector, dy: Vector, dx: Vector, outer: int, length: int, inner: int
) -> None:
    """``dx = y * (dy - sum(y * dy))`` along the axis; dx may be dy or y."""
    sums = float_lanes()
    for o in range(outer):
        for start in range(0, inner, LANES):
            width = min(LANES, inner - start)
            at = o * length * inner + start
            for j in range(width):
                sums[j] = ZERO
            for t in range(length):
                row = at + t * inner
                for j in range(width):
                    sums[j] += y[row + j] * dy[row + j]
            for t in range(length):
                row = at + t * inner
                for j in range(width):
                    dx[row + j] = y[row + j] * (dy[row + j] - sums[j])


# -- one number for each line ----------------------------------------------------------


@kernel
def axis_extreme_forward(
    x: Vector, sign: float, y: Vector, outer: int, length: int, inner: int
) -> None:
    """Take the maximum of each line for sign 1, the minimum for -1; NaN if one is."""
    s = np.float32(sign)
    for o in range(outer):
        for j in range(inner):
            at = o * length * inner + j
            best = x[at]
            for t in range(1, length):
                v = x[at + t * inner]
                better = v if s * v > s * best else best
                best = v if v != v else better
            y[o * inner + j] = best


@kernel
def axis_extreme_derivative(
    x: Vector, y: Vector, dy: Vector, dx: Vector, outer: int, length: int, inner: int
) -> None:
    """Share dy among the elements of a line that are its extreme; dx may be x."""
    for o in range(outer):
        for j in range(inner):
            at, best = o * length * inner + j, y[o * inner + j]
            count = ZERO
            for t in range(length):
                count += ONE if x[at + t * inner] == best else ZERO
            share = dy[o * inner + j] / count
            for t in range(length):
                i = at + t * inner
                dx[i] = share if x[i] == best else ZERO


@kernel
def axis_product_forward(
    x: Vector, y: Vector, outer: int, length: int, inner: int
) -> None:
    """Multiply the elements of each line, in order."""
    for o in range(outer):
        for j in range(inner):
            at, product = o * length * inner + j, ONE
            for t in range(length):
                product *= x[at + t * inner]
            y[o * inner + j] = product


@kernel
def axis_product_derivative(
    x: Vector, dy: Vector, dx: Vector, outer: int, length: int, inner: int
) -> None:
    """Multiply dy by all elements of the line but that of dx, without a division."""
    for o in range(outer):
        for j in range(inner):
            at, before = o * length * inner + j, ONE
            for t in range(length):
                dx[at + t * inner] = before
                before *= x[at + t * inner]
            behind = dy[o * inner + j]
            for k in range(length):
                i = at + (length - 1 - k) * inner
                dx[i] *= behind
                behind *= x[i]


@kernel
def axis_norm_forward(
    x: Vector, y: Vector, outer: int, length: int, inner: int
) -> None:
    """``y = sqrt(sum(x²))`` of each line."""
    for o in range(outer):
        for j in range(inner):
            at, total = o * length * inner + j, 0.0
            for t in range(length):
                v = np.float64(x[at + t * inner])
                total += v * v
            y[o * inner + j] = np.float32(math.sqrt(total))


@kernel
def axis_norm_derivative(
    x: Vector, y: Vector, dy: Vector, dx: Vector, outer: int, length: int, inner: int
) -> None:
    """``dx = dy * x / y``, 0 of a line of zeros; dx may be x."""
    for o in range(outer):
        for j in range(inner):
            norm = y[o * inner + j]
            factor = ZERO if norm == ZERO else dy[o * inner + j] / norm
            at = o * length * inner + j
            for t in range(length):
                dx[at + t * inner] = x[at + t * inner] * factor


# -- running sums ----------------------------------------------------------------------


@kernel
def running_sum(
    x: Vector, y: Vector, outer: int, length: int, inner: int, reverse: int
) -> None:
    """Sum each line up to an element, or from it on if `reverse` is 1; y may be x."""
    for o in range(outer):
        for j in range(inner):
            at, total = o * length * inner + j, 0.0
            for t in range(length):
                i = at + (length - 1 - t if reverse != 0 else t) * inner
                total += np.float64(x[i])
                y[i] = np.float32(total)


# -- elements by their numbers ---------------------------------------------------------


@helper
def _place_of(number, length):
    """Return the place that a float32 names, or -1 if there is none."""
    if number >= ZERO and number < np.float32(length):
        place = int(number)
        return place if place < length and np.float32(place) == number else -1
    return -1


@kernel
def gather_forward(
    x: Vector,
    ids: Vector,
    y: Vector,
    loss: Doubles,
    n: int,
    outer: int,
    length: int,
    inner: int,
) -> None:
    """Take places ``ids[sample]`` along the axis; NaN, the loss too, of no such place.

    x has the shape (n, outer, length, inner), ids (n, k), y (n, outer, k, inner).
    """
    k = ids.size // n
    for row in range(n * outer * k):
        lines, sample = row // k, row // (k * outer)
        place = _place_of(ids[sample * k + row % k], length)
        at = (lines * length + place) * inner
        if place < 0:
            loss[0] = math.nan
            for j in range(inner):
                y[row * inner + j] = _NAN
        else:
            for j in range(inner):
                y[row * inner + j] = x[at + j]


@kernel
def gather_derivative(
    ids: Vector, dy: Vector, dx: Vector, n: int, outer: int, length: int, inner: int
) -> None:
    """Add each part of dy to the place that it was taken from, in order."""
    k = ids.size // n
    for i in range(dx.size):
        dx[i] = ZERO
    for row in range(n * outer * k):
        lines, sample = row // k, row // (k * outer)
        place = _place_of(ids[sample * k + row % k], length)
        if place >= 0:
            at = (lines * length + place) * inner
            for j in range(inner):
                dx[at + j] += dy[row * inner + j]


# -- cosine similarity -----------------------------------------------------------------


@kernel
def axis_cosine_forward(
    a: Vector,
    b: Vector,
    epsilon: float,
    y: Vector,
    outer: int,
    length: int,
    inner: int,
) -> None:
    """``y = a · b / (max(|a|, epsilon) max(|b|, epsilon))`` of each line."""
    for o in range(outer):
        for j in range(inner):
            at = o * length * inner + j
            aa, bb, ab = 0.0, 0.0, 0.0
            for t in range(length):
                v, w = np.float64(a[at + t * inner]), np.float64(b[at + t * inner])
                aa += v * v
                bb += w * w
                ab += v * w
            a_norm, b_norm = math.sqrt(aa), math.sqrt(bb)
            a_norm = epsilon if a_norm < epsilon else a_norm
            b_norm = epsilon if b_norm < epsilon else b_norm
            y[o * inner + j] = np.float32(ab / (a_norm * b_norm))


@kernel
def axis_cosine_derivative(
    a: Vector,
    b: Vector,
    epsilon: float,
    dy: Vector,
    da: Vector,
    outer: int,
    length: int,
    inner: int,
) -> None:
    """Differentiate the cosine by a; da may be a or b."""
    for o in range(outer):
        for j in range(inner):
            at = o * length * inner + j
            aa, bb, ab = 0.0, 0.0, 0.0
            for t in range(length):
                v, w = np.float64(a[at + t * inner]), np.float64(b[at + t * inner])
                aa += v * v
                bb += w * w
                ab += v * w
            a_norm, b_norm = math.sqrt(aa), math.sqrt(bb)
            b_norm = epsilon if b_norm < epsilon else b_norm
            d = np.float64(dy[o * inner + j])
            of_b = d / ((epsilon if a_norm < epsilon else a_norm) * b_norm)
            of_a = 0.0 if a_norm < epsilon else of_b * ab / (a_norm * a_norm)
            for t in range(length):
                v, w = np.float64(a[at + t * inner]), np.float64(b[at + t * inner])
                da[at + t * inner] = np.float32(of_b * w - of_a * v)
