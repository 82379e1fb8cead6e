"""Depthwise convolutions in one fixed order and without a workspace in the arena.

Each element is one chain of fused multiply-adds, as in `direct`, over the row and
column of one filter, or for its gradient over (sample, row, column) of the output. What
a filter reads beyond the picture is 0 and multiplied like everything else.

`LANES` channels stand side by side in a vector: rows of some planes are copied onto the
stack with the channels last and zeros around them, so that neither strides nor narrow
pictures matter. Results are transposed back. Filters that are very large, or taps very
far apart, take plain loops.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.chains import DEPTH, LANES, fused
from arena_ckpt.kernels.compiling import helper, routine
from arena_ckpt.kernels.direct import begin_gradient, taps_of
from arena_ckpt.kernels.direct_tiles import (
    CHANNEL_ROWS,
    ROOM,
    panel_on_stack,
    places_on_stack,
    planes_on_stack,
    sums_on_stack,
    table_on_stack,
    tile_of_channels,
)
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.transposition import transpose_square
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.operations.array_types import Vector

# With a plain 0 or 1 Numba would compile a function anew for that number.
_ZERO, _ONE = np.int64(0), np.int64(1)

_MOST_TAPS = 2 * DEPTH
"""Maximum number of taps of a filter that takes vectors."""


@routine
def _put_channels_last(x, at, stride, n_channels, n, to, target):
    """``target[to + i LANES + c] = x[at + c stride + i]``, 0 for further channels."""
    whole, long = n_channels - n_channels % 8, n - n % 8
    for c in range(0, whole, 8):
        for i in range(0, long, 8):
            place = to + i * LANES + c
            transpose_square(x, at + c * stride + i, stride, target, place, LANES)
    for c in range(n_channels):
        for i in range(long if c < whole else 0, n):
            target[to + i * LANES + c] = x[at + c * stride + i]
    for i in range(n if n_channels < LANES else 0):
        for c in range(n_channels, LANES):
            target[to + i * LANES + c] = ZERO


@routine
def _copy_rows(
    x, at, n_channels, height, width, top, left, rows, columns, planes
):  # fmt: skip
    """Copy planes (height, width) into (rows, columns, LANES), zeros around them.

    Row 0 and column 0 of the copy are row ``-top`` and column ``-left`` of a plane.
    """
    first, last = max(0, top), min(rows, height + top)
    begin, end = min(columns, max(0, left)), min(columns, width + left)
    for r in range(rows):
        row = r * columns * LANES
        if r < first or r >= last or begin >= end:
            for i in range(row, row + columns * LANES):
                planes[i] = ZERO
            continue
        for i in range(row, row + begin * LANES):
            planes[i] = ZERO
        source = at + (r - top) * width + begin - left
        _put_channels_last(
            x, source, height * width, n_channels, end - begin, row + begin * LANES,
            planes,
        )  # fmt: skip
        for i in range(row + end * LANES, row + columns * LANES):
            planes[i] = ZERO


@routine
def _store(sums, n, n_channels, y, at, stride, step):
    """``y[at + i step + c stride] = sums[i, c]`` for n rows."""
    whole = n_channels - n_channels % 8 if n == 8 and step == 1 else 0
    for c in range(0, whole, 8):
        transpose_square(sums, c, LANES, y, at + c * stride, stride)
    for i in range(n):
        for c in range(whole, n_channels):
            y[at + i * step + c * stride] = sums[i * LANES + c]


@routine
def _filter_channels(
    x, channels, height, width, top, left, step_h, step_w,
    taps_h, taps_w, apart_h, apart_w, w, w_channel, w_first, w_row, w_column,
    bias, has_bias, n, n_rows, n_columns, y, y0, y_plane, y_row, y_column,
):  # fmt: skip
    """For each place and channel of n samples: the sum over the taps.

    Parameters
    ----------
    x : (n, channels, height, width)
    top, left : int
        Place (r, c) and tap (i, j) read row ``r step_h + i apart_h - top``, and a
        column likewise; 0 beyond the plane.
    w : array of float32
        The weight of a tap is ``w[channel w_channel + w_first + i w_row
        + j w_column]``.
    y : array of float32
        ``y[y0 + (sample channels + channel) y_plane + r y_row + c y_column]``.
    """
    planes, panel, sums = planes_on_stack(), panel_on_stack(), sums_on_stack()
    table, places = table_on_stack(), places_on_stack()
    n_taps = taps_h * taps_w
    reach_h, reach_w = (taps_h - 1) * apart_h, (taps_w - 1) * apart_w
    columns = (n_columns - 1) * step_w + max(0, reach_w) + 1
    line = columns * LANES
    if n_taps > _MOST_TAPS or (max(0, reach_h) + 1) * line > ROOM:
        _filter_far(
            x, channels, height, width, top, left, step_h, step_w,
            taps_h, taps_w, apart_h, apart_w, w, w_channel, w_first, w_row, w_column,
            bias, has_bias, n, n_rows, n_columns, y, y0, y_plane, y_row, y_column,
        )  # fmt: skip
        return
    part = max(1, min(n_rows, (ROOM // line - max(0, reach_h) - 1) // step_h + 1))
    rows = (part - 1) * step_h + max(0, reach_h) + 1
    for k0 in range(0, channels, LANES):
        n_channels = min(LANES, channels - k0)
        for p in range(n_taps):
            i, j = p // taps_w, p % taps_w
            table[p] = (i * apart_h * columns + j * apart_w) * LANES
            for c in range(LANES):
                at = (k0 + c) * w_channel + w_first + i * w_row + j * w_column
                panel[p * LANES + c] = w[at] if c < n_channels else ZERO
        for s in range(n):
            plane = (s * channels + k0) * height * width
            for r0 in range(0, n_rows, part):
                rows_here = min(part, n_rows - r0)
                _copy_rows(
                    x, plane, n_channels, height, width, top - r0 * step_h, left,
                    rows, columns, planes,
                )  # fmt: skip
                first = y0 + (s * channels + k0) * y_plane + r0 * y_row
                for r in range(rows_here):
                    for c0 in range(0, n_columns, CHANNEL_ROWS):
                        n_here = min(CHANNEL_ROWS, n_columns - c0)
                        for i in range(CHANNEL_ROWS):
                            column = (c0 + min(i, n_here - 1)) * step_w
                            places[i] = (r * step_h * columns + column) * LANES
                        for i in range(CHANNEL_ROWS if has_bias else 0):
                            for c in range(LANES):
                                start = bias[k0 + c] if c < n_channels else ZERO
                                sums[i * LANES + c] = start
                        tile_of_channels(
                            planes, places, table, panel, sums, n_taps,
                            0 if has_bias else 1,
                        )  # fmt: skip
                        _store(
                            sums, n_here, n_channels, y,
                            first + r * y_row + c0 * y_column, y_plane, y_column,
                        )  # fmt: skip


@routine
def _filter_far(
    x, channels, height, width, top, left, step_h, step_w,
    taps_h, taps_w, apart_h, apart_w, w, w_channel, w_first, w_row, w_column,
    bias, has_bias, n, n_rows, n_columns, y, y0, y_plane, y_row, y_column,
):  # fmt: skip
    """Do what `_filter_channels` does, element by element."""
    for s in range(n):
        for k in range(channels):
            source = (s * channels + k) * height * width
            for r in range(n_rows):
                for c in range(n_columns):
                    total = bias[k] if has_bias else ZERO
                    for i in range(taps_h):
                        row = r * step_h + i * apart_h - top
                        for j in range(taps_w):
                            column = c * step_w + j * apart_w - left
                            value = ZERO
                            if 0 <= row < height and 0 <= column < width:
                                value = x[source + row * width + column]
                            at = k * w_channel + w_first + i * w_row + j * w_column
                            total = fused(w[at], value, total)
                    at = y0 + (s * channels + k) * y_plane + r * y_row
                    y[at + c * y_column] = total


@kernel
def direct_depthwise_forward(
    x: Vector, weight: Vector, bias: Vector, has_bias: int, y: Vector,
    n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``y[n, c] = bias[c] + x[n, c] ⋆ weight[c]``; bias only where has_bias."""
    _filter_channels(
        x, channels, height, width, top, left, stride_height, stride_width,
        kernel_height, kernel_width, dilation_height, dilation_width,
        weight, kernel_height * kernel_width, _ZERO, kernel_width, _ONE,
        bias, has_bias != 0, n, out_height, out_width,
        y, _ZERO, out_height * out_width, out_width, _ONE,
    )  # fmt: skip


