"""Convolutions in one fixed order and without a workspace in the arena.

Each element is one chain of fused multiply-adds that starts from a bias, from what is
added to, or from 0 (see `chains`):

- an output, over (channel, row, column) of the filter;
- an element of the input's derivative, over (filter, row, column) of the filter, rows
  and columns from the last to the first, of which those count that a stride reaches;
- an element of a filter's gradient, over (sample, row, column) of the output.

What a filter reads beyond the picture is 0 and multiplied like everything else. The
first two are sums over planes and taps (see `correlation`), with a stride the
derivative is one for each phase. Filters of one element are products of matrices.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.chains import DEPTH, PANEL, ROWS, chain_at, fused
from arena_ckpt.kernels.compiling import helper, routine
from arena_ckpt.kernels.correlation import correlate
from arena_ckpt.kernels.direct_tiles import (
    BLOCK,
    ROOM,
    copy_planes,
    panel_on_stack,
    places_on_stack,
    planes_on_stack,
    sums_on_stack,
    table_on_stack,
    tile_of,
    transpose_rows,
)
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.operations.array_types import Vector

# With a plain 0 or 1 Numba would compile a function anew for that number.
_ZERO, _ONE = np.int64(0), np.int64(1)


@helper
def _is_pointwise(
    height, width, kernel_height, kernel_width, stride_height, stride_width, top, left,
    out_height, out_width,
):  # fmt: skip
    """Tell whether each output reads the elements in its own place alone."""
    return (
        kernel_height == 1
        and kernel_width == 1
        and stride_height == 1
        and stride_width == 1
        and top == 0
        and left == 0
        and out_height == height
        and out_width == width
    )


@helper
def _fill_planes(init, has_init, n, n_outputs, plane, y):
    for s in range(n if has_init else 0):
        for o in range(n_outputs):
            row = y[(s * n_outputs + o) * plane : (s * n_outputs + o + 1) * plane]
            value = init[o]
            for i in range(row.size):
                row[i] = value


@helper
def _address(x, at):
    return np.int64(x.ctypes.data) + 4 * at


@routine
def convolve(
    x, weight, bias, has_bias, y, n, channels, height, width,
    filters, kernel_height, kernel_width, stride_height, stride_width,
    dilation_height, dilation_width, top, left, out_height, out_width,
):  # fmt: skip
    """Do what `direct_forward` does."""
    taps, out_plane = kernel_height * kernel_width, out_height * out_width
    if _is_pointwise(
        height, width, kernel_height, kernel_width, stride_height, stride_width,
        top, left, out_height, out_width,
    ):  # fmt: skip
        _fill_planes(bias, has_bias != 0, n, filters, out_plane, y)
        for s in range(n):
            chain_at(
                False, False, filters, out_plane, channels, 1.0,
                _address(weight, 0), channels,
                _address(x, s * channels * out_plane), out_plane,
                1.0 if has_bias != 0 else 0.0,
                _address(y, s * filters * out_plane), out_plane,
            )  # fmt: skip
        return
    correlate(
        x, channels, height, width, top, left, stride_height, stride_width,
        kernel_height, kernel_width, dilation_height, dilation_width,
        weight, taps, channels * taps, _ZERO, kernel_width, _ONE,
        bias, has_bias != 0, filters, n, out_height, out_width,
        y, _ZERO, filters * out_plane, out_plane, out_width, _ONE,
    )  # fmt: skip


@kernel
def direct_forward(
    x: Vector, weight: Vector, bias: Vector, has_bias: int, y: Vector,
    n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``y[n, f] = bias[f] + Σ_c x[n, c] ⋆ weight[f, c]``; bias only where has_bias."""
    convolve(
        x, weight, bias, has_bias, y, n, channels, height, width,
        filters, kernel_height, kernel_width, stride_height, stride_width,
        dilation_height, dilation_width, top, left, out_height, out_width,
    )  # fmt: skip


@helper
def taps_of(phase, kernel_size, stride, dilation):
    """Return the taps that reach a phase of the input: last, step, how many.

    They are those with ``(phase - tap * dilation) % stride == 0``.
    """
    last, step, found = -1, 1, 0
    for tap in range(kernel_size - 1, -1, -1):
        if (phase - tap * dilation) % stride == 0:
            if found == 0:
                last = tap
            elif found == 1:
                step = last - tap
            found += 1
    return last, step, found


