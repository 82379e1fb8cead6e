"""Pooling over spans of rows and columns: given windows, or equal shares of a plane.

Along an axis the span of output i is a window, of which what is padding adds nothing
but is counted in a mean; or, where the kernel is 0, the adaptive share of i: from
⌊i · size / outputs⌋ up to ⌈(i + 1) · size / outputs⌉, as in PyTorch.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.operations.array_types import Indexes, Vector


@helper
def _begin(out, size, outs, kernel_size, stride, before):
    """Return the first element of a span."""
    if kernel_size == 0:
        return out * size // outs
    return max(0, out * stride - before)


@helper
def _end(out, size, outs, kernel_size, stride, before):
    """Return one more than the last element of a span."""
    if kernel_size == 0:
        return ((out + 1) * size + outs - 1) // outs
    return min(size, out * stride - before + kernel_size)


@kernel
def span_average_forward(
    x: Vector, y: Vector, planes: int, height: int, width: int,
    kernel_height: int, kernel_width: int, stride_height: int, stride_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``y`` = the mean of each span, summed in float64."""
    out = 0
    for p in range(planes):
        for r in range(out_height):
            first = _begin(r, height, out_height, kernel_height, stride_height, top)
            last = _end(r, height, out_height, kernel_height, stride_height, top)
            rows = kernel_height if kernel_height > 0 else last - first
            for c in range(out_width):
                begin = _begin(c, width, out_width, kernel_width, stride_width, left)
                end = _end(c, width, out_width, kernel_width, stride_width, left)
                columns = kernel_width if kernel_width > 0 else end - begin
                total = 0.0
                for a in range(first, last):
                    at = (p * height + a) * width
                    for b in range(begin, end):
                        total += np.float64(x[at + b])
                y[out] = np.float32(total / np.float64(rows * columns))
                out += 1


@kernel
def span_average_derivative(
    dy: Vector, dx: Vector, planes: int, height: int, width: int,
    kernel_height: int, kernel_width: int, stride_height: int, stride_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``dx``: each span's elements share its derivative."""
    dx[:] = ZERO
    out = 0
    for p in range(planes):
        for r in range(out_height):
            first = _begin(r, height, out_height, kernel_height, stride_height, top)
            last = _end(r, height, out_height, kernel_height, stride_height, top)
            rows = kernel_height if kernel_height > 0 else last - first
            for c in range(out_width):
                begin = _begin(c, width, out_width, kernel_width, stride_width, left)
                end = _end(c, width, out_width, kernel_width, stride_width, left)
                columns = kernel_width if kernel_width > 0 else end - begin
                share = dy[out] / np.float32(rows * columns)
                for a in range(first, last):
                    at = (p * height + a) * width
                    for b in range(begin, end):
                        dx[at + b] += share
                out += 1


@kernel
def span_max_forward(
    x: Vector, y: Vector, place: Indexes, planes: int, height: int, width: int,
    out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``y`` = the greatest of each share, ``place`` = where it stands in its plane.

    Among equals the first counts, and NaN is greater than everything.
    """
    out = 0
    for p in range(planes):
        plane = x[p * height * width : (p + 1) * height * width]
        for r in range(out_height):
            first = _begin(r, height, out_height, 0, 1, 0)
            last = _end(r, height, out_height, 0, 1, 0)
            for c in range(out_width):
                begin = _begin(c, width, out_width, 0, 1, 0)
                end = _end(c, width, out_width, 0, 1, 0)
                at = first * width + begin
                best = plane[at]
                for a in range(first, last):
                    for b in range(begin, end):
                        v = plane[a * width + b]
                        if v > best or v != v:
                            best, at = v, a * width + b
                y[out] = best
                place[out] = at
                out += 1


@kernel
def span_max_derivative(
    dy: Vector, place: Indexes, dx: Vector, planes: int, size: int, outs: int
) -> None:
    """``dx``: each derivative is added where `span_max_forward` found its greatest."""
    dx[:] = ZERO
    for p in range(planes):
        for i in range(p * outs, (p + 1) * outs):
            dx[p * size + place[i]] += dy[i]
