"""Innermost loops of depthwise convolutions: strips of one plane, in vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import overload

from arena_ckpt.kernels.kernel import typed_intrinsic
from arena_ckpt.kernels.vectors import (
    FLOAT,
    I32,
    I64,
    VECTOR,
    WIDTH,
    addresses_as,
    broadcast,
    count,
    load_vector,
    multiply_add,
    store_vector,
)
from arena_ckpt.operations.sizes import DOTS

STRIP = 4
"""Number of vectors of a strip: a tile of one row, for filters of one channel."""


@typed_intrinsic
def _strip(typing_context: Any, arguments: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given = [builder.extract_value(args[0], i) for i in range(8)]
        kinds = (FLOAT, I32, FLOAT, FLOAT, FLOAT)
        x, table, w, start, y = addresses_as(builder, given[:5], *kinds)
        first, last, n = given[5:]
        places = []
        for v in range(STRIP):
            at = builder.add(first, ir.Constant(I64, v * WIDTH))
            is_inside = builder.icmp_signed("<", at, last)
            places.append(builder.select(is_inside, at, last))
        bases = [builder.gep(x, [at]) for at in places]
        fresh = broadcast(builder, builder.load(start))

        def body(k: Any, sums: Any) -> Any:
            offset = builder.sext(builder.load(builder.gep(table, [k])), I64)
            factor = broadcast(builder, builder.load(builder.gep(w, [k])))
            return [
                multiply_add(
                    builder, factor, load_vector(builder, base, offset), so_far
                )
                for base, so_far in zip(bases, sums, strict=True)
            ]

        sums = count(builder, n, [fresh] * STRIP, body)
        for at, result in zip(places, sums, strict=True):
            store_vector(builder, result, y, at)
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


@typed_intrinsic
def _dots(typing_context: Any, arguments: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given = [builder.extract_value(args[0], i) for i in range(6)]
        kinds = (FLOAT, I32, FLOAT, FLOAT)
        x, table, dy, sums = addresses_as(builder, given[:4], *kinds)
        at, n = given[4:]
        places = [ir.Constant(I64, t * WIDTH) for t in range(DOTS)]
        bases = []
        for t in range(DOTS):
            offset = builder.load(builder.gep(table, [ir.Constant(I64, t)]))
            base = builder.add(at, builder.sext(offset, I64))
            bases.append(builder.gep(x, [base]))
        start = [load_vector(builder, sums, place) for place in places]

        def body(k: Any, so_far: Any) -> Any:
            step = builder.mul(k, ir.Constant(I64, WIDTH))
            factor = load_vector(builder, dy, step)
            return [
                multiply_add(builder, factor, load_vector(builder, base, step), value)
                for base, value in zip(bases, so_far, strict=True)
            ]

        for place, value in zip(places, count(builder, n, start, body), strict=True):
            store_vector(builder, value, sums, place)
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


@typed_intrinsic
def _move(
    typing_context: Any, x: Any, at: Any, mask: Any, m: Any, y: Any, to: Any
) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = (FLOAT, I32, FLOAT)
        x, mask, y = addresses_as(builder, args[::2], *kinds)
        at, m, to = args[1::2]
        of_bits = ir.VectorType(I32, WIDTH)
        kept = builder.bitcast(builder.gep(mask, [m]), of_bits.as_pointer())
        bits = builder.bitcast(load_vector(builder, x, at), of_bits)
        bits = builder.and_(bits, builder.load(kept, align=4))
        store_vector(builder, builder.bitcast(bits, VECTOR), y, to)
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


@typed_intrinsic
def _copy_vector(typing_context: Any, x: Any, at: Any, y: Any, to: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, y = addresses_as(builder, args[::2], FLOAT, FLOAT)
        store_vector(builder, load_vector(builder, x, args[1]), y, args[3])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


def copy_vector(x, at, y, to):
    """Copy a vector of x from at on to y."""
    for i in range(WIDTH):
        y[to + i] = x[at + i]


@overload(copy_vector)
def _compiled_copy_vector(x, at, y, to):
    def run(x, at, y, to):
        _copy_vector(np.int64(x.ctypes.data), at, np.int64(y.ctypes.data), to)

    return run


def _halve_intrinsic(n: int) -> Any:
    """Return what splits 2 n elements into those with even and with odd places."""

    @typed_intrinsic
    def compiled(
        typing_context: Any, x: Any, at: Any, y: Any, even: Any, odd: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, y = addresses_as(builder, args[0:3:2], FLOAT, FLOAT)
            _, at, _, *targets = args
            half = ir.VectorType(FLOAT, n)

            def load(at: Any) -> Any:
                pointer = builder.bitcast(builder.gep(x, [at]), half.as_pointer())
                return builder.load(pointer, align=4)

            low, high = load(at), load(builder.add(at, ir.Constant(I64, n)))
            for first, to in enumerate(targets):
                mask = ir.VectorType(I32, n)
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
