"""Depthwise convolutions: each channel has a filter of its own.

As in `convolution`, planes are copied into a workspace with zeros around them and a
stride's phases apart; one plane at a time, so the workspace is small. A row of outputs
is sums of whole vectors; the gradient is sums of products of whole vectors, which are
added across their lanes once for each channel.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.convolution import (
    _AT,
    _CHUNK,
    _ROOM,
    _TO,
    _copy_pictures,
    _copy_row,
    _places,
    _scratch,
)
from arena_ckpt.kernels.jit import Indexes, Vector, kernel, routine
from arena_ckpt.kernels.tiles import DOTS, STRIP, WIDTH, dots, strip
from arena_ckpt.kernels.vector_math import ZERO

_STRIPS = _CHUNK // STRIP * STRIP
"""Vectors whose places are worked out together."""


@routine
def _filter_plane(
    source, row_step, n_rows, n_columns, table, n_taps, w, start,
    y, y0, y_row, y_column,
):  # fmt: skip
    places, scratch = _places(), _scratch()
    per_row = (n_columns + WIDTH - 1) // WIDTH
    n_vectors = n_rows * per_row
    is_direct = y_column == 1 and n_columns >= WIDTH
    target = y if is_direct else scratch
    row, place = 0, 0
    for v0 in range(0, n_vectors, _STRIPS):
        n_here = min(_STRIPS, n_vectors - v0)
        for v in range((n_here + STRIP - 1) // STRIP * STRIP):
            # A row of at least one vector ends in one that repeats some columns.
            column = min(place * WIDTH, max(0, n_columns - WIDTH))
            into = y0 + row * y_row + column * y_column
            places[_AT + v] = row * row_step + column
            places[_ROOM + v] = into
            places[_TO + v] = into if is_direct else v % STRIP * WIDTH
            if v < n_here - 1:
                place += 1
                if place == per_row:
                    row, place = row + 1, 0
        place += 1
        if place == per_row:
            row, place = row + 1, 0
        for v in range(0, n_here, STRIP):
            strip(
                source, places[_AT + v :], table, n_taps, w, start,
                target, places[_TO + v :],
            )  # fmt: skip
            if is_direct:
                continue
            for i in range(min(STRIP, n_here - v)):
                _copy_row(
                    scratch[i * WIDTH :], 1, y[places[_ROOM + v + i] :], y_column,
                    min(WIDTH, n_columns),
                )  # fmt: skip


@kernel
def depthwise_forward(
    x: Vector, weight: Vector, bias: Vector, has_bias: int,
    pictures: Vector, table: Indexes, y: Vector,
    n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``y[n, c] = bias[c] + x[n, c] ⋆ weight[c]``; bias only where has_bias."""
    reach_height = (kernel_height - 1) * dilation_height
    reach_width = (kernel_width - 1) * dilation_width
    row_phases = min(stride_height, reach_height + 1)
    column_phases = min(stride_width, reach_width + 1)
    rows = out_height + reach_height // stride_height
    columns = out_width + reach_width // stride_width
    k = 0
    for i in range(kernel_height):
        a = i * dilation_height
        for j in range(kernel_width):
            b = j * dilation_width
            phase = (a % stride_height) * column_phases + b % stride_width
            row = phase * rows + a // stride_height
            table[k] = row * columns + b // stride_width
            k += 1
    pictures[:] = ZERO
    zero = pictures[pictures.size - 1 :]
    for i in range(n):
        for c in range(channels):
            _copy_pictures(
                x, i * channels + c, 1, 1, height, width, top, left,
                stride_height, stride_width, row_phases, column_phases,
                rows, columns, 1, pictures,
            )  # fmt: skip
            _filter_plane(
                pictures, columns, out_height, out_width, table, k, weight[c * k :],
                bias[c:] if has_bias else zero,
                y, (i * channels + c) * out_height * out_width, out_width, 1,
            )  # fmt: skip


