"""Convolutions in one fixed order and without a workspace in the arena.

Each element is one chain of fused multiply-adds that starts from a bias, from what is
added to, or from 0 (see `chains`):

- an output, over (channel, row, column) of the filter;
- an element of the input's derivative, over (filter, row, column) of the filter, rows
  and columns from the last to the first, of which those count that a stride reaches;
- an element of a filter's gradient, over (sample, row, column) of the output.

What a filter reads beyond the picture is 0 and multiplied like everything else.

The first two are one operation, `_correlate`: sums over planes and taps of a source,
for each place of a target; with a stride the derivative is one for each phase. Stages:
some planes of some samples are copied onto the stack with zeros around them; weights
are packed so that vectors run along the outputs of one place; then tiles of `ROWS`
places run over the taps, all of whose sums stand in registers. A picture that does not
fit is taken in parts; the buffers on the stack do not grow with the model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import overload

from arena_ckpt.kernels.chains import (
    DEPTH,
    LANES,
    PANEL,
    ROWS,
    chain_at,
    fused,
    splat,
)
from arena_ckpt.kernels.compiling import helper, routine
from arena_ckpt.kernels.kernel import kernel, typed_intrinsic
from arena_ckpt.kernels.lanes import on_stack
from arena_ckpt.kernels.transposition import transpose_square
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.kernels.vectors import FLOAT, I32, I64, count
from arena_ckpt.operations.array_types import Vector

_ROOM = 8192
"""Number of elements of the planes that stand on the stack together."""

_BLOCK = 18 * ROWS if ROWS == 8 else 36 * ROWS
"""Number of taps whose gradients are summed together: 144."""

_VECTOR = ir.VectorType(FLOAT, LANES)

# -- memory of a kernel on the stack ---------------------------------------------------


_planes_on_stack = on_stack(types.float32, FLOAT, _ROOM)
_panel_on_stack = on_stack(types.float32, FLOAT, PANEL * DEPTH)
_sums_on_stack = on_stack(types.float32, FLOAT, _BLOCK * PANEL)
_table_on_stack = on_stack(types.int32, I32, 2 * DEPTH)
_places_on_stack = on_stack(types.int64, I64, 2 * ROWS)


def _planes() -> Any:
    return np.empty(_ROOM, np.float32)


def _panel() -> Any:
    return np.empty(PANEL * DEPTH, np.float32)


def _sums() -> Any:
    return np.empty(_BLOCK * PANEL, np.float32)


def _table() -> Any:
    return np.empty(2 * DEPTH, np.int32)


def _places() -> Any:
    return np.empty(2 * ROWS, np.int64)


# Each stands in the frame of its caller, as in `lanes`.
@overload(_planes, inline="always")
def _compiled_planes() -> Any:
    return lambda: carray(_planes_on_stack(), _ROOM)


@overload(_panel, inline="always")
def _compiled_panel() -> Any:
    return lambda: carray(_panel_on_stack(), PANEL * DEPTH)


@overload(_sums, inline="always")
def _compiled_sums() -> Any:
    return lambda: carray(_sums_on_stack(), _BLOCK * PANEL)


@overload(_table, inline="always")
def _compiled_table() -> Any:
    return lambda: carray(_table_on_stack(), 2 * DEPTH)


@overload(_places, inline="always")
def _compiled_places() -> Any:
    return lambda: carray(_places_on_stack(), 2 * ROWS)


# -- one tile --------------------------------------------------------------------------


def _tile_intrinsic(n_vectors: int) -> Any:
    """Return the compiled tile of `ROWS` places and some vectors of outputs."""

    @typed_intrinsic
    def compiled(typing_context: Any, arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            given = [builder.extract_value(args[0], i) for i in range(7)]
            kinds = (FLOAT, I64, I32, FLOAT, FLOAT)
            source, places, table, panel, sums = (
                builder.inttoptr(x, kind.as_pointer())
                for x, kind in zip(given[:5], kinds, strict=True)
            )
            k, fresh = given[5:]
            is_fresh = builder.icmp_signed("!=", fresh, ir.Constant(I64, 0))
            nothing = ir.Constant(_VECTOR, [0.0] * LANES)
            bases = []
            for j in range(ROWS):
                at = builder.load(builder.gep(places, [ir.Constant(I64, j)]))
                bases.append(builder.gep(source, [at]))

            def place(base: Any, at: Any) -> Any:
                return builder.bitcast(builder.gep(base, [at]), _VECTOR.as_pointer())

            start = []
            for i in range(ROWS * n_vectors):
                row, v = divmod(i, n_vectors)
                at = ir.Constant(I64, row * PANEL + v * LANES)
                so_far = builder.load(place(sums, at), align=4)
                start.append(builder.select(is_fresh, nothing, so_far))

            def body(p: Any, values: Any) -> Any:
                at = builder.mul(p, ir.Constant(I64, PANEL))
                weights = [
                    builder.load(
                        place(panel, builder.add(at, ir.Constant(I64, v * LANES))),
                        align=4,
                    )
                    for v in range(n_vectors)
                ]
                offset = builder.load(builder.gep(table, [p]))
                offset = builder.sext(offset, I64)
                fma = cgutils.get_or_insert_function(
                    builder.module,
                    ir.FunctionType(_VECTOR, [_VECTOR] * 3),
                    f"llvm.fma.v{LANES}f32",
                )
                results = []
                for j in range(ROWS):
                    value = builder.load(builder.gep(bases[j], [offset]))
                    value = splat(builder, value)
                    for v in range(n_vectors):
                        so_far = values[j * n_vectors + v]
                        results.append(builder.call(fma, [weights[v], value, so_far]))
                return results

            values = count(builder, k, start, body)
            for i in range(ROWS * n_vectors):
                row, v = divmod(i, n_vectors)
                at = ir.Constant(I64, row * PANEL + v * LANES)
                builder.store(values[i], place(sums, at), align=4)
            return context.get_dummy_value()

        return types.void(arguments), codegen

    return compiled


_one, _two, _three = (_tile_intrinsic(n) for n in (1, 2, 3))


@routine
def _tile(source, places, table, panel, sums, outputs, k, fresh):
    """``sums[j, o] (+)= Σ_p panel[p, o] · source[places[j] + table[p]]``, p in order.

    Parameters
    ----------
    source, panel, sums : array of float32
        panel (k, `PANEL`), sums (`ROWS`, `PANEL`).
    places : array of int64, (`ROWS`,)
    table : array of int32, (k,)
    outputs : int
        How many of a row's sums are wanted; those up to a whole vector are made.
    fresh : bool
        Sums begin at 0.
    """
    given = (
        np.int64(source.ctypes.data),
        np.int64(places.ctypes.data),
        np.int64(table.ctypes.data),
        np.int64(panel.ctypes.data),
        np.int64(sums.ctypes.data),
        np.int64(k),
        np.int64(fresh),
    )
    if outputs > 2 * LANES:
        _three(given)
    elif outputs > LANES:
        _two(given)
    else:
        _one(given)


@routine
def _transpose_rows(x, at, stride, columns, depth, panel):
    """``panel[p, j] = x[at + j * stride + p]``, 0 up to a whole vector of columns."""
    whole, deep = columns - columns % 8, depth - depth % 8
    for j in range(0, whole, 8):
        for p in range(0, deep, 8):
            transpose_square(
                x, at + j * stride + p, stride, panel, p * PANEL + j, PANEL
            )
    for j in range(columns):
        for p in range(deep if j < whole else 0, depth):
            panel[p * PANEL + j] = x[at + j * stride + p]
    _clear_beyond(columns, depth, panel)


@routine
def _clear_beyond(columns, depth, panel):
    """Set what a vector reads beyond the last column to 0."""
    for j in range(columns, (columns + LANES - 1) // LANES * LANES):
        for p in range(depth):
            panel[p * PANEL + j] = ZERO


@routine
def _copy_planes(
    x, at, n_planes, height, width, top, left, rows, columns, planes, to
):  # fmt: skip
    """Copy planes (height, width) into (rows, columns), with zeros around them.

    Row 0 and column 0 of a copy are row ``-top`` and column ``-left`` of its plane.
    """
    first, last = max(0, top), min(rows, height + top)
    begin, end = min(columns, max(0, left)), min(columns, width + left)
    for k in range(n_planes):
        for r in range(rows):
            target = planes[to + (k * rows + r) * columns :][:columns]
            if r < first or r >= last or begin >= end:
                for c in range(columns):
                    target[c] = ZERO
                continue
            for c in range(begin):
                target[c] = ZERO
            source = x[at + (k * height + r - top) * width + begin - left :]
            inner = target[begin:end]
            for c in range(inner.size):
                inner[c] = source[c]
            for c in range(end, columns):
                target[c] = ZERO


# -- sums over planes and taps ---------------------------------------------------------


@helper
def _largest_part(size, step, reach, other):
    """Return how many outputs along an axis fit, where a line of them takes `other`."""
    fitting = (_ROOM // other - reach - 1) // step + 1 if other <= _ROOM else 0
    return min(size, fitting)


@routine
def _correlate(
    x, n_planes, height, width, top, left, step_h, step_w,
    taps_h, taps_w, apart_h, apart_w,
    w, w_plane, w_output, w_first, w_row, w_column, init, has_init, n_outputs,
    n, n_rows, n_columns, y, y0, y_sample, y_plane, y_row, y_column,
):  # fmt: skip
    """For each place and output of n samples: the sum over planes and taps.

    Parameters
    ----------
    x : (n, n_planes, height, width)
    top, left : int
        Place (r, c) and tap (i, j) read row ``r step_h + i apart_h - top``, and a
        column likewise; 0 beyond the plane.
    taps_h, taps_w : int
    w : array of float32
        The weight of a tap is ``w[w_first + plane w_plane + output w_output
        + i w_row + j w_column]``.
    init, has_init
        What the sums of an output begin at, if not at 0.
    y : array of float32
        ``y[y0 + sample y_sample + output y_plane + r y_row + c y_column]``.
    """
    planes, panel, sums = _planes(), _panel(), _sums()
    table, places = _table(), _places()
    weight_at, to = table[DEPTH:], places[ROWS:]
    n_taps = taps_h * taps_w
    reach_h, reach_w = (taps_h - 1) * apart_h, (taps_w - 1) * apart_w
    if n_taps == 0:  # nothing reaches these places
        for s in range(n):
            for o in range(n_outputs):
                value = init[o] if has_init else ZERO
                for r in range(n_rows):
                    at = y0 + s * y_sample + o * y_plane + r * y_row
                    for c in range(n_columns):
                        y[at + c * y_column] = value
        return
    whole_width = (n_columns - 1) * step_w + reach_w + 1
    part_w = n_columns
    if (reach_h + 1) * whole_width > _ROOM:
        part_w = _largest_part(n_columns, step_w, reach_w, reach_h + 1)
    if part_w < 1:
        _correlate_far(
            x, n_planes, height, width, top, left, step_h, step_w,
            taps_h, taps_w, apart_h, apart_w,
            w, w_plane, w_output, w_first, w_row, w_column, init, has_init, n_outputs,
            n, n_rows, n_columns, y, y0, y_sample, y_plane, y_row, y_column,
        )  # fmt: skip
        return
    columns = (part_w - 1) * step_w + reach_w + 1
    part_h = max(1, _largest_part(n_rows, step_h, reach_h, columns))
    rows = (part_h - 1) * step_h + reach_h + 1
    plane = rows * columns
    together = min(n_planes, max(1, DEPTH // n_taps), max(1, _ROOM // plane))
    group = min(n, max(1, _ROOM // (together * plane)))
    for n0 in range(0, n, group):
        n_here = min(group, n - n0)
        for r0 in range(0, n_rows, part_h):
            rows_here = min(part_h, n_rows - r0)
            for c0 in range(0, n_columns, part_w):
                columns_here = min(part_w, n_columns - c0)
                in_sample = rows_here * columns_here
                n_places = n_here * in_sample
                for k0 in range(0, n_planes, together):
                    k_here = min(together, n_planes - k0)
                    for s in range(n_here):
                        _copy_planes(
                            x, ((n0 + s) * n_planes + k0) * height * width, k_here,
                            height, width, top - r0 * step_h, left - c0 * step_w,
                            rows, columns, planes, s * together * plane,
                        )  # fmt: skip
                    for t0 in range(0, k_here * n_taps, DEPTH):
                        depth = min(DEPTH, k_here * n_taps - t0)
                        for p in range(depth):
                            k, tap = (t0 + p) // n_taps, (t0 + p) % n_taps
                            i, j = tap // taps_w, tap % taps_w
                            table[p] = k * plane + i * apart_h * columns + j * apart_w
                            weight_at[p] = k * w_plane + i * w_row + j * w_column
                        base = w_first + k0 * w_plane
                        fresh = k0 == 0 and t0 == 0
                        for o0 in range(0, n_outputs, PANEL):
                            outputs = min(PANEL, n_outputs - o0)
                            if w_column == 1 and w_row == taps_w and w_plane == n_taps:
                                _transpose_rows(
                                    w, base + t0 + o0 * w_output, w_output, outputs,
                                    depth, panel,
                                )  # fmt: skip
                            else:
                                for p in range(depth):
                                    at = base + weight_at[p] + o0 * w_output
                                    for o in range(outputs):
                                        panel[p * PANEL + o] = w[at + o * w_output]
                                _clear_beyond(outputs, depth, panel)
                            for place in range(0, n_places, ROWS):
                                n_tile = min(ROWS, n_places - place)
                                s = place // in_sample
                                r = place % in_sample // columns_here
                                c = place % in_sample % columns_here
                                is_row = s == (place + n_tile - 1) // in_sample
                                for j in range(ROWS):
                                    places[j] = (
                                        s * together * plane
                                        + r * step_h * columns
                                        + c * step_w
                                    )
                                    to[j] = (
                                        y0 + (n0 + s) * y_sample + o0 * y_plane
                                        + (r0 + r) * y_row + (c0 + c) * y_column
                                    )  # fmt: skip
                                    if j < n_tile - 1:  # then the last one again
                                        c += 1
                                        if c == columns_here:
                                            c = 0
                                            r += 1
                                            if r == rows_here:
                                                r = 0
                                                s += 1
                                starts = fresh and not has_init
                                if fresh and has_init:
                                    for j in range(n_tile):
                                        for o in range(outputs):
                                            sums[j * PANEL + o] = init[o0 + o]
                                elif not fresh:
                                    for j in range(n_tile):
                                        for o in range(outputs):
                                            at = to[j] + o * y_plane
                                            sums[j * PANEL + o] = y[at]
                                _tile(
                                    planes, places, table, panel, sums, outputs, depth,
                                    1 if starts else 0,
                                )  # fmt: skip
                                whole = 0
                                if (
                                    n_tile == 8
                                    and is_row
                                    and to[7] - to[0] == 7
                                    and y_column == 1
                                ):
                                    whole = outputs - outputs % 8
                                    for o in range(0, whole, 8):
                                        transpose_square(
                                            sums, o, PANEL, y, to[0] + o * y_plane,
                                            y_plane,
                                        )  # fmt: skip
                                for j in range(n_tile):
                                    for o in range(whole, outputs):
                                        at = to[j] + o * y_plane
                                        y[at] = sums[j * PANEL + o]


@routine
def _correlate_far(
    x, n_planes, height, width, top, left, step_h, step_w,
    taps_h, taps_w, apart_h, apart_w,
    w, w_plane, w_output, w_first, w_row, w_column, init, has_init, n_outputs,
    n, n_rows, n_columns, y, y0, y_sample, y_plane, y_row, y_column,
):  # fmt: skip
    """Do what `_correlate` does, element by element: for taps very far apart."""
    for s in range(n):
        for o in range(n_outputs):
            for r in range(n_rows):
                for c in range(n_columns):
                    total = init[o] if has_init else ZERO
                    for k in range(n_planes):
                        source = (s * n_planes + k) * height * width
                        weight = w_first + k * w_plane + o * w_output
                        for i in range(taps_h):
                            row = r * step_h + i * apart_h - top
                            for j in range(taps_w):
                                column = c * step_w + j * apart_w - left
                                value = ZERO
                                if 0 <= row < height and 0 <= column < width:
                                    value = x[source + row * width + column]
                                factor = w[weight + i * w_row + j * w_column]
                                total = fused(factor, value, total)
                    at = y0 + s * y_sample + o * y_plane + r * y_row
                    y[at + c * y_column] = total


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
    _correlate(
        x, channels, height, width, top, left, stride_height, stride_width,
        kernel_height, kernel_width, dilation_height, dilation_width,
        weight, taps, channels * taps, 0, kernel_width, 1, bias, has_bias != 0, filters,
        n, out_height, out_width,
        y, 0, filters * out_plane, out_plane, out_width, 1,
    )  # fmt: skip


@helper
def _taps_of(phase, kernel_size, stride, dilation):
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
        last_i, step_i, n_i = _taps_of(
            phase_h, kernel_height, stride_height, dilation_height
        )
        for phase_w in range(stride_width):
            column0 = (phase_w - left) % stride_width
            n_columns = (width - column0 + stride_width - 1) // stride_width
            last_j, step_j, n_j = _taps_of(
                phase_w, kernel_width, stride_width, dilation_width
            )
            if n_rows <= 0 or n_columns <= 0:
                continue
            # The last tap reads the first output: (row + top - tap dilation) / stride.
            before = last_i * dilation_height - row0 - top
            aside = last_j * dilation_width - column0 - left
            _correlate(
                dy, filters, out_height, out_width,
                before // stride_height, aside // stride_width, 1, 1,
                n_i if n_j > 0 else 0, n_j, step_i * dilation_height // stride_height,
                step_j * dilation_width // stride_width,
                weight, channels * taps, taps, last_i * kernel_width + last_j,
                -step_i * kernel_width, -step_j, bias, has_bias != 0, channels,
                n, n_rows, n_columns, dx, row0 * width + column0, channels * plane,
                plane, stride_height * width, stride_width,
            )  # fmt: skip


# -- gradients of filters --------------------------------------------------------------


@helper
def _begin_gradient(beta, dw):
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
    out_plane = out_height * out_width
    _begin_gradient(beta, dw)
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
    if (reach + 1) * columns > _ROOM:
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


@routine
def _add_gradients(
    x, dy, dw, n, channels, height, width, filters, kernel_height, kernel_width,
    stride_height, stride_width, dilation_height, dilation_width, top, left,
    out_height, out_width,
):  # fmt: skip
    """Add gradients of blocks of taps × filters, sample after sample."""
    planes, panel, sums = _planes(), _panel(), _sums()
    table, places = _table(), _places()
    taps, out_plane = kernel_height * kernel_width, out_height * out_width
    columns = (out_width - 1) * stride_width + (kernel_width - 1) * dilation_width + 1
    reach = (kernel_height - 1) * dilation_height
    part = max(1, min(out_height, (_ROOM // columns - reach - 1) // stride_height + 1))
    plane = ((part - 1) * stride_height + reach + 1) * columns
    together = min(channels, max(1, _BLOCK // taps), max(1, _ROOM // plane))
    for k0 in range(0, channels, together):
        k_here = min(together, channels - k0)
        for t0 in range(0, k_here * taps, _BLOCK):
            n_block = min(_BLOCK, k_here * taps - t0)
            for f0 in range(0, filters, PANEL):
                outputs = min(PANEL, filters - f0)
                for t in range(n_block):
                    for f in range(outputs):
                        at = ((f0 + f) * channels + k0) * taps + t0 + t
                        sums[t * PANEL + f] = dw[at]
                for s in range(n):
                    for r0 in range(0, out_height, part):
                        rows_here = min(part, out_height - r0)
                        _copy_planes(
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
                            _transpose_rows(
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
                                _tile(
                                    planes, places, table, panel,
                                    sums[tile * PANEL :], outputs, depth, 0,
                                )  # fmt: skip
                for t in range(n_block):
                    for f in range(outputs):
                        at = ((f0 + f) * channels + k0) * taps + t0 + t
                        dw[at] = sums[t * PANEL + f]


# -- depthwise -------------------------------------------------------------------------
# Each channel has a filter of its own. Where a row of the source ends, zeros go on.


@routine
def _add_row(factor, x, at, step, skipped, n_inside, y, to, y_step, n):
    """``y += factor · x`` along n elements, of which x has those from `skipped` on."""
    for c in range(min(skipped, n)):
        y[to + c * y_step] = fused(factor, ZERO, y[to + c * y_step])
    if step == 1 and y_step == 1:
        source, target = x[at:], y[to + skipped : to + skipped + n_inside]
        for c in range(target.size):
            target[c] = fused(factor, source[c], target[c])
    else:
        for c in range(n_inside):
            place = to + (skipped + c) * y_step
            y[place] = fused(factor, x[at + c * step], y[place])
    for c in range(skipped + n_inside, n):
        y[to + c * y_step] = fused(factor, ZERO, y[to + c * y_step])


@helper
def _inside(first, step, size, n):
    """Return how many of first, first + step, … lie below 0, and how many in a size."""
    skipped = 0 if first >= 0 else min(n, (-first + step - 1) // step)
    end = 0 if first >= size else min(n, (size - 1 - first) // step + 1)
    return skipped, max(0, end - skipped)


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
    taps = kernel_height * kernel_width
    for s in range(n):
        for k in range(channels):
            source = (s * channels + k) * height * width
            for r in range(out_height):
                to = ((s * channels + k) * out_height + r) * out_width
                start = bias[k] if has_bias != 0 else ZERO
                for c in range(out_width):
                    y[to + c] = start
                for i in range(kernel_height):
                    row = r * stride_height + i * dilation_height - top
                    for j in range(kernel_width):
                        first = j * dilation_width - left
                        skipped, inside = _inside(first, stride_width, width, out_width)
                        if row < 0 or row >= height:
                            skipped, inside = out_width, 0
                        at = source + row * width + first + skipped * stride_width
                        _add_row(
                            weight[k * taps + i * kernel_width + j], x,
                            at if inside > 0 else 0, stride_width, skipped, inside,
                            y, to, 1, out_width,
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
    taps = kernel_height * kernel_width
    for i in range(dx.size):
        dx[i] = ZERO
    for s in range(n):
        for k in range(channels):
            source = (s * channels + k) * out_height * out_width
            for u in range(height):
                to = ((s * channels + k) * height + u) * width
                for i in range(kernel_height - 1, -1, -1):
                    above = u + top - i * dilation_height
                    if above % stride_height != 0:
                        continue
                    row = above // stride_height
                    for j in range(kernel_width - 1, -1, -1):
                        # the first column of the input that this tap reaches
                        begin = (j * dilation_width - left) % stride_width
                        m = (width - begin + stride_width - 1) // stride_width
                        first = (begin + left - j * dilation_width) // stride_width
                        if m <= 0:
                            continue
                        skipped, inside = _inside(first, 1, out_width, m)
                        if row < 0 or row >= out_height:
                            skipped, inside = m, 0
                        at = source + row * out_width + first + skipped
                        _add_row(
                            weight[k * taps + i * kernel_width + j], dy,
                            at if inside > 0 else 0, 1, skipped, inside,
                            dx, to + begin, stride_width, m,
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
    """``dw``: as `direct_gradient`, of one channel for each filter."""
    taps = kernel_height * kernel_width
    _begin_gradient(beta, dw)
    for s in range(n):
        for k in range(channels):
            source = (s * channels + k) * height * width
            d_at = (s * channels + k) * out_height * out_width
            for r in range(out_height):
                for c in range(out_width):
                    d = dy[d_at + r * out_width + c]
                    for i in range(kernel_height):
                        row = r * stride_height + i * dilation_height - top
                        for j in range(kernel_width):
                            column = c * stride_width + j * dilation_width - left
                            value = ZERO
                            if 0 <= row < height and 0 <= column < width:
                                value = x[source + row * width + column]
                            at = k * taps + i * kernel_width + j
                            dw[at] = fused(d, value, dw[at])
