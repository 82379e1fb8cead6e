"""What convolutions in a fixed order are made of: buffers on the stack, and a tile.

Each buffer stands in the frame of the function that asks for it, and none grows with
the model. A tile is `ROWS` places × some vectors of outputs, all of whose sums stand in
registers:

    sums[j, o] += Σ_p panel[p, o] · source[places[j] + table[p]]

The sum of an element runs along p in order, one fused multiply-add after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import overload

from arena_ckpt.kernels.chains import DEPTH, LANES, PANEL, ROWS, splat
from arena_ckpt.kernels.compiling import routine
from arena_ckpt.kernels.kernel import typed_intrinsic
from arena_ckpt.kernels.lanes import room_on_stack
from arena_ckpt.kernels.transposition import transpose_square
from arena_ckpt.kernels.vector_math import ZERO
from arena_ckpt.kernels.vectors import FLOAT, I32, I64, count

ROOM = 16384
"""Number of elements of the planes that stand on the stack together."""

CHANNEL_ROWS = 8
"""Number of rows of a tile over channels, each of one vector."""

BLOCK = 18 * ROWS if ROWS == 8 else 36 * ROWS
"""Number of taps whose gradients are summed together: 144."""

_VECTOR = ir.VectorType(FLOAT, LANES)

# -- memory of a kernel on the stack ---------------------------------------------------


_planes_memory = room_on_stack(types.float32, FLOAT, ROOM)
_panel_memory = room_on_stack(types.float32, FLOAT, PANEL * DEPTH)
_sums_memory = room_on_stack(types.float32, FLOAT, BLOCK * PANEL)
_table_memory = room_on_stack(types.int32, I32, 2 * DEPTH)
_places_memory = room_on_stack(types.int64, I64, 2 * ROWS)


def planes_on_stack() -> Any:
    """Array of `ROOM` float32: planes of pictures with zeros around them."""
    return np.empty(ROOM, np.float32)


def panel_on_stack() -> Any:
    """Array of float32, (`DEPTH`, `PANEL`): weights by product and output."""
    return np.empty(PANEL * DEPTH, np.float32)


def sums_on_stack() -> Any:
    """Array of float32, (`BLOCK`, `PANEL`): sums by place or tap, and output."""
    return np.empty(BLOCK * PANEL, np.float32)


def table_on_stack() -> Any:
    """Array of int32, (2 `DEPTH`,): offsets of products, and of their weights."""
    return np.empty(2 * DEPTH, np.int32)


def places_on_stack() -> Any:
    """Array of int64, (2 `ROWS`,): where a tile's rows begin, and where they go."""
    return np.empty(2 * ROWS, np.int64)


# Each stands in the frame of its caller, as in `lanes`.
@overload(planes_on_stack, inline="always")
def _compiled_planes() -> Any:
    return lambda: carray(_planes_memory(), ROOM)


@overload(panel_on_stack, inline="always")
def _compiled_panel() -> Any:
    return lambda: carray(_panel_memory(), PANEL * DEPTH)


@overload(sums_on_stack, inline="always")
def _compiled_sums() -> Any:
    return lambda: carray(_sums_memory(), BLOCK * PANEL)


@overload(table_on_stack, inline="always")
def _compiled_table() -> Any:
    return lambda: carray(_table_memory(), 2 * DEPTH)


@overload(places_on_stack, inline="always")
def _compiled_places() -> Any:
    return lambda: carray(_places_memory(), 2 * ROWS)


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


def _channel_tile() -> Any:
    """Return the compiled tile of `CHANNEL_ROWS` vectors of channels."""

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
            fma = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(_VECTOR, [_VECTOR] * 3),
                f"llvm.fma.v{LANES}f32",
            )

            def place(base: Any, at: Any) -> Any:
                return builder.bitcast(builder.gep(base, [at]), _VECTOR.as_pointer())

            bases, start = [], []
            for j in range(CHANNEL_ROWS):
                at = builder.load(builder.gep(places, [ir.Constant(I64, j)]))
                bases.append(builder.gep(source, [at]))
                at = ir.Constant(I64, j * LANES)
                so_far = builder.load(place(sums, at), align=4)
                start.append(builder.select(is_fresh, nothing, so_far))

            def body(p: Any, values: Any) -> Any:
                at = builder.mul(p, ir.Constant(I64, LANES))
                weights = builder.load(place(panel, at), align=4)
                offset = builder.load(builder.gep(table, [p]))
                offset = builder.sext(offset, I64)
                loaded = [builder.load(place(base, offset), align=4) for base in bases]
                return [
                    builder.call(fma, [weights, value, so_far])
                    for value, so_far in zip(loaded, values, strict=True)
                ]

            values = count(builder, k, start, body)
            for j, value in enumerate(values):
                at = ir.Constant(I64, j * LANES)
                builder.store(value, place(sums, at), align=4)
            return context.get_dummy_value()

        return types.void(arguments), codegen

    return compiled


_one, _two, _three = (_tile_intrinsic(n) for n in (1, 2, 3))


@routine
def tile_of(source, places, table, panel, sums, outputs, k, fresh):
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


_channels = _channel_tile()


@routine
def tile_of_channels(source, places, table, panel, sums, k, fresh):
    """``sums[j] (+)= Σ_p panel[p] · source[places[j] + table[p]]`` for all channels.

    Parameters
    ----------
    source, panel, sums : array of float32
        Rows of `LANES` channels: panel (k, `LANES`), sums (`CHANNEL_ROWS`, `LANES`).
    places : array of int64, (`CHANNEL_ROWS`,)
    table : array of int32, (k,)
    fresh : bool
        Sums begin at 0.
    """
    _channels(
        (
            np.int64(source.ctypes.data),
            np.int64(places.ctypes.data),
            np.int64(table.ctypes.data),
            np.int64(panel.ctypes.data),
            np.int64(sums.ctypes.data),
            np.int64(k),
            np.int64(fresh),
        )
    )


@routine
def transpose_rows(x, at, stride, columns, depth, panel):
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
    clear_beyond(columns, depth, panel)


@routine
def clear_beyond(columns, depth, panel):
    """Set what a vector reads beyond the last column to 0."""
    for j in range(columns, (columns + LANES - 1) // LANES * LANES):
        for p in range(depth):
            panel[p * PANEL + j] = ZERO


@routine
def copy_planes(
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
