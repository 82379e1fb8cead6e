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

from arena_ckpt.kernels.compiling import helper, routine
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import LANES, clear, double_lanes, on_stack, total
from arena_ckpt.kernels.tiles import ROWS, TILE, VECTORS, pack, tile
from arena_ckpt.kernels.transposition import transpose_square
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.kernels.vectors import WIDTH
from arena_ckpt.operations.array_types import Indexes, Vector
from arena_ckpt.operations.convolution import SLACK

_CHUNK = 44 * VECTORS
"""Maximum number of vectors whose places are worked out together."""

_CACHE_ELEMS = 1 << 16
"""Number of elements that are read again soon: half of a small second-level cache."""

# What is kept of each vector, in rows of `_CHUNK`: where it begins in the workspace and
# where its first lane goes; the sample of that lane, how many lanes are outputs, and
# how many samples of the block there are.
_AT, _TO, _SAMPLE, _LANES, _ROOM, _N_PLACES = range(0, 6 * _CHUNK, _CHUNK)

_longs_on_stack = on_stack(types.int64, ir.IntType(64), _N_PLACES)
_tile_on_stack = on_stack(types.float32, ir.FloatType(), ROWS * TILE)


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


@helper
def _copy_row(source, source_step, target, target_step, n):
    """``target[:: target_step][:n] = source[:: source_step][:n]``."""
    # Slices begin at 0, so LLVM need not think of negative indexes; and steps that it
    # knows become vectors.
    if source_step == 1 and target_step == 1:
        for i in range(n):
            target[i] = source[i]
    elif source_step == 2 and target_step == 1:
        for i in range(n):
            target[i] = source[2 * i]
    else:
        for i in range(n):
            target[i * target_step] = source[i * source_step]


