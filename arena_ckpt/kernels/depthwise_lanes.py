"""Depthwise convolutions of small planes, whose channels are the lanes of vectors.

Rows of a small plane do not fill vectors. So of `WIDTH` channels each element becomes a
vector, and an output is one chain of products of such vectors, in the order of the
taps of `depthwise`. An index says which element each tap reads, or a zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import overload

from arena_ckpt.kernels.compiling import routine
from arena_ckpt.kernels.kernel import typed_intrinsic
from arena_ckpt.kernels.lanes import room_on_stack
from arena_ckpt.kernels.transposition import transpose_square
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.kernels.vectors import (
    FLOAT,
    I32,
    I64,
    WIDTH,
    addresses_as,
    count,
    load_vector,
    multiply_add,
    store_vector,
)

_TOGETHER = 8
"""Number of outputs whose chains run side by side."""

_MOST_ELEMS, _MOST_TAPS, _MOST_PHASES = 64, 25, 4
_MOST_OUTPUTS = _MOST_ELEMS + _TOGETHER * _MOST_PHASES
_INDEX_ELEMS = _MOST_OUTPUTS * _MOST_TAPS
_VECTORS_ELEMS = (_MOST_ELEMS + 1) * WIDTH

_SUMS_ELEMS = _MOST_TAPS * WIDTH * WIDTH

_ints_on_stack = room_on_stack(types.int32, I32, _INDEX_ELEMS)
_vectors_on_stack = room_on_stack(types.float32, FLOAT, _VECTORS_ELEMS)
_sums_on_stack = room_on_stack(types.float32, FLOAT, _SUMS_ELEMS)


def _ints() -> Any:
    return np.empty(_INDEX_ELEMS, np.int32)


def _vectors() -> Any:
    return np.empty(_VECTORS_ELEMS, np.float32)


def _sums() -> Any:
    return np.empty(_SUMS_ELEMS, np.float32)


@overload(_ints, inline="always")
def _compiled_ints() -> Any:
    return lambda: carray(_ints_on_stack(), _INDEX_ELEMS)


@overload(_vectors, inline="always")
def _compiled_vectors() -> Any:
    return lambda: carray(_vectors_on_stack(), _VECTORS_ELEMS)


@overload(_sums, inline="always")
def _compiled_sums() -> Any:
    return lambda: carray(_sums_on_stack(), _SUMS_ELEMS)


@typed_intrinsic
def _chains(
    typing_context: Any, x: Any, index: Any, n: Any, w: Any, start: Any, y: Any, to: Any
) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = (FLOAT, I32, FLOAT, FLOAT, FLOAT, I32)
        given = (args[0], args[1], *args[3:])
        x, index, w, start, y, to = addresses_as(builder, given, *kinds)
        fresh = load_vector(builder, start, ir.Constant(I64, 0))

        def entry(table: Any, at: Any) -> Any:
            return builder.sext(builder.load(builder.gep(table, [at])), I64)

        def body(k: Any, sums: Any) -> Any:
            factor = load_vector(builder, w, builder.mul(k, ir.Constant(I64, WIDTH)))
            at = builder.mul(k, ir.Constant(I64, _TOGETHER))
            results = []
            for u, so_far in enumerate(sums):
                place = entry(index, builder.add(at, ir.Constant(I64, u)))
                value = load_vector(builder, x, place)
                results.append(multiply_add(builder, factor, value, so_far))
            return results

        for u, value in enumerate(count(builder, args[2], [fresh] * _TOGETHER, body)):
            store_vector(builder, value, y, entry(to, ir.Constant(I64, u)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


def chains(x, index, n, w, start, y, to):
    """``y[to[u]:] = start + Σ_k w[k] · x[index[k, u]:]``, vectors of `WIDTH` lanes.

    Parameters
    ----------
    x, w, start, y : array of float32
    index : array of int32
        (n, 8)
    n : int
    to : array of int32
        8 places.
    """
    for u in range(_TOGETHER):
        sums = start[:WIDTH].astype(np.float64)
        for k in range(n):
            value = x[index[k * _TOGETHER + u] :][:WIDTH]
            sums += w[k * WIDTH :][:WIDTH].astype(np.float64) * value
        y[to[u] : to[u] + WIDTH] = sums


@overload(chains)
def _compiled_chains(x, index, n, w, start, y, to):
    def run(x, index, n, w, start, y, to):
        _chains(
            np.int64(x.ctypes.data),
            np.int64(index.ctypes.data),
            np.int64(n),
            np.int64(w.ctypes.data),
            np.int64(start.ctypes.data),
            np.int64(y.ctypes.data),
            np.int64(to.ctypes.data),
        )

    return run


@typed_intrinsic
def _add_products(
    typing_context: Any, x: Any, index: Any, n: Any, dy: Any, at: Any, y: Any, to: Any
) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = (FLOAT, I32, FLOAT, FLOAT)
        given = (args[0], args[1], args[3], args[5])
        x, index, dy, y = addresses_as(builder, given, *kinds)
        factor, to = load_vector(builder, dy, args[4]), args[6]

        def body(k: Any, values: Any) -> Any:
            place = builder.sext(builder.load(builder.gep(index, [k])), I64)
            value = load_vector(builder, x, place)
            step = builder.mul(k, ir.Constant(I64, WIDTH * WIDTH))
            into = builder.add(to, step)
            so_far = load_vector(builder, y, into)
            result = multiply_add(builder, factor, value, so_far)
            store_vector(builder, result, y, into)
            return []

        count(builder, args[2], [], body)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


def add_products(x, index, n, dy, at, y, to):
    """``y[k, to:] += dy[at:] · x[index[k]:]`` for n taps, vectors of `WIDTH` lanes.

    Parameters
    ----------
    x, dy, y : array of float32
        Each tap has `WIDTH` vectors of y.
    index : array of int32
    """
    for k in range(n):
        result = y[k * WIDTH * WIDTH + to :][:WIDTH]
        value = x[index[k] :][:WIDTH].astype(np.float64)
        result[:] = result + dy[at : at + WIDTH] * value


@overload(add_products)
def _compiled_add_products(x, index, n, dy, at, y, to):
    def run(x, index, n, dy, at, y, to):
        _add_products(
            np.int64(x.ctypes.data),
            np.int64(index.ctypes.data),
            np.int64(n),
            np.int64(dy.ctypes.data),
            np.int64(at),
            np.int64(y.ctypes.data),
            np.int64(to),
        )

    return run


@routine
def are_small(channels, plane, out_plane, taps, phases):
    """Tell whether the functions of this module take such planes."""
    most = max(plane, out_plane)
    return (
        channels >= WIDTH
        and most <= _MOST_ELEMS
        and taps <= _MOST_TAPS
        and phases <= _MOST_PHASES
    )


@routine
def _transpose_planes(x, at, n, y, to, x_step, y_step, is_in):
    """Transpose `WIDTH` planes of n elements to n vectors, or back."""
    if n < WIDTH:
        for c in range(WIDTH):
            for p in range(n):
                if is_in:
                    y[to + p * y_step + c] = x[at + c * x_step + p]
                else:
                    y[to + c * y_step + p] = x[at + p * x_step + c]
        return
    for p in range(0, n, WIDTH):
        first = min(p, n - WIDTH)
        if is_in:
            transpose_square(x, at + first, x_step, y, to + first * y_step, y_step)
        else:
            transpose_square(x, at + first * x_step, x_step, y, to + first, y_step)


@routine
def _filter_planes(
    x, plane, weight, taps, bias, has_bias, n, channels, y, out_plane, index, to,
    order, phases, of_phases,
):  # fmt: skip
    """Run all chains of all planes.

    index is, for each phase, (group of outputs, tap, output), to the places of the
    outputs, order the taps of each phase; of_phases is the groups and taps of each.
    """
    vectors, outs, w = _vectors(), _vectors(), _vectors()
    start = w[_MOST_TAPS * WIDTH :]
    start[:WIDTH] = ZERO
    vectors[plane * WIDTH : (plane + 1) * WIDTH] = ZERO
    for block in range(0, channels, WIDTH):
        c0 = min(block, channels - WIDTH)
        for c in range(WIDTH):
            for k in range(taps):
                w[k * WIDTH + c] = weight[(c0 + c) * taps + order[k]]
            if has_bias:
                start[c] = bias[c0 + c]
        for s in range(n):
            p = s * channels + c0
            _transpose_planes(
                x, p * plane, plane, vectors, 0, plane, WIDTH, True
            )  # fmt: skip
            at, group, k0 = 0, 0, 0
            for phase in range(phases):
                n_taps = np.int64(of_phases[2 * phase + 1])
                for _ in range(of_phases[2 * phase]):
                    chains(
                        vectors, index[at:], n_taps, w[k0 * WIDTH :], start, outs,
                        to[group * _TOGETHER :],
                    )  # fmt: skip
                    at += n_taps * _TOGETHER
                    group += 1
                k0 += n_taps
            _transpose_planes(
                outs, 0, out_plane, y, p * out_plane, WIDTH, out_plane, False
            )  # fmt: skip


@routine
def forward_lanes(
    x, weight, bias, has_bias, y, n, channels, height, width,
    kernel_height, kernel_width, stride_height, stride_width,
    dilation_height, dilation_width, top, left, out_height, out_width,
):  # fmt: skip
    """Do what `depthwise_forward` does, for small planes."""
    index, to, order, of_phases = _ints(), _ints(), _ints(), _ints()
    plane, out_plane = height * width, out_height * out_width
    taps = kernel_height * kernel_width
    groups = (out_plane + _TOGETHER - 1) // _TOGETHER
    of_phases[0], of_phases[1] = groups, taps
    for o in range(groups * _TOGETHER):
        to[o] = min(o, out_plane) * WIDTH
        r, c = o // out_width * stride_height - top, o % out_width * stride_width - left
        for k in range(taps):
            row = r + k // kernel_width * dilation_height
            column = c + k % kernel_width * dilation_width
            is_inside = 0 <= row < height and 0 <= column < width and o < out_plane
            at = (o // _TOGETHER * taps + k) * _TOGETHER + o % _TOGETHER
            index[at] = (row * width + column if is_inside else plane) * WIDTH
    for k in range(taps):
        order[k] = k
    _filter_planes(
        x, plane, weight, taps, bias, has_bias, n, channels, y, out_plane, index, to,
        order, 1, of_phases,
    )  # fmt: skip


@routine
def derivative_lanes(
    dy, weight, dx, n, channels, height, width,
    kernel_height, kernel_width, stride_height, stride_width,
    dilation_height, dilation_width, top, left, out_height, out_width,
):  # fmt: skip
    """Do what `depthwise_derivative` does, for small planes."""
    index, to, order, of_phases = _ints(), _ints(), _ints(), _ints()
    plane, out_plane = height * width, out_height * out_width
    k0, at, first = 0, 0, 0
    for phase in range(stride_height * stride_width):
        phase_h, phase_w = phase // stride_width, phase % stride_width
        row0 = (phase_h - top) % stride_height
        column0 = (phase_w - left) % stride_width
        n_rows = max(0, (height - row0 + stride_height - 1) // stride_height)
        n_columns = max(0, (width - column0 + stride_width - 1) // stride_width)
        n_outs, n_taps = n_rows * n_columns, 0
        for j in range(kernel_width):
            for i in range(kernel_height):
                aside = phase_w - j * dilation_width
                up = phase_h - i * dilation_height
                if aside % stride_width == 0 and up % stride_height == 0:
                    order[k0 + n_taps] = i * kernel_width + j
                    n_taps += 1
        groups = (n_outs + _TOGETHER - 1) // _TOGETHER
        of_phases[2 * phase], of_phases[2 * phase + 1] = groups, n_taps
        for o in range(groups * _TOGETHER):
            row, column = row0, column0
            if o < n_outs:
                row += o // n_columns * stride_height
                column += o % n_columns * stride_width
            to[first + o] = (row * width + column if o < n_outs else plane) * WIDTH
            for k in range(n_taps):
                tap = order[k0 + k]
                r = row + top - tap // kernel_width * dilation_height
                c = column + left - tap % kernel_width * dilation_width
                r, c = r // stride_height, c // stride_width
                is_inside = 0 <= r < out_height and 0 <= c < out_width and o < n_outs
                place = at + (o // _TOGETHER * n_taps + k) * _TOGETHER + o % _TOGETHER
                index[place] = (r * out_width + c if is_inside else out_plane) * WIDTH
        k0, first = k0 + n_taps, first + groups * _TOGETHER
        at += groups * _TOGETHER * n_taps
    _filter_planes(
        dy, out_plane, weight, kernel_height * kernel_width, weight, 0, n, channels,
        dx, plane, index, to, order, stride_height * stride_width, of_phases,
    )  # fmt: skip


@routine
def gradient_lanes(
    x, dy, beta, dw, n, channels, height, width,
    kernel_height, kernel_width, stride_height, stride_width,
    dilation_height, dilation_width, top, left, out_height, out_width, begin, end,
):  # fmt: skip
    """Do what `depthwise_gradient` does, for small planes: channels [begin, end).

    As there, a tap has `WIDTH` sums, of every `WIDTH`-th output, which are added up in
    float64 at the end.
    """
    index, vectors, of_dy, sums = _ints(), _vectors(), _vectors(), _sums()
    plane, out_plane = height * width, out_height * out_width
    taps = kernel_height * kernel_width
    for o in range(out_plane):
        r, c = o // out_width * stride_height - top, o % out_width * stride_width - left
        for k in range(taps):
            row = r + k // kernel_width * dilation_height
            column = c + k % kernel_width * dilation_width
            is_inside = 0 <= row < height and 0 <= column < width
            at = row * width + column if is_inside else plane
            index[o * taps + k] = at * WIDTH
    vectors[plane * WIDTH : (plane + 1) * WIDTH] = ZERO
    for block in range(begin, end, WIDTH):
        c0 = min(block, channels - WIDTH)
        sums[: taps * WIDTH * WIDTH] = ZERO
        for s in range(n):
            p = s * channels + c0
            _transpose_planes(x, p * plane, plane, vectors, 0, plane, WIDTH, True)
            _transpose_planes(
                dy, p * out_plane, out_plane, of_dy, 0, out_plane, WIDTH, True
            )
            for o in range(out_plane):
                add_products(
                    vectors, index[o * taps :], taps, of_dy, o * WIDTH, sums,
                    o % WIDTH * WIDTH,
                )  # fmt: skip
        for c in range(block - c0, min(WIDTH, end - c0)):
            for k in range(taps):
                across = 0.0
                for lane in range(WIDTH):
                    across += np.float64(sums[(k * WIDTH + lane) * WIDTH + c])
                at = (c0 + c) * taps + k
                so_far = 0.0 if beta == 0.0 else np.float64(dw[at])
                dw[at] = np.float32(so_far + across)
