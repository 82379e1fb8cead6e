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

from arena_ckpt.kernels.compiling import routine
from arena_ckpt.kernels.depthwise_vectors import copy_vector, halve
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import LANES, clear, double_lanes, room_on_stack, total
from arena_ckpt.kernels.tiles import BLOCK, PLACES, ROWS, pack, tiles
from arena_ckpt.kernels.transposition import add_square, transpose_square
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.kernels.vectors import WIDTH
from arena_ckpt.operations.array_types import Indexes, Vector
from arena_ckpt.operations.convolution import SLACK

_CHUNK = 132
"""Maximum number of places that are worked out together: a multiple of `PLACES`."""

_LEAST = 24
"""Number of places for which weights are worth reading."""

_CACHE_ELEMS = 1 << 16
"""Number of elements that are read again soon: half of a small second-level cache."""

# What is kept of each place, in rows of `_CHUNK`: where its vector begins in the
# workspace and where its sums go (see `tiles`); where its first lane goes in the end;
# the sample of that lane, how many lanes are outputs, and how many samples of the block
# there are.
_AT, _SUM, _TO, _SAMPLE, _LANES, _ROOM, _N_PLACES = range(0, 7 * _CHUNK, _CHUNK)

_SUMS_ROW = _CHUNK * WIDTH
"""Number of elements of a row of sums."""

_longs_on_stack = room_on_stack(types.int64, ir.IntType(64), _N_PLACES)
_sums_on_stack = room_on_stack(types.float32, ir.FloatType(), BLOCK * _SUMS_ROW)
_square_on_stack = room_on_stack(types.float32, ir.FloatType(), WIDTH * WIDTH)


def _places() -> Any:
    return np.empty(_N_PLACES, np.int64)


def _sums() -> Any:
    return np.empty(BLOCK * _SUMS_ROW, np.float32)


def _square() -> Any:
    return np.empty(WIDTH * WIDTH, np.float32)


@overload(_places, inline="always")
def _compiled_places() -> Any:
    return lambda: carray(_longs_on_stack(), _N_PLACES)


@overload(_sums, inline="always")
def _compiled_sums() -> Any:
    return lambda: carray(_sums_on_stack(), BLOCK * _SUMS_ROW)


@overload(_square, inline="always")
def _compiled_square() -> Any:
    return lambda: carray(_square_on_stack(), WIDTH * WIDTH)


