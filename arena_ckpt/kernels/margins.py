"""Planes with margins around them: zeros, mirrored elements, or those of the edge."""

from __future__ import annotations

from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.operations.array_types import Vector
from arena_ckpt.operations.sizes import MARGIN_REFLECT, MARGIN_REPLICATE


@helper
def _source(at, size, mode):
    """Return which element of a line stands at `at`; -1 for a zero.

    A line is mirrored once, without its last element.
    """
    if 0 <= at < size:
        return at
    if mode == MARGIN_REFLECT:
        return -at if at < 0 else 2 * (size - 1) - at
    if mode == MARGIN_REPLICATE:
        return 0 if at < 0 else size - 1
    return -1


@kernel
def pad_forward(
    x: Vector, y: Vector, planes: int, height: int, width: int, top: int, left: int,
    out_height: int, out_width: int, mode: int,
) -> None:  # fmt: skip
    """``y[r, c] = x[r - top, c - left]``, and beyond x what the mode says."""
    out = 0
    for p in range(planes):
        for r in range(out_height):
            row = _source(r - top, height, mode)
            at = (p * height + row) * width
            for c in range(out_width):
                column = _source(c - left, width, mode)
                is_inside = row >= 0 and column >= 0
                y[out] = x[at + column] if is_inside else ZERO
                out += 1


@kernel
def pad_derivative(
    dy: Vector, dx: Vector, planes: int, height: int, width: int, top: int, left: int,
    out_height: int, out_width: int, mode: int,
) -> None:  # fmt: skip
    """``dx``: each element gets the sum of what came of it."""
    dx[:] = ZERO
    out = 0
    for p in range(planes):
        for r in range(out_height):
            row = _source(r - top, height, mode)
            at = (p * height + row) * width
            for c in range(out_width):
                column = _source(c - left, width, mode)
                if row >= 0 and column >= 0:
                    dx[at + column] += dy[out]
                out += 1
