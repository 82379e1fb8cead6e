"""Depthwise convolutions: each channel has a filter of its own.

A plane is copied into the workspace once for each column of the filter: shifted, with
zeros where the filter reaches beyond the plane, and with only the columns that a
stride leaves. Then an output and its neighbour read neighbouring elements for each
tap, also where one row ends and the next begins; so all outputs of a plane are one row
of vectors, however narrow the plane is. The gradient is sums of products of the same
vectors, which are added across their lanes once for each channel.

Copies of planes as wide as the output are moved as a whole; others, and the outputs of
a derivative with a stride, follow a table that says where each element stands.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.compiling import helper, routine
from arena_ckpt.kernels.depthwise_lanes import (
    are_small,
    derivative_lanes,
    forward_lanes,
    gradient_lanes,
)
from arena_ckpt.kernels.depthwise_vectors import STRIP, dots, halve, move, strip
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import float_lanes
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.kernels.vectors import WIDTH, choose
from arena_ckpt.operations.array_types import Indexes, Vector
from arena_ckpt.operations.sizes import DOTS


@routine
def _say_where(
    index, height, width, top, column0, row_stride, column_stride, row_phases, rows,
    columns,
):  # fmt: skip
    """Write where each element of a copy stands in its plane, -1 for zeros.

    A copy is (row phase, row, column).
    """
    k = 0
    for phase in range(row_phases):
        for r in range(rows):
            row = r * row_stride + phase - top
            for c in range(columns):
                column = c * column_stride + column0
                is_inside = 0 <= row < height and 0 <= column < width
                index[k] = row * width + column if is_inside else -1
                k += 1


@routine
def _gather(x, index, y):
    for i in range(y.size):
        at = index[i]
        y[i] = choose(at >= 0, x[max(at, 0)], ZERO)


@helper
def _mask_size(columns):
    """Elements after which a mask repeats, at least a vector."""
    return columns if columns >= WIDTH else columns * WIDTH


@routine
def _plan_copy(record, source, source_size, columns, before, shift, size):
    """Say how a copy is moved: where it begins, how many elements, from where, masked.

    It is ``copy[r, c] = plane[r - before, c + shift]``, `columns` wide as is the plane.
    """
    # Elements j of the copy stand at j - back in the plane.
    back = before * columns - shift
    begin = max(0, back)
    n = min(size, source_size + back) - begin
    record[0] = begin
    record[1] = max(0, n) if -columns < shift < columns else 0
    record[2] = source + begin - back
    record[3] = begin % columns


@routine
def _plan_mask(mask, columns, shift):
    """-1 where a shifted row has elements of the same row of the plane, else 0."""
    for i in range(_mask_size(columns) + WIDTH):
        mask[i] = -1 if 0 <= i % columns + shift < columns else 0


@routine
def _copy_shifted(x, records, masks, per_mask, columns, size, out):
    """Move all copies; `out` is 0 elsewhere already."""
    mask_size = _mask_size(columns)
    for copy in range(records.size // 4):
        record = records[4 * copy : 4 * copy + 4]
        n, at, m = np.int64(record[1]), np.int64(record[2]), np.int64(record[3])
        to = copy * size + np.int64(record[0])
        mask = masks[copy // per_mask * (mask_size + WIDTH) :]
        if n < WIDTH:
            for j in range(n):
                out[to + j] = choose(mask[m + j] != 0, x[at + j], ZERO)
            continue
        end = at + n - WIDTH
        while at < end:
            move(x, at, mask, m, out, to)
            at, to, m = at + WIDTH, to + WIDTH, m + WIDTH
            if m >= mask_size:
                m -= mask_size
        m -= at - end
        if m < 0:
            m += mask_size
        move(x, end, mask, m, out, to - (at - end))


@routine
def _split(x, height, width, row_stride, column_stride, where, out):
    """Copy a plane into one for each phase of the stride."""
    columns = width // column_stride
    if column_stride != 2 or columns < WIDTH // 2:
        _gather(x, where, out)
        return
    n = WIDTH if columns >= WIDTH else WIDTH // 2
    at = 0
    for phase in range(row_stride):
        rows = (height - phase + row_stride - 1) // row_stride
        for r in range(rows):
            row = (r * row_stride + phase) * width
            for c in range(0, columns, n):
                c = min(c, columns - n)
                even = at + c
                halve(x, row + 2 * c, out, even, even + rows * columns, n)
            at += columns
        at += rows * columns


@routine
def _filter(copies, table, n_taps, w, start, y):
    """``y[i] = start[0] + Σ_k w[k] · copies[i + table[k]]``."""
    n = y.size
    if n >= WIDTH:
        for first in range(0, n, STRIP * WIDTH):
            strip(copies, table, w, start, y, first, n - WIDTH, n_taps)
    else:
        lanes = float_lanes()
        strip(copies, table, w, start, lanes, 0, 0, n_taps)
        for i in range(n):
            y[i] = lanes[i]


@routine
def _plan_copies(
    table, n_offsets, height, width, kernel_height, kernel_width, stride_height,
    stride_width, dilation_height, dilation_width, top, left, out_height, out_width,
):  # fmt: skip
    """Write the table of a forward: offsets of taps, and how copies are made.

    Return whether they are moved, copies for each column of the filter, and elements
    of each.
    """
    row_phases = min(stride_height, (kernel_height - 1) * dilation_height + 1)
    rows = out_height + (kernel_height - 1) * dilation_height // stride_height
    size = rows * out_width
    for i in range(kernel_height):
        a = i * dilation_height
        for j in range(kernel_width):
            copy = j * row_phases + a % stride_height
            at = copy * size + a // stride_height * out_width
            table[i * kernel_width + j] = at
    table[kernel_height * kernel_width : n_offsets] = 0
    moves = stride_width * out_width == width
    records = table[n_offsets:]
    masks = records[4 * kernel_width * row_phases :]
    for j in range(kernel_width):
        column = j * dilation_width - left
        if not moves:
            _say_where(
                records[j * row_phases * size :], height, width, top,
                column, stride_height, stride_width, row_phases, rows, out_width,
            )  # fmt: skip
            continue
        column_phase, shift = column % stride_width, column // stride_width
        _plan_mask(masks[j * (_mask_size(out_width) + WIDTH) :], out_width, shift)
        for phase in range(row_phases):
            row_phase = (phase - top) % stride_height
            plane_rows = (height - row_phase + stride_height - 1) // stride_height
            # Phases of rows before this one, then phases of columns.
            source = column_phase * plane_rows * out_width
            for before in range(row_phase):
                n = (height - before + stride_height - 1) // stride_height
                source += n * width
            _plan_copy(
                records[4 * (j * row_phases + phase) :], source,
                plane_rows * out_width, out_width,
                -((phase - top) // stride_height), shift, size,
            )  # fmt: skip
    if moves and (stride_height > 1 or stride_width > 1):
        where = masks[kernel_width * (_mask_size(out_width) + WIDTH) :]
        k = 0
        for row_phase in range(stride_height):
            for column_phase in range(stride_width):
                for r in range(row_phase, height, stride_height):
                    for c in range(column_phase, width, stride_width):
                        where[k] = r * width + c
                        k += 1
    return moves, row_phases, size


@helper
def _copy_input(
    x, height, width, stride_height, stride_width, out_width, table, n_copies, per_mask,
    moves, size, out,
):  # fmt: skip
    """Make the copies of a plane as planned in the table."""
    if not moves:
        _gather(x, table, out[: n_copies * size])
        return
    masks = table[4 * n_copies :]
    source = x
    if stride_height > 1 or stride_width > 1:
        n_masks = n_copies // per_mask * (_mask_size(out_width) + WIDTH)
        source = out[n_copies * size : n_copies * size + height * width]
        _split(x, height, width, stride_height, stride_width, masks[n_masks:], source)
    _copy_shifted(source, table[: 4 * n_copies], masks, per_mask, out_width, size, out)


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
    taps, out_plane, plane = (
        kernel_height * kernel_width, out_height * out_width, height * width
    )  # fmt: skip
    if are_small(channels, plane, out_plane, taps, 1):
        forward_lanes(
            x, weight, bias, has_bias, y, n, channels, height, width,
            kernel_height, kernel_width, stride_height, stride_width,
            dilation_height, dilation_width, top, left, out_height, out_width,
        )  # fmt: skip
        return
    moves, per_mask, size = _plan_copies(
        table, taps, height, width, kernel_height, kernel_width, stride_height,
        stride_width, dilation_height, dilation_width, top, left,
        out_height, out_width,
    )  # fmt: skip
    n_copies = kernel_width * per_mask
    pictures[:] = ZERO
    zero = pictures[pictures.size - 1 :]
    p = 0
    for _ in range(n):
        for c in range(channels):
            _copy_input(
                x[p * plane : (p + 1) * plane], height, width, stride_height,
                stride_width, out_width, table[taps:], n_copies, per_mask,
                moves, size, pictures,
            )  # fmt: skip
            _filter(
                pictures, table, taps, weight[c * taps :],
                bias[c:] if has_bias else zero, y[p * out_plane : (p + 1) * out_plane],
            )  # fmt: skip
            p += 1


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

    Inputs of one phase of the stride are one row of vectors; the workspace holds,
    behind the copies, all phases of a plane, and the weights in their order.
    """
    # See `conv_derivative` for margins and phases.
    taps, out_plane, plane = (
        kernel_height * kernel_width, out_height * out_width, height * width
    )  # fmt: skip
    if are_small(channels, plane, out_plane, taps, stride_height * stride_width):
        derivative_lanes(
            dy, weight, dx, n, channels, height, width,
            kernel_height, kernel_width, stride_height, stride_width,
            dilation_height, dilation_width, top, left, out_height, out_width,
        )  # fmt: skip
        return
    reach_height = (kernel_height - 1) * dilation_height
    margin_height = reach_height // stride_height - top // stride_height
    rows = (height - 1 + top) // stride_height + margin_height + 1
    phases = stride_height * stride_width
    size = rows * ((width + stride_width - 1) // stride_width)
    # Offsets of taps, their weights, outputs and taps of phases; how copies are made.
    of_weights, of_phases = table[taps : 2 * taps], table[2 * taps :]
    of_copies = of_phases[2 * phases :]
    mask_size = _mask_size(out_width) + WIDTH
    masks = of_copies[4 * kernel_width :]
    moves = 1
    k, so_far = 0, 0
    for phase_w in range(stride_width):
        column0 = (phase_w - left) % stride_width
        n_columns = max(0, (width - column0 + stride_width - 1) // stride_width)
        if n_columns != out_width:
            moves = 0
    where = masks[kernel_width * mask_size :] if moves else (
        of_copies[kernel_width * size :]
    )  # fmt: skip
    if not moves:  # phases of fewer columns leave the end of their copies out
        of_copies[: kernel_width * size] = -1
    for phase_h in range(stride_height):
        row0 = (phase_h - top) % stride_height
        n_rows = max(0, (height - row0 + stride_height - 1) // stride_height)
        a = (row0 + top - phase_h) // stride_height + margin_height
        for phase_w in range(stride_width):
            column0 = (phase_w - left) % stride_width
            n_columns = max(0, (width - column0 + stride_width - 1) // stride_width)
            b = (column0 + left - phase_w) // stride_width
            phase = phase_h * stride_width + phase_w
            begin = k
            for j in range(kernel_width):
                aside = phase_w - j * dilation_width
                if aside % stride_width != 0:
                    continue
                shift = b + aside // stride_width
                if phase_h == 0 and moves:
                    _plan_mask(masks[j * mask_size :], out_width, shift)
                    _plan_copy(
                        of_copies[4 * j :], 0, out_plane, out_width, margin_height,
                        shift, size,
                    )  # fmt: skip
                elif phase_h == 0:
                    _say_where(
                        of_copies[j * size :], out_height, out_width,
                        margin_height, shift, 1, 1, 1, rows, n_columns,
                    )  # fmt: skip
                for i in range(kernel_height):
                    up = phase_h - i * dilation_height
                    if up % stride_height == 0:
                        row = a + up // stride_height
                        table[k] = j * size + row * n_columns
                        of_weights[k] = i * kernel_width + j
                        k += 1
            of_phases[2 * phase] = n_rows * n_columns
            of_phases[2 * phase + 1] = k - begin
            if phases > 1:
                for r in range(n_rows):
                    at = (row0 + r * stride_height) * width + column0
                    for c in range(n_columns):
                        where[at + c * stride_width] = so_far
                        so_far += 1
    pictures[:] = ZERO
    parts = pictures[kernel_width * size : kernel_width * size + plane]
    packed = pictures[pictures.size - 1 - taps :]
    zero = pictures[pictures.size - 1 :]
    for p in range(n * channels):
        source = dy[p * out_plane : (p + 1) * out_plane]
        if moves:
            _copy_shifted(
                source, of_copies[: 4 * kernel_width], masks, 1, out_width, size,
                pictures,
            )  # fmt: skip
        else:
            _gather(source, of_copies, pictures[: kernel_width * size])
        w = weight[p % channels * taps :]
        for i in range(taps):
            packed[i] = w[of_weights[i]]
        result = dx[p * plane : (p + 1) * plane]
        target = parts if phases > 1 else result
        k, at = 0, 0
        for phase in range(phases):
            n_outs = np.int64(of_phases[2 * phase])
            n_taps = np.int64(of_phases[2 * phase + 1])
            _filter(
                pictures, table[k:], n_taps, packed[k:], zero, target[at : at + n_outs]
            )
            k, at = int(k + n_taps), int(at + n_outs)
        if phases > 1:
            for i in range(plane):
                result[i] = parts[where[i]]


@kernel
def depthwise_gradient(
    x: Vector, dy: Vector, beta: float,
    pictures: Vector, table: Indexes, dw: Vector,
    n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
    begin: int, end: int,
) -> None:  # fmt: skip
    """``dw = the derivative of depthwise_forward for the weight + beta * dw``.

    beta is 0 or 1; at 0, dw is only written, that of the channels
    [begin, end). The workspace begins with a vector of
    sums for each tap and one for the last elements of dy.
    """
    taps, out_plane, plane = (
        kernel_height * kernel_width, out_height * out_width, height * width
    )  # fmt: skip
    if are_small(channels, plane, out_plane, taps, 1):
        gradient_lanes(
            x, dy, beta, dw, n, channels, height, width,
            kernel_height, kernel_width, stride_height, stride_width,
            dilation_height, dilation_width, top, left, out_height, out_width,
            begin, end,
        )  # fmt: skip
        return
    groups = (taps + DOTS - 1) // DOTS
    moves, per_mask, size = _plan_copies(
        table, groups * DOTS, height, width, kernel_height, kernel_width,
        stride_height, stride_width, dilation_height, dilation_width, top, left,
        out_height, out_width,
    )  # fmt: skip
    n_copies = kernel_width * per_mask
    n_sums = groups * DOTS * WIDTH
    pictures[:] = ZERO
    sums, tail = pictures[:n_sums], pictures[n_sums : n_sums + WIDTH]
    copies = pictures[n_sums + WIDTH :]
    whole = out_plane // WIDTH
    for c in range(begin, end):
        sums[:] = ZERO
        for i in range(n):
            p = i * channels + c
            _copy_input(
                x[p * plane : (p + 1) * plane], height, width, stride_height,
                stride_width, out_width, table[groups * DOTS :], n_copies, per_mask,
                moves, size, copies,
            )  # fmt: skip
            part = dy[p * out_plane : (p + 1) * out_plane]
            for j in range(whole * WIDTH, out_plane):
                tail[j - whole * WIDTH] = part[j]
            for group in range(groups):
                of_taps = table[group * DOTS :]
                of_sums = sums[group * DOTS * WIDTH :]
                dots(copies, of_taps, part, of_sums, 0, whole)
                if whole * WIDTH < out_plane:
                    dots(copies, of_taps, tail, of_sums, whole * WIDTH, 1)
        for t in range(taps):
            across = 0.0
            for lane in range(WIDTH):
                across += np.float64(sums[t * WIDTH + lane])
            so_far = 0.0 if beta == 0.0 else np.float64(dw[c * taps + t])
            dw[c * taps + t] = np.float32(so_far + across)