@routine
def _repeat_last(places, n):
    """Fill the last tile with the last place."""
    for i in range(n, (n + PLACES - 1) // PLACES * PLACES):
        places[_AT + i], places[_SUM + i] = places[_AT + n - 1], places[_SUM + n - 1]


@routine
def _copy_row(source, source_step, target, target_step, n):
    """``target[:: target_step][:n] = source[:: source_step][:n]``."""
    # Slices begin at 0, so LLVM need not think of negative indexes; and steps that it
    # knows become vectors.
    if source_step == 1 and target_step == 1:
        if n >= WIDTH:
            for i in range(0, n, WIDTH):
                copy_vector(source, min(i, n - WIDTH), target, min(i, n - WIDTH))
            return
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
    # With a stride of 2, rows are split into both phases at once.
    n_pairs, odd_left = width // 2, left % 2
    splits = (
        samples == 1 and column_stride == 2 and column_phases == 2 and width % 2 == 0
        and left >= 0 and n_pairs >= WIDTH // 2
        and n_pairs + (left + 1) // 2 <= columns
    )  # fmt: skip
    together = WIDTH if n_pairs >= WIDTH else WIDTH // 2
    for i in range(n):
        block, lane = i // samples, i % samples
        for c in range(channels if splits else 0):
            picture = ((n0 + i) * channels + c) * height * width
            plane = (i * channels + c) * row_phases * 2
            for row in range(height):
                phase, r = (row + top) % row_stride, (row + top) // row_stride
                if phase >= row_phases or row + top < 0 or r >= rows:
                    continue
                first = ((plane + phase * 2) * rows + r) * columns
                second = first + rows * columns
                even = (second if odd_left else first) + left // 2
                odd = (first if odd_left else second) + (left + 1) // 2
                for pair in range(0, n_pairs, together):
                    at = min(pair, n_pairs - together)
                    halve(
                        x, picture + row * width + 2 * at, out, even + at, odd + at,
                        together,
                    )  # fmt: skip
        for c in range(0 if splits else channels):
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


@routine
def _scatter(sums, y, into, y_column, y_sample, samples, sample, room, n):
    """Write the lanes of a vector to where they belong."""
    if samples == 1:
        if y_column == 1 and n == WIDTH:
            for k in range(WIDTH):
                y[into + k] = sums[k]
            return
        for k in range(n):
            y[into + k * y_column] = sums[k]
        return
    for k in range(n):
        if sample < room:
            y[into] = sums[k]
        sample += 1
        into += y_sample
        if sample == samples:
            sample = 0
            into += y_column - samples * y_sample


@routine
def _put_sums(sums, places, n, n_rows, y, y_plane, y_column, y_sample, samples):
    """Write rows of sums to where they belong."""
    for j in range(n_rows):
        for i in range(n):
            _scatter(
                sums[j * _SUMS_ROW + i * WIDTH :], y, places[_TO + i] + j * y_plane,
                y_column, y_sample, samples, places[_SAMPLE + i], places[_ROOM + i],
                places[_LANES + i],
            )  # fmt: skip


@routine
def _correlate(
    source, block_step, row_step, n, n_rows, n_columns, samples,
    table, n_taps, w, w_row, w_step, run, packed, init, i0, i_row, n_outputs,
    y, y0, y_sample, y_plane, y_row, y_column,
):  # fmt: skip
    """For each output (sample, row, column): sums over the table (see the module).

    Row j of weights begins at ``j * w_row`` and is read with a step of `w_step`; or,
    where there is room for weights of a block in `packed`, at the offsets that follow
    the table's, of which so many as `run` says are neighbours.
    """
    places, sums = _places(), _sums()
    width = n_columns * samples
    per_row = (width + WIDTH - 1) // WIDTH
    # Rows of at least one vector end in a vector that repeats some columns.
    overlaps = samples == 1 and n_columns >= WIDTH
    packs = packed.size > 0
    is_direct = overlaps and y_column == 1 and not packs
    weights = packed if packs else w
    target = y if is_direct else sums
    blocks = (n + samples - 1) // samples
    n_vectors = blocks * n_rows * per_row
    # Of a block, so many products are summed up before the next weights are packed.
    part = packed.size // BLOCK if packs else max(1, n_taps)
    run = run if part >= abs(run) else 1
    part = part // abs(run) * abs(run)
    # What a chunk reads stays in the second cache while all outputs are made of it;
    # but reading weights has to pay off.
    per_vector = max(1, block_step // (n_rows * per_row))
    chunk = _CACHE_ELEMS // per_vector // PLACES * PLACES
    chunk = _CHUNK if packs else min(_CHUNK, max(chunk, _LEAST))
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
            places[_SUM + i] = places[_TO + i] if is_direct else i * WIDTH
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
        _repeat_last(places, n_here)
        done = 0
        while done < n_outputs:
            left = n_outputs - done
            # With fewer outputs than rows, the rows of a tile are one and the same.
            step = BLOCK if left > ROWS and n_outputs >= BLOCK else (
                ROWS if n_outputs >= ROWS else 1
            )  # fmt: skip
            output = min(done, n_outputs - step)
            rows, more = max(step, ROWS), min(1, step - 1)
            w0 = output * w_row
            for k in range(0, max(1, n_taps), part):
                n_here_taps = min(part, n_taps - k)
                if packs:
                    pack(
                        w, w0, more * w_row, rows, table, n_taps + k, n_here_taps, run,
                        packed,
                    )  # fmt: skip
                tiles(
                    source, places[: 2 * _CHUNK], n_here, table[k:], n_here_taps,
                    weights, 0 if packs else w0 + k * w_step,
                    BLOCK if packs else w_step, 1 if packs else more * w_row, rows,
                    init, i0 + output * i_row, more * i_row,
                    target, output * y_plane if is_direct else 0,
                    more * (y_plane if is_direct else _SUMS_ROW), k,
                )  # fmt: skip
            if not is_direct:
                _put_sums(
                    sums, places, n_here, step, y[output * y_plane :], y_plane,
                    y_column, y_sample, samples,
                )  # fmt: skip
            done = output + step


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
            table, k, weight, k, 1, 1, pictures[:0],
            init, i0, min(has_bias, 1), filters,
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
    taps = kernel_height * kernel_width
    n_packed = ROWS * filters * taps
    packed, margins = pictures[:n_packed], pictures[n_packed:]
    margins[:] = ZERO
    # Weights of one tap are neighbours; of several, those of a filter, if all are used.
    packed = packed if taps > 1 else packed[:0]
    run = -taps if stride_height == 1 and stride_width == 1 else 1
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
                    weight, taps, channels * taps, run, packed,
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


@routine
def _put_gradient(sums, dw, into, lane, n, taps, lanes, joined, writes):
    """Write or add a vector of sums to where they belong."""
    if joined == 1 and taps == 1:  # becomes vectors
        into += lane
        for i in range(n):
            dw[into + i] = sums[i] if writes else dw[into + i] + sums[i]
        return
    if joined == 1:
        into += lane * taps
        for i in range(n):
            at = into + i * taps
            dw[at] = sums[i] if writes else dw[at] + sums[i]
        return
    column, c = lane // lanes, lane % lanes
    for i in range(n):
        at = into + c * taps + column
        dw[at] = sums[i] if writes else dw[at] + sums[i]
        c += 1
        if c == lanes:
            c = 0
            column += 1


@routine
def _put_blocks(sums, n_blocks, per_block, taps, per_row, dw, writes):
    """Write or add the sums of whole blocks of channels: taps become neighbours.

    sums is (block, tap, part of the channels, `WIDTH`); dw is (block, part, `WIDTH`,
    tap).
    """
    for block in range(n_blocks):
        for part in range(per_row):
            at = (block * per_block + part) * WIDTH
            to = (block * per_row + part) * WIDTH * taps
            step = per_row * WIDTH
            whole = taps - taps % WIDTH
            for t in range(0, whole, WIDTH):
                if writes:
                    transpose_square(sums, at + t * step, step, dw, to + t, taps)
                else:
                    add_square(sums, at + t * step, step, dw, to + t, taps)
            for t in range(whole, taps):
                for c in range(WIDTH):
                    into, value = to + c * taps + t, sums[at + t * step + c]
                    dw[into] = value if writes else dw[into] + value


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
    lanes = min(channels, 2 * WIDTH if channels % (2 * WIDTH) == 0 else WIDTH)
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
    zero = pictures.size - 1
    n_packed = ROWS * n_all if group > 1 else 0
    packed, margins = pictures[:n_packed], pictures[n_packed:]
    margins[:] = ZERO
    weights, w_step = (packed, BLOCK) if group > 1 else (dy, 1)
    places, sums = _places(), _sums()
    taps = kernel_height * kernel_width
    for n0 in range(0, n, group):
        n_here = min(group, n - n0)
        for i in range(n_here):
            _copy_channels_last(
                x[(n0 + i) * channels * height * width :], channels, height, width,
                top, left, rows, columns, lanes, margins[i * block :],
            )  # fmt: skip
        writes = n0 == 0 and beta == 0.0
        are_whole = taps >= WIDTH and channels % lanes == 0 and per_block <= _CHUNK
        are_whole = are_whole and lanes >= WIDTH
        chunk = _CHUNK // per_block * per_block if are_whole else _CHUNK
        # Of a block, so many products are summed up before the next dy is packed.
        n_taps = n_here * out_plane
        part = max(1, packed.size // BLOCK) if group > 1 else n_taps
        if out_plane <= part:
            part = part // out_plane * out_plane
        run = out_plane if part % out_plane == 0 and n_taps % out_plane == 0 else 1
        for v0 in range(0, n_vectors, chunk):
            n_chunk = min(chunk, n_vectors - v0)
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
                places[_SUM + i] = i * WIDTH
                places[_TO + i] = channel * lanes * taps + a * kernel_width + b
                places[_SAMPLE + i] = lane
                places[_LANES + i] = min(
                    WIDTH, min(joined * lanes, channels - channel * lanes) - lane
                    if joined == 1 else joined * lanes - lane
                )  # fmt: skip
            _repeat_last(places, n_chunk)
            done = 0
            while done < filters:
                step = BLOCK if filters - done > ROWS and filters >= BLOCK else (
                    ROWS if filters >= ROWS else 1
                )  # fmt: skip
                first = min(done, filters - step)
                tile_rows, more = max(step, ROWS), min(1, step - 1)
                w0 = (n0 * all_filters + first_filter + first) * out_plane
                for k in range(0, n_taps, part):
                    depth = min(part, n_taps - k)
                    if group > 1:
                        pack(
                            dy, w0, more * out_plane, tile_rows, table, n_all + k,
                            depth, run, packed,
                        )  # fmt: skip
                    tiles(
                        margins, places[: 2 * _CHUNK], n_chunk, table[k:], depth,
                        weights, 0 if group > 1 else w0, w_step,
                        1 if group > 1 else more * out_plane, tile_rows,
                        pictures, zero, 0, sums, 0, more * _SUMS_ROW, k,
                    )  # fmt: skip
                for j in range(done - first, step):
                    base = (first + j) * channels * taps
                    of_filter = sums[j * _SUMS_ROW :]
                    if are_whole:
                        _put_blocks(
                            of_filter, n_chunk // per_block, per_block, taps,
                            per_row, dw[base + places[_TO] :], writes,
                        )  # fmt: skip
                        continue
                    for i in range(n_chunk):
                        _put_gradient(
                            of_filter[i * WIDTH :], dw, base + places[_TO + i],
                            places[_SAMPLE + i], places[_LANES + i], taps, lanes,
                            joined, writes,
                        )  # fmt: skip
                done = first + step


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
