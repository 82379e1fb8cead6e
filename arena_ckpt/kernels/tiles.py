"""The innermost loop of convolutions: a small tile of sums of products, in registers.

A tile is `ROWS` × `VECTORS` vectors of `WIDTH` sums. Each step of its loop loads the
vectors at one more offset of a table and multiplies them by one number for each row:

    y[j][v] = start[j] + Σ_k w[w0 + k·w_step + j·w_row] · x[x_v + table[k]]

Every element is one sum in the order of the table, whatever tile and lane it stands
in. So its bits do not depend on the batch, on a machine's vectors or on addresses.
Products and sums are fused where the machine can.

LLVM does not find such a loop by itself in Numba's code, so it is written as vectors.

References
----------
T. M. Low et al., "Analytical modeling is enough for high-performance BLIS", TOMS 2016
(how large a tile of registers should be). M. Dukhan, "The indirect convolution
algorithm", 2019 (a table of offsets in place of im2col).
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

ROWS, VECTORS, WIDTH = 4, 3, 8
TILE = VECTORS * WIDTH

_FLOAT, _I64 = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, WIDTH)
_I32 = ir.IntType(32)
_typed_intrinsic: Any = intrinsic  # typed in some Numba releases, not in others


def _fuses() -> bool:
    """Whether one instruction multiplies and adds; else LLVM would call a function."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return True
    return bool(llvmlite.binding.get_host_cpu_features().get("fma", False))


_FUSES = _fuses()


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    if _FUSES:
        fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(_VECTOR, [_VECTOR] * 3),
            f"llvm.fma.v{WIDTH}f32",
        )
        return builder.call(fma, [a, b, c])
    return builder.fadd(builder.fmul(a, b), c)


def _broadcast(builder: Any, value: Any) -> Any:
    one = builder.insert_element(
        ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(_I32, 0)
    )
    zeros = ir.Constant(ir.VectorType(_I32, WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), zeros)


def _shuffle(builder: Any, low: Any, high: Any, places: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(_I32, WIDTH), places)
    return builder.shuffle_vector(low, high, mask)


def _load_vector(builder: Any, base: Any, elems: Any) -> Any:
    pointer = builder.bitcast(builder.gep(base, [elems]), _VECTOR.as_pointer())
    return builder.load(pointer, align=4)


def _store_vector(builder: Any, value: Any, base: Any, elems: Any) -> None:
    pointer = builder.bitcast(builder.gep(base, [elems]), _VECTOR.as_pointer())
    builder.store(value, pointer, align=4)


def _addresses(builder: Any, given: Any, *kinds: Any) -> list[Any]:
    return [
        builder.inttoptr(address, kind.as_pointer())
        for address, kind in zip(given, kinds, strict=True)
    ]


def _keep_rolled(builder: Any, branch: Any) -> None:
    """Tell LLVM not to unroll the loop: two steps need more registers than there are.

    The name of a loop is a list that begins with itself.
    """
    module = builder.module
    loop = module.add_metadata([ir.Constant(_I64, id(branch))])
    loop.operands = (loop, module.add_metadata(["llvm.loop.unroll.disable"]))
    branch.set_metadata("llvm.loop", loop)