@routine
def derive(
    dy, weight, bias, has_bias, dx, n, channels, height, width,
    filters, kernel_height, kernel_width, stride_height, stride_width,
    dilation_height, dilation_width, top, left, out_height, out_width,
):  # fmt: skip
    """Do what `direct_derivative` does."""
    taps, plane = kernel_height * kernel_width, height * width
    if _is_pointwise(
        height, width, kernel_height, kernel_width, stride_height, stride_width,
        top, left, out_height, out_width,
    ):  # fmt: skip
        _fill_planes(bias, has_bias != 0, n, channels, plane, dx)
        for s in range(n):
            chain_at(
                True, False, channels, plane, filters, 1.0,
                _address(weight, 0), channels,
                _address(dy, s * filters * plane), plane,
                1.0 if has_bias != 0 else 0.0,
                _address(dx, s * channels * plane), plane,
            )  # fmt: skip
        return
    for phase_h in range(stride_height):
        row0 = (phase_h - top) % stride_height
        n_rows = (height - row0 + stride_height - 1) // stride_height
        last_i, step_i, n_i = taps_of(
            phase_h, kernel_height, stride_height, dilation_height
        )
        for phase_w in range(stride_width):
            column0 = (phase_w - left) % stride_width
            n_columns = (width - column0 + stride_width - 1) // stride_width
            last_j, step_j, n_j = taps_of(
                phase_w, kernel_width, stride_width, dilation_width
            )
            if n_rows <= 0 or n_columns <= 0:
                continue
            # The last tap reads the first output: (row + top - tap dilation) / stride.
            before = last_i * dilation_height - row0 - top
            aside = last_j * dilation_width - column0 - left
            correlate(
                dy, filters, out_height, out_width,
                before // stride_height, aside // stride_width, _ONE, _ONE,
                np.int64(n_i if n_j > 0 else 0), np.int64(n_j),
                np.int64(step_i * dilation_height // stride_height),
                np.int64(step_j * dilation_width // stride_width),
                weight, channels * taps, taps, last_i * kernel_width + last_j,
                -step_i * kernel_width, -step_j, bias, has_bias != 0, channels,
                n, n_rows, n_columns, dx, row0 * width + column0, channels * plane,
                plane, stride_height * width, stride_width,
            )  # fmt: skip


@kernel
def direct_derivative(
    dy: Vector, weight: Vector, bias: Vector, has_bias: int, dx: Vector,
    n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``dx``: the derivative of `direct_forward` for x; with bias, a transposed one.

    The bias is per channel of dx, and only added where has_bias.
    """
    derive(
        dy, weight, bias, has_bias, dx, n, channels, height, width,
        filters, kernel_height, kernel_width, stride_height, stride_width,
        dilation_height, dilation_width, top, left, out_height, out_width,
    )  # fmt: skip


# -- gradients of filters --------------------------------------------------------------


@helper
def begin_gradient(beta, dw):
    """Let sums begin at 0 where nothing is added to, else at what is there."""
    if beta == 0.0:
        for i in range(dw.size):
            dw[i] = ZERO


@routine
def _gradient_far(
    x, dy, dw, n, channels, height, width, filters, kernel_height, kernel_width,
    stride_height, stride_width, dilation_height, dilation_width, top, left,
    out_height, out_width,
):  # fmt: skip
    """Add gradients element by element: for taps very far apart."""
    for f in range(filters):
        for k in range(channels):
            for i in range(kernel_height):
                for j in range(kernel_width):
                    at = ((f * channels + k) * kernel_height + i) * kernel_width + j
                    total = dw[at]
                    for s in range(n):
                        source = (s * channels + k) * height * width
                        d_at = (s * filters + f) * out_height * out_width
                        for r in range(out_height):
                            row = r * stride_height + i * dilation_height - top
                            for c in range(out_width):
                                column = c * stride_width + j * dilation_width - left
                                value = ZERO
                                if 0 <= row < height and 0 <= column < width:
                                    value = x[source + row * width + column]
                                d = dy[d_at + r * out_width + c]
                                total = fused(d, value, total)
                    dw[at] = total


@routine
def add_gradient(
    x, dy, dw, n, channels, height, width, filters, kernel_height, kernel_width,
    stride_height, stride_width, dilation_height, dilation_width, top, left,
    out_height, out_width,
):  # fmt: skip
    """Add to dw what `direct_gradient` computes."""
    out_plane = out_height * out_width
    if _is_pointwise(
        height, width, kernel_height, kernel_width, stride_height, stride_width,
        top, left, out_height, out_width,
    ):  # fmt: skip
        for s in range(n):
            chain_at(
                False, True, filters, channels, out_plane, 1.0,
                _address(dy, s * filters * out_plane), out_plane,
                _address(x, s * channels * out_plane), out_plane, 1.0,
                _address(dw, 0), channels,
            )  # fmt: skip
        return
    columns = (out_width - 1) * stride_width + (kernel_width - 1) * dilation_width + 1
    reach = (kernel_height - 1) * dilation_height
    if (reach + 1) * columns > ROOM:
        _gradient_far(
            x, dy, dw, n, channels, height, width, filters, kernel_height,
            kernel_width, stride_height, stride_width, dilation_height,
            dilation_width, top, left, out_height, out_width,
        )  # fmt: skip
        return
    _add_gradients(
        x, dy, dw, n, channels, height, width, filters, kernel_height, kernel_width,
        stride_height, stride_width, dilation_height, dilation_width, top, left,
        out_height, out_width,
    )  # fmt: skip


@kernel
def direct_gradient(
    x: Vector, dy: Vector, beta: float, dw: Vector,
    n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``dw = the derivative of direct_forward for the weight + beta * dw``.

    beta is 0 or 1; at 0, dw is only written.
    """
    begin_gradient(beta, dw)
    add_gradient(
        x, dy, dw, n, channels, height, width, filters, kernel_height, kernel_width,
        stride_height, stride_width, dilation_height, dilation_width, top, left,
        out_height, out_width,
    )  # fmt: skip


@routine
def _add_gradients(
    x, dy, dw, n, channels, height, width, filters, kernel_height, kernel_width,
    stride_height, stride_width, dilation_height, dilation_width, top, left,
    out_height, out_width,
):  # fmt: skip
    """Add gradients of blocks of taps × filters, sample after sample."""
    planes, panel, sums = planes_on_stack(), panel_on_stack(), sums_on_stack()
    table, places = table_on_stack(), places_on_stack()
    taps, out_plane = kernel_height * kernel_width, out_height * out_width
    columns = (out_width - 1) * stride_width + (kernel_width - 1) * dilation_width + 1
    reach = (kernel_height - 1) * dilation_height
    part = max(1, min(out_height, (ROOM // columns - reach - 1) // stride_height + 1))
    plane = ((part - 1) * stride_height + reach + 1) * columns
    together = min(channels, max(1, BLOCK // taps), max(1, ROOM // plane))
    for k0 in range(0, channels, together):
        k_here = min(together, channels - k0)
        for t0 in range(0, k_here * taps, BLOCK):
            n_block = min(BLOCK, k_here * taps - t0)
            for f0 in range(0, filters, PANEL):
                outputs = min(PANEL, filters - f0)
                for t in range(n_block):
                    for f in range(outputs):
                        at = ((f0 + f) * channels + k0) * taps + t0 + t
                        sums[t * PANEL + f] = dw[at]
                for s in range(n):
                    for r0 in range(0, out_height, part):
                        rows_here = min(part, out_height - r0)
                        copy_planes(
                            x, (s * channels + k0) * height * width, k_here,
                            height, width, top - r0 * stride_height, left,
                            plane // columns, columns, planes, 0,
                        )  # fmt: skip
                        n_places = rows_here * out_width
                        d_at = (s * filters + f0) * out_plane + r0 * out_width
                        for p0 in range(0, n_places, DEPTH):
                            depth = min(DEPTH, n_places - p0)
                            for p in range(depth):
                                r, c = (p0 + p) // out_width, (p0 + p) % out_width
                                table[p] = r * stride_height * columns
                                table[p] += c * stride_width
                            transpose_rows(
                                dy, d_at + p0, out_plane, outputs, depth, panel
                            )
                            for tile in range(0, n_block, ROWS):
                                for row in range(ROWS):
                                    t = t0 + min(tile + row, n_block - 1)
                                    k, tap = t // taps, t % taps
                                    i, j = tap // kernel_width, tap % kernel_width
                                    places[row] = k * plane
                                    places[row] += i * dilation_height * columns
                                    places[row] += j * dilation_width
                                tile_of(
                                    planes, places, table, panel,
                                    sums[tile * PANEL :], outputs, depth, 0,
                                )  # fmt: skip
                for t in range(n_block):
                    for f in range(outputs):
                        at = ((f0 + f) * channels + k0) * taps + t0 + t
                        dw[at] = sums[t * PANEL + f]