@routine
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
                first_row = max(0, (top - row_phase + row_stride - 1) // row_stride)
                last_row = (height - 1 + top - row_phase) // row_stride
                for column_phase in range(column_phases):
                    # column * column_stride + column_phase - left in [0, width)
                    skip = column_phase - left
                    begin = max(0, (column_stride - 1 - skip) // column_stride)
                    end = min(columns, (width - 1 - skip) // column_stride + 1)
                    count = max(0, end - begin)
                    phase = plane + row_phase * column_phases + column_phase
                    source = picture + begin * column_stride + skip
                    source += (first_row * row_stride + row_phase - top) * width
                    target = (phase * rows + first_row) * columns + begin
                    target = target * samples + lane
                    for _ in range(first_row, min(rows, last_row + 1)):
                        _copy_row(
                            x[source:], column_stride, out[target:], samples, count
                        )
                        source += row_stride * width
                        target += columns * samples


@helper
def _scatter(scratch, y, into, y_column, y_sample, samples, sample, room, n):
    """Write the lanes of a vector to where they belong."""
    if samples == 1:
        for k in range(n):
            y[into + k * y_column] = scratch[k]
        return
    for k in range(n):
        if sample < room:
            y[into] = scratch[k]
        sample += 1
        into += y_sample
        if sample == samples:
            sample = 0
            into += y_column - samples * y_sample


@routine
def _correlate(
    source, block_step, row_step, n, n_rows, n_columns, samples,
    table, n_taps, w, w_row, packed, init, i0, i_row, n_outputs,
    y, y0, y_sample, y_plane, y_row, y_column,
):  # fmt: skip
    """For each output (sample, row, column): sums over the table (see the module).

    Row j of weights begins at ``j * w_row`` and is read in order; or, where there is
    room for a tile's weights in `packed`, at the offsets that follow the table's.
    """
    places, scratch = _places(), _scratch()
    width = n_columns * samples
    per_row = (width + WIDTH - 1) // WIDTH
    # Rows of at least one vector end in a vector that repeats some columns.
    overlaps = samples == 1 and n_columns >= WIDTH
    is_direct = overlaps and y_column == 1
    packs = packed.size > 0
    weights = packed if packs else w
    target = y if is_direct else scratch
    plane = y_plane if is_direct else TILE
    blocks = (n + samples - 1) // samples
    n_vectors = blocks * n_rows * per_row
    step = ROWS if n_outputs >= ROWS else 1
    # With fewer outputs than rows, the rows of a tile are one and the same.
    w_stride, i_stride = (w_row, i_row) if step == ROWS else (0, 0)
    t_stride = plane if step == ROWS or not is_direct else 0
    # What a chunk reads stays in the second cache while all outputs are made of it;
    # but gathering weights has to pay off.
    chunk = min(_CHUNK, _CACHE_ELEMS // (WIDTH * n_taps + 1) // VECTORS * VECTORS)
    if packs and chunk < _CHUNK // 2:
        chunk = _CHUNK
    chunk = max(chunk, 3 * VECTORS)
    block, row, place = 0, 0, 0
    for v0 in range(0, n_vectors, chunk):
        n_here = min(chunk, n_vectors - v0)
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
            w0, w_step, w_next = output * w_row, 1, w_stride
            if packs:
                pack(w, w0, w_stride, table[n_taps:], n_taps, packed)
                w0, w_step, w_next = 0, ROWS, 1
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
                    table, n_taps, weights, w0, w_step, w_next,
                    init, i0 + output * i_row, i_stride,
                    target, (to_a, to_b, to_c), t_stride, 0,
                )  # fmt: skip
                if is_direct:
                    continue
                for v in range(min(VECTORS, n_here - i)):
                    for j in range(step):
                        _scatter(
                            scratch[j * TILE + v * WIDTH :], y,
                            places[_TO + i + v] + (output + j) * y_plane,
                            y_column, y_sample, samples, places[_SAMPLE + i + v],
                            places[_ROOM + i + v], places[_LANES + i + v],
                        )  # fmt: skip


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
    """``y[n, f] = bias[f] + Σ_c x[n, c] ⋆ weight[f, c]``; bias only where has_bias.

    Without room for pictures in the workspace, x needs no margins.
    """
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
                table[k] = (
                    c * plane
                    + ((a % stride_height) * column_phases + b % stride_width) * phase
                    + (a // stride_height * columns + b // stride_width) * samples
                )
                k += 1
    pictures[:] = ZERO
    copies = pictures.size > SLACK
    init = bias if has_bias else pictures
    i0 = 0 if has_bias else pictures.size - 1
    out_plane = out_height * out_width
    for n0 in range(0, n, group):
        n_here = min(group, n - n0)
        if copies:
            _copy_pictures(
                x, n0, n_here, channels, height, width, top, left,
                stride_height, stride_width, row_phases, column_phases,
                rows, columns, samples, pictures,
            )  # fmt: skip
        _correlate(
            pictures if copies else x[n0 * channels * plane :],
            channels * plane, columns * samples, n_here,
            out_height, out_width, samples,
            table, k, weight, k, pictures[:0], init, i0, min(has_bias, 1), filters,
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

    The bias is per channel of dx, and only added where has_bias. The workspace begins
    with room for the weights of a tile.
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
    n_packed = ROWS * filters * kernel_height * kernel_width
    packed, margins = pictures[:n_packed], pictures[n_packed:]
    pictures[:] = ZERO
    copies = margins.size > SLACK
    init = bias if has_bias else pictures
    i0 = 0 if has_bias else pictures.size - 1
    for n0 in range(0, n, group):
        n_here = min(group, n - n0)
        if copies:
            _copy_pictures(
                dy, n0, n_here, filters, out_height, out_width, margin_height,
                margin_width, 1, 1, 1, 1, rows, columns, samples, margins,
            )  # fmt: skip
        for phase_h in range(stride_height):
            # the first row of the input in this phase, and how many there are
            row0 = (phase_h - top) % stride_height
            n_rows = (height - row0 + stride_height - 1) // stride_height
            a = (row0 + top - phase_h) // stride_height + margin_height
            for phase_w in range(stride_width):
                column0 = (phase_w - left) % stride_width
                n_columns = (width - column0 + stride_width - 1) // stride_width
                b = (column0 + left - phase_w) // stride_width + margin_width
                if n_rows <= 0 or n_columns <= 0:
                    continue
                # Offsets in dy, from low to high in a plane, then in the weight.
                k = 0
                for is_weight in range(2):
                    for f in range(filters):
                        for i in range(kernel_height - 1, -1, -1):
                            up = phase_h - i * dilation_height
                            if up % stride_height != 0:
                                continue
                            row = a + up // stride_height
                            for j in range(kernel_width - 1, -1, -1):
                                aside = phase_w - j * dilation_width
                                if aside % stride_width != 0:
                                    continue
                                column = b + aside // stride_width
                                if is_weight:
                                    at = f * channels * kernel_height + i
                                    table[k] = at * kernel_width + j
                                else:
                                    at = f * plane + row * columns * samples
                                    table[k] = at + column * samples
                                k += 1
                _correlate(
                    margins if copies else dy[n0 * filters * plane :],
                    filters * plane, columns * samples, n_here,
                    n_rows, n_columns, samples, table, k // 2,
                    weight, kernel_height * kernel_width, packed,
                    init, i0, min(has_bias, 1), channels,
                    dx, (n0 * channels * height + row0) * width + column0,
                    channels * height * width, height * width,
                    stride_height * width, stride_width,
                )  # fmt: skip


@routine
def _copy_channels_last(
    x, channels, height, width, top, left, rows, columns, lanes, out
):
    """Copy one sample into ``out``, whose margins are 0 already.

    out is (channels by `lanes`, row, column, lane).
    """
    plane = height * width
    first_row, first_column = max(0, -top), max(0, -left)
    n_rows = min(height, rows - top) - first_row
    n_columns = min(width, columns - left) - first_column
    for c0 in range(0, channels, lanes):
        n_lanes = min(lanes, channels - c0)
        at = c0 * plane + first_row * width + first_column
        to = (c0 // lanes * rows + first_row + top) * columns + first_column + left
        to *= lanes
        for _ in range(n_rows):
            if n_lanes == WIDTH and n_columns >= WIDTH:
                for column in range(0, n_columns, WIDTH):
                    first = min(column, n_columns - WIDTH)
                    transpose_square(
                        x, at + first, plane, out, to + first * WIDTH, WIDTH
                    )
            else:
                for c in range(n_lanes):
                    _copy_row(x[at + c * plane :], 1, out[to + c :], lanes, n_columns)
            at += width
            to += columns * lanes


@helper
def _put_gradient(sums, dw, step, n, writes):
    if step == 1:  # becomes vectors
        for lane in range(n):
            dw[lane] = sums[lane] if writes else dw[lane] + sums[lane]
    elif writes:
        for lane in range(n):
            dw[lane * step] = sums[lane]
    else:
        for lane in range(n):
            dw[lane * step] += sums[lane]


@kernel
def conv_gradient(
    x: Vector, dy: Vector, beta: float,
    pictures: Vector, table: Indexes, dw: Vector,
    n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
    group: int, first_filter: int, all_filters: int,
) -> None:  # fmt: skip
    """``dw = the derivative of conv_forward for the weight + beta * dw``.

    beta is 0 or 1; at 0, dw is only written. Of all_filters filters, of which dy has
    the planes, dw holds `filters` from first_filter on.
    """
    rows = (out_height - 1) * stride_height + (kernel_height - 1) * dilation_height + 1
    columns = (out_width - 1) * stride_width + (kernel_width - 1) * dilation_width + 1
    # A vector runs along the channels; where they are few, also along the columns of
    # the filter, which are neighbours in memory unless dilated.
    lanes = min(channels, WIDTH)
    joined = kernel_width if dilation_width == 1 and channels < WIDTH else 1
    apart = kernel_width // joined
    per_row = (joined * lanes + WIDTH - 1) // WIDTH
    per_block = kernel_height * apart * per_row
    n_vectors = (channels + lanes - 1) // lanes * per_block
    plane = rows * columns * lanes
    block = (channels + lanes - 1) // lanes * plane
    out_plane = out_height * out_width
    # Offsets in x; and in dy, whose elements are gathered where sums run over samples.
    n_all = group * out_plane
    k = 0
    for i in range(group):
        for r in range(out_height):
            for c in range(out_width):
                at = r * stride_height * columns + c * stride_width
                table[k] = i * block + at * lanes
                if group > 1:
                    table[n_all + k] = i * all_filters * out_plane + r * out_width + c
                k += 1
    pictures[:] = ZERO
    zero = pictures.size - 1
    n_packed = ROWS * n_all if group > 1 else 0
    packed, margins = pictures[:n_packed], pictures[n_packed:]
    weights, w_step = (packed, ROWS) if group > 1 else (dy, 1)
    places, scratch = _places(), _scratch()
    taps = kernel_height * kernel_width
    step = ROWS if filters >= ROWS else 1
    dy_row = out_plane if step == ROWS else 0
    w_next = 1 if group > 1 else dy_row
    for n0 in range(0, n, group):
        n_here = min(group, n - n0)
        for i in range(n_here):
            _copy_channels_last(
                x[(n0 + i) * channels * height * width :], channels, height, width,
                top, left, rows, columns, lanes, margins[i * block :],
            )  # fmt: skip
        writes = n0 == 0 and beta == 0.0
        for v0 in range(0, n_vectors, _CHUNK):
            n_chunk = min(_CHUNK, n_vectors - v0)
            for i in range(n_chunk):
                v = v0 + i
                channel, v = v // per_block, v % per_block
                tap, lane = v // per_row, v % per_row * WIDTH
                a, b = tap // apart, tap % apart
                places[_AT + i] = (
                    channel * plane
                    + lane
                    + lanes * (a * dilation_height * columns + b * dilation_width)
                )
                places[_TO + i] = channel * lanes * taps + a * kernel_width + b
                places[_SAMPLE + i] = lane
                places[_LANES + i] = min(
                    WIDTH, min(joined * lanes, channels - channel * lanes) - lane
                    if joined == 1 else joined * lanes - lane
                )  # fmt: skip
            for f in range(0, filters, step):
                first = min(f, filters - step)
                w0 = (n0 * all_filters + first_filter + first) * out_plane
                if group > 1:
                    n_taps = n_here * out_plane
                    pack(dy, w0, dy_row, table[n_all:], n_taps, packed)
                    w0 = 0
                for v in range(0, n_chunk, VECTORS):
                    n_tile = min(VECTORS, n_chunk - v)
                    last = n_chunk - 1
                    tile(
                        margins,
                        (
                            places[_AT + v], places[_AT + min(v + 1, last)],
                            places[_AT + min(v + 2, last)],
                        ),
                        table, n_here * out_plane, weights, w0, w_step, w_next,
                        pictures, zero, 0, scratch, (0, WIDTH, 2 * WIDTH), TILE, 0,
                    )  # fmt: skip
                    for j in range(f - first, step):
                        base = (first + j) * channels * taps
                        for i in range(n_tile):
                            sums = scratch[j * TILE + i * WIDTH :]
                            into = base + places[_TO + v + i]
                            if joined == 1:
                                _put_gradient(
                                    sums, dw[into:], taps, places[_LANES + v + i],
                                    writes,
                                )  # fmt: skip
                                continue
                            lane0 = places[_SAMPLE + v + i]
                            column, c = lane0 // lanes, lane0 % lanes
                            for lane in range(places[_LANES + v + i]):
                                target = into + c * taps + column
                                value = sums[lane]
                                dw[target] = value if writes else dw[target] + value
                                c += 1
                                if c == lanes:
                                    c = 0
                                    column += 1


@kernel
def conv_bias_gradient(dy: Vector, beta: float, db: Vector, n: int, plane: int) -> None:
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