def _count(builder: Any, n: Any, start: list[Any], body: Callable[..., Any]) -> Any:
    """Emit ``for k in range(n): values = body(k, values)``; return the last values."""
    before = builder.block
    head = builder.append_basic_block("tile_head")
    inside = builder.append_basic_block("tile_body")
    after = builder.append_basic_block("tile_after")
    builder.branch(head)
    builder.position_at_end(head)
    k = builder.phi(_I64)
    values = [builder.phi(value.type) for value in start]
    k.add_incoming(ir.Constant(_I64, 0), before)
    for phi, value in zip(values, start, strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", k, n), inside, after)
    builder.position_at_end(inside)
    results = body(k, values)
    k.add_incoming(builder.add(k, ir.Constant(_I64, 1)), builder.block)
    for phi, value in zip(values, results, strict=True):
        phi.add_incoming(value, builder.block)
    _keep_rolled(builder, builder.branch(head))
    builder.position_at_end(after)
    return values


def _tile_intrinsic(rows: int, vectors: int) -> Any:
    """Return the compiled tile; arrays travel as addresses, the rest as elements."""
    n_parameters = 13 + 2 * vectors

    @_typed_intrinsic
    def compiled(typing_context: Any, arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            given = [builder.extract_value(args[0], i) for i in range(n_parameters)]
            kinds = (_FLOAT, _I32, _FLOAT, _FLOAT, _FLOAT)
            x, table, w, init, y = (
                builder.inttoptr(address, kind.as_pointer())
                for address, kind in zip(given[:5], kinds, strict=True)
            )
            n, w0, w_step, w_row, i0, i_row, y_row, adds = given[5:13]
            x_at, y_at = given[13 : 13 + vectors], given[13 + vectors :]

            def row(j: int, first: Any, step: Any) -> Any:
                return builder.add(first, builder.mul(ir.Constant(_I64, j), step))

            x_base = [builder.gep(x, [at]) for at in x_at]
            w_base = [builder.gep(w, [row(j, w0, w_row)]) for j in range(rows)]
            continues = builder.icmp_signed("!=", adds, ir.Constant(_I64, 0))
            start = []
            for j in range(rows):
                value = builder.load(builder.gep(init, [row(j, i0, i_row)]))
                fresh = _broadcast(builder, value)
                for at in y_at:
                    so_far = _load_vector(builder, y, row(j, at, y_row))
                    start.append(builder.select(continues, so_far, fresh))

            def body(k: Any, sums: Any) -> Any:
                offset = builder.load(builder.gep(table, [k]))
                offset = builder.sext(offset, _I64)
                loaded = [_load_vector(builder, base, offset) for base in x_base]
                w_at = builder.mul(k, w_step)
                results = []
                for j in range(rows):
                    factor = builder.load(builder.gep(w_base[j], [w_at]))
                    factor = _broadcast(builder, factor)
                    for v in range(vectors):
                        so_far = sums[j * vectors + v]
                        product = _multiply_add(builder, factor, loaded[v], so_far)
                        results.append(product)
                return results

            sums = _count(builder, n, start, body)
            for j in range(rows):
                for v in range(vectors):
                    at = row(j, y_at[v], y_row)
                    _store_vector(builder, sums[j * vectors + v], y, at)
            return context.get_dummy_value()

        return types.void(arguments), codegen

    return compiled


_tile = _tile_intrinsic(ROWS, VECTORS)


def tile(
    x, x_at, table, n, w, w0, w_step, w_row, init, i0, i_row, y, y_at, y_row, adds
):
    """Compute one tile (see the module) and write its vectors to ``y``.

    Parameters
    ----------
    x, w, init, y : array of float32
    x_at, y_at : tuple of int
        Where each vector begins in x and in y.
    table : array of int32
        Offsets into x.
    n : int
        How many of them to take.
    w0, w_step, w_row, i0, i_row, y_row : int
        Where elements are: the first, the next of a sum, the next row.
    adds : int
        0 starts from ``init[i0 + j * i_row]``, else from what y holds.
    """
    for j in range(ROWS):
        for at, to in zip(x_at, y_at, strict=True):
            result = y[to + j * y_row :][:WIDTH]
            sums = np.full(WIDTH, init[i0 + j * i_row], np.float64)
            if adds:
                sums[:] = result
            for k in range(n):
                factor = np.float64(w[w0 + k * w_step + j * w_row])
                sums += factor * x[at + table[k] :][:WIDTH]
            result[:] = sums


@overload(tile)
def _compiled_tile(
    x, x_at, table, n, w, w0, w_step, w_row, init, i0, i_row, y, y_at, y_row, adds
):
    def run(
        x, x_at, table, n, w, w0, w_step, w_row, init, i0, i_row, y, y_at, y_row, adds
    ):
        _tile(
            (
                np.int64(x.ctypes.data),
                np.int64(table.ctypes.data),
                np.int64(w.ctypes.data),
                np.int64(init.ctypes.data),
                np.int64(y.ctypes.data),
                np.int64(n),
                np.int64(w0),
                np.int64(w_step),
                np.int64(w_row),
                np.int64(i0),
                np.int64(i_row),
                np.int64(y_row),
                np.int64(adds),
                np.int64(x_at[0]),
                np.int64(x_at[1]),
                np.int64(x_at[2]),
                np.int64(y_at[0]),
                np.int64(y_at[1]),
                np.int64(y_at[2]),
            )
        )

    return run


STRIP = 4
"""Vectors of a strip: a tile of one row, for filters of one channel."""


@_typed_intrinsic
def _strip(typing_context: Any, arguments: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given = [builder.extract_value(args[0], i) for i in range(8)]
        kinds = (_FLOAT, _I32, _FLOAT, _FLOAT, _FLOAT)
        x, table, w, start, y = _addresses(builder, given[:5], *kinds)
        first, last, n = given[5:]
        places = []
        for v in range(STRIP):
            at = builder.add(first, ir.Constant(_I64, v * WIDTH))
            is_inside = builder.icmp_signed("<", at, last)
            places.append(builder.select(is_inside, at, last))
        bases = [builder.gep(x, [at]) for at in places]
        fresh = _broadcast(builder, builder.load(start))

        def body(k: Any, sums: Any) -> Any:
            offset = builder.sext(builder.load(builder.gep(table, [k])), _I64)
            factor = _broadcast(builder, builder.load(builder.gep(w, [k])))
            return [
                _multiply_add(
                    builder, factor, _load_vector(builder, base, offset), so_far
                )
                for base, so_far in zip(bases, sums, strict=True)
            ]

        sums = _count(builder, n, [fresh] * STRIP, body)
        for at, result in zip(places, sums, strict=True):
            _store_vector(builder, result, y, at)
        return context.get_dummy_value()

    return types.void(arguments), codegen


def strip(x, table, w, start, y, first, last, n):
    """``y[i] = start[0] + Σ_k w[k] · x[i + table[k]]`` for `STRIP` vectors of i.

    Parameters
    ----------
    x, w, start, y : array of float32
    table : array of int32
        `n` offsets into x.
    first, last : int
        Where the first vector begins; the others follow, but none begins after last.
    """
    for v in range(STRIP):
        at = min(first + v * WIDTH, last)
        sums = np.full(WIDTH, start[0], np.float64)
        for k in range(n):
            sums += np.float64(w[k]) * x[at + table[k] :][:WIDTH]
        y[at : at + WIDTH] = sums


@overload(strip)
def _compiled_strip(x, table, w, start, y, first, last, n):
    def run(x, table, w, start, y, first, last, n):
        _strip(
            (
                np.int64(x.ctypes.data),
                np.int64(table.ctypes.data),
                np.int64(w.ctypes.data),
                np.int64(start.ctypes.data),
                np.int64(y.ctypes.data),
                np.int64(first),
                np.int64(last),
                np.int64(n),
            )
        )

    return run


DOTS = 9
"""Sums that `dots` makes together: the taps of a filter of 3 × 3."""


@_typed_intrinsic
def _dots(typing_context: Any, arguments: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given = [builder.extract_value(args[0], i) for i in range(6)]
        kinds = (_FLOAT, _I32, _FLOAT, _FLOAT)
        x, table, dy, sums = _addresses(builder, given[:4], *kinds)
        at, n = given[4:]
        places = [ir.Constant(_I64, t * WIDTH) for t in range(DOTS)]
        bases = []
        for t in range(DOTS):
            offset = builder.load(builder.gep(table, [ir.Constant(_I64, t)]))
            base = builder.add(at, builder.sext(offset, _I64))
            bases.append(builder.gep(x, [base]))
        start = [_load_vector(builder, sums, place) for place in places]

        def body(k: Any, so_far: Any) -> Any:
            step = builder.mul(k, ir.Constant(_I64, WIDTH))
            factor = _load_vector(builder, dy, step)
            return [
                _multiply_add(builder, factor, _load_vector(builder, base, step), value)
                for base, value in zip(bases, so_far, strict=True)
            ]

        for place, value in zip(places, _count(builder, n, start, body), strict=True):
            _store_vector(builder, value, sums, place)
        return context.get_dummy_value()

    return types.void(arguments), codegen


def dots(x, table, dy, sums, at, n):
    """``sums[t] += Σ_v dy[v] · x[at + table[t] + v]`` over n vectors, for `DOTS` taps.

    Parameters
    ----------
    x, dy, sums : array of float32
    table : array of int32
        The offsets of the taps.
    """
    for t in range(DOTS):
        result = sums[t * WIDTH :][:WIDTH]
        for v in range(0, n * WIDTH, WIDTH):
            part = x[at + table[t] + v :][:WIDTH].astype(np.float64)
            result[:] = result + dy[v:][:WIDTH] * part


@overload(dots)
def _compiled_dots(x, table, dy, sums, at, n):
    def run(x, table, dy, sums, at, n):
        _dots(
            (
                np.int64(x.ctypes.data),
                np.int64(table.ctypes.data),
                np.int64(dy.ctypes.data),
                np.int64(sums.ctypes.data),
                np.int64(at),
                np.int64(n),
            )
        )

    return run


@_typed_intrinsic
def _move(
    typing_context: Any, x: Any, at: Any, mask: Any, m: Any, y: Any, to: Any
) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = (_FLOAT, _I32, _FLOAT)
        x, mask, y = _addresses(builder, args[::2], *kinds)
        at, m, to = args[1::2]
        of_bits = ir.VectorType(_I32, WIDTH)
        kept = builder.bitcast(builder.gep(mask, [m]), of_bits.as_pointer())
        bits = builder.bitcast(_load_vector(builder, x, at), of_bits)
        bits = builder.and_(bits, builder.load(kept, align=4))
        _store_vector(builder, builder.bitcast(bits, _VECTOR), y, to)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen


def move(x, at, mask, m, y, to):
    """Copy a vector of x from at on to y, with zeros where the mask from m on is 0.

    Elsewhere the mask is -1.
    """
    for i in range(WIDTH):
        y[to + i] = x[at + i] if mask[m + i] else 0


@overload(move)
def _compiled_move(x, at, mask, m, y, to):
    def run(x, at, mask, m, y, to):
        addresses = np.int64(x.ctypes.data), np.int64(mask.ctypes.data)
        _move(addresses[0], at, addresses[1], m, np.int64(y.ctypes.data), to)

    return run


def _halve_intrinsic(n: int) -> Any:
    """Return what splits 2 n elements into those with even and with odd places."""

    @_typed_intrinsic
    def compiled(
        typing_context: Any, x: Any, at: Any, y: Any, even: Any, odd: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, y = _addresses(builder, args[0:3:2], _FLOAT, _FLOAT)
            _, at, _, *targets = args
            half = ir.VectorType(_FLOAT, n)

            def load(at: Any) -> Any:
                pointer = builder.bitcast(builder.gep(x, [at]), half.as_pointer())
                return builder.load(pointer, align=4)

            low, high = load(at), load(builder.add(at, ir.Constant(_I64, n)))
            for first, to in enumerate(targets):
                mask = ir.VectorType(_I32, n)
                places = ir.Constant(mask, list(range(first, 2 * n, 2)))
                pointer = builder.bitcast(builder.gep(y, [to]), half.as_pointer())
                part = builder.shuffle_vector(low, high, places)
                builder.store(part, pointer, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), codegen

    return compiled


_halve, _halve_narrow = _halve_intrinsic(WIDTH), _halve_intrinsic(WIDTH // 2)


def halve(x, at, y, even, odd, n):
    """Copy n elements of x from at on to ``y[even:]``, their successors to ``y[odd:]``.

    x is read with a step of 2; n is `WIDTH` or half of it.
    """
    for i in range(n):
        y[even + i], y[odd + i] = x[at + 2 * i], x[at + 2 * i + 1]


@overload(halve)
def _compiled_halve(x, at, y, even, odd, n):
    def run(x, at, y, even, odd, n):
        addresses = np.int64(x.ctypes.data), np.int64(y.ctypes.data)
        if n == WIDTH:
            _halve(addresses[0], at, addresses[1], even, odd)
        else:
            _halve_narrow(addresses[0], at, addresses[1], even, odd)

    return run


@_typed_intrinsic
def _pack(
    typing_context: Any, w: Any, w0: Any, w_row: Any, table: Any, n: Any, y: Any
) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w, table, y = (
            builder.inttoptr(args[i], kind.as_pointer())
            for i, kind in ((0, _FLOAT), (3, _I32), (5, _FLOAT))
        )
        _, w0, w_row, _, n, _ = args

        def body(k: Any, values: Any) -> Any:
            offset = builder.sext(builder.load(builder.gep(table, [k])), _I64)
            at = builder.add(w0, offset)
            to = builder.mul(k, ir.Constant(_I64, ROWS))
            for _ in range(ROWS):
                value = builder.load(builder.gep(w, [at]))
                builder.store(value, builder.gep(y, [to]))
                at = builder.add(at, w_row)
                to = builder.add(to, ir.Constant(_I64, 1))
            return []

        _count(builder, n, [], body)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen


def pack(w, w0, w_row, table, n, y):
    """Gather the weights of a tile: ``y[k, j] = w[w0 + table[k] + j * w_row]``.

    Parameters
    ----------
    w, y : array of float32
    w0, w_row : int
        The first element and how far that of the next row is.
    table : array of int32
        `n` offsets into w.
    """
    for k in range(n):
        for j in range(ROWS):
            y[k * ROWS + j] = w[w0 + table[k] + j * w_row]


@overload(pack)
def _compiled_pack(w, w0, w_row, table, n, y):
    def run(w, w0, w_row, table, n, y):
        addresses = np.int64(w.ctypes.data), np.int64(table.ctypes.data)
        _pack(addresses[0], w0, w_row, addresses[1], n, np.int64(y.ctypes.data))

    return run


@_typed_intrinsic
def _transpose(typing_context: Any, x: Any, at: Any, step: Any, y: Any, to: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, y = (builder.inttoptr(args[i], _FLOAT.as_pointer()) for i in (0, 3))
        at, step, to = args[1], args[2], args[4]
        rows = []
        for _ in range(WIDTH):
            rows.append(_load_vector(builder, x, at))
            at = builder.add(at, step)
        # Three rounds of exchanging halves: of 2, of 4 and of 8 elements.
        for half in (1, 2, 4):
            mixed = list(rows)
            for i in range(WIDTH):
                if i & half:
                    continue
                low, high = rows[i], rows[i + half]
                places = range(WIDTH)
                mixed[i] = _shuffle(
                    builder,
                    low,
                    high,
                    [p if not p & half else p - half + WIDTH for p in places],
                )
                mixed[i + half] = _shuffle(
                    builder,
                    low,
                    high,
                    [p + half if not p & half else p + WIDTH for p in places],
                )
            rows = mixed
        for row in rows:
            _store_vector(builder, row, y, to)
            to = builder.add(to, ir.Constant(_I64, WIDTH))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


def transpose(x, at, step, y, to):
    """Write the columns of a `WIDTH` × `WIDTH` square of x, one after the other, to y.

    Parameters
    ----------
    x, y : array of float32
    at, step : int
        Where the first row begins in x, and how far the next one is.
    to : int
        Where the first column goes in y.
    """
    for i in range(WIDTH):
        for j in range(WIDTH):
            y[to + j * WIDTH + i] = x[at + i * step + j]


@overload(transpose)
def _compiled_transpose(x, at, step, y, to):
    def run(x, at, step, y, to):
        _transpose(np.int64(x.ctypes.data), at, step, np.int64(y.ctypes.data), to)

    return run


@_typed_intrinsic
def _choose(typing_context: Any, condition: Any, a: Any, b: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        is_true = context.cast(builder, args[0], condition, types.boolean)
        return builder.select(is_true, args[1], args[2])

    return a(condition, a, a), codegen


def choose(condition, a, b):
    """Return a if `condition` else b, without a branch that could be mispredicted."""
    return a if condition else b


@overload(choose, inline="always")
def _compiled_choose(condition, a, b):
    return lambda condition, a, b: _choose(condition, a, b)


_BYTE = ir.IntType(8)
_PLACES = ir.VectorType(_BYTE, WIDTH)
_EVEN, _ODD = list(range(0, 2 * WIDTH, 2)), list(range(1, 2 * WIDTH, 2))


def _byte_places(place: int) -> Any:
    return ir.Constant(_PLACES, [place] * WIDTH)


@_typed_intrinsic
def _max_of_squares(typing_context: Any, arguments: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        *given, start = (builder.extract_value(args[0], i) for i in range(5))
        *rows, best, place = _addresses(builder, given, *[_FLOAT] * 3, _BYTE)

        def greater(a: Any, b: Any) -> Any:
            """Return the greater of two (value, place), as PyTorch orders them."""
            more = builder.fcmp_ordered(">", b[0], a[0])
            more = builder.or_(more, builder.fcmp_unordered("uno", b[0], b[0]))
            return tuple(builder.select(more, j, i) for i, j in zip(a, b, strict=True))

        found = []
        for i, row in enumerate(rows):
            at = builder.mul(start, ir.Constant(_I64, 2))
            low = _load_vector(builder, row, at)
            high = _load_vector(builder, row, builder.add(at, ir.Constant(_I64, WIDTH)))
            even = _shuffle(builder, low, high, _EVEN), _byte_places(2 * i)
            odd = _shuffle(builder, low, high, _ODD), _byte_places(2 * i + 1)
            found.append(greater(even, odd))
        value, where = greater(*found)
        _store_vector(builder, value, best, start)
        to = builder.bitcast(builder.gep(place, [start]), _PLACES.as_pointer())
        builder.store(where, to, align=1)
        return context.get_dummy_value()

    return types.void(arguments), codegen


def max_of_squares(above, below, start, best, place):
    """Find the greatest of `WIDTH` windows of 2 × 2 from window `start` on, and where.

    Of equal ones the first counts; NaN is greater than everything.
    """
    for i in range(start, start + WIDTH):
        four = (*above[2 * i : 2 * i + 2], *below[2 * i : 2 * i + 2])
        best[i], place[i] = four[0], 0
        for at, value in enumerate(four):
            if value > best[i] or value != value:
                best[i], place[i] = value, at


@overload(max_of_squares)
def _compiled_max_of_squares(above, below, start, best, place):
    def run(above, below, start, best, place):
        _max_of_squares(
            (
                np.int64(above.ctypes.data),
                np.int64(below.ctypes.data),
                np.int64(best.ctypes.data),
                np.int64(place.ctypes.data),
                np.int64(start),
            )
        )

    return run


@_typed_intrinsic
def _spread_squares(typing_context: Any, arguments: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        *given, start = (builder.extract_value(args[0], i) for i in range(5))
        dy, place, *rows = _addresses(builder, given, _FLOAT, _BYTE, *[_FLOAT] * 2)
        value = _load_vector(builder, dy, start)
        at = builder.bitcast(builder.gep(place, [start]), _PLACES.as_pointer())
        where = builder.load(at, align=1)
        nothing = ir.Constant(_VECTOR, [0.0] * WIDTH)
        low = [i // 2 + i % 2 * WIDTH for i in range(WIDTH)]
        high = [i + WIDTH // 2 for i in low]
        for i, row in enumerate(rows):
            even, odd = (
                builder.select(
                    builder.icmp_unsigned("==", where, _byte_places(2 * i + j)),
                    *(value, nothing),
                )
                for j in (0, 1)
            )
            to = builder.mul(start, ir.Constant(_I64, 2))
            _store_vector(builder, _shuffle(builder, even, odd, low), row, to)
            to = builder.add(to, ir.Constant(_I64, WIDTH))
            _store_vector(builder, _shuffle(builder, even, odd, high), row, to)
        return context.get_dummy_value()

    return types.void(arguments), codegen


def spread_squares(dy, place, start, above, below):
    """Write `WIDTH` windows of 2 × 2: the derivative where place says, else 0."""
    for i in range(start, start + WIDTH):
        four = np.zeros(4, np.float32)
        four[place[i]] = dy[i]
        above[2 * i : 2 * i + 2] = four[:2]
        below[2 * i : 2 * i + 2] = four[2:]


@overload(spread_squares)
def _compiled_spread_squares(dy, place, start, above, below):
    def run(dy, place, start, above, below):
        _spread_squares(
            (
                np.int64(dy.ctypes.data),
                np.int64(place.ctypes.data),
                np.int64(above.ctypes.data),
                np.int64(below.ctypes.data),
                np.int64(start),
            )
        )

    return run
