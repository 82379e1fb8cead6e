"""Convolutions over (sample, channel, height, width), without im2col.

Everything is one operation: for each output row of vectors, sum over a table of
(element of a picture, weight) pairs (see `tiles`). Three stages, for a small group of
samples at a time, so that the workspace stays near the size of one sample:

1. Copy the pictures into the workspace with zeros around them, so that no tap needs a
   test. A stride splits a picture into phases (even and odd columns), in which
   neighbouring outputs read neighbouring elements. Where rows are narrower than a
   vector, several samples are interleaved.
2. Write the table of offsets.
3. Run the tiles over all outputs.

`forward` sums over (channel, row, column) of the filter. `derivative` is the same sum
over (filter, row, column) of the padded derivative, for each phase of the input with
the taps that reach it; so no product with an inserted zero is ever computed. A
transposed convolution is the other one of the two. `gradient` takes pictures with
channels last, so that vectors run along (column, channel) of the filter, and sums over
output positions.

im2col, for comparison, needs a workspace of height × width times the filter's size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import overload

from arena_ckpt.kernels.jit import Indexes, Vector, kernel, subroutine
from arena_ckpt.kernels.lanes import LANES, _on_stack, clear, double_lanes, total
from arena_ckpt.kernels.tiles import ROWS, TILE, VECTORS, WIDTH, tile
from arena_ckpt.kernels.vector_math import ZERO

SLACK = 64
"""Zeros at the end of a workspace: vectors may read beyond the last row."""

_CHUNK = 8 * VECTORS
"""Vectors whose places are worked out together."""

# What is kept of each vector, in rows of `_CHUNK`: where it begins in the workspace and
# where its first lane goes; the sample of that lane, how many lanes are outputs, and
# how many samples of the block there are.
_AT, _TO, _SAMPLE, _LANES, _ROOM, _N_PLACES = range(0, 6 * _CHUNK, _CHUNK)

_longs_on_stack = _on_stack(types.int64, ir.IntType(64), _N_PLACES)
_tile_on_stack = _on_stack(types.float32, ir.FloatType(), ROWS * TILE)


def _places() -> Any:
    return np.empty(_N_PLACES, np.int64)


def _scratch() -> Any:
    return np.empty(ROWS * TILE, np.float32)


@overload(_places, inline="always")
def _compiled_places() -> Any:
    return lambda: carray(_longs_on_stack(), _N_PLACES)


@overload(_scratch, inline="always")
def _compiled_scratch() -> Any:
    return lambda: carray(_tile_on_stack(), ROWS * TILE)


@subroutine
def _copy_pictures(
    x, n0, n, channels, height, width, top, left,
    row_stride, column_stride, row_phases, column_phases, rows, columns, samples, out,
):  # fmt: skip
    """Copy samples n0 … n0 + n − 1 into `out`, whose margins are 0 already.

    out is (block, channel, row phase, column phase, row, column, sample in block); a
    negative `top` or `left` crops.
    """
    for i in range(n):
        block, lane = i // samples, i % samples
        for c in range(channels):
            picture = ((n0 + i) * channels + c) * height * width
            plane = (block * channels + c) * row_phases * column_phases
            for row_phase in range(row_phases):
                for column_phase in range(column_phases):
                    phase = plane + row_phase * column_phases + column_phase
                    # column * column_stride + column_phase - left in [0, width)
                    offset = column_phase - left
                    begin = max(0, (column_stride - 1 - offset) // column_stride)
                    end = (width - 1 - offset) // column_stride + 1
                    end = min(columns, end)
                    for row in range(rows):
                        r = row * row_stride + row_phase - top
                        if 0 <= r < height:
                            source = picture + r * width + offset
                            target = (phase * rows + row) * columns * samples + lane
                            if column_stride == 1 and samples == 1:
                                for column in range(begin, end):
                                    out[target + column] = x[source + column]
                            else:
                                for column in range(begin, end):
                                    out[target + column * samples] = x[
                                        source + column * column_stride
                                    ]


@subroutine
def _correlate(
    source, block_step, row_step, n, n_rows, n_columns, samples,
    table, n_taps, w, w_row, init, i0, i_row, n_outputs,
    y, y0, y_sample, y_plane, y_row, y_column,
):  # fmt: skip
    """For each output (sample, row, column): sums over the table (see the module)."""
    places, scratch = _places(), _scratch()
    width = n_columns * samples
    per_row = (width + WIDTH - 1) // WIDTH
    # Rows of at least one vector end in a vector that repeats some columns.
    overlaps = samples == 1 and n_columns >= WIDTH
    is_direct = overlaps and y_column == 1
    target = y if is_direct else scratch
    plane = y_plane if is_direct else TILE
    blocks = (n + samples - 1) // samples
    n_vectors = blocks * n_rows * per_row
    step = ROWS if n_outputs >= ROWS else 1
    if step == 1:  # the rows of a tile are one and the same
        w_stride, i_stride, t_stride = 0, 0, TILE if not is_direct else 0
    else:
        w_stride, i_stride, t_stride = w_row, i_row, plane
    block, row, place = 0, 0, 0
    for v0 in range(0, n_vectors, _CHUNK):
        n_here = min(_CHUNK, n_vectors - v0)
        for i in range(n_here):
            lane = place * WIDTH
            if overlaps:
                lane = min(lane, width - WIDTH)
            column, sample = lane // samples, lane % samples
            places[_AT + i] = block * block_step + row * row_step + lane
            places[_TO + i] = (
                y0 + (block * samples + sample) * y_sample
                + row * y_row + column * y_column
            )  # fmt: skip
            places[_SAMPLE + i] = sample
            places[_LANES + i] = min(WIDTH, width - lane)
            places[_ROOM + i] = n - block * samples
            place += 1
            if place == per_row:
                place = 0
                row += 1
                if row == n_rows:
                    row = 0
                    block += 1
        for o in range(0, n_outputs, step):
            output = min(o, n_outputs - step)
            for i in range(0, n_here, VECTORS):
                a, b, c = i, min(i + 1, n_here - 1), min(i + 2, n_here - 1)
                to_a, to_b, to_c = 0, WIDTH, 2 * WIDTH
                if is_direct:
                    base = output * plane
                    to_a = base + places[_TO + a]
                    to_b = base + places[_TO + b]
                    to_c = base + places[_TO + c]
                tile(
                    source, (places[_AT + a], places[_AT + b], places[_AT + c]),
                    table, 0, n_taps, w, output * w_row, w_stride,
                    init, i0 + output * i_row, i_stride,
                    target, (to_a, to_b, to_c), t_stride,
                )  # fmt: skip
                if is_direct:
                    continue
                for v in range(min(VECTORS, n_here - i)):
                    for j in range(step):
                        into = places[_TO + i + v] + (output + j) * y_plane
                        sample = places[_SAMPLE + i + v]
                        for k in range(places[_LANES + i + v]):
                            if sample < places[_ROOM + i + v]:
                                y[into] = scratch[j * TILE + v * WIDTH + k]
                            sample += 1
                            into += y_sample
                            if sample == samples:
                                sample = 0
                                into += y_column - samples * y_sample


@kernel
def conv_forward(
    x: Vector, weight: Vector, bias: Vector, has_bias: int,
    pictures: Vector, table: Indexes, y: Vector,
    n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
    samples: int, group: int,
) -> None:  # fmt: skip
    """``y[n, f] = bias[f] + Σ_c x[n, c] ⋆ weight[f, c]``; bias only where has_bias."""
    reach_height = (kernel_height - 1) * dilation_height
    reach_width = (kernel_width - 1) * dilation_width
    row_phases = min(stride_height, reach_height + 1)
    column_phases = min(stride_width, reach_width + 1)
    rows = out_height + reach_height // stride_height
    columns = out_width + reach_width // stride_width
    phase = rows * columns * samples
    plane = row_phases * column_phases * phase
    k = 0
    for c in range(channels):
        for i in range(kernel_height):
            a = i * dilation_height
            for j in range(kernel_width):
                b = j * dilation_width
                table[2 * k] = (
                    c * plane
                    + ((a % stride_height) * column_phases + b % stride_width) * phase
                    + (a // stride_height * columns + b // stride_width) * samples
                )
                table[2 * k + 1] = k
                k += 1
    for i in range(pictures.size):
        pictures[i] = ZERO
    init = bias if has_bias else pictures
    i0 = 0 if has_bias else pictures.size - 1
    out_plane = out_height * out_width
    for n0 in range(0, n, group):
        n_here = min(group, n - n0)
        _copy_pictures(
            x, n0, n_here, channels, height, width, top, left,
            stride_height, stride_width, row_phases, column_phases,
            rows, columns, samples, pictures,
        )  # fmt: skip
        _correlate(
            pictures, channels * plane, columns * samples, n_here,
            out_height, out_width, samples,
            table, k, weight, k, init, i0, min(has_bias, 1), filters,
            y, n0 * filters * out_plane, filters * out_plane, out_plane, out_width, 1,
        )  # fmt: skip


@kernel
def conv_derivative(
    dy: Vector, weight: Vector, bias: Vector, has_bias: int,
    pictures: Vector, table: Indexes, dx: Vector,
    n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
    samples: int, group: int,
) -> None:  # fmt: skip
    """``dx``: the derivative of `conv_forward` for x; or, with bias, a transposed one.

    The bias is per channel of dx, and only added where has_bias.
    """
    reach_height = (kernel_height - 1) * dilation_height
    reach_width = (kernel_width - 1) * dilation_width
    # Row u = row + top of the padded input gets dy[o] · weight[i] where
    # u = o · stride + i · dilation. For u = a · stride + phase that is
    # o = a + (phase − i · dilation) / stride.
    margin_height = reach_height // stride_height - top // stride_height
    margin_width = reach_width // stride_width - left // stride_width
    rows = (height - 1 + top) // stride_height + margin_height + 1
    columns = (width - 1 + left) // stride_width + margin_width + 1
    plane = rows * columns * samples
    for i in range(pictures.size):
        pictures[i] = ZERO
    init = bias if has_bias else pictures
    i0 = 0 if has_bias else pictures.size - 1
    for n0 in range(0, n, group):
        n_here = min(group, n - n0)
        _copy_pictures(
            dy, n0, n_here, filters, out_height, out_width,
            margin_height, margin_width, 1, 1, 1, 1, rows, columns, samples, pictures,
        )  # fmt: skip
        for phase_h in range(stride_height):
            # the first row of the input in this phase, and how many there are
            row0 = (phase_h - top) % stride_height
            n_rows = (height - row0 + stride_height - 1) // stride_height
            a = (row0 + top - phase_h) // stride_height
            for phase_w in range(stride_width):
                column0 = (phase_w - left) % stride_width
                n_columns = (width - column0 + stride_width - 1) // stride_width
                b = (column0 + left - phase_w) // stride_width
                if n_rows <= 0 or n_columns <= 0:
                    continue
                k = 0
                for f in range(filters):
                    for i in range(kernel_height):
                        up = phase_h - i * dilation_height
                        if up % stride_height != 0:
                            continue
                        for j in range(kernel_width):
                            aside = phase_w - j * dilation_width
                            if aside % stride_width != 0:
                                continue
                            from_row = a + up // stride_height + margin_height
                            from_column = b + aside // stride_width + margin_width
                            table[2 * k] = (
                                f * plane
                                + (from_row * columns + from_column) * samples
                            )
                            table[2 * k + 1] = (
                                f * channels * kernel_height + i
                            ) * kernel_width + j
                            k += 1
                _correlate(
                    pictures, filters * plane, columns * samples, n_here,
                    n_rows, n_columns, samples,
                    table, k, weight, kernel_height * kernel_width,
                    init, i0, min(has_bias, 1), channels,
                    dx, (n0 * channels * height + row0) * width + column0,
                    channels * height * width, height * width,
                    stride_height * width, stride_width,
                )  # fmt: skip


@kernel
def conv_gradient(
    x: Vector, dy: Vector, beta: float,
    pictures: Vector, table: Indexes, dw: Vector,
    n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
    group: int,
) -> None:  # fmt: skip
    """``dw = the derivative of conv_forward for the weight + beta * dw``.

    beta is 0 or 1; at 0, dw is only written.
    """
    rows = (out_height - 1) * stride_height + (kernel_height - 1) * dilation_height + 1
    columns = (out_width - 1) * stride_width + (kernel_width - 1) * dilation_width + 1
    block = rows * columns * channels
    out_plane = out_height * out_width
    k = 0
    for i in range(min(group, n)):
        for r in range(out_height):
            for c in range(out_width):
                table[2 * k] = i * block + channels * (
                    r * stride_height * columns + c * stride_width
                )
                table[2 * k + 1] = (i * filters * out_plane) + r * out_width + c
                k += 1
    for i in range(pictures.size):
        pictures[i] = ZERO
    zero = pictures.size - 1
    scratch = _scratch()
    taps = kernel_height * kernel_width
    # Neighbouring columns of the filter are neighbours in memory, unless dilated.
    joined = kernel_width if dilation_width == 1 else 1
    apart = kernel_width // joined
    lanes = joined * channels
    per_row = (lanes + WIDTH - 1) // WIDTH
    n_vectors = kernel_height * apart * per_row
    places = _places()
    step = ROWS if filters >= ROWS else 1
    w_stride = out_plane if filters >= ROWS else 0
    for n0 in range(0, n, group):
        n_here = min(group, n - n0)
        for i in range(n_here):
            for r in range(max(0, -top), min(height, rows - top)):
                for c in range(channels):
                    source = (((n0 + i) * channels + c) * height + r) * width
                    target = i * block + ((r + top) * columns + left) * channels + c
                    for j in range(max(0, -left), min(width, columns - left)):
                        pictures[target + j * channels] = x[source + j]
        writes = n0 == 0 and beta == 0.0
        for v0 in range(0, n_vectors, VECTORS):
            n_tile = min(VECTORS, n_vectors - v0)
            for i in range(VECTORS):
                v = min(v0 + i, n_vectors - 1)
                place, tap = v % per_row, v // per_row
                a, b = tap // apart, tap % apart
                lane = place * WIDTH
                places[_AT + i] = lane + channels * (
                    a * dilation_height * columns + b * dilation_width
                )
                places[_SAMPLE + i] = lane
                places[_TO + i] = a * kernel_width + b
            for f in range(0, filters, step):
                first = min(f, filters - step)
                tile(
                    pictures, (places[_AT], places[_AT + 1], places[_AT + 2]), table, 0, n_here * out_plane,
                    dy, (n0 * filters + first) * out_plane, w_stride,
                    pictures, zero, 0, scratch, (0, WIDTH, 2 * WIDTH), TILE,
                )  # fmt: skip
                for j in range(f - first, step):
                    for i in range(n_tile):
                        lane0 = places[_SAMPLE + i]
                        column, c = lane0 // channels, lane0 % channels
                        base = (first + j) * channels * taps + places[_TO + i]
                        for lane in range(min(WIDTH, lanes - lane0)):
                            target = base + c * taps + column
                            value = scratch[j * TILE + i * WIDTH + lane]
                            dw[target] = value if writes else dw[target] + value
                            c += 1
                            if c == channels:
                                c = 0
                                column += 1


@kernel
def conv_bias_gradient(
    dy: Vector, beta: float, db: Vector, n: int, plane: int
) -> None:
    """``db[f] = Σ dy[:, f] + beta * db[f]``, in float64; beta as in `conv_gradient`."""
    lanes = double_lanes()
    filters = db.size
    for f in range(filters):
        clear(lanes)
        for i in range(n):
            row = dy[(i * filters + f) * plane : (i * filters + f + 1) * plane]
            for start in range(0, plane, LANES):
                part = row[start : start + LANES]
                for j in range(part.size):
                    lanes[j] += np.float64(part[j])
        so_far = 0.0 if beta == 0.0 else np.float64(db[f])
        db[f] = np.float32(so_far + total(lanes, LANES))