@kernel
def depthwise_derivative(
    dy: Vector, weight: Vector, pictures: Vector, table: Indexes, dx: Vector,
    n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``dx``: the derivative of `depthwise_forward` for x.

    The workspace begins with room for a filter.
    """
    taps = kernel_height * kernel_width
    # See `conv_derivative`.
    reach_height = (kernel_height - 1) * dilation_height
    reach_width = (kernel_width - 1) * dilation_width
    margin_height = reach_height // stride_height - top // stride_height
    margin_width = reach_width // stride_width - left // stride_width
    rows = (height - 1 + top) // stride_height + margin_height + 1
    columns = (width - 1 + left) // stride_width + margin_width + 1
    packed, margins = pictures[:taps], pictures[taps:]
    pictures[:] = ZERO
    zero = pictures[pictures.size - 1 :]
    for plane in range(n * channels):
        _copy_pictures(
            dy, plane, 1, 1, out_height, out_width, margin_height, margin_width,
            1, 1, 1, 1, rows, columns, 1, margins,
        )  # fmt: skip
        w0 = plane % channels * taps
        for phase_h in range(stride_height):
            row0 = (phase_h - top) % stride_height
            n_rows = (height - row0 + stride_height - 1) // stride_height
            a = (row0 + top - phase_h) // stride_height + margin_height
            for phase_w in range(stride_width):
                column0 = (phase_w - left) % stride_width
                n_columns = (width - column0 + stride_width - 1) // stride_width
                b = (column0 + left - phase_w) // stride_width + margin_width
                if n_rows <= 0 or n_columns <= 0:
                    continue
                k = 0
                for i in range(kernel_height):
                    up = phase_h - i * dilation_height
                    if up % stride_height != 0:
                        continue
                    for j in range(kernel_width):
                        aside = phase_w - j * dilation_width
                        if aside % stride_width == 0:
                            row = a + up // stride_height
                            table[k] = row * columns + b + aside // stride_width
                            packed[k] = weight[w0 + i * kernel_width + j]
                            k += 1
                _filter_plane(
                    margins, columns, n_rows, n_columns, table, k, packed, zero,
                    dx, (plane * height + row0) * width + column0,
                    stride_height * width, stride_width,
                )  # fmt: skip


@kernel
def depthwise_gradient(
    x: Vector, dy: Vector, beta: float,
    pictures: Vector, table: Indexes, dw: Vector,
    n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``dw = the derivative of depthwise_forward for the weight + beta * dw``.

    beta is 0 or 1; at 0, dw is only written. The workspace begins with room for a
    plane of dy whose rows are whole vectors, and for a vector of sums for each tap.
    """
    reach_height = (kernel_height - 1) * dilation_height
    reach_width = (kernel_width - 1) * dilation_width
    row_phases = min(stride_height, reach_height + 1)
    column_phases = min(stride_width, reach_width + 1)
    rows = out_height + reach_height // stride_height
    columns = out_width + reach_width // stride_width
    taps = kernel_height * kernel_width
    groups = (taps + DOTS - 1) // DOTS
    k = 0
    for i in range(kernel_height):
        a = i * dilation_height
        for j in range(kernel_width):
            b = j * dilation_width
            phase = (a % stride_height) * column_phases + b % stride_width
            row = phase * rows + a // stride_height
            table[k] = row * columns + b // stride_width
            k += 1
    for i in range(k, groups * DOTS):
        table[i] = 0
    places = _places()
    per_row = (out_width + WIDTH - 1) // WIDTH
    n_vectors = out_height * per_row
    n_sums = groups * DOTS * WIDTH
    sums = pictures[:n_sums]
    padded = pictures[n_sums : n_sums + n_vectors * WIDTH]
    margins = pictures[n_sums + n_vectors * WIDTH :]
    pictures[:] = ZERO
    for c in range(channels):
        sums[:] = ZERO
        for i in range(n):
            plane = i * channels + c
            _copy_pictures(
                x, plane, 1, 1, height, width, top, left,
                stride_height, stride_width, row_phases, column_phases,
                rows, columns, 1, margins,
            )  # fmt: skip
            plane *= out_height * out_width
            parts = padded
            if out_width % WIDTH == 0:
                parts = dy[plane : plane + n_vectors * WIDTH]
            else:
                for r in range(out_height):
                    source = dy[plane + r * out_width :]
                    target = padded[r * per_row * WIDTH :]
                    _copy_row(source, 1, target, 1, out_width)
            for v0 in range(0, n_vectors, _CHUNK):
                n_here = min(_CHUNK, n_vectors - v0)
                row, place = v0 // per_row, v0 % per_row
                for v in range(n_here):
                    places[v] = row * columns + place * WIDTH
                    place += 1
                    if place == per_row:
                        row, place = row + 1, 0
                for group in range(groups):
                    dots(
                        margins, places, table[group * DOTS :],
                        parts[v0 * WIDTH :], n_here, sums[group * DOTS * WIDTH :],
                    )  # fmt: skip
        for t in range(taps):
            across = 0.0
            for lane in range(WIDTH):
                across += np.float64(sums[t * WIDTH + lane])
            so_far = 0.0 if beta == 0.0 else np.float64(dw[c * taps + t])
            dw[c * taps + t] = np.float32(so_far + across)