@kernel
def direct_depthwise_derivative(
    dy: Vector, weight: Vector, dx: Vector,
    n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``dx``: the derivative of `direct_depthwise_forward` for x."""
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
            # The last tap reads the first output, as in `direct_derivative`.
            before = last_i * dilation_height - row0 - top
            aside = last_j * dilation_width - column0 - left
            _filter_channels(
                dy, channels, out_height, out_width,
                before // stride_height, aside // stride_width, _ONE, _ONE,
                np.int64(n_i if n_j > 0 else 0), np.int64(n_j),
                np.int64(step_i * dilation_height // stride_height),
                np.int64(step_j * dilation_width // stride_width),
                weight, kernel_height * kernel_width, last_i * kernel_width + last_j,
                -step_i * kernel_width, -step_j, weight, n < 0, n, n_rows, n_columns,
                dx, row0 * width + column0, height * width, stride_height * width,
                stride_width,
            )  # fmt: skip


@kernel
def direct_depthwise_gradient(
    x: Vector, dy: Vector, beta: float, dw: Vector,
    n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``dw``: as `direct.direct_gradient`, of one channel for each filter."""
    begin_gradient(beta, dw)
    columns = (out_width - 1) * stride_width + (kernel_width - 1) * dilation_width + 1
    reach = (kernel_height - 1) * dilation_height
    is_far = (reach + 1) * columns * LANES > ROOM
    if is_far or kernel_height * kernel_width > _MOST_TAPS:
        _gradient_far(
            x, dy, dw, n, channels, height, width, kernel_height, kernel_width,
            stride_height, stride_width, dilation_height, dilation_width, top, left,
            out_height, out_width,
        )  # fmt: skip
        return
    _add_gradients(
        x, dy, dw, n, channels, height, width, kernel_height, kernel_width,
        stride_height, stride_width, dilation_height, dilation_width, top, left,
        out_height, out_width,
    )  # fmt: skip


@helper
def _move_sums(dw, k0, n_channels, taps, sums, loads):
    """Move gradients of some channels to sums by tap, or back."""
    for c in range(n_channels):
        for t in range(taps):
            at = (k0 + c) * taps + t
            if loads:
                sums[t * LANES + c] = dw[at]
            else:
                dw[at] = sums[t * LANES + c]


@routine
def _add_gradients(
    x, dy, dw, n, channels, height, width, kernel_height, kernel_width,
    stride_height, stride_width, dilation_height, dilation_width, top, left,
    out_height, out_width,
):  # fmt: skip
    """Add gradients of all taps of `LANES` channels, sample after sample."""
    planes, panel, sums = planes_on_stack(), panel_on_stack(), sums_on_stack()
    table, places = table_on_stack(), places_on_stack()
    taps, out_plane = kernel_height * kernel_width, out_height * out_width
    columns = (out_width - 1) * stride_width + (kernel_width - 1) * dilation_width + 1
    reach, line = (kernel_height - 1) * dilation_height, columns * LANES
    part = max(1, min(out_height, (ROOM // line - reach - 1) // stride_height + 1))
    rows = (part - 1) * stride_height + reach + 1
    for k0 in range(0, channels, LANES):
        n_channels = min(LANES, channels - k0)
        for i in range((taps + CHANNEL_ROWS) * LANES):
            sums[i] = ZERO
        _move_sums(dw, k0, n_channels, taps, sums, True)
        for s in range(n):
            for r0 in range(0, out_height, part):
                n_places = min(part, out_height - r0) * out_width
                _copy_rows(
                    x, (s * channels + k0) * height * width, n_channels, height, width,
                    top - r0 * stride_height, left, rows, columns, planes,
                )  # fmt: skip
                d_at = (s * channels + k0) * out_plane + r0 * out_width
                for p0 in range(0, n_places, DEPTH):
                    depth = min(DEPTH, n_places - p0)
                    for p in range(depth):
                        r, c = (p0 + p) // out_width, (p0 + p) % out_width
                        at = r * stride_height * columns + c * stride_width
                        table[p] = at * LANES
                    _put_channels_last(
                        dy, d_at + p0, out_plane, n_channels, depth, 0, panel
                    )
                    for tap in range(0, taps, CHANNEL_ROWS):
                        for row in range(CHANNEL_ROWS):
                            t = min(tap + row, taps - 1)
                            i, j = t // kernel_width, t % kernel_width
                            at = i * dilation_height * columns + j * dilation_width
                            places[row] = at * LANES
                        tile_of_channels(
                            planes, places, table, panel, sums[tap * LANES :], depth, 0
                        )
        _move_sums(dw, k0, n_channels, taps, sums, False)


@routine
def _gradient_far(
    x, dy, dw, n, channels, height, width, kernel_height, kernel_width,
    stride_height, stride_width, dilation_height, dilation_width, top, left,
    out_height, out_width,
):  # fmt: skip
    """Add gradients element by element."""
    taps = kernel_height * kernel_width
    for s in range(n):
        for k in range(channels):
            source = (s * channels + k) * height * width
            d_at = (s * channels + k) * out_height * out_width
            for t in range(taps):
                i, j = t // kernel_width, t % kernel_width
                total = dw[k * taps + t]
                for r in range(out_height):
                    row = r * stride_height + i * dilation_height - top
                    for c in range(out_width):
                        column = c * stride_width + j * dilation_width - left
                        value = ZERO
                        if 0 <= row < height and 0 <= column < width:
                            value = x[source + row * width + column]
                        d = dy[d_at + r * out_width + c]
                        total = fused(d, value, total)
                dw[k * taps + t] = total
