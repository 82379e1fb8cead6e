"""Sums that vectorize without reordering.

A sum runs in `LANES` partial sums that are combined in order, so its bits are those of
the source text, whatever vectors the machine has. The partial sums stand on the stack.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import overload

from arena_ckpt.kernels.compiling import helper, routine
from arena_ckpt.kernels.kernel import typed_intrinsic
from arena_ckpt.kernels.vector_math import ZERO

LANES = 32
WIDE = 256
"""Number of sums side by side: a KiB of each row is read at a time."""


def on_stack(numba_type: Any, llvm_type: Any, length: int = LANES) -> Any:
    """Return what gives kernels a pointer to `length` numbers on the stack."""

    @typed_intrinsic
    def allocate(typing_context: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            memory = cgutils.alloca_once(builder, ir.ArrayType(llvm_type, length))
            memory.align = 64
            return builder.bitcast(memory, llvm_type.as_pointer())

        return types.CPointer(numba_type)(), codegen

    return allocate


def room_on_stack(numba_type: Any, llvm_type: Any, length: int) -> Any:
    """Return what gives kernels a pointer to many numbers, as `on_stack` does.

    Numba clears what it allocates, element by element: of thousands of elements that
    takes seconds to compile, and time in each call. Here nothing is written.
    """

    @typed_intrinsic
    def allocate(typing_context: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            with builder.goto_entry_block():
                memory = builder.alloca(ir.ArrayType(llvm_type, length))
            memory.align = 64
            return builder.bitcast(memory, llvm_type.as_pointer())

        return types.CPointer(numba_type)(), codegen

    return allocate


_floats_on_stack = on_stack(types.float32, ir.FloatType())
_doubles_on_stack = on_stack(types.float64, ir.DoubleType())
_wide_on_stack = on_stack(types.float64, ir.DoubleType(), WIDE)


def float_lanes() -> Any:
    """Array of `LANES` float32 on the stack, not initialized."""
    return np.empty(LANES, np.float32)


def double_lanes() -> Any:
    """Array of `LANES` float64 on the stack, not initialized."""
    return np.empty(LANES)


def wide_lanes() -> Any:
    """Array of `WIDE` float64 on the stack, not initialized."""
    return np.empty(WIDE)


@overload(float_lanes, inline="always")
def _compiled_float_lanes() -> Any:
    return lambda: carray(_floats_on_stack(), LANES)


@overload(double_lanes, inline="always")
def _compiled_double_lanes() -> Any:
    return lambda: carray(_doubles_on_stack(), LANES)


@overload(wide_lanes, inline="always")
def _compiled_wide_lanes() -> Any:
    return lambda: carray(_wide_on_stack(), WIDE)


@helper
def clear(lanes):
    """Set all to 0."""
    for j in range(LANES):
        lanes[j] = lanes.dtype.type(0.0)


@helper
def total(lanes, width):
    """Combine the first `width` lanes, in order."""
    combined = lanes.dtype.type(0.0)
    for j in range(min(width, LANES)):
        combined += lanes[j]
    return combined


@helper
def folded(lanes):
    """Combine all lanes pairwise, halves first: 5 additions deep where `total` is 32.

    The lanes are used up.
    """
    for j in range(16):
        lanes[j] += lanes[j + 16]
    for j in range(8):
        lanes[j] += lanes[j + 8]
    for j in range(4):
        lanes[j] += lanes[j + 4]
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])


@helper
def most_of(row, lanes):
    """Return the greatest element as float32; any number if one is NaN."""
    first = row[:LANES]
    for j in range(first.size):
        lanes[j] = first[j]
    for start in range(LANES, row.size, LANES):
        part = row[start : start + LANES]
        for j in range(part.size):
            greater = part[j] if part[j] > lanes[j] else lanes[j]
            lanes[j] = greater + ZERO  # else LLVM makes a masked store, slow on Zen
    greatest = lanes[0]
    for j in range(1, first.size):
        greatest = lanes[j] if lanes[j] > greatest else greatest
    return np.float32(greatest)


@routine
def inner_product(a, b):
    """Return the sum of products of two rows."""
    lanes = float_lanes()
    clear(lanes)
    for start in range(0, a.size, LANES):
        a_part, b_part = a[start : start + LANES], b[start : start + LANES]
        for j in range(a_part.size):
            lanes[j] += a_part[j] * b_part[j]
    return folded(lanes)
